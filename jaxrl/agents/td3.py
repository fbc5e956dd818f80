"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, algorithm 1).

After every T steps of N environments, on a batch of stored transitions (s, a, r, s'), with targets Q'_1, Q'_2 and π' that
follow slowly, one step of the critics descends

    Σ_i ½ E[(r + γ (1 - terminated) min_j Q'_j(s', clip(π'(s') + ε)) - Q_i(s, a))²],   ε ~ clip(N(0, σ'), ± c)

and, at every `policy_delay`-th of them, one step of the actor -E[Q_1(s, π(s))], after which all targets move: x' ← τ x +
(1 - τ) x'. In training actions carry noise N(0, σ). Noise is in units of half an action's range.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import off_policy
from jaxrl.agents.parts.common import adam, example_obs, no_memory, when_started
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, hyperparameters
from jaxrl.core.spaces import Box
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, State
from jaxrl.networks.critic import TwinBoxCritic
from jaxrl.networks.dense import Dense
from jaxrl.networks.torsos import Torso
from jaxrl.ops import boxes, losses
from jaxrl.replay import ring, uniform
from jaxrl.replay.ring import Batch


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    num_envs: Annotated[int, Count] = 4
    """Environments stepped in parallel (N)."""
    gradient_steps: Annotated[int, Count] = 4
    """Steps of the critics after each rollout."""
    policy_delay: Annotated[int, Count] = 2
    """Steps of the critics for each of the actor and the targets."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 3e-4
    """Adam's step size for the critics, and for the actor unless it has its own."""
    actor_learning_rate: Annotated[float, NonNegative] = 0.0
    """Adam's step size for the actor; 0 = learning_rate."""
    adam_epsilon: Annotated[float, Positive] = 1e-8
    """Adam's ε: gradients smaller than it are no longer scaled up to a whole step."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    tau: Annotated[float, Fraction] = 0.005
    """Share of the networks in an update of their targets; 1 = hard copy."""
    exploration_noise: Annotated[float, NonNegative] = 0.1
    """Deviation of the noise on actions in training (σ)."""
    target_noise: Annotated[float, NonNegative] = 0.2
    """Deviation of the noise on the target's actions (σ')."""
    target_noise_clip: Annotated[float, NonNegative] = 0.5
    """Bound of the noise on the target's actions (c)."""


class Params(NamedTuple):
    """critic: two sets of parameters, leaves [2, ...]."""

    actor: PyTree
    critic: PyTree


class Learner(NamedTuple):
    """What a gradient step changes.

    opt_state: of actor and critics, each Adam's own. steps: steps of the critics so far, int32 [].
    """

    params: Params
    target: Params
    opt_state: Params
    steps: jax.Array


class Actor(nn.Module):
    """obs [..., obs] -> action in ± 1: float32 [..., D]."""

    spec: EnvSpec
    config: Config
    num_dimensions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        torso: Any = self.config.torso  # one without memory: make has checked
        features = Torso(self.spec.observation_space, torso, self.config.hidden_sizes)(obs)
        return jnp.tanh(Dense(self.num_dimensions)(features))


def check_actions(spec: EnvSpec) -> Box:
    """The action space. Raises ValueError unless it is a bounded Box."""
    space = spec.action_space
    if isinstance(space, Box) and boxes.is_bounded(space):
        return space
    raise InputError(f"agent 'td3' needs actions in a bounded Box; {spec.id} has {space}")


class Networks(NamedTuple):
    """actor: obs -> action in ± 1, [..., D]. critic: (obs, action) -> Q_1 and Q_2, [2, ...]."""

    actor: Any
    critic: Any
    space: Box

    def actions(self, actor_params: PyTree, obs: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """π(obs), with noise [..., D] in units of half the range and then within the bounds: [..., *space.shape]."""
        unit = self.actor.apply(actor_params, obs)
        unit = unit if noise is None else jnp.clip(unit + noise, -1.0, 1.0)
        return boxes.from_unit(0.5 * (unit + 1.0), self.space)

    def noise(self, key: Key, batch: int) -> jax.Array:
        """Standard normal, for `batch` actions: float32 [B, D]."""
        return jax.random.normal(key, (batch, boxes.bounds(self.space)[0].size), jnp.float32)


def networks(spec: EnvSpec, config: Config) -> Networks:
    """Actor and critics for an environment. Raises ValueError where they do not fit its spaces."""
    space = check_actions(spec)
    off_policy.check_torso(spec, config.torso, "td3", "ppo")
    actor = Actor(spec, config, boxes.bounds(space)[0].size)
    return Networks(actor, TwinBoxCritic(spec.observation_space, space, config.torso, config.hidden_sizes), space)


def critic_loss(
    critic_params: PyTree, nets: Networks, hp: HParams, target: Params, batch: Batch, key: Key
) -> tuple[jax.Array, Metrics]:
    """Both critics' error against the smoothed target."""
    noise = hp.target_noise * nets.noise(key, len(batch.ret))
    noise = jnp.clip(noise, -hp.target_noise_clip, hp.target_noise_clip)
    next_action = nets.actions(target.actor, batch.next_obs, noise)
    next_value = nets.critic.apply(target.critic, batch.next_obs, next_action).min(0)
    q = nets.critic.apply(critic_params, batch.obs, batch.action)
    errors = losses.squared((batch.ret + batch.discount * next_value)[None] - q).sum(0)
    total = masked_mean(errors, batch.valid)
    return total, {"loss": Mean.of(total), "q_value": Mean.of(q.mean(0), batch.valid)}


def actor_loss(actor_params: PyTree, nets: Networks, critic_params: PyTree, batch: Batch) -> jax.Array:
    """-Q_1 of the actor's actions."""
    q = nets.critic.apply(critic_params, batch.obs, nets.actions(actor_params, batch.obs))
    return -masked_mean(q[0], batch.valid)


def make(spec: EnvSpec, config: Config) -> Agent:
    """TD3 for actions in a bounded Box, and any array observation."""
    nets = networks(spec, config)
    sampler = uniform.sampler(config.batch_size, n_step=1)

    def init(key: Key, hp: HParams, params: Params | None = None) -> State:
        if params is None:
            actor_key, critic_key = jax.random.split(key)
            obs, action = example_obs(spec)[None], jnp.zeros((1, *nets.space.shape), nets.space.dtype)
            params = Params(nets.actor.init(actor_key, obs), nets.critic.init(critic_key, obs, action))
        optimizer = adam(hp, hp.learning_rate)
        opt_state = Params(optimizer.init(params.actor), optimizer.init(params.critic))
        return State(Learner(params, params, opt_state, jnp.int32(0)), off_policy.empty_replay(spec, config))

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, PyTree]:
        noise_key, random_key = jax.random.split(key)
        noise = hp.exploration_noise * nets.noise(noise_key, len(obs))
        action = nets.actions(state.learner.params.actor, obs, noise)
        return off_policy.random_at_first(spec, config, clock, random_key, action), memory, ()

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return nets.actions(state.learner.params.actor, obs), memory

    def improve(hp: HParams, learner: Learner, batch: Batch) -> Learner:
        """One step of the actor, and all targets move."""
        params, target, opt_state, steps = learner
        grads = jax.grad(actor_loss)(params.actor, nets, params.critic, batch)
        updates, actor_state = adam(hp, off_policy.actor_step_size(hp)).update(grads, opt_state.actor)
        params = Params(optax.apply_updates(params.actor, updates), params.critic)
        target = optax.incremental_update(params, target, hp.tau)
        return Learner(params, target, Params(actor_state, opt_state.critic), steps)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        replay = off_policy.pushed(state.experience, rollout)
        started = clock.env_steps >= config.learning_starts

        def descend(learner: Learner, key: Key) -> tuple[Learner, Metrics]:
            sample_key, noise_key = jax.random.split(key)
            slots, _ = sampler.sample((), replay, sample_key)
            batch = ring.read_n_step(replay, slots, hp.gamma, n_step=1)
            params, target, opt_state, steps = learner
            grads, metrics = jax.grad(critic_loss, has_aux=True)(params.critic, nets, hp, target, batch, noise_key)
            updates, critic_state = adam(hp, hp.learning_rate).update(grads, opt_state.critic)
            params = Params(params.actor, optax.apply_updates(params.critic, updates))
            learner = Learner(params, target, Params(opt_state.actor, critic_state), steps + 1)
            due = learner.steps % config.policy_delay == 0
            return jax.lax.cond(due, lambda: improve(hp, learner, batch), lambda: learner), metrics

        def gradient_step(learner: Learner, key: Key) -> tuple[Learner, Metrics]:
            return when_started(started, descend, learner, key)

        keys = jax.random.split(key, config.gradient_steps)
        learner, metrics = jax.lax.scan(gradient_step, state.learner, keys)
        return State(learner, replay), jax.tree.map(lambda x: x.sum(0), metrics)

    return Agent(init, no_memory, act, greedy, learn)
