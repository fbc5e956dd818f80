"""What several agents share: questions to a spec, optimisers, networks along a rollout, next values, target networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete, one_array
from jaxrl.core.types import Clock, EnvSpec, PyTree, Scalar, Transition
from jaxrl.networks.memory import peek


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


def adam(hp: Any, step_size: Scalar) -> optax.GradientTransformation:
    """Adam with the ε of hp: an agent's HParams with adam_epsilon."""
    return optax.adam(step_size, eps=hp.adam_epsilon)


def clipped_adam(hp: Any, progress: Scalar) -> optax.GradientTransformation:
    """Adam at the step size of `progress`, on gradients clipped by their global norm; max_grad_norm = 0 does not clip."""
    limit = jnp.where(hp.max_grad_norm > 0, hp.max_grad_norm, jnp.inf)
    return optax.chain(optax.clip_by_global_norm(limit), adam(hp, annealed(hp, progress)))


def one_step(network: Any, params: PyTree, memory: PyTree, obs: PyTree, first: jax.Array) -> tuple[PyTree, PyTree]:
    """A network with or without memory on one step of N environments, obs [N, ...]: (out [N, ...], memory).

    With a memory it is an unroll of length one, so that learning computes what acting did.
    """
    if not network.remembers:
        return network.apply(params, memory, obs)
    out, memory = network.apply(params, memory, *jax.tree.map(lambda x: x[None], (obs, first)))
    return jax.tree.map(lambda x: x[0], out), memory


def unrolled(network: Any, params: PyTree, memory: PyTree, steps: Any) -> tuple[jax.Array, jax.Array]:
    """The network's output at obs and, without a gradient, at next_obs of every step: [T, N, ...] each.

    memory: before the first step, [N, ...]. Each next_obs is seen with the memory after its step: what the next step sees,
    unless the episode was truncated.
    """
    obs = jnp.concatenate([steps.obs, steps.next_obs[-1:]])
    first = jnp.concatenate([steps.first, jnp.zeros_like(steps.first[-1:])])
    out, _ = network.apply(params, memory, obs, first)
    next_out = jax.lax.stop_gradient(out[1:])

    def with_truncated() -> jax.Array:
        apply = partial(network.apply, jax.lax.stop_gradient(params))
        return trees.where(steps.truncated, peek(apply, memory, steps.obs, steps.first, steps.next_obs), next_out)

    return out[:-1], jax.lax.cond(steps.truncated[:-1].any(), with_truncated, lambda: next_out)


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
