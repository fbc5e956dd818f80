"""What an agent's parameters begin as, where they are learnt elsewhere: which leaf of a source goes where.

Leaves are matched by name (`networks/leaves.py`). A torso takes that of its own network, else a source's only one, else its
actor's, else its critic's, so that a pre-trained torso goes under every network of an actor-critic, and an actor's torso
under Q-values. All else takes what has the same name. A source's leaf goes to both of two critics, [2, ...], and the first
of two goes to a single one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.types import Agent, Key, PyTree
from jaxrl.networks import leaves

Shape = tuple[int, ...]
TORSO = "torso/"
BY_SETTINGS = ("log_temperature",)  # what a setting says, unless it is asked for
CRITIC = "critic/"
SOURCES = ("", "actor/", CRITIC)  # before a torso's name, in order of preference


class Row(NamedTuple):
    """What becomes of one leaf. leaf: of the agent, or of the source where it is not used. source: where it is from."""

    leaf: str
    shape: Shape
    state: str
    source: str = ""

    @property
    def loaded(self) -> bool:
        """Whether the agent begins with the source's."""
        return self.state == LOADED


LOADED, UNUSED, MISSING, LEFT_OUT = "loaded", "unused in the source", "fresh (missing)", "fresh (not asked for)"


class Loaded(NamedTuple):
    """Some of an agent's leaves by name, for `init` of a `loadable` agent."""

    leaves: dict[str, jax.Array]


def match(agent: Mapping[str, Shape], source: Mapping[str, Shape], patterns: Sequence[str] = ()) -> list[Row]:
    """What becomes of each leaf of the agent, then the source's that nothing takes.

    patterns: of the agent's leaves that are to be loaded; () for all. Raises InputError for one that matches nothing.
    """
    leaves.check_patterns("init_leaves", patterns, list(agent))
    rows: list[Row] = []
    used: set[str | None] = set()
    for leaf, shape in agent.items():
        found = next((name for name in _candidates(leaf) if name in source), None)
        used.add(found)
        if not leaves.any_matches(leaf, patterns) if patterns else leaf in BY_SETTINGS:
            rows.append(Row(leaf, shape, LEFT_OUT))
        elif found is None:
            rows.append(Row(leaf, shape, MISSING))
        elif not _fits(found, source[found], leaf, shape):
            rows.append(Row(leaf, shape, f"fresh (shape {_text(shape)} ≠ {_text(source[found])})", found))
        else:
            rows.append(Row(leaf, shape, LOADED, found))
    return rows + [Row(name, shape, UNUSED) for name, shape in source.items() if name not in used]


def check(rows: Sequence[Row], where: str, strict: bool = False) -> None:
    """Raises InputError where nothing is loaded; strict: where a leaf that was asked for is not."""
    if not any(row.loaded for row in rows):
        known = ", ".join(dict.fromkeys(row.leaf for row in rows if row.state == UNUSED)) or "nothing that fits"
        raise InputError(f"init_from {where}: no leaf of it fits the agent; it has {known[:200]}")
    fresh = [row for row in rows if row.state not in (LOADED, UNUSED, LEFT_OUT)]
    if strict and fresh:
        row = fresh[0]
        raise InputError(f"init_strict: {row.leaf} {_text(row.shape)} is {row.state}; {len(fresh)} leaves are not loaded")


def taken(rows: Sequence[Row], source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The agent's loaded leaves by name, in its shapes, out of the source's arrays [members, ...]: leaves [members, ...]."""
    found = {}
    for row in rows:
        if row.loaded:
            x, shape = np.asarray(source[row.source]), row.shape
            if x.shape[1:] != shape:
                x = x[:, 0] if x.shape[2:] == shape else np.broadcast_to(x[:, None], (len(x), *shape))
            found[row.leaf] = np.ascontiguousarray(x.astype(np.float32) if x.dtype.kind in "fV" else x)
    return found


def table(rows: Sequence[Row]) -> list[str]:
    """What goes where, a line for each leaf."""
    wide, shapes = max(len(row.leaf) for row in rows), max(len(_text(row.shape)) for row in rows)
    lines = []
    for row in rows:
        origin = f" from {row.source}" if row.loaded and row.source != row.leaf else ""
        lines.append(f"  {row.leaf:{wide}}  {_text(row.shape):{shapes}}  {row.state}{origin}")
    return lines


def loadable(agent: Agent) -> Agent:
    """`agent`, whose `init` takes `Loaded` in place of a whole tree of parameters: other leaves are drawn as without it."""
    params_of = agent.params
    if params_of is None:
        return agent

    def init(key: Key, hparams: Any, params: PyTree = None) -> PyTree:
        if not isinstance(params, Loaded):
            return agent.init(key, hparams, params)
        fresh = params_of(agent.init(key, hparams))
        names = leaves.names(fresh)
        merged = jax.tree.map(lambda name, x: jnp.asarray(params.leaves.get(name, x), x.dtype), names, fresh)
        return agent.init(key, hparams, merged)

    return agent._replace(init=init)


def shapes(params: PyTree) -> dict[str, Shape]:
    """The shapes of an agent's leaves by name."""
    return {name: tuple(x.shape) for name, x in leaves.named(params).items()}


def _candidates(leaf: str) -> list[str]:
    """Names under which a source may have a leaf, best first."""
    if TORSO not in leaf:
        return [leaf]
    rest = leaf[leaf.index(TORSO) :]
    return [leaf, *(before + rest for before in SOURCES if before + rest != leaf)]


def _fits(source: str, there: Shape, leaf: str, here: Shape) -> bool:
    """Whether an array has a leaf's shape; or is one for two critics, or of two critics one is to be taken."""
    for_two, of_two = leaf.startswith(CRITIC) and (2, *there) == here, source.startswith(CRITIC) and there == (2, *here)
    return there == here or for_two or of_two


def _text(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"
