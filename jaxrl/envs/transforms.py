"""Env -> Env: rewards, actions and observations changed on their way.

- A transform keeps the inner environment's params as they are, to be swept by name. Its own numbers are closed over;
  they may be traced where the environment is made inside the traced function.
- It holds what belongs to an episode, in the environment's state. Running statistics belong to the agent: a reset would
  wipe them here.
- `spec.id` tells it, as in "CartPole-v1+stack_frames(4)": presets of the inner environment apply only when they are named.
- Returns count the changed rewards. `jaxrl.evaluate(dataclasses.replace(trainer, env=inner), ...)` counts the inner ones,
  provided that observations and actions are the same.

The last transform applied is the one next to the agent. All raise InputError for an environment or number they cannot take.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, Range, check
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product, Space, clip
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, PyTree, Scalar, Stack


class ShapeState(NamedTuple):
    """State of `shape_rewards`. env: the inner one's. potential: Φ of the observation the agent sees, float32 []."""

    env: PyTree
    potential: jax.Array


class StackState(NamedTuple):
    """State of `stack_frames`. env: the inner one's. frames: the observation the agent sees."""

    env: PyTree
    frames: jax.Array


class StickyState(NamedTuple):
    """State of `sticky_actions`. env: the inner one's. action: the last one executed. first: there is none yet, bool []."""

    env: PyTree
    action: PyTree
    first: jax.Array


def shape_rewards(env: Env, potential: Callable[[PyTree], Scalar], gamma: Scalar) -> Env:
    """r + γ Φ(s') - Φ(s) for r, which keeps every optimal policy (Ng, Harada & Russell 1999): Q*(s, a) falls by Φ(s).

    potential: Φ, observation -> scalar. gamma: the agent's own discount; another one changes the task. Φ(s') counts as 0
    where the episode terminated, and in full where it was only truncated, for the agent bootstraps there.
    """
    gamma = _number("gamma", gamma, 0, 1)
    spec = _spec(env, "shape_rewards", gamma, wraps=True)
    shape = jax.eval_shape(lambda: jnp.asarray(potential(spec.observation_space.sample(jax.random.key(0))))).shape
    if shape:
        raise InputError(f"the potential of an observation must be a scalar, not an array of shape {shape}")

    def phi(obs: PyTree) -> jax.Array:
        return jnp.asarray(potential(obs), jnp.float32)

    def reset(key: Key, params: PyTree) -> tuple[ShapeState, PyTree]:
        state, obs = env.reset(key, params)
        return ShapeState(state, phi(obs)), obs

    def step(key: Key, state: ShapeState, action: PyTree, params: PyTree) -> tuple[ShapeState, EnvStep]:
        after, out = env.step(key, state.env, action, params)
        next_potential = phi(out.obs)
        reward = out.reward + gamma * jnp.where(out.terminated, 0.0, next_potential) - state.potential
        return ShapeState(after, next_potential), out._replace(reward=reward)

    return Env(spec, env.params, reset, step)


def scale_rewards(env: Env, scale: Scalar) -> Env:
    """scale · r for r."""
    factor = _number("scale", scale)
    return _mapped(env, _spec(env, "scale_rewards", factor), reward=lambda r: r * factor)


def clip_rewards(env: Env, low: Scalar = -1.0, high: Scalar = 1.0) -> Env:
    """r clipped to [low, high]; by default, of a whole number only the sign (Mnih et al. 2015). It changes the task."""
    low, high = _number("low", low), _number("high", high)
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise InputError(f"low = {low:g} must not be above high = {high:g}")
    return _mapped(env, _spec(env, "clip_rewards", low, high), reward=lambda r: jnp.clip(r, low, high))


def clip_actions(env: Env) -> Env:
    """The agent's action space without bounds, so that it acts by a plain Gaussian; what it does is clipped to them.

    (Actions are clipped to the bounds of a space anyway, by `vectorize`: box_policy=gaussian needs no transform.)
    Of a product of spaces this concerns the continuous parts.
    """
    return _with_actions(env, _spec(env, "clip_actions"), lambda box: Box(box.shape, dtype=box.dtype), clip)


