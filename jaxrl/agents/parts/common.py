"""What several agents share: questions to a spec, step size, values of next observations, updates of weights and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete, one_array
from jaxrl.core.types import Clock, EnvSpec, PyTree, Scalar, Transition


def discrete_actions(spec: EnvSpec, agent: str) -> int:
    """The number of actions. Raises ValueError where they are not discrete."""
    if not isinstance(spec.action_space, Discrete):
        raise InputError(f"agent {agent!r} needs discrete actions; {spec.id} has {spec.action_space}")
    return spec.action_space.n


def discrete_observations(spec: EnvSpec, agent: str) -> int:
    """The number of observations. Raises ValueError where they are not discrete."""
    if not isinstance(spec.observation_space, Discrete):
        raise InputError(f"agent {agent!r} needs discrete observations; {spec.id} has {spec.observation_space}")
    return spec.observation_space.n


def no_memory(num_envs: int) -> PyTree:
    """The memory of an agent without one."""
    del num_envs
    return ()


def example_obs(spec: EnvSpec, dtype: Any = None) -> jax.Array:
    """A zero observation of the spec's shape, for tracing shapes."""
    space = one_array(spec.observation_space)
    return jnp.zeros(space.shape, dtype or space.dtype)


def annealed(hp: Any, progress: Scalar) -> Scalar:
    """The step size at `progress` in [0, 1] through training: `learning_rate`, less `learning_rate_anneal` of it at the end.

    hp: an agent's HParams with these two. progress: of the clock that `learn` gets.
    """
    return hp.learning_rate * (1 - hp.learning_rate_anneal * progress)


def updated_target(config: Any, hp: Any, target: PyTree, online: PyTree, clock: Clock) -> PyTree:
    """θ⁻ ← τ θ + (1 - τ) θ⁻ where the steps of the update that ends now passed a multiple of `target_update_every`.

    config, hp: an agent's with num_envs, rollout_length and target_update_every, and with tau. target: θ⁻, online: θ.
    """
    every, steps_per_update = config.target_update_every, config.num_envs * config.rollout_length
    due = clock.env_steps // every > (clock.env_steps - steps_per_update) // every
    return trees.where(due, optax.incremental_update(online, target, hp.tau), target)


def one_by_one(
    update: Callable[[PyTree, Transition], tuple[PyTree, PyTree]], state: PyTree, steps: Transition
) -> tuple[PyTree, PyTree]:
    """`update(state, step) -> (state, out)` for each transition of `steps` [T, N] in turn, time first: outs [T * N].

    For agents whose learning is one update a step: added up at once, N environments at one entry of a table would move
    it N times too far.
    """
    return jax.lax.scan(update, state, trees.flatten_time(steps))


def next_values(value_of: Callable[[PyTree], jax.Array], steps: Transition, values: jax.Array) -> jax.Array:
    """V(next_obs) of every step: float32 [T, N], whatever an auto-reset put into the next row.

    value_of: observations [B, ...] -> V [B]. values: V(obs) [T, N] under the same parameters. The value of the next row
    serves where the episode goes on; only the last row, and truncated ones where there are any, take another pass
    (`vmap` computes it always).
    """
    last = value_of(jax.tree.map(lambda x: x[-1], steps.next_obs))
    shifted = jnp.concatenate([values[1:], last[None]])

    def with_truncated() -> jax.Array:
        everywhere = value_of(trees.flatten_time(steps.next_obs)).reshape(values.shape)
        return jnp.where(steps.truncated, everywhere, shifted)

    return jax.lax.cond(steps.truncated[:-1].any(), with_truncated, lambda: shifted)


def when_started(
    started: jax.Array, step: Callable[..., tuple[PyTree, PyTree]], learner: PyTree, *args: PyTree
) -> tuple[PyTree, PyTree]:
    """`step(learner, *args) -> (learner, out)` if `started` (bool []), else the same learner and zeros.

    Let `learner` be parameters and optimiser state, never a replay buffer: `vmap` computes both branches and selects.
    """

    def wait(learner: PyTree, *args: PyTree) -> tuple[PyTree, PyTree]:
        nothing = jax.eval_shape(step, learner, *args)[1]
        return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

    return jax.lax.cond(started, step, wait, learner, *args)
