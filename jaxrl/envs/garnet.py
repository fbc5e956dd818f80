"""Garnet: random Markov decision processes (Bhatnagar et al. 2009, Natural actor-critic algorithms, section 9).

From each state and action the process goes on to `branching` different states, drawn uniformly, with the probabilities
into which as many minus one uniform cuts divide the unit interval. The expected reward of a state and action is standard
normal; a reward is normal around it. (The paper draws one for each transition; only its mean over s' matters to values.)
An episode goes on until the time limit, unless rows of `probability` sum to less than 1: what is missing terminates it.

Everything random about a process lies in `Params`, so that many of them are one `vmap` over environment parameters.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.settings import AtLeastTwo, Fraction, Range, check
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, Scalar
from jaxrl.ops import exploration

ROUNDING = 1e-6  # a row that sums to 1 but for so much ends no episode
# What a seed's key is folded with: no tag of a run's root key, so that process k shares no random number with run k.
PROCESS = int.from_bytes(b"mdp")


class Params(NamedTuple):
    """The process. probability: P(s' | s, a), float32 [S, A, S]. reward: its expectation, float32 [S, A].

    noise: standard deviation of a reward around it, float32. max_steps_in_episode: the time limit (truncation), int32.
    """

    probability: jax.Array
    reward: jax.Array
    noise: jax.Array
    max_steps_in_episode: jax.Array


class State(NamedTuple):
    """place: the process's state, int32 []. time: steps taken, int32 []."""

    place: jax.Array
    time: jax.Array


def draw(
    key: Key, num_states: int, num_actions: int, branching: int, termination: Scalar = 0.0, noise: Scalar = 0.1
) -> Params:
    """A random process. termination: probability that a step ends the episode, alike everywhere. `vmap` it over keys."""
    state_key, cut_key, reward_key = jax.random.split(key, 3)
    shape = (num_states, num_actions)

    def one(state_key: Key, cut_key: Key) -> jax.Array:
        next_states = jax.random.permutation(state_key, num_states)[:branching]
        cuts = jnp.sort(jax.random.uniform(cut_key, (branching - 1,), jnp.float32))
        parts = jnp.diff(cuts, prepend=0.0, append=1.0)
        return jnp.zeros(num_states, jnp.float32).at[next_states].set(parts)

    rows = jax.vmap(jax.vmap(one))(jax.random.split(state_key, shape), jax.random.split(cut_key, shape))
    reward = jax.random.normal(reward_key, shape, jnp.float32)
    return Params((1 - termination) * rows, reward, jnp.float32(noise), jnp.int32(100))


def make(num_states: int = 10, num_actions: int = 3, branching: int = 3, termination: float = 0.0, seed: int = 0) -> Env:
    """The process drawn from `seed`, from a uniformly drawn state. Other params of the same shape may be given to it."""
    check("branching", branching, Annotated[int, Range(low=1, high=num_states)])
    check("num_actions", num_actions, Annotated[int, AtLeastTwo])
    check("termination", termination, Annotated[float, Fraction])

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        place = jax.random.randint(key, (), 0, num_states, jnp.int32)
        return State(place, jnp.int32(0)), place

    def step(key: Key, state: State, action: jax.Array, params: Params) -> tuple[State, EnvStep]:
        place_key, end_key, noise_key = jax.random.split(key, 3)
        probability = params.probability[state.place, action]
        after = State(exploration.sample(place_key, probability), state.time + 1)
        terminated = jax.random.uniform(end_key, dtype=jnp.float32) >= probability.sum() + ROUNDING
        reward = params.reward[state.place, action] + params.noise * jax.random.normal(noise_key, dtype=jnp.float32)
        return after, EnvStep(after.place, reward, terminated, after.time >= params.max_steps_in_episode)

    spec = EnvSpec("Garnet", Discrete(num_states), Discrete(num_actions))
    key = jax.random.fold_in(jax.random.key(seed), PROCESS)
    return Env(spec, draw(key, num_states, num_actions, branching, termination), reset, step)
