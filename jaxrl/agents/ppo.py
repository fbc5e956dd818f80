"""PPO: proximal policy optimisation, clipped and with an adaptive KL penalty (Schulman et al. 2017; equations 7, 8 and 9).

From a rollout of T steps of N environments, with A_t the generalised advantage estimate under the old parameters, G_t =
A_t + V_old(s_t) and ρ_t = π(a_t | s_t) / π_old(a_t | s_t), epochs of minibatches descend

    L = -E[min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε) A_t)] + c_v · ½ E[(G_t - V(s_t))²] - c_e E[H(π(· | s_t))]
        + β E[KL(π_old(· | s_t) || π(· | s_t))]          (with `kl_penalty` only)
        + β' E[KL(π(· | s_t) || π_init(· | s_t))]        (with `kl_to_init` only: of the policy that training began with).

A_t is centred and scaled within each minibatch. A torso with memory takes minibatches of whole sequences in time order.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import actor_critic, common, hidden, minibatch, transforms
from jaxrl.agents.parts.minibatch import Batch
from jaxrl.core import trees
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, Positive, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.ops import losses
from jaxrl.ops.distributions import Distribution


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    """PPO's static settings: N, T, epochs and minibatches, and which terms and limits the loss has."""

    num_envs: Annotated[int, Count] = 4
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 128
    """Steps each environment takes between two learning phases (T)."""
    num_epochs: Annotated[int, Count] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int, Count] = 4
    """Gradient steps per pass."""
    normalize_advantages: bool = True
    """Centre and scale advantages within each minibatch."""
    clip_value: bool = False
    """Clip the value's move from its old value to ± clip_epsilon, and take the worse of both losses."""
    kl_stop: bool = False
    """Stop a learning phase before the step of a minibatch whose KL from the old policy exceeds 1.5 · kl_target."""
    kl_penalty: bool = False
    """Penalise KL from the old policy, with a weight that adapts towards kl_target."""


@hyperparameters
class HParams(actor_critic.HParams):
    """PPO's traced settings: those of every policy-gradient agent, and the clip and KL of its own."""

    learning_rate: Annotated[float, Positive] = 2.5e-4
    gae_lambda: Annotated[float, Fraction] = 0.95
    """Weight of longer advantage estimates (λ)."""
    clip_epsilon: Annotated[float, Positive] = 0.2
    """How far the probability ratio may gain from moving (ε)."""
    kl_target: Annotated[float, Positive] = 0.01
    """KL from the old policy, in nats, that kl_stop and kl_penalty aim at."""
    kl_coef: Annotated[float, Positive] = 1.0
    """Weight of the KL penalty at the start (β)."""


class State(NamedTuple):
    """kl_coef: β as adapted so far, float32 []. initial: see `actor_critic.initial_params`."""

    params: PyTree
    opt_state: PyTree
    kl_coef: jax.Array
    initial: PyTree = ()


class Learner(NamedTuple):
    """What a gradient step changes. going: whether the learning phase has not been stopped, bool []."""

    params: PyTree
    opt_state: PyTree
    going: jax.Array


class Rows(NamedTuple):
    """What a gradient step reads of each step. value, log_prob, policy: under the old parameters; ret: G_t.

    initial: the policy that training began with, () unless `kl_to_init` needs it.
    """

    obs: PyTree
    first: jax.Array
    action: PyTree
    log_prob: jax.Array
    policy: Distribution | tuple[()]
    advantage: jax.Array
    value: jax.Array
    ret: jax.Array
    valid: jax.Array
    initial: Distribution | tuple[()] = ()


def normalized(x: jax.Array, mask: jax.Array) -> jax.Array:
    """`x` less its mean, over its standard deviation, both over the entries where `mask` holds."""
    centred = x - masked_mean(x, mask)
    return centred / (jnp.sqrt(masked_mean(jnp.square(centred), mask)) + 1e-8)


def policy_loss(advantage: jax.Array, log_ratio: jax.Array, clip_epsilon: Scalar) -> jax.Array:
    """The clipped surrogate, negated (equation 7); elementwise."""
    ratio = jnp.exp(log_ratio)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_epsilon, 1 + clip_epsilon) * advantage)


def clipped_value_loss(value: jax.Array, old: jax.Array, ret: jax.Array, clip_epsilon: Scalar) -> jax.Array:
    """The worse of the loss at V and at V held to old ± ε; elementwise."""
    held = old + jnp.clip(value - old, -clip_epsilon, clip_epsilon)
    return jnp.maximum(losses.squared(ret - value), losses.squared(ret - held))


def next_kl_coef(kl_coef: jax.Array, kl: jax.Array, kl_target: Scalar) -> jax.Array:
    """β after a learning phase that moved the policy by `kl` (section 4): halved below target / 1.5, doubled above 1.5×."""
    factor = jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > 1.5 * kl_target, 2.0, 1.0))
    return jnp.clip(kl_coef * factor, 1e-6, 1e6)


