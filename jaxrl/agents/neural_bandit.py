"""Neural bandit: a network f(x; θ) predicts each action's reward in context x, trained on replayed pulls.

    L(θ) = E[½ (f(x; θ)_a - r)²]    over stored (x, a, r)

Every step is an episode of its own: no value is bootstrapped. Config `exploration` says how actions are chosen:

- "epsilon_greedy": a random action with probability ε, else the best of f(x).
- "ensemble": E networks, each trained on its own half of the pulls, drawn when a pull is stored; every environment acts on
  the best of a uniformly drawn one (bootstrapped heads, Osband et al. 2016; ensemble sampling, Lu & Van Roy 2017).
- "bayesian": Bayesian regression on the last hidden features φ(x), 1 beside them for the bias (neural-linear, Riquelme et
  al. 2018). Per action Σ_a starts at prior_scale² I and takes in each pull of a by Sherman & Morrison (1950),

      Σ_a ← Σ_a - (Σ_a φ)(Σ_a φ)ᵀ / (1 + φᵀ Σ_a φ),    so that Σ_a⁻¹ = I / prior_scale² + Σ φ φᵀ,

  and the action is the best of f(x)_a + noise_scale √(φᵀ Σ_a φ) ξ_a with ξ_a ~ N(0, 1): the value's own distribution, which
  needs no root of Σ_a. Its mean is the network's, and features of pulls long past are not computed anew.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.agents.parts import common, hidden, off_policy, optimizer
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, NonNegative, Positive, hyperparameters
from jaxrl.core.spaces import has_mask
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, State, Transition
from jaxrl.networks.dense import Dense
from jaxrl.networks.torsos import Torso
from jaxrl.ops import exploration, losses
from jaxrl.ops.values import at_action
from jaxrl.replay import ring, uniform


@dataclasses.dataclass(frozen=True)
class Config(off_policy.Config):
    """The neural bandit's static settings: network, replay, and how actions are chosen."""

    num_envs: Annotated[int, Count] = 10
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64, 64)
    replay_capacity: Annotated[int, Count] = 20_000
    batch_size: Annotated[int, Count] = 128
    learning_starts: Annotated[int, NonNegative] = 500
    exploration: Literal["epsilon_greedy", "ensemble", "bayesian"] = "epsilon_greedy"
    """How actions are chosen: at random now and then, by one of several networks, or by a sampled value."""
    ensemble_size: Annotated[int, Count] = 10
    """Networks of the ensemble (E); the other ways have one."""


@hyperparameters
class HParams(optimizer.HParams, common.EpsilonSchedule):
    """The neural bandit's traced settings: step size and exploration."""

    learning_rate: Annotated[float, Positive] = 1e-3
    prior_scale: Annotated[float, Positive] = 1.0
    """Standard deviation of a head's weight before any pull, in units of noise_scale (bayesian)."""
    noise_scale: Annotated[float, Positive] = 0.3
    """Standard deviation of a reward around its mean (bayesian)."""


class Stored(NamedTuple):
    """One pull in replay; obs in the spec's storage dtype. mask: which networks learn from it, bool [E]."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    valid: jax.Array
    mask: jax.Array


class Learner(NamedTuple):
    """params: leaves [E, ...]. covariance: Σ / noise_scale², float32 [A, F, F]; () unless bayesian."""

    params: PyTree
    opt_state: PyTree
    covariance: PyTree


class RewardNetwork(nn.Module):
    """Predicted rewards float32 [..., A], and the features under the head with 1 beside them, float32 [..., F]."""

    torso: Torso
    num_actions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = self.torso(obs)
        ones = jnp.ones((*features.shape[:-1], 1), jnp.float32)
        return Dense(self.num_actions)(features), jnp.concatenate([features, ones], -1)


def sherman_morrison(covariance: jax.Array, features: jax.Array) -> jax.Array:
    """(Σ⁻¹ + φ φᵀ)⁻¹ by Sherman & Morrison: Σ float32 [F, F] symmetric, φ float32 [F]."""
    projected = covariance @ features
    return covariance - jnp.outer(projected, projected) / (1.0 + features @ projected)


def deviations(covariance: jax.Array, features: jax.Array) -> jax.Array:
    """√(φᵀ Σ_a φ) of each action: Σ float32 [A, F, F], φ float32 [F] -> float32 [A]. Rounding below 0 is cut."""
    return jnp.sqrt(jnp.maximum((covariance @ features) @ features, 0.0))


def prior_covariance(hp: HParams, num_actions: int, num_features: int) -> jax.Array:
    """Σ of every action before any pull: prior_scale² I, float32 [A, F, F]."""
    identity = jnp.eye(num_features, dtype=jnp.float32)
    return jnp.tile(jnp.square(jnp.float32(hp.prior_scale)) * identity, (num_actions, 1, 1))


def updated_covariance(covariance: jax.Array, features: jax.Array, steps: Transition) -> jax.Array:
    """Σ [A, F, F] with every valid pull of a rollout [T, N] taken in, one after another; features float32 [T, N, F]."""

    def one(covariance: jax.Array, step: Transition) -> tuple[jax.Array, None]:
        before = covariance[step.action]
        after = jnp.where(step.valid, sherman_morrison(before, step.extras), before)
        return covariance.at[step.action].set(after), None

    return common.one_by_one(one, covariance, steps._replace(obs=(), next_obs=(), extras=features))[0]


class Predictions(NamedTuple):
    """What all networks make of N contexts: predicted rewards float32 [E, N, A], features float32 [E, N, F]."""

    rewards: jax.Array
    features: jax.Array


def by_epsilon(hp: HParams, learner: Learner, predictions: Predictions, clock: Clock, key: Key) -> jax.Array:
    """Actions int32 [N]: the first network's best, or a random one."""
    return common.epsilon_greedy_actions(key, predictions.rewards[0], hp.epsilon(clock))


