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
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.agents.parts import actor_critic, common, hidden, off_policy, optimizer
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.spaces import Box, Discrete, legal_actions
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State
from jaxrl.networks.critic import TwinBoxCritic, TwinQNetwork
from jaxrl.networks.policy import PolicyHead
from jaxrl.ops import boxes, losses, values
from jaxrl.ops.distributions import Categorical, Distribution
from jaxrl.replay.ring import Batch


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    """SAC's static settings: network, replay, and whether the temperature is tuned."""

    num_envs: Annotated[int, Count] = 4
    gradient_steps: Annotated[int, Count] = 4
    auto_temperature: bool = True
    """Tune the temperature towards an entropy of target_entropy; else it stays."""


@hyperparameters
class HParams(off_policy.HParams):
    """SAC's traced settings: step sizes, targets, entropy, and KL from the first policy."""

    temperature: Annotated[float, Positive] = 1.0
    """Return that a nat of entropy is worth (α), at the start."""
    target_entropy: Annotated[float, Range()] = 0.0
    """Nats a dimension by which the entropy aimed at exceeds the usual: -1 for a Box in ± 1, 0.89 log A if discrete."""
    kl_to_init: Annotated[float | None, NonNegative] = None
    """Weight of the policy's KL divergence from the policy that training began with, in nats (β); none = it is not held."""
    kl_to_init_anneal: Annotated[float, Fraction] = 0.0
    """Share of kl_to_init given up linearly over training."""


class Params(NamedTuple):
    """Of the networks. critic: two sets of parameters, leaves [2, ...]. log_temperature: log α, float32 []."""

    actor: PyTree
    critic: PyTree
    log_temperature: jax.Array


class Learner(NamedTuple):
    """What a gradient step changes. target_critic: as the critic. initial: the first actor where `kl_to_init` needs it."""

    params: Params
    target_critic: PyTree
    opt_state: PyTree
    initial: PyTree = ()


def target_entropy(space: Discrete | Box, hp: HParams, legal: jax.Array | None = None) -> Scalar:
    """H: `target_entropy` above 0.89 of the largest if discrete; above -1 nat a dimension, half its width being the unit.

    legal: bool [B, n], of a batch with an action mask, which bounds the entropy of each state: then the mean over them.
    """
    if isinstance(space, Discrete):
        largest = float(np.log(space.n)) if legal is None else jnp.log(jnp.maximum(legal.sum(-1), 1)).mean()
        return 0.89 * largest + hp.target_entropy
    half_widths = 0.5 * boxes.bounds(space)[1]
    return float(np.log(half_widths).sum()) + half_widths.size * (hp.target_entropy - 1.0)


class Networks(NamedTuple):
    """actor: obs -> π. critic: both critics, of (obs, action) or, for discrete actions, of obs for all of them.

    space: of actions. legal: (obs) -> where they may be taken, bool [B, n]; None without a mask.
    """

    actor: Any
    critic: Any
    space: Discrete | Box
    legal: Callable[[PyTree], jax.Array | None]

    def q_values(self, critic_params: PyTree, obs: jax.Array, action: jax.Array, dropout: Any = None) -> jax.Array:
        """Q_1 and Q_2 at `action`: float32 [2, B]. dropout: as `hidden.rngs`; None for none."""
        if isinstance(self.space, Box):
            return self.critic.apply(critic_params, obs, action, rngs=dropout)
        return jax.vmap(values.at_action, (0, None))(self.all_q_values(critic_params, obs, dropout), action)

    def all_q_values(self, critic_params: PyTree, obs: jax.Array, dropout: Any = None) -> jax.Array:
        """Q_1 and Q_2 of every discrete action: float32 [2, B, A]."""
        return self.critic.apply(critic_params, (), obs, rngs=dropout)[0][..., 0]

    def soft_value(
        self, policy: Distribution, critic_params: PyTree, obs: jax.Array, alpha: jax.Array, key: Key, dropout: Any
    ) -> tuple[jax.Array, jax.Array]:
        """E_a~π[min_i Q_i(s, a) - α log π(a | s)] and E[-log π]: float32 [B] each. policy: π(· | obs)."""
        if isinstance(policy, Categorical):
            entropy = policy.entropy()
            q = self.all_q_values(critic_params, obs, dropout).min(0)
            return (jax.nn.softmax(policy.logits) * q).sum(-1) + alpha * entropy, entropy
        action, log_prob = policy.sample_and_log_prob(key)
        return self.q_values(critic_params, obs, action, dropout).min(0) - alpha * log_prob, -log_prob


def networks(spec: EnvSpec, config: Config) -> Networks:
    """Actor and critics for an environment. Raises ValueError where they do not fit its spaces."""
    space: Any = spec.action_space
    if not (isinstance(space, Discrete) or off_policy.is_bounded_box(space)):
        raise InputError(f"agent 'sac' needs discrete actions or a bounded Box; {spec.id} has {space}")
    off_policy.check_torso(spec, config.torso, "sac", "ppo")
    actor = off_policy.Actor(spec, config, partial(PolicyHead, space, state_dependent_std=True))
    if isinstance(space, Discrete):
        shape: dict[str, Any] = {"num_actions": space.n, "layers": hidden.layers(config)}
        critic: Any = TwinQNetwork(spec.observation_space, config.torso, config.hidden_sizes, **shape)
    else:
        critic = TwinBoxCritic(spec.observation_space, space, config.torso, config.hidden_sizes, hidden.layers(config))
    return Networks(actor, critic, space, partial(legal_actions, spec.observation_space))


