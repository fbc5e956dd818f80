"""What an environment or an agent gives, compared with what it should give, in one line of words.

All of it happens while a program is traced, before it is compiled, and costs nothing when the program runs.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.errors import InputError, unknown
from jaxrl.core.means import Mean
from jaxrl.core.spaces import Product, Space, clip
from jaxrl.core.types import Agent, Clock, Env, EnvSpec, EnvStep, Key, Metrics, PyTree, Rollout, Split, TrainState, VecEnv

RESERVED = ("iteration", "config", "seed", "env_steps", "episodes", "episode_return", "episode_length", "diverged")
WEAK = ((jnp.integer, jnp.number), (jnp.floating, jnp.floating))  # what a weak type may become
MAX_WORDS = 200  # characters of a structure in a message
KEPT = ": it keeps its structure, shapes and dtypes"
SPACE = {"obs": ": spec.observation_space says so", "action": ": spec.action_space says so"}
ONE = {"reward": ": one number a step", "terminated": ": one flag a step", "truncated": ": one flag a step"}
UNTRACED: dict[type, str] = {  # the errors that JAX raises for what cannot be traced, the more special ones first
    jax.errors.TracerBoolConversionError: "decides by Python (if, while, and, or, not) on a traced value: use jnp.where",
    jax.errors.TracerArrayConversionError: "gives a traced value to NumPy: use jax.numpy",
    jax.errors.TracerIntegerConversionError: "takes a traced value for a Python integer: index arrays of jax.numpy with it",
    jax.errors.NonConcreteBooleanIndexError: "indexes with a traced mask, whose number of entries is unknown: use jnp.where",
    jax.errors.UnexpectedTracerError: "keeps a traced value outside of its state (in self, a list, a global): return it",
    jax.errors.ConcretizationTypeError: "takes a traced value for a Python number (float(x), int(x), x.item(), a shape)",
}


@contextlib.contextmanager
def explained(what: str, kinds: tuple[type[Exception], ...] = tuple(UNTRACED)) -> Iterator[None]:
    """Within this context exceptions of `kinds` become an InputError: what, why in words, and where in the user's code."""
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        words = [text for kind, text in UNTRACED.items() if isinstance(error, kind)]
        why = words[0] if words else f"raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise InputError(f"{what} {why}{place(error)}") from error


def place(error: BaseException) -> str:
    """Where an exception comes from, in brackets: the innermost line that is neither ours nor of JAX, flax or optax."""
    libraries = Path(jax.__file__).parent.parent
    ours = [f"{libraries / name}{os.sep}" for name in ("jax", "flax", "optax")] + [f"{Path(__file__).parent.parent}{os.sep}"]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", *ours)) and Path(frame.filename).name != "contextlib.py":
            return f" ({frame.filename}, line {frame.lineno})"
    return ""


