"""SAC: soft actor-critic (Haarnoja et al. 2018, algorithm 1), and for discrete actions (Christodoulou 2019).

After every T steps of N environments, on batches of stored transitions (s, a, r, s'), with twin critics Q_1, Q_2 and
their slowly following targets Q'_1, Q'_2, each gradient step descends

    critics      Σ_i ½ E[(r + γ (1 - terminated) V(s') - Q_i(s, a))²],
                 V(s') = E_a'~π[min_i Q'_i(s', a') - α log π(a' | s')]                                  (equations 3, 5)
    actor        E_a~π[α log π(a | s) - min_i Q_i(s, a)]                                                (equation 7)
    temperature  E_a~π[-log α (log π(a | s) + H)],   H the entropy aimed at                             (equation 18)

after which Q' ← τ Q + (1 - τ) Q'. E over actions is one draw through the squashed Gaussian for a Box, and exact for
discrete actions.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.agents.parts import off_policy
from jaxrl.agents.parts.common import adam, example_obs, no_memory, when_started
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State
from jaxrl.networks.critic import TwinBoxCritic, TwinQNetwork
from jaxrl.networks.policy import PolicyHead
from jaxrl.networks.torsos import Torso
from jaxrl.ops import boxes, losses, values
from jaxrl.ops.distributions import Categorical, Distribution
from jaxrl.replay import ring, uniform
from jaxrl.replay.ring import Batch


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    num_envs: Annotated[int, Count] = 4
    """Environments stepped in parallel (N)."""
    gradient_steps: Annotated[int, Count] = 4
    """Gradient steps after each rollout."""
    auto_temperature: bool = True
    """Tune the temperature towards an entropy of target_entropy; else it stays."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 3e-4
    """Adam's step size for critics and temperature, and for the actor unless it has its own."""
    actor_learning_rate: Annotated[float, NonNegative] = 0.0
    """Adam's step size for the actor; 0 = learning_rate."""
    adam_epsilon: Annotated[float, Positive] = 1e-8
    """Adam's ε: gradients smaller than it are no longer scaled up to a whole step."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    tau: Annotated[float, Fraction] = 0.005
    """Share of the critics in an update of their targets; 1 = hard copy."""
    temperature: Annotated[float, Positive] = 1.0
    """Return that a nat of entropy is worth (α), at the start."""
    target_entropy: Annotated[float, Range()] = 0.0
    """Nats a dimension by which the entropy aimed at exceeds the usual: -1 for a Box in ± 1, 0.89 log A if discrete."""


class Params(NamedTuple):
    """critic: two sets of parameters, leaves [2, ...]. log_temperature: log α, float32 []."""

    actor: PyTree
    critic: PyTree
    log_temperature: jax.Array


class Learner(NamedTuple):
    """What a gradient step changes. target_critic: as the critic."""

    params: Params
    target_critic: PyTree
    opt_state: PyTree


class Actor(nn.Module):
    """obs [..., obs] -> π(· | obs)."""

    spec: EnvSpec
    config: Config

    @nn.compact
    def __call__(self, obs: jax.Array) -> Distribution:
        torso: Any = self.config.torso  # one without memory: make has checked
        features = Torso(self.spec.observation_space, torso, self.config.hidden_sizes)(obs)
        return PolicyHead(self.spec.action_space, state_dependent_std=True)(features)


def target_entropy(space: Discrete | Box, hp: HParams) -> Scalar:
    """H: `target_entropy` above 0.89 of the largest if discrete; above -1 nat a dimension, half its width being the unit."""
    if isinstance(space, Discrete):
        return 0.89 * float(np.log(space.n)) + hp.target_entropy
    half_widths = 0.5 * boxes.bounds(space)[1]
    return float(np.log(half_widths).sum()) + half_widths.size * (hp.target_entropy - 1.0)


def check_actions(spec: EnvSpec) -> Discrete | Box:
    """The action space. Raises ValueError unless it is Discrete or a bounded Box."""
    space = spec.action_space
    if isinstance(space, Discrete) or (isinstance(space, Box) and boxes.is_bounded(space)):
        return space
    raise InputError(f"agent 'sac' needs discrete actions or a bounded Box; {spec.id} has {space}")


class Networks(NamedTuple):
    """actor: obs -> π. critic: both critics, of (obs, action) or, for discrete actions, of obs for all of them."""

    actor: Any
    critic: Any
    space: Discrete | Box

    def q_values(self, critic_params: PyTree, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q_1 and Q_2 at `action`: float32 [2, B]."""
        if isinstance(self.space, Box):
            return self.critic.apply(critic_params, obs, action)
        return jax.vmap(values.at_action, (0, None))(self.all_q_values(critic_params, obs), action)

    def all_q_values(self, critic_params: PyTree, obs: jax.Array) -> jax.Array:
        """Q_1 and Q_2 of every discrete action: float32 [2, B, A]."""
        return self.critic.apply(critic_params, (), obs)[0][..., 0]

    def soft_value(
        self, actor_params: PyTree, critic_params: PyTree, obs: jax.Array, alpha: jax.Array, key: Key
    ) -> tuple[jax.Array, jax.Array]:
        """E_a~π[min_i Q_i(s, a) - α log π(a | s)] and E[-log π]: float32 [B] each."""
        policy: Distribution = self.actor.apply(actor_params, obs)
        if isinstance(policy, Categorical):
            entropy = policy.entropy()
            q = self.all_q_values(critic_params, obs).min(0)
            return (jax.nn.softmax(policy.logits) * q).sum(-1) + alpha * entropy, entropy
        action, log_prob = policy.sample_and_log_prob(key)
        return self.q_values(critic_params, obs, action).min(0) - alpha * log_prob, -log_prob