def rescale_actions(env: Env, low: float = -1.0, high: float = 1.0) -> Env:
    """The agent acts in [low, high], which is mapped affinely onto the bounds, element by element.

    Of a product of spaces this concerns the continuous parts. `clip_actions(rescale_actions(env))` takes any action.
    """
    low, high = (float(_number(name, x)) for name, x in (("low", low), ("high", high)))
    spec = _spec(env, "rescale_actions", low, high)

    def rescaled(box: Box) -> Box:
        if not (low < high and np.isfinite([low, high]).all() and np.isfinite(_bounds(box)).all()):
            raise InputError(f"actions in [{low:g}, {high:g}] cannot be mapped onto {box} between {box.low} and {box.high}")
        return Box(box.shape, low, high, box.dtype)

    def rescale(box: Box, x: jax.Array) -> jax.Array:
        share = (x - low) / (high - low)  # weights, so that either bound is met exactly
        return (1 - share) * jnp.asarray(box.low, x.dtype) + share * jnp.asarray(box.high, x.dtype)

    return _with_actions(env, spec, rescaled, rescale)


def sticky_actions(env: Env, probability: Scalar = 0.25) -> Env:
    """With this probability the action executed last is repeated instead of the agent's (Machado et al. 2018, section 5.2).

    The first step of an episode executes the agent's action.
    """
    probability = _number("probability", probability, 0, 1)
    spec = _spec(env, "sticky_actions", probability, wraps=True)
    like = jax.eval_shape(lambda: spec.action_space.sample(jax.random.key(0)))

    def reset(key: Key, params: PyTree) -> tuple[StickyState, PyTree]:
        state, obs = env.reset(key, params)
        return StickyState(state, jax.tree.map(jnp.zeros_like, like), jnp.bool_(True)), obs

    def step(key: Key, state: StickyState, action: PyTree, params: PyTree) -> tuple[StickyState, EnvStep]:
        sticky_key, env_key = jax.random.split(key)
        repeat = (jax.random.uniform(sticky_key, dtype=jnp.float32) < probability) & ~state.first
        executed = trees.cast_like(trees.where(repeat, state.action, action), like)
        after, out = env.step(env_key, state.env, executed, params)
        return StickyState(after, executed, jnp.bool_(False)), out

    return Env(spec, env.params, reset, step)


def stack_frames(env: Env, n: int) -> Env:
    """The last n observations along the last axis, oldest first; at a reset the first one n times.

    [D] -> [n · D] and [H, W, C] -> [H, W, n · C]; a scalar or a picture [H, W] is given a last axis: -> [n], [H, W, n].
    """
    n = check("n", n, Annotated[int, Count])
    spec, space = _spec(env, "stack_frames", n, wraps=True), env.spec.observation_space
    if not isinstance(space, Box):
        raise InputError(f"stack_frames takes observations of a Box, not {space}; apply flatten first")
    frame = (*space.shape, 1) if len(space.shape) in (0, 2) else space.shape
    low, high = (np.concatenate([bound.reshape(frame)] * n, -1) for bound in _bounds(space))
    spec = dataclasses.replace(spec, observation_space=Box.between(low, high, space.dtype), stack=Stack(n))

    def reset(key: Key, params: PyTree) -> tuple[StackState, jax.Array]:
        state, obs = env.reset(key, params)
        frames = jnp.concatenate([obs.reshape(frame)] * n, -1)
        return StackState(state, frames), frames

    def step(key: Key, state: StackState, action: PyTree, params: PyTree) -> tuple[StackState, EnvStep]:
        after, out = env.step(key, state.env, action, params)
        frames = jnp.concatenate([state.frames[..., frame[-1] :], out.obs.reshape(frame)], -1)
        return StackState(after, frames), out._replace(obs=frames)

    return Env(spec, env.params, reset, step)


def one_hot(env: Env) -> Env:
    """A Discrete observation as float32 [n], 1 at its place; a MultiDiscrete one as these, joined: [Σ sizes]."""
    spec = _spec(env, "one_hot")
    if not isinstance(spec.observation_space, Discrete | MultiDiscrete):
        raise InputError(f"one_hot takes observations that are integers, not {spec.observation_space}; flatten takes any")
    return _as_vector(env, spec)


def flatten(env: Env) -> Env:
    """Any observation as one vector, float32 [D]: parts of a product joined in order, integers one-hot, boxes row by row."""
    return _as_vector(env, _spec(env, "flatten"))


