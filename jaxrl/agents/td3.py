"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, algorithm 1).

After every T steps of N environments, on a batch of stored transitions (s, a, r, s'), with targets Q'_1, Q'_2 and π' that
follow slowly, one step of the critics descends

    Σ_i ½ E[(r + γ (1 - terminated) min_j Q'_j(s', clip(π'(s') + ε)) - Q_i(s, a))²],   ε ~ clip(N(0, σ'), ± c)

and, at every `policy_delay`-th of them, one step of the actor -E[Q_1(s, π(s))], after which all targets move: x' ← τ x +
(1 - τ) x'. In training actions carry noise N(0, σ). Noise is in units of half an action's range.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import common, hidden, off_policy, optimizer
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, NonNegative, hyperparameters
from jaxrl.core.spaces import Box
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State
from jaxrl.networks.critic import TwinBoxCritic
from jaxrl.networks.dense import Dense
from jaxrl.ops import boxes, losses
from jaxrl.replay.ring import Batch


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    """TD3's static settings: network, replay, and the actor's delay."""

    num_envs: Annotated[int, Count] = 4
    gradient_steps: Annotated[int, Count] = 4
    """Steps of the critics after each rollout."""
    policy_delay: Annotated[int, Count] = 2
    """Steps of the critics for each of the actor and the targets."""


@hyperparameters
class HParams(off_policy.HParams):
    """TD3's traced settings: step sizes, targets and noise."""

    exploration_noise: Annotated[float, NonNegative] = 0.1
    """Deviation of the noise on actions in training (σ)."""
    target_noise: Annotated[float, NonNegative] = 0.2
    """Deviation of the noise on the target's actions (σ')."""
    target_noise_clip: Annotated[float, NonNegative] = 0.5
    """Bound of the noise on the target's actions (c)."""


class Params(NamedTuple):
    """Of the networks. critic: two sets of parameters, leaves [2, ...]."""

    actor: PyTree
    critic: PyTree


class Learner(NamedTuple):
    """What a gradient step changes.

    opt_state: of actor and critics, each its own. steps: steps of the critics so far, int32 [].
    """

    params: Params
    target: Params
    opt_state: Params
    steps: jax.Array


class Networks(NamedTuple):
    """actor: obs -> action in ± 1 before its tanh, [..., D]. critic: (obs, action) -> Q_1 and Q_2, [2, ...]."""

    actor: Any
    critic: Any
    space: Box

    def actions(self, actor_params: PyTree, obs: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """π(obs), with noise [..., D] in units of half the range and then within the bounds: [..., *space.shape]."""
        unit = jnp.tanh(self.actor.apply(actor_params, obs))
        unit = unit if noise is None else jnp.clip(unit + noise, -1.0, 1.0)
        return boxes.from_unit(0.5 * (unit + 1.0), self.space)

    def noise(self, key: Key, batch: int) -> jax.Array:
        """Standard normal, for `batch` actions: float32 [B, D]."""
        return jax.random.normal(key, (batch, boxes.bounds(self.space)[0].size), jnp.float32)


def networks(spec: EnvSpec, config: Config) -> Networks:
    """Actor and critics for an environment. Raises ValueError where they do not fit its spaces."""
    space: Any = spec.action_space
    if not off_policy.is_bounded_box(space):
        raise InputError(f"agent 'td3' needs actions in a bounded Box; {spec.id} has {space}")
    off_policy.check_torso(spec, config.torso, "td3", "ppo")
    actor = off_policy.Actor(spec, config, partial(Dense, boxes.bounds(space)[0].size))
    critic = TwinBoxCritic(spec.observation_space, space, config.torso, config.hidden_sizes, hidden.layers(config))
    return Networks(actor, critic, space)


def critic_loss(
    critic_params: PyTree, nets: Networks, config: Config, hp: HParams, target: Params, batch: Batch, key: Key
) -> tuple[jax.Array, Metrics]:
    """Both critics' error against the smoothed target; with dropout that has it too, as in DroQ (Hiraoka et al. 2022)."""
    dropout: list[Any] = [None, None]
    if config.dropout:
        key, *keys = jax.random.split(key, 3)
        dropout = [hidden.rngs(config, each) for each in keys]
    noise = hp.target_noise * nets.noise(key, len(batch.ret))
    noise = jnp.clip(noise, -hp.target_noise_clip, hp.target_noise_clip)
    next_action = nets.actions(target.actor, batch.next_obs, noise)
    next_value = nets.critic.apply(target.critic, batch.next_obs, next_action, rngs=dropout[0]).min(0)
    q = nets.critic.apply(critic_params, batch.obs, batch.action, rngs=dropout[1])
    errors = losses.squared((batch.ret + batch.discount * next_value)[None] - q).sum(0)
    total = masked_mean(errors, batch.valid)
    return total, {"loss": Mean.of(total), "q_value": Mean.of(q.mean(0), batch.valid)}


def actor_loss(
    actor_params: PyTree, nets: Networks, critic_params: PyTree, batch: Batch, dropout: Any = None
) -> tuple[jax.Array, tuple[()]]:
    """-Q_1 of the actor's actions. dropout: as `hidden.rngs`; None for none."""
    q = nets.critic.apply(critic_params, batch.obs, nets.actions(actor_params, batch.obs), rngs=dropout)
    return -masked_mean(q[0], batch.valid), ()


def optimizers(config: Config, hp: HParams, progress: Scalar) -> tuple[optimizer.Optimizer, optimizer.Optimizer]:
    """The Config's for the actor, with a step size of its own, and for the critics."""
    of_actor = optimizer.make(config, off_policy.of_actor(hp), progress, prefix="actor")
    return of_actor, optimizer.make(config, hp, progress, prefix="critic")


def make(spec: EnvSpec, config: Config) -> Agent:
    """TD3 for actions in a bounded Box, and any array observation."""
    nets = networks(spec, config)

    def init(key: Key, hp: HParams, params: Params | None = None) -> State:
        if params is None:
            actor_key, critic_key = jax.random.split(key)
            obs, action = off_policy.example_inputs(spec)
            params = Params(nets.actor.init(actor_key, obs), nets.critic.init(critic_key, obs, action))
        of_actor, of_critic = optimizers(config, hp, 0.0)
        opt_state = Params(of_actor.init(params.actor), of_critic.init(params.critic))
        return State(Learner(params, params, opt_state, jnp.int32(0)), off_policy.empty_replay(spec, config))

    def act(hp: HParams, state: State, obs: jax.Array, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        noise_key, random_key = jax.random.split(key)
        noise = hp.exploration_noise * nets.noise(noise_key, len(jax.tree.leaves(obs)[0]))
        action = nets.actions(state.learner.params.actor, obs, noise)
        return off_policy.random_at_first(spec, config, clock, random_key, obs, action), ()

    def greedy(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return nets.actions(state.learner.params.actor, obs)

    def actor_step(hp: HParams, rule: optimizer.Optimizer, learner: Learner, batch: Batch, dropout: Any) -> Learner:
        """One step of the actor, and all targets move."""
        params, target, opt_state, steps = learner
        read = (nets, params.critic, batch, dropout)
        actor, actor_state, _ = rule.descend(actor_loss, params.actor, opt_state.actor, *read)
        params = Params(actor, params.critic)
        target = optax.incremental_update(params, target, hp.tau)
        return Learner(params, target, Params(actor_state, opt_state.critic), steps)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        of_actor, of_critic = optimizers(config, hp, clock.progress)

        def gradient_step(learner: Learner, batch: Batch, key: Key) -> tuple[Learner, Metrics]:
            params, target, opt_state, steps = learner
            key, actor_key = jax.random.split(key) if config.dropout else (key, None)
            read = (nets, config, hp, target, batch, key)
            critic, critic_state, metrics = of_critic.descend(critic_loss, params.critic, opt_state.critic, *read)
            dropout = hidden.rngs(config, actor_key)
            learner = Learner(Params(params.actor, critic), target, Params(opt_state.actor, critic_state), steps + 1)
            due = learner.steps % config.policy_delay == 0
            return jax.lax.cond(due, lambda: actor_step(hp, of_actor, learner, batch, dropout), lambda: learner), metrics

        return off_policy.learn(config, hp, gradient_step, state, rollout, clock, key)

    return common.memoryless_agent(init, act, greedy, learn, params_of=lambda state: state.learner.params)
