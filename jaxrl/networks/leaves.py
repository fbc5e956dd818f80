"""Names of a network's leaves, the same for every agent, and patterns of them.

A name is the path of a leaf in the tree of parameters, but that the part of a network before its heads is called `torso`,
what is on it `head`, and the networks of an actor-critic `actor` and `critic`, whoever wrote the module:

    torso/MLP_0/Dense_0/kernel      of DQN and other agents of one network
    actor/torso/...  critic/head/...    of PPO, A2C, REINFORCE, SAC and TD3 (`actor/torso` is both with a shared torso)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxrl.core.errors import InputError
from jaxrl.core.types import PyTree

COLLECTION = "params"  # flax's, between the tree of an agent and that of a module
TORSOS = ("Torso_0", "SequenceTorso_0", "torso")
PARTS = {  # of a module, by its own name
    **{name: ("torso",) for name in TORSOS},
    "actor": ("actor", "torso"),
    "critic": ("critic", "torso"),
    "policy_head": ("actor", "head"),
    "value_head": ("critic", "head"),
    "PolicyHead_0": ("head",),
    "decoder": ("decoder",),
}
ENCODER = "Torso_0"  # of a torso within a torso, which is the same
INNER = "inner"  # of an agent under a transform


def names(params: PyTree, prefix: str = "") -> PyTree:
    """A tree like `params` of the leaves' names. prefix: before each, where `params` are a part of an agent's."""
    start = (prefix,) if prefix else ()
    return jax.tree_util.tree_map_with_path(lambda path, _: "/".join(_renamed((*start, *map(_word, path)))), params)


def named(params: PyTree) -> dict[str, Any]:
    """The leaves by name, in the tree's order."""
    return dict(zip(jax.tree.leaves(names(params)), jax.tree.leaves(params), strict=True))


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern, with * and ? as in a shell, is the name or whole words of it: torso matches actor/torso/x."""
    words = name.split("/")
    runs = ("/".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
    return any(fnmatchcase(run, pattern) for run in runs)


def any_matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of several patterns does."""
    return any(matches(name, pattern) for pattern in patterns)


def check_patterns(setting: str, patterns: Iterable[str], known: Sequence[str]) -> None:
    """Raises InputError for a pattern that matches none of the known names."""
    for pattern in patterns:
        if not any(matches(name, pattern) for name in known):
            parts = dict.fromkeys("/".join(_until_torso(name.split("/"))) for name in known)
            raise InputError(f"{setting} {pattern!r} matches no leaf of the agent; there are {', '.join(parts)}")


def _until_torso(words: list[str]) -> list[str]:
    """A name's first words, which tell the parts of an agent."""
    return words[:2] if words[0] in ("actor", "critic") else words[:1]


def _word(key: Any) -> str:
    return str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))


def _renamed(path: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a name out of those of a path."""
    path = tuple(word for word in path if word != INNER)
    if COLLECTION not in path:
        return path
    at = path.index(COLLECTION)
    before, (module, *rest) = path[:at], path[at + 1 :]
    if module not in PARTS:
        return (*before, "head", module, *rest)
    if module != "Torso_0" and len(rest) > 1 and rest[0] == ENCODER:  # Torso_0 has others only for parts of an observation
        rest = rest[1:]
    return (*before, *PARTS[module], *rest)
