"""What DQN and R2D2 share: settings, what is learnt, and gradient steps on what is drawn from a prioritised replay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import common, off_policy, optimizer
from jaxrl.core import trees
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.types import Clock, Key, Metrics, PyTree, Scalar, State
from jaxrl.ops import exploration
from jaxrl.replay import prioritized, uniform
from jaxrl.replay.ring import Replay, Sampler


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    """Targets, the shape of the Q head and how replay is drawn, beside network and replay."""

    target_update_every: Annotated[int, Count] = 500
    """Environment steps between updates of the target network."""
    double: bool = False
    """Double DQN: the online network chooses the next action, the target network values it."""
    dueling: bool = False
    """Dueling network: state value and advantages have streams of their own."""
    n_step: Annotated[int, Count] = 1
    """Rewards in a target before it bootstraps."""
    prioritized: bool = False
    """Replay drawn in proportion to past errors instead of uniformly."""


@hyperparameters
class HParams(optimizer.HParams, common.EpsilonSchedule):
    """Step size, discount, exploration, targets and priorities."""

    learning_rate: Annotated[float, Positive] = 2.5e-4
    max_grad_norm: Annotated[float, Range(low=0, infinite=True)] = 0.0
    """Global norm to which gradients are clipped; 0 = not clipped."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    tau: Annotated[float, Fraction] = 1.0
    """Share of the online network in a target update; 1 = hard copy."""
    priority_exponent: Annotated[float, NonNegative] = 0.5
    """How far priorities shape the draw (α); 0 = not at all."""
    importance_exponent: Annotated[float, Fraction] = 0.4
    """How far importance weights correct the draw at first (β); it rises linearly to 1 over training."""


class QLearner(NamedTuple):
    """What Q-learning with a target network learns: θ, θ⁻, and the optimiser's state."""

    params: PyTree
    target_params: PyTree
    opt_state: PyTree


class Experience(NamedTuple):
    """A replay, and the priorities of what is drawn from it; () where all of it is drawn alike."""

    replay: PyTree
    priorities: PyTree


# (θ, θ⁻, slots int32 [B], importance weights float32 [B], key) -> (L(θ), (metrics, priorities [B]))
Loss = Callable[[PyTree, PyTree, jax.Array, jax.Array, Key], tuple[jax.Array, tuple[Metrics, jax.Array]]]


def sampler_of(config: Config, n_step: int, rollout_length: int) -> Sampler:
    """How slots with n stored rows are drawn from a ring that `rollout_length` rows are pushed into at a time."""
    if config.prioritized:
        return prioritized.sampler(config.batch_size, n_step, rollout_length)
    return uniform.sampler(config.batch_size, n_step)


def optimizer_of(config: Config, hp: HParams, progress: Scalar = 0.0) -> optimizer.Optimizer:
    """The Config's, on gradients clipped by their global norm; max_grad_norm = 0 does not clip."""
    limit = jnp.where(hp.max_grad_norm > 0, hp.max_grad_norm, jnp.inf)
    return optimizer.make(config, hp, progress, limit=limit)


def init_state(config: Config, hp: HParams, params: PyTree, sampler: Sampler, replay: PyTree, index: Replay) -> State:
    """The state before training, from the first parameters. index: the ring of `replay` that the sampler draws from."""
    opt_state = optimizer_of(config, hp).init(params)
    return State(QLearner(params, params, opt_state), Experience(replay, sampler.init(index)))


def update_target(config: Config, hp: HParams, target: PyTree, online: PyTree, clock: Clock) -> PyTree:
    """θ⁻ ← τ θ + (1 - τ) θ⁻ where the steps of the update that ends now passed a multiple of `target_update_every`.

    target: θ⁻, online: θ.
    """
    every, steps_per_update = config.target_update_every, config.num_envs * config.rollout_length
    due = clock.env_steps // every > (clock.env_steps - steps_per_update) // every
    return trees.where(due, optax.incremental_update(online, target, hp.tau), target)


def learn(
    config: Config,
    hp: HParams,
    sampler: Sampler,
    loss: Loss,
    state: State,
    replay: PyTree,
    index: Replay,
    clock: Clock,
    key: Key,
) -> tuple[State, Metrics]:
    """`gradient_steps` on `loss`, each on slots drawn from `index`, whose priorities it renews; then θ⁻, where due.

    state: QLearner and Experience before the push of a rollout. replay: after it. index: its ring that the sampler draws
    from. Nothing is learnt before `learning_starts`, nor before enough is stored.
    """
    started = (clock.env_steps >= config.learning_starts) & (index.filled >= sampler.n_step)
    beta = exploration.linear_schedule(clock.progress, hp.importance_exponent, 1.0, 1.0)
    learner, rule = state.learner, optimizer_of(config, hp, clock.progress)

    def descend(weights: tuple[PyTree, PyTree], priorities: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        sample_key, loss_key = jax.random.split(key)
        slots, relative = sampler.sample(priorities, index, sample_key)
        weight = prioritized.importance_weights(relative, beta)
        params, opt_state, out = rule.descend(loss, *weights, learner.target_params, slots, weight, loss_key)
        metrics, priority = out
        return (params, opt_state), (metrics, slots, priority)

    def gradient_step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
        weights, (metrics, slots, priority) = common.when_started(started, descend, *carry, key)
        return (weights, sampler.update(carry[1], slots, priority, hp.priority_exponent, started)), metrics

    start = ((learner.params, learner.opt_state), sampler.insert(state.experience.priorities, index))
    keys = jax.random.split(key, config.gradient_steps)
    ((params, opt_state), priorities), metrics = jax.lax.scan(gradient_step, start, keys)
    target_params = update_target(config, hp, learner.target_params, params, clock)
    state = State(QLearner(params, target_params, opt_state), Experience(replay, priorities))
    return state, jax.tree.map(lambda x: x.sum(0), metrics)