def networks(spec: EnvSpec, config: Config) -> Networks:
    """Actor and critics for an environment. Raises ValueError where they do not fit its spaces."""
    space = check_actions(spec)
    off_policy.check_torso(spec, config.torso, "sac", "ppo")
    if isinstance(space, Discrete):
        critic: Any = TwinQNetwork(spec.observation_space, config.torso, config.hidden_sizes, space.n)
    else:
        critic = TwinBoxCritic(spec.observation_space, space, config.torso, config.hidden_sizes)
    return Networks(Actor(spec, config), critic, space)


def loss(
    params: Params, nets: Networks, config: Config, hp: HParams, target_critic: PyTree, batch: Batch, key: Key
) -> tuple[jax.Array, Metrics]:
    """The three losses added up; each reaches the parameters it is meant for only."""
    next_key, key = jax.random.split(key)
    fixed: Params = jax.lax.stop_gradient(params)
    alpha = jnp.exp(fixed.log_temperature)
    next_value, _ = nets.soft_value(fixed.actor, target_critic, batch.next_obs, alpha, next_key)
    q = nets.q_values(params.critic, batch.obs, batch.action)
    errors = losses.squared((batch.ret + batch.discount * next_value)[None] - q).sum(0)
    soft, entropy = nets.soft_value(params.actor, fixed.critic, batch.obs, alpha, key)
    parts = {
        "critic_loss": masked_mean(errors, batch.valid),
        "actor_loss": -masked_mean(soft, batch.valid),
        "entropy": masked_mean(entropy, batch.valid),
    }
    total = parts["critic_loss"] + parts["actor_loss"]
    if config.auto_temperature:
        missing = target_entropy(nets.space, hp) - jax.lax.stop_gradient(parts["entropy"])
        total = total - params.log_temperature * missing
    parts |= {"q_value": masked_mean(q.mean(0), batch.valid), "temperature": alpha}
    return total, {name: Mean.of(x) for name, x in parts.items()}


def optimizer(hp: HParams) -> optax.GradientTransformation:
    """Adam, with a step size of the actor's own."""
    parts = {"actor": adam(hp, off_policy.actor_step_size(hp)), "other": adam(hp, hp.learning_rate)}
    return optax.partition(parts, Params._make(("actor", "other", "other")))


def make(spec: EnvSpec, config: Config) -> Agent:
    """SAC for discrete actions or a bounded Box, and any array observation."""
    nets = networks(spec, config)
    sampler = uniform.sampler(config.batch_size, n_step=1)

    def init(key: Key, hp: HParams, params: Params | None = None) -> State:
        if params is None:
            actor_key, critic_key = jax.random.split(key)
            obs, action = example_obs(spec)[None], jnp.zeros((1, *nets.space.shape), nets.space.dtype)
            critic = nets.critic.init(critic_key, *((obs, action) if isinstance(nets.space, Box) else ((), obs)))
            params = Params(nets.actor.init(actor_key, obs), critic, jnp.log(hp.temperature))
        learner = Learner(params, params.critic, optimizer(hp).init(params))
        return State(learner, off_policy.empty_replay(spec, config))

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, PyTree]:
        policy_key, random_key = jax.random.split(key)
        action = nets.actor.apply(state.learner.params.actor, obs).sample(policy_key)
        return off_policy.random_at_first(spec, config, clock, random_key, action), memory, ()

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return nets.actor.apply(state.learner.params.actor, obs).mode(), memory

    def action_values(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return nets.all_q_values(state.learner.params.critic, obs).min(0)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        replay = off_policy.pushed(state.experience, rollout)
        started = clock.env_steps >= config.learning_starts

        def descend(learner: Learner, key: Key) -> tuple[Learner, Metrics]:
            sample_key, loss_key = jax.random.split(key)
            slots, _ = sampler.sample((), replay, sample_key)
            batch = ring.read_n_step(replay, slots, hp.gamma, n_step=1)
            params, target_critic, opt_state = learner
            grads, metrics = jax.grad(loss, has_aux=True)(params, nets, config, hp, target_critic, batch, loss_key)
            updates, opt_state = optimizer(hp).update(grads, opt_state)
            params = Params(*optax.apply_updates(params, updates))
            target_critic = optax.incremental_update(params.critic, target_critic, hp.tau)
            return Learner(params, target_critic, opt_state), metrics

        def gradient_step(learner: Learner, key: Key) -> tuple[Learner, Metrics]:
            return when_started(started, descend, learner, key)

        keys = jax.random.split(key, config.gradient_steps)
        learner, metrics = jax.lax.scan(gradient_step, state.learner, keys)
        return State(learner, replay), jax.tree.map(lambda x: x.sum(0), metrics)

    return Agent(init, no_memory, act, greedy, learn, action_values if isinstance(nets.space, Discrete) else None)