def by_member(hp: HParams, learner: Learner, predictions: Predictions, clock: Clock, key: Key) -> jax.Array:
    """Actions int32 [N]: the best of a network drawn for each environment."""
    members, n = predictions.rewards.shape[:2]
    drawn = jax.random.randint(key, (n,), 0, members, jnp.int32)
    return exploration.greedy(predictions.rewards[drawn, jnp.arange(n)])


def by_posterior(hp: HParams, learner: Learner, predictions: Predictions, clock: Clock, key: Key) -> jax.Array:
    """Actions int32 [N]: the best of values drawn from their posterior."""
    mean = predictions.rewards[0]
    deviation = hp.noise_scale * jax.vmap(deviations, (None, 0))(learner.covariance, predictions.features[0])
    return exploration.greedy(mean + deviation * jax.random.normal(key, mean.shape, jnp.float32))


CHOICES = {"epsilon_greedy": by_epsilon, "ensemble": by_member, "bayesian": by_posterior}


def make(spec: EnvSpec, config: Config) -> Agent:
    """A contextual bandit for discrete actions and any array observation."""
    num_actions = common.discrete_actions(spec, "neural_bandit")
    if has_mask(spec.observation_space):
        raise InputError(f"agent 'neural_bandit' knows no action masks, and {spec.id} has one; use agent 'dqn' or 'ppo'")
    off_policy.check_torso(spec, config.torso, "neural_bandit", "ppo")
    network: Any = RewardNetwork(
        Torso(spec.observation_space, config.torso, config.hidden_sizes, hidden.layers(config)), num_actions
    )
    bootstrapped = config.exploration == "ensemble"
    members = config.ensemble_size if bootstrapped else 1

    def predict(params: PyTree, obs: jax.Array, key: Key | None = None) -> Predictions:
        keys = hidden.rngs(config, None if key is None else jax.random.split(key, members))
        return Predictions(*jax.vmap(lambda p, x, k: network.apply(p, x, rngs=k), (0, None, 0))(params, obs, keys))

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        obs, everyone = common.example_obs(spec), jnp.ones(members, bool)
        if params is None:
            params = jax.vmap(network.init, (0, None))(jax.random.split(key, members), obs)
        stored_obs = common.example_obs(spec, spec.storage_dtype)
        example = Stored(stored_obs, jnp.int32(0), jnp.float32(0), jnp.bool_(False), everyone)
        replay = ring.init(example, config.replay_capacity, config.num_envs, config.rollout_length)
        num_features = jax.eval_shape(predict, params, obs).features.shape[-1]
        covariance = prior_covariance(hp, num_actions, num_features) if config.exploration == "bayesian" else ()
        return State(Learner(params, optimizer.make(config, hp, 0.0).init(params), covariance), replay)

    def act(hp: HParams, state: State, obs: jax.Array, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        predictions = predict(state.learner.params, obs)
        return CHOICES[config.exploration](hp, state.learner, predictions, clock, key), ()

    def values(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return predict(state.learner.params, obs).rewards.mean(0)

    def greedy(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return exploration.greedy(values(hp, state, obs))

    def loss(params: PyTree, batch: Stored, key: Key | None) -> tuple[jax.Array, Metrics]:
        predicted = jax.vmap(at_action, (0, None))(predict(params, batch.obs, key).rewards, batch.action)
        error = batch.reward[None] - predicted  # [E, B]
        counts = batch.valid[None] & batch.mask.T
        each = jax.vmap(masked_mean)(losses.squared(error), counts)
        return each.sum(), {"loss": Mean.of(each), "value": Mean.of(predicted, counts)}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        mask_key, batch_key = jax.random.split(key)
        shape = (*s.reward.shape, members)
        mask = jax.random.bernoulli(mask_key, shape=shape) if bootstrapped else jnp.ones(shape, bool)
        replay = ring.push(state.experience, Stored(s.obs, s.action, s.reward, s.valid, mask))
        params, opt_state, covariance = state.learner
        if config.exploration == "bayesian":
            features = predict(params, trees.flatten_time(s.obs)).features[0]
            covariance = updated_covariance(covariance, features.reshape(*s.reward.shape, -1), s)

        def gradient_step(weights: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
            key, dropout_key = jax.random.split(key) if config.dropout else (key, None)
            batch = ring.take(replay.data, uniform.draw_slots(replay, key, config.batch_size))
            rule = optimizer.make(config, hp, clock.progress)
            params, opt_state, metrics = rule.descend(loss, *weights, batch, dropout_key)
            return (params, opt_state), metrics

        learnt = (params, opt_state)
        (params, opt_state), metrics = common.gradient_steps(config, clock, gradient_step, learnt, batch_key)
        metrics = metrics | {"reward": Mean.of(s.reward, s.valid)}
        return State(Learner(params, opt_state, covariance), replay), metrics

    return common.memoryless_agent(init, act, greedy, learn, values, lambda state: state.learner.params)