def _as_vector(env: Env, spec: EnvSpec) -> Env:
    space, declared = env.spec.observation_space, env.spec.storage_dtype
    spaces = [leaf for leaf, _ in _leaves(space)]
    low, high = np.concatenate([_bounds(s).reshape(2, -1) for s in spaces], -1)
    storage = np.result_type(*[np.dtype(declared or s.dtype if isinstance(s, Box) else bool) for s in spaces])
    spec = dataclasses.replace(
        spec,
        observation_space=Box.between(low, high, jnp.float32),
        storage_dtype=storage.name if storage.itemsize < 4 else None,
        grid=None,  # which is of discrete observations
        stack=None,
    )

    def vector(obs: PyTree) -> jax.Array:
        parts = [jax.nn.one_hot(x, s.n) if isinstance(s, Discrete) else x.reshape(-1) for s, x in _leaves(space, obs)]
        return jnp.concatenate([part.astype(jnp.float32) for part in parts])

    return _mapped(env, spec, obs=vector)


def _leaves(space: Space, x: PyTree = None) -> list[tuple[Any, Any]]:
    """The Discrete spaces and boxes that `space` is made of, in order, each with its part of an element `x`, if given."""
    if isinstance(space, MultiDiscrete):
        space = Product(tuple(map(Discrete, space.sizes)))
    if not isinstance(space, Product):
        return [(space, x)]
    parts = [None] * len(space.spaces) if x is None else space.parts(x)
    return [leaf for s, part in zip(space.spaces, parts, strict=True) for leaf in _leaves(s, part)]


def _bounds(space: Any) -> np.ndarray:
    """low and high of every element of a box, or of the one-hot vector of a Discrete space: [2, ...]."""
    shape = (space.n,) if isinstance(space, Discrete) else space.shape
    bounds = (0, 1) if isinstance(space, Discrete) or space.dtype == jnp.bool_ else (space.low, space.high)
    return np.stack([np.broadcast_to(np.asarray(bound, np.float64), shape) for bound in bounds])


def _with_actions(
    env: Env, spec: EnvSpec, outer: Callable[[Box], Box], change: Callable[[Box, jax.Array], jax.Array]
) -> Env:
    """The agent acts in `outer(box)`, and `change(box, action)` leads into `box`, for every continuous part of an action."""

    def continuous(space: Space) -> bool:
        return isinstance(space, Box) and bool(jnp.issubdtype(space.dtype, jnp.floating))

    def outer_space(space: Any) -> Any:
        if isinstance(space, Product):
            return Product(tuple(map(outer_space, space.spaces)), space.names)
        return outer(space) if continuous(space) else space

    def inner_action(space: Any, x: PyTree) -> PyTree:
        if isinstance(space, Product):
            return space.join([inner_action(s, part) for s, part in zip(space.spaces, space.parts(x), strict=True)])
        return change(space, x) if continuous(space) else x

    inner = env.spec.action_space
    if not any(continuous(space) for space, _ in _leaves(inner)):
        raise InputError(f"{env.spec.id} has no continuous actions, but {inner}")
    return _mapped(env, dataclasses.replace(spec, action_space=outer_space(inner)), action=partial(inner_action, inner))


def _same(x: Any) -> Any:
    return x


def _mapped(env: Env, spec: EnvSpec, obs: Callable = _same, reward: Callable = _same, action: Callable = _same) -> Env:
    """The environment with a function on its observations, rewards or actions; its state is the inner one's."""

    def reset(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        state, seen = env.reset(key, params)
        return state, obs(seen)

    def step(key: Key, state: PyTree, chosen: PyTree, params: PyTree) -> tuple[PyTree, EnvStep]:
        state, out = env.step(key, state, action(chosen), params)
        return state, out._replace(obs=obs(out.obs), reward=reward(out.reward))

    return Env(spec, env.params, reset, step)


def _spec(env: Env, name: str, *numbers: Any, wraps: bool = False) -> EnvSpec:
    """The spec under its new id. wraps: the inner state, which `render` has to be given, is the state's `env`."""
    if not isinstance(env, Env):
        raise InputError(f"{name} takes an Env, not {type(env).__name__}")
    text = ", ".join(f"{x:g}" if isinstance(x, int | float) else "traced" for x in numbers)
    spec = dataclasses.replace(env.spec, id=f"{env.spec.id}+{name}" + (f"({text})" if text else ""))
    draw = spec.render
    return dataclasses.replace(spec, render=lambda state, params: draw(state.env, params)) if draw and wraps else spec


def _number(name: str, value: Scalar, low: float = -math.inf, high: float = math.inf) -> Any:
    """`value` as a float, or as it is where it is traced."""
    return check(name, value, Annotated[float, Range(low, high, infinite=True)])
