"""GearShift: hold a changing target speed with little fuel, by a gear and a throttle at once (a hybrid action).

A gear is strong in its own range of speeds only. With gear x of 1 … k, throttle u in [0, 1] and speed v, a step does

    revs   = v / (1.5 x / k)                                           1 is the gear's top speed
    torque = max(1 - revs, 0) · max(4 revs, 0.2)                       greatest, 1, at half of it
    push   = k / (4 x) · (u · torque - 0.5 · (1 - u) · revs)           the engine drives, or brakes
    v'     = max(v + 0.1 · (push - 0.125 v), 0)                        from rest at the start
    reward = max(1 - |v' - target| / tolerance, 0) - fuel_cost · u

and then, with probability `change_probability`, another target is drawn, uniformly from [0.1, 1] as is the first one.
Low gears start and brake, none but the high ones reach fast targets, and a gear near the speed needs the least throttle.
Nothing terminates; episodes are cut at the time limit.

Observation: (2 v - 1, 2 target - 1), float32 [2].
Action: gear, int32 [], x - 1; throttle, float32 [1], u, which is clipped to [0, 1].
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.settings import AtLeastTwo, check
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, PyTree

TIME_STEP = 0.1
TOP_SPEED = 1.5  # of the highest gear
DRAG = 0.125
STALL = 0.2  # torque from rest
BRAKE = 0.5
TARGETS = (0.1, 1.0)


class Params(NamedTuple):
    """tolerance: the distance from the target from which on it pays nothing. fuel_cost: of a step at full throttle.

    change_probability: of another target after a step. All float32, but max_steps_in_episode: the time limit (truncation),
    int32.
    """

    tolerance: jax.Array
    fuel_cost: jax.Array
    change_probability: jax.Array
    max_steps_in_episode: jax.Array


class State(NamedTuple):
    """speed, target: float32 []. time: steps taken, int32 []."""

    speed: jax.Array
    target: jax.Array
    time: jax.Array


def drive(speed: jax.Array, gear: jax.Array, throttle: jax.Array, num_gears: int) -> jax.Array:
    """The speed a step later: float32 []. gear: 0 … num_gears - 1. throttle: [] in [0, 1]."""
    ratio = (gear + 1).astype(jnp.float32) / num_gears
    revs = speed / (TOP_SPEED * ratio)
    torque = jnp.maximum(1 - revs, 0) * jnp.maximum(4 * revs, STALL)
    push = (throttle * torque - BRAKE * (1 - throttle) * revs) / (4 * ratio)
    return jnp.maximum(speed + TIME_STEP * (push - DRAG * speed), 0.0)


def make(num_gears: int = 4) -> Env:
    """The car with so many gears."""
    check("num_gears", num_gears, Annotated[int, AtLeastTwo])

    def observe(state: State) -> jax.Array:
        return 2 * jnp.stack([state.speed, state.target]) - 1

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        state = State(jnp.float32(0), _target(key), jnp.int32(0))
        return state, observe(state)

    def step(key: Key, state: State, action: PyTree, params: Params) -> tuple[State, EnvStep]:
        change_key, target_key = jax.random.split(key)
        throttle = jnp.clip(action["throttle"][0], 0.0, 1.0)
        speed = drive(state.speed, action["gear"], throttle, num_gears)
        near = jnp.maximum(1 - jnp.abs(speed - state.target) / params.tolerance, 0.0)
        changes = jax.random.uniform(change_key, dtype=jnp.float32) < params.change_probability
        after = State(speed, jnp.where(changes, _target(target_key), state.target), state.time + 1)
        truncated = after.time >= params.max_steps_in_episode
        return after, EnvStep(observe(after), near - params.fuel_cost * throttle, jnp.bool_(False), truncated)

    # A speed is below the top one: torque fades towards it.
    observation_space = Box((2,), -1.0, 2 * TOP_SPEED - 1)
    action_space = Product.of(gear=Discrete(num_gears), throttle=Box((1,), 0.0, 1.0))
    params = Params(jnp.float32(0.15), jnp.float32(0.3), jnp.float32(0.04), jnp.int32(100))
    return Env(EnvSpec("GearShift", observation_space, action_space), params, reset, step)


def _target(key: Key) -> jax.Array:
    return jax.random.uniform(key, dtype=jnp.float32, minval=TARGETS[0], maxval=TARGETS[1])