def arrays_only(what: str, tree: PyTree) -> PyTree:
    """`tree`, strongly typed. Raises InputError naming a leaf that is neither an array nor a number."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if not hasattr(x, "dtype") and not isinstance(x, int | float):
            at = jax.tree_util.keystr(path)
            raise InputError(f"{what}{at} of type {type(x).__name__}: keep arrays and numbers only, the rest in a closure")
    return trees.strong(tree)


def fitted(what: str, got: PyTree, expected: PyTree, rule: str = "") -> PyTree:
    """`got`, its weakly typed numbers (Python's, and what is made of them) in the dtypes of `expected`.

    rule: why that is expected, for the message. Raises InputError unless its structure, shapes and dtypes are those of
    `expected` (arrays or ShapeDtypeStructs).
    """
    structures: list[Any] = [jax.tree.structure(got), jax.tree.structure(expected)]
    if structures[0] != structures[1]:
        raise InputError(f"{what} {_words(got)}, expected {_words(expected)}{rule}")

    def one(path: Any, x: Any, like: Any) -> Any:
        x = jnp.asarray(x) if isinstance(x, int | float) else x
        weak = getattr(x, "weak_type", False)
        if weak and any(jnp.issubdtype(x.dtype, a) and jnp.issubdtype(like.dtype, b) for a, b in WEAK):
            x = jax.lax.convert_element_type(x, like.dtype)
        if _dtype(x) == like.dtype and jnp.shape(x) == like.shape:
            return x
        advice = f': cast it with .astype("{like.dtype.name}")' if jnp.shape(x) == like.shape else rule
        words = f"{_words(x)}, expected {_words(like)}{_axis(jnp.shape(x), like.shape)}"
        raise InputError(f"{what}{jax.tree_util.keystr(path)} {words}{advice}")

    return jax.tree_util.tree_map_with_path(one, got, expected)


def element(space: Space, batch: tuple[int, ...] = ()) -> PyTree:
    """The shape and dtype of an element of `space`, with axes `batch` in front: a tree of ShapeDtypeStructs."""
    if isinstance(space, Product):
        return space.join([element(part, batch) for part in space.spaces])
    return jax.ShapeDtypeStruct((*batch, *space.shape), jnp.dtype(space.dtype))


def checked(env: Env) -> Env:
    """`env`, whose actions are clipped to the bounds of its action space, and whose results are checked."""

    def reset(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        what = f"reset of {env.spec.id}"
        with explained(what):
            result = env.reset(key, params)
        return _start(what, env.spec, result, ())

    def step(key: Key, state: PyTree, action: PyTree, params: PyTree) -> tuple[PyTree, EnvStep]:
        what = f"step of {env.spec.id}"
        with explained(what):
            result = env.step(key, state, clip(env.spec.action_space, action), params)
        after, out = _values(what, result, ("state", "EnvStep"))
        return fitted(f"{what} gives state", after, state, KEPT), _step(what, env.spec, out, ())

    return env._replace(reset=reset, step=step)


def checked_batch(vec: VecEnv) -> VecEnv:
    """As `checked`, of a VecEnv that somebody wrote."""
    batch, name = (vec.num_envs,), vec.spec.id

    def init(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        return _start(f"init of {name}", vec.spec, vec.init(key, params), batch)

    def step(
        keys: Key, state: PyTree, pool: PyTree, action: PyTree, params: PyTree
    ) -> tuple[PyTree, PyTree, PyTree, EnvStep]:
        what = f"step of {name}"
        result = vec.step(keys, state, pool, jax.vmap(partial(clip, vec.spec.action_space))(action), params)
        after, obs, pool_after, out = _values(what, result, ("state", "obs", "pool", "EnvStep"))
        obs = fitted(f"{what} gives obs after reset", obs, element(vec.spec.observation_space, batch), SPACE["obs"])
        after, pool_after = (
            fitted(f"{what} gives {name}", got, before, KEPT)
            for name, got, before in (("state", after, state), ("pool", pool_after, pool))
        )
        return after, obs, pool_after, _step(what, vec.spec, out, batch)

    return vec._replace(init=init, step=step)


def checked_agent(agent: Agent, spec: EnvSpec) -> Agent:
    """`agent`, whose results are checked."""
    if not isinstance(agent, Agent):
        raise InputError(f"make of the agent gives {type(agent).__name__}, expected a jaxrl.Agent")

    def acted(
        name: str,
        names: tuple[str, ...],
        hparams: PyTree,
        state: PyTree,
        memory: PyTree,
        obs: PyTree,
        first: jax.Array,
        *rest: Any,
    ) -> tuple[PyTree, ...]:
        what = f"{name} of the agent"
        with explained(what):
            result = getattr(agent, name)(hparams, state, memory, obs, first, *rest)
        action, after, *extras = _values(what, result, names)
        action = fitted(f"{what} gives action", action, element(spec.action_space, first.shape), SPACE["action"])
        return action, fitted(f"{what} gives memory", after, memory, KEPT), *extras

    def learn(hparams: PyTree, state: PyTree, rollout: Rollout, clock: Clock, key: Key) -> tuple[PyTree, Metrics]:
        what = "learn of the agent"
        # optax promotes its counts, which a strict user forbids in their own code
        with explained(what), jax.numpy_dtype_promotion("standard"):
            result = agent.learn(hparams, state, rollout, clock, key)
        after, metrics = _values(what, result, ("state", "metrics"))
        for name, x in metrics.items():
            if not isinstance(x, Mean):
                raise InputError(f"{what} gives metric {name!r} {_words(x)}, expected a Mean: jaxrl.Mean.of(x)")
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        metrics = {name: fitted(f"{what} gives metric {name!r}", x, Mean(number, number)) for name, x in metrics.items()}
        return fitted(f"{what} gives state", after, state, KEPT), metrics

    def init(key: Key, hparams: PyTree, params: PyTree = None) -> PyTree:
        with explained("init of the agent"):
            return arrays_only("init of the agent gives state", agent.init(key, hparams, params))

    def memory(num_envs: int) -> PyTree:
        return arrays_only("memory of the agent gives", agent.memory(num_envs))

    act = partial(acted, "act", ("action", "memory", "extras"))
    greedy = partial(acted, "greedy", ("action", "memory"))
    return agent._replace(init=init, memory=memory, act=act, greedy=greedy, learn=learn)


def levels(spec: EnvSpec, params: PyTree, split: Split) -> PyTree:
    """The parameters of a split's levels, as `params` in structure, shapes and dtypes.

    Raises InputError for an unknown split, and where the environment has no levels to tell apart or gives something else.
    """
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    if spec.splits is None:
        raise InputError(f"{spec.id} has no levels to tell apart (EnvSpec.splits), so no split {split!r}")
    what = f"spec.splits of {spec.id}"
    with explained(what):
        found = spec.splits(params, split)
    return fitted(f"{what} gives for {split}", found, params, ": the parameters of other levels keep these")


def one_member(state: TrainState) -> None:
    """Raises InputError for the states of several members, leaves [members, ...]."""
    if jnp.ndim(state.iteration):
        raise InputError(
            f"this takes one member's state, and got those of {len(state.iteration)}: take one with jaxrl.member(states, 0)"
        )


def metric_names(owner: str, names: Iterable[str], taken: Iterable[str] = ()) -> None:
    """Raises InputError where a metric of `owner` would overwrite the loop's own, or one of `taken`, the environment's."""
    for name in names:
        if name in RESERVED:
            raise InputError(f"{owner} has a metric named {name!r}, which is the loop's own: call it something else")
        if name in taken:
            raise InputError(f"{owner} has a metric named {name!r}, and so has the environment: call one something else")


def _start(what: str, spec: EnvSpec, result: Any, batch: tuple[int, ...]) -> tuple[PyTree, PyTree]:
    state, obs = _values(what, result, ("state", "obs"))
    obs = fitted(f"{what} gives obs", obs, element(spec.observation_space, batch), SPACE["obs"])
    return arrays_only(f"{what} gives state", state), obs


def _step(what: str, spec: EnvSpec, out: Any, batch: tuple[int, ...]) -> EnvStep:
    if not isinstance(out, EnvStep):
        raise InputError(f"{what} gives {_words(out)}, expected a jaxrl.EnvStep(obs, reward, terminated, truncated)")
    metric_names(spec.id, out.metrics)
    expected = {
        "obs": element(spec.observation_space, batch),
        "reward": jax.ShapeDtypeStruct(batch, jnp.float32),
        "terminated": jax.ShapeDtypeStruct(batch, jnp.bool_),
        "truncated": jax.ShapeDtypeStruct(batch, jnp.bool_),
        "metrics": {n: jax.ShapeDtypeStruct(batch, getattr(x, "dtype", jnp.float32)) for n, x in out.metrics.items()},
        "valid": jax.ShapeDtypeStruct(batch if jnp.ndim(out.valid) else (), jnp.bool_),
        "cut": jax.ShapeDtypeStruct(batch if jnp.ndim(out.cut) else (), jnp.bool_),
    }
    rules = SPACE | ONE
    found = {n: fitted(f"{what} gives {n}", getattr(out, n), like, rules.get(n, "")) for n, like in expected.items()}
    return EnvStep(**found)


def _values(what: str, result: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """`result`, a tuple of as many values as there are names."""
    if isinstance(result, tuple) and len(result) == len(names):
        return result
    count = (
        f"{len(result)} values"
        if type(result) is tuple
        else "one array"
        if hasattr(result, "dtype")
        else type(result).__name__
    )
    raise InputError(f"{what} gives {count}, expected ({', '.join(names)})")


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else jnp.result_type(x)


def _axis(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Which axis differs, where a single one does."""
    different = [i for i, (x, y) in enumerate(zip(got, expected, strict=False)) if x != y]
    return f" (axis {different[0]})" if len(got) == len(expected) and len(different) == 1 else ""


class _Word(str):
    """Text that a structure shows without quotes."""

    __repr__ = str.__str__


def _words(x: PyTree) -> str:
    """A tree as text, its leaves as dtype[shape]."""
    words = str(jax.tree.map(lambda leaf: _Word(f"{_dtype(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]"), x))
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"