def dropouts(config: Config, key: Key) -> tuple[Key, list[Any]]:
    """`key`, and where critics have dropout what the target, the critics and the actor's critics are applied with."""
    if not config.dropout:
        return key, [None, None, None]
    key, *keys = jax.random.split(key, 4)
    return key, [hidden.rngs(config, each) for each in keys]


def loss(
    params: Params, nets: Networks, config: Config, hp: HParams, clock: Clock, learner: Learner, batch: Batch, key: Key
) -> tuple[jax.Array, Metrics]:
    """The three losses added up; each reaches the parameters it is meant for only. learner: for what is held fixed.

    With dropout all critics have it, the target's too (DroQ, Hiraoka et al. 2022, algorithm 2).
    """
    key, (of_target, of_critics, of_actor) = dropouts(config, key)
    next_key, key = jax.random.split(key)
    fixed: Params = jax.lax.stop_gradient(params)
    alpha = jnp.exp(fixed.log_temperature)
    next_policy, policy = nets.actor.apply(fixed.actor, batch.next_obs), nets.actor.apply(params.actor, batch.obs)
    next_value, _ = nets.soft_value(next_policy, learner.target_critic, batch.next_obs, alpha, next_key, of_target)
    q = nets.q_values(params.critic, batch.obs, batch.action, of_critics)
    errors = losses.squared((batch.ret + batch.discount * next_value)[None] - q).sum(0)
    soft, entropy = nets.soft_value(policy, fixed.critic, batch.obs, alpha, key, of_actor)
    parts = {
        "critic_loss": masked_mean(errors, batch.valid),
        "actor_loss": -masked_mean(soft, batch.valid),
        "entropy": masked_mean(entropy, batch.valid),
    }
    initial = nets.actor.apply(learner.initial, batch.obs) if learner.initial else ()
    penalty, kl = actor_critic.kl_to_initial(hp, clock.progress, policy, initial, batch.valid)
    total = parts["critic_loss"] + parts["actor_loss"] + penalty
    if config.auto_temperature:
        target = target_entropy(nets.space, hp, nets.legal(batch.obs))
        missing = target - jax.lax.stop_gradient(parts["entropy"])
        total = total - params.log_temperature * missing
    parts |= {"q_value": masked_mean(q.mean(0), batch.valid), "temperature": alpha, **kl}
    return total, {name: Mean.of(x) for name, x in parts.items()}


def optimizer_of(config: Config, hp: HParams, progress: Scalar) -> optimizer.Optimizer:
    """The Config's, with a step size of the actor's own."""

    def parted(size: Scalar) -> optax.GradientTransformation:
        of_actor = optimizer.step_size(config, off_policy.of_actor(hp), progress)
        kept: Any = dataclasses.replace(hp, weight_decay=0.0)  # type: ignore[type-var]  # a temperature is no weight
        parts = {
            "actor": optimizer.rule(config, hp, of_actor),
            "critic": optimizer.rule(config, hp, size),
            "temperature": optimizer.rule(config, kept, size),
        }
        return optax.partition(parts, Params._make(("actor", "critic", "temperature")))

    return optimizer.make(config, hp, progress, of=parted)


def make(spec: EnvSpec, config: Config) -> Agent:
    """SAC for discrete actions or a bounded Box, and any array observation."""
    nets = networks(spec, config)

    def init(key: Key, hp: HParams, params: Params | None = None) -> State:
        if params is None:
            actor_key, critic_key = jax.random.split(key)
            obs, action = off_policy.example_inputs(spec)
            critic = nets.critic.init(critic_key, *((obs, action) if isinstance(nets.space, Box) else ((), obs)))
            params = Params(nets.actor.init(actor_key, obs), critic, jnp.log(hp.temperature))
        opt_state = optimizer_of(config, hp, 0.0).init(params)
        learner = Learner(params, params.critic, opt_state, () if hp.kl_to_init is None else params.actor)
        return State(learner, off_policy.empty_replay(spec, config))

    def act(hp: HParams, state: State, obs: jax.Array, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        policy_key, random_key = jax.random.split(key)
        action = nets.actor.apply(state.learner.params.actor, obs).sample(policy_key)
        return off_policy.random_at_first(spec, config, clock, random_key, obs, action), ()

    def greedy(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return nets.actor.apply(state.learner.params.actor, obs).mode()

    def action_values(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return nets.all_q_values(state.learner.params.critic, obs).min(0)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        def gradient_step(learner: Learner, batch: Batch, key: Key) -> tuple[Learner, Metrics]:
            read = (nets, config, hp, clock, learner, batch, key)
            rule = optimizer_of(config, hp, clock.progress)
            params, opt_state, metrics = rule.descend(loss, learner.params, learner.opt_state, *read)
            target_critic = optax.incremental_update(params.critic, learner.target_critic, hp.tau)
            return Learner(params, target_critic, opt_state, learner.initial), metrics

        return off_policy.learn(config, hp, gradient_step, state, rollout, clock, key)

    known_values = action_values if isinstance(nets.space, Discrete) else None
    return common.memoryless_agent(init, act, greedy, learn, known_values, lambda state: state.learner.params)
