"""What agents with replay share: gradient steps on what is drawn from it; and the settings of off-policy actor-critics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts.common import clipped_adam, example_obs, updated_target, when_started
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, LoopConfig, NonNegative
from jaxrl.core.types import Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State
from jaxrl.networks.torsos import TorsoSetting, remembers, torso_of
from jaxrl.ops import exploration
from jaxrl.replay import prioritized, ring
from jaxrl.replay.ring import Replay, Sampler, Stored


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """Replay and networks, beside the shape of an iteration."""

    torso: TorsoSetting = "auto"
    """Network under actor and critics, without a memory; auto = CNN for images, else MLP."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (256, 256)
    """Units of each dense hidden layer."""
    replay_capacity: Annotated[int, Count] = 100_000
    """Transitions kept; the oldest make room."""
    batch_size: Annotated[int, Count] = 256
    """Transitions per gradient step."""
    gradient_steps: Annotated[int, Count] = 1
    """Gradient steps after each rollout."""
    learning_starts: Annotated[int, NonNegative] = 1_000
    """Environment steps of uniformly random actions before the first gradient step."""


def check_torso(spec: EnvSpec, torso: Any, agent: str, instead: str) -> None:
    """Raises InputError for a torso that cannot take the observations, or that has a memory: single steps are replayed.

    instead: an agent that learns with a memory.
    """
    if remembers(torso):
        raise InputError(f"torso = {torso} has a memory, but agent {agent!r} replays single steps; use agent {instead!r}")
    torso_of(torso, spec.observation_space, ())


def actor_step_size(hp: Any) -> Scalar:
    """Adam's step size for the actor. hp: an agent's with learning_rate and actor_learning_rate, 0 = the same."""
    return jnp.where(hp.actor_learning_rate > 0, hp.actor_learning_rate, hp.learning_rate)


def empty_replay(spec: EnvSpec, config: Any, n_step: int = 1) -> Replay:
    """A replay of the environment's transitions."""
    obs, flag = example_obs(spec, spec.storage_dtype), jnp.bool_(False)
    space = spec.action_space
    action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(space.sample, jax.random.key(0)))
    example = Stored(obs, action, jnp.float32(0), flag, flag, obs, flag)
    return ring.init(example, config.replay_capacity, config.num_envs, config.rollout_length, n_step)


def pushed(replay: Replay, rollout: Rollout) -> Replay:
    """`replay` with a rollout's transitions."""
    s = rollout.steps
    return ring.push(replay, Stored(s.obs, s.action, s.reward, s.terminated, s.truncated, s.next_obs, s.valid))


def random_at_first(spec: EnvSpec, config: Config, clock: Clock, key: Key, action: PyTree) -> PyTree:
    """`action` [N], but uniform draws up to `learning_starts`."""
    keys = jax.random.split(key, len(jax.tree.leaves(action)[0]))
    drawn = jax.vmap(spec.action_space.sample)(keys)
    return jax.tree.map(lambda x, y: jnp.where(clock.env_steps <= config.learning_starts, x, y), drawn, action)


class QLearner(NamedTuple):
    """What Q-learning with a target network learns: θ, θ⁻, and the optimiser's state."""

    params: PyTree
    target_params: PyTree
    opt_state: PyTree


class Experience(NamedTuple):
    """A replay, and the priorities of what is drawn from it; () where all of it is drawn alike."""

    replay: PyTree
    priorities: PyTree


def first_learner(hp: Any, params: PyTree) -> QLearner:
    """What is learnt before training, from the first parameters."""
    return QLearner(params, params, clipped_adam(hp, 0.0).init(params))


# (θ, θ⁻, slots int32 [B], importance weights float32 [B], key) -> (L(θ), (metrics, priorities [B]))
SlotsLoss = Callable[[PyTree, PyTree, jax.Array, jax.Array, Key], tuple[jax.Array, tuple[Metrics, jax.Array]]]


def descend(
    config: Any,
    hp: Any,
    sampler: Sampler,
    loss: SlotsLoss,
    state: State,
    replay: PyTree,
    ready: jax.Array,
    clock: Clock,
    key: Key,
) -> tuple[State, Metrics]:
    """`gradient_steps` of Adam on `loss`, each on slots drawn from `replay`, whose priorities it renews; then θ⁻, where due.

    state: QLearner and Experience before the push of a rollout. replay: after it. ready: bool [], whether enough is stored;
    before, and before `learning_starts`, nothing is learnt.
    config, hp: of an agent with replay, priorities and a target network.
    """
    started = (clock.env_steps >= config.learning_starts) & ready
    beta = exploration.linear_schedule(clock.progress, hp.importance_exponent, 1.0, 1.0)
    optimizer, learner = clipped_adam(hp, clock.progress), state.learner

    def step(weights: tuple[PyTree, PyTree], priorities: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        (params, opt_state), (sample_key, loss_key) = weights, jax.random.split(key)
        slots, relative = sampler.sample(priorities, replay, sample_key)
        weight = prioritized.importance_weights(relative, beta)
        grads, (metrics, priority) = jax.grad(loss, has_aux=True)(params, learner.target_params, slots, weight, loss_key)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), (metrics, slots, priority)

    def gradient_step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
        weights, (metrics, slots, priority) = when_started(started, step, *carry, key)
        return (weights, sampler.updated(carry[1], slots, priority, hp.priority_exponent, started)), metrics

    start = ((learner.params, learner.opt_state), sampler.pushed(state.experience.priorities, replay))
    keys = jax.random.split(key, config.gradient_steps)
    ((params, opt_state), priorities), metrics = jax.lax.scan(gradient_step, start, keys)
    target_params = updated_target(config, hp, learner.target_params, params, clock)
    state = State(QLearner(params, target_params, opt_state), Experience(replay, priorities))
    return state, jax.tree.map(lambda x: x.sum(0), metrics)