def loss(
    params: PyTree,
    network: ActorCritic,
    config: Config,
    hp: HParams,
    clock: Clock,
    kl_coef: jax.Array,
    batch: Batch,
    key: Key | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L over a minibatch, and its parts, each float32 []. key: of dropout; None without."""
    rows: Rows = batch.rows
    out: Any = network.apply(params, batch.memory, rows.obs, rows.first, rngs=hidden.rngs(config, key))[0]
    log_ratio = out.policy.log_prob(rows.action) - rows.log_prob
    advantage = normalized(rows.advantage, rows.valid) if config.normalize_advantages else rows.advantage
    if config.clip_value:
        value_errors = clipped_value_loss(out.value, rows.value, rows.ret, hp.clip_epsilon)
    else:
        value_errors = losses.squared(rows.ret - out.value)
    parts = {
        "policy_loss": masked_mean(policy_loss(advantage, log_ratio, hp.clip_epsilon), rows.valid),
        "value_loss": masked_mean(value_errors, rows.valid),
        "entropy": masked_mean(out.policy.entropy(), rows.valid),
        "kl": masked_mean(jnp.expm1(log_ratio) - log_ratio, rows.valid),  # an estimate from the actions taken
    }
    total = parts["policy_loss"] + hp.value_coef * parts["value_loss"] - hp.entropy_coef * parts["entropy"]
    if config.kl_penalty:
        parts["kl"] = masked_mean(rows.policy.kl(out.policy), rows.valid)  # type: ignore[union-attr]
        total = total + kl_coef * parts["kl"]
    penalty, kl = actor_critic.kl_to_initial(hp, clock.progress, out.policy, rows.initial, rows.valid)
    total = total + penalty
    return total, {"loss": total, **parts, **kl}


def kl_from_old(network: ActorCritic, params: PyTree, batch: Batch) -> jax.Array:
    """E[KL(π_old || π)] over a rollout: float32 []."""
    rows: Rows = batch.rows
    out: Any = network.apply(params, batch.memory, rows.obs, rows.first)[0]
    return masked_mean(rows.policy.kl(out.policy), rows.valid)  # type: ignore[union-attr]


def make(spec: EnvSpec, config: Config) -> Agent:
    """PPO for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "ppo")
    minibatch.check(config, network)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        params, opt_state, initial = actor_critic.init_state(network, spec, config, key, hp, params)
        return State(params, opt_state, jnp.float32(hp.kl_coef), initial)

    def extras(policy: Distribution, action: PyTree) -> tuple[jax.Array, PyTree]:
        return policy.log_prob(action), policy if config.kl_penalty else ()

    def rows_of(hp: HParams, state: State, rollout: Rollout) -> Rows:
        """Leaves [T, N, ...]."""
        s = rollout.steps
        values, advantages = actor_critic.values_and_advantages(network, hp, state.params, rollout)
        log_prob, policy = s.extras
        initial = actor_critic.initial_policy(network, state, s.obs)
        return Rows(s.obs, s.first, s.action, log_prob, policy, advantages, values, advantages + values, s.valid, initial)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        rule = actor_critic.optimizer_of(config, hp, clock.progress)

        def descend(learner: Learner, batch: Batch, key: Key | None) -> tuple[Learner, Metrics]:
            params, opt_state, going = learner
            read = (network, config, hp, clock, state.kl_coef, batch, key)
            params, opt_state, parts = rule.descend(loss, params, opt_state, *read)
            after = Learner(params, opt_state, going)
            if config.kl_stop:
                far = parts["kl"] > 1.5 * hp.kl_target
                after = trees.where(far, learner._replace(going=jnp.bool_(False)), after)
            return after, {name: Mean.of(x) for name, x in parts.items()}

        def gradient_step(learner: Learner, batch: Batch, key: Key | None) -> tuple[Learner, Metrics]:
            if config.kl_stop:
                return common.when_started(learner.going, descend, learner, batch, key)
            return descend(learner, batch, key)

        rows, start = rows_of(hp, state, rollout), Learner(state.params, state.opt_state, jnp.bool_(True))
        learner, metrics = minibatch.descend(config, network, gradient_step, start, rollout.memory, rows, key)
        kl_coef = state.kl_coef
        if config.kl_penalty:
            moved = kl_from_old(network, learner.params, minibatch.whole(network, rollout.memory, rows))
            kl_coef = next_kl_coef(kl_coef, moved, hp.kl_target)
        return State(learner.params, learner.opt_state, kl_coef, state.initial), metrics

    agent = actor_critic.agent_of(network, init, learn, extras)
    return transforms.normalized(agent, spec, config)
