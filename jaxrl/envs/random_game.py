"""RandomGame: state += action, reward = state mod 2, and the episode ends when the reward is 0.

The example of "one new file is a new environment": `make` returns an `Env`, and the file's name in CamelCase is its id.

The state wraps at an even number of states, which keeps its parity, so values have a closed form. Making the state odd
pays 1 and keeps the game going; adding an even number then pays 1 for ever:
Q(s, a) = 1 / (1 - γ) where s + a is odd, else 0.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.errors import InputError
from jaxrl.core.settings import AtLeastTwo, check
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key


class Params(NamedTuple):
    """max_steps_in_episode: the time limit (truncation), int32."""

    max_steps_in_episode: jax.Array


class State(NamedTuple):
    """value: the game's integer, int32 []. time: steps taken, int32 []."""

    value: jax.Array
    time: jax.Array


def make(num_states: int = 10, num_actions: int = 3) -> Env:
    """The game on the integers 0 … num_states - 1 with actions 0 … num_actions - 1, from a uniformly drawn state."""
    if num_states < 2 or num_states % 2:
        raise InputError(f"num_states = {num_states} must be even and at least 2: wrapping has to keep the parity")
    check("num_actions", num_actions, Annotated[int, AtLeastTwo])

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        value = jax.random.randint(key, (), 0, num_states, jnp.int32)
        return State(value, jnp.int32(0)), value

    def step(key: Key, state: State, action: jax.Array, params: Params) -> tuple[State, EnvStep]:
        del key  # the game is deterministic after its reset
        value = (state.value + action) % num_states
        state = State(value, state.time + 1)
        reward = (value % 2).astype(jnp.float32)
        return state, EnvStep(value, reward, reward == 0, state.time >= params.max_steps_in_episode)

    spec = EnvSpec("RandomGame", Discrete(num_states), Discrete(num_actions))
    return Env(spec, Params(jnp.int32(100)), reset, step)
