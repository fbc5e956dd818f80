"""Environments made for tests: their values have closed forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep

STATES, LIMIT = 4, 5


class ChainState(NamedTuple):
    place: jax.Array
    time: jax.Array


def time_limit_chain(one_hot: bool, continuous: bool = False) -> Env:
    """A ring 0 → 1 → … → STATES - 1 → 0 whose only end is the time limit, from a uniformly drawn place.

    Leaving place i pays i, whatever the action. one_hot: observe the place as a vector, else as an integer. continuous: an
    action is a number in ± 1, else one of two.
    """

    def observe(place):
        return jax.nn.one_hot(place, STATES) if one_hot else place

    def reset(key, params):
        place = jax.random.randint(key, (), 0, STATES)
        return ChainState(place, jnp.int32(0)), observe(place)

    def step(key, state, action, params):
        place = (state.place + 1) % STATES
        after = ChainState(place, state.time + 1)
        out = EnvStep(observe(place), state.place.astype(jnp.float32), jnp.bool_(False), after.time >= params["limit"])
        return after, out

    space = Box((STATES,), 0.0, 1.0) if one_hot else Discrete(STATES)
    actions = Box((1,), -1.0, 1.0) if continuous else Discrete(2)
    return Env(EnvSpec("TimeLimitChain", space, actions), {"limit": jnp.int32(LIMIT)}, reset, step)


def chain_values(gamma: float) -> np.ndarray:
    """V(i) = Σ_k γ^k ((i + k) mod STATES): a geometric series of rounds through the ring."""
    first_round = [sum(gamma**k * ((i + k) % STATES) for k in range(STATES)) for i in range(STATES)]
    return np.array(first_round) / (1 - gamma**STATES)


def chain_values_if_truncation_ended(gamma: float) -> np.ndarray:
    """The wrong answer, largest case: V(i) as if the episode's end after LIMIT steps were the end of the world."""
    return np.array([sum(gamma**k * ((i + k) % STATES) for k in range(LIMIT)) for i in range(STATES)])
