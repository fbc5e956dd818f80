"""What an environment or an agent gives, compared with what it should give, in one line of words.

All of it happens while a program is traced, before it is compiled, and costs nothing when the program runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean
from jaxrl.core.spaces import Product, Space, clip
from jaxrl.core.types import Agent, Clock, Env, EnvSpec, EnvStep, Key, Metrics, PyTree, Rollout, VecEnv

RESERVED = ("iteration", "config", "seed", "env_steps", "episodes", "episode_return", "episode_length", "diverged")
WEAK = ((jnp.integer, jnp.number), (jnp.floating, jnp.floating))  # what a weak type may become
MAX_WORDS = 200  # characters of a structure in a message


def fitted(what: str, got: PyTree, expected: PyTree) -> PyTree:
    """`got`, its weakly typed numbers (Python's, and what is made of them) in the dtypes of `expected`.

    Raises InputError unless its structure, shapes and dtypes are those of `expected` (arrays or ShapeDtypeStructs).
    """
    structures: list[Any] = [jax.tree.structure(got), jax.tree.structure(expected)]
    if structures[0] != structures[1]:
        raise InputError(f"{what} {_words(got)}, expected {_words(expected)}")

    def one(path: Any, x: Any, like: Any) -> Any:
        x = jnp.asarray(x) if isinstance(x, int | float) else x
        weak = getattr(x, "weak_type", False)
        if weak and any(jnp.issubdtype(x.dtype, a) and jnp.issubdtype(like.dtype, b) for a, b in WEAK):
            x = jax.lax.convert_element_type(x, like.dtype)
        if _dtype(x) == like.dtype and jnp.shape(x) == like.shape:
            return x
        at = jax.tree_util.keystr(path)
        raise InputError(f"{what}{at} {_words(x)}, expected {_words(like)}{_axis(jnp.shape(x), like.shape)}")

    return jax.tree_util.tree_map_with_path(one, got, expected)


def element(space: Space, batch: tuple[int, ...] = ()) -> PyTree:
    """The shape and dtype of an element of `space`, with axes `batch` in front: a tree of ShapeDtypeStructs."""
    if isinstance(space, Product):
        return space.join([element(part, batch) for part in space.spaces])
    return jax.ShapeDtypeStruct((*batch, *space.shape), jnp.dtype(space.dtype))


def checked(env: Env) -> Env:
    """`env`, whose actions are clipped to the bounds of its action space, and whose results are checked."""

    def reset(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        return _start(f"reset of {env.spec.id}", env.spec, env.reset(key, params), ())

    def step(key: Key, state: PyTree, action: PyTree, params: PyTree) -> tuple[PyTree, EnvStep]:
        what = f"step of {env.spec.id}"
        result = env.step(key, state, clip(env.spec.action_space, action), params)
        after, out = _values(what, result, ("state", "EnvStep"))
        return fitted(f"{what} gives state", after, state), _step(what, env.spec, out, ())

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
        obs = fitted(f"{what} gives obs after reset", obs, element(vec.spec.observation_space, batch))
        after, pool_after = fitted(f"{what} gives state", after, state), fitted(f"{what} gives pool", pool_after, pool)
        return after, obs, pool_after, _step(what, vec.spec, out, batch)

    return vec._replace(init=init, step=step)


def checked_agent(agent: Agent, spec: EnvSpec) -> Agent:
    """`agent`, whose results are checked."""

    def chosen(what: str, memory: PyTree, first: jax.Array, result: Any, names: tuple[str, ...]) -> tuple[PyTree, ...]:
        action, after, *rest = _values(what, result, names)
        action = fitted(f"{what} gives action", action, element(spec.action_space, first.shape))
        return action, fitted(f"{what} gives memory", after, memory), *rest

    def act(
        hparams: PyTree, state: PyTree, memory: PyTree, obs: PyTree, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[PyTree, ...]:
        result = agent.act(hparams, state, memory, obs, first, clock, key)
        return chosen("act of the agent", memory, first, result, ("action", "memory", "extras"))

    def greedy(
        hparams: PyTree, state: PyTree, memory: PyTree, obs: PyTree, first: jax.Array, key: Key
    ) -> tuple[PyTree, ...]:
        result = agent.greedy(hparams, state, memory, obs, first, key)
        return chosen("greedy of the agent", memory, first, result, ("action", "memory"))

    def learn(hparams: PyTree, state: PyTree, rollout: Rollout, clock: Clock, key: Key) -> tuple[PyTree, Metrics]:
        what = "learn of the agent"
        with jax.numpy_dtype_promotion(
            "standard"
        ):  # optax promotes its counts, which a strict user forbids in their own code
            result = agent.learn(hparams, state, rollout, clock, key)
        after, metrics = _values(what, result, ("state", "metrics"))
        for name, x in metrics.items():
            if not isinstance(x, Mean):
                raise InputError(f"{what} gives metric {name!r} {_words(x)}, expected a Mean")
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        metrics = {name: fitted(f"{what} gives metric {name!r}", x, Mean(number, number)) for name, x in metrics.items()}
        return fitted(f"{what} gives state", after, state), metrics

    def memory(num_envs: int) -> PyTree:
        return trees.strong(agent.memory(num_envs))

    return agent._replace(memory=memory, act=act, greedy=greedy, learn=learn)


def metric_names(owner: str, names: Iterable[str], taken: Iterable[str] = ()) -> None:
    """Raises InputError where a metric of `owner` would overwrite the loop's own, or one of `taken`, the environment's."""
    for name in names:
        if name in RESERVED:
            raise InputError(f"{owner} has a metric named {name!r}, which is the loop's own: call it something else")
        if name in taken:
            raise InputError(f"{owner} has a metric named {name!r}, and so has the environment: call one something else")


def _start(what: str, spec: EnvSpec, result: Any, batch: tuple[int, ...]) -> tuple[PyTree, PyTree]:
    state, obs = _values(what, result, ("state", "obs"))
    return trees.strong(state), fitted(f"{what} gives obs", obs, element(spec.observation_space, batch))


def _step(what: str, spec: EnvSpec, out: Any, batch: tuple[int, ...]) -> EnvStep:
    if not isinstance(out, EnvStep):
        raise InputError(f"{what} gives {_words(out)}, expected an EnvStep")
    metric_names(spec.id, out.metrics)
    expected = {
        "obs": element(spec.observation_space, batch),
        "reward": jax.ShapeDtypeStruct(batch, jnp.float32),
        "terminated": jax.ShapeDtypeStruct(batch, jnp.bool_),
        "truncated": jax.ShapeDtypeStruct(batch, jnp.bool_),
        "metrics": {n: jax.ShapeDtypeStruct(batch, getattr(x, "dtype", jnp.float32)) for n, x in out.metrics.items()},
        "valid": jax.ShapeDtypeStruct(batch if jnp.ndim(out.valid) else (), jnp.bool_),
    }
    return EnvStep(**{name: fitted(f"{what} gives {name}", getattr(out, name), like) for name, like in expected.items()})


def _values(what: str, result: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """`result`, a tuple of as many values as there are names."""
    if isinstance(result, tuple) and len(result) == len(names):
        return result
    count = f"{len(result)} values" if type(result) is tuple else type(result).__name__
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
