"""Agent -> Agent: running normalisation of observations and rewards.

The statistics are part of the agent's state, so that all environments share them, a reset does not wipe them and evaluation
has them. Observations are learnt from as they were acted on: `learn` scales them by the statistics that `act` used and only
then updates these. Rewards are for `learn` alone, so their statistics include the rollout that they scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout

LIMIT = 10.0  # of a normalised number
EPSILON = 1e-8  # added to variances


class Moments(NamedTuple):
    """Of what has been seen so far. count: float32 []; mean, variance (of the population): float32 [...]."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    mean: jax.Array
    variance: jax.Array

    @staticmethod
    def of_nothing(shape: tuple[int, ...]) -> Moments:
        """Mean 0 and variance 1, which the first rows replace."""
        return Moments(jnp.float32(0), jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))

    def updated(self, x: jax.Array, mask: jax.Array) -> Moments:
        """With the rows of `x` [T, N, ...] where `mask` [T, N] (Chan, Golub & LeVeque 1983, equation 2.1)."""
        count = mask.sum(dtype=jnp.float32)

        def mean_of(rows: jax.Array) -> jax.Array:
            return trees.where(mask, rows, jnp.zeros_like(rows)).sum((0, 1)) / jnp.maximum(count, 1)

        mean = mean_of(x)
        variance = mean_of(jnp.square(x - jnp.broadcast_to(mean, x.shape)))
        total = self.count + count
        share = count / jnp.maximum(total, 1)
        shift = mean - self.mean
        merged = (1 - share) * self.variance + share * variance + share * (1 - share) * jnp.square(shift)
        return Moments(total, self.mean + share * shift, jnp.where(total > 0, merged, self.variance))


class Normalised(NamedTuple):
    """The parameters of an agent whose observations are normalised: its own, and the moments of observations."""

    inner: PyTree
    observations: Moments


class ObservationStatistics(NamedTuple):
    """The state of an agent whose observations are normalised: the agent's own, and the observations' moments."""

    inner: PyTree
    moments: Moments


class RewardStatistics(NamedTuple):
    """The state of an agent whose rewards are normalised. ret: the discounted return so far, float32 [N]."""

    inner: PyTree
    moments: Moments
    ret: jax.Array


def normalized(agent: Agent, spec: EnvSpec, config: Any) -> Agent:
    """`agent` with the normalisations that its Config asks for."""
    if config.normalize_rewards:
        agent = normalize_rewards(agent, config.num_envs)
    if config.normalize_observations:
        agent = normalize_observations(agent, spec)
    return agent


def normalize_observations(agent: Agent, spec: EnvSpec) -> Agent:
    """`agent` that sees (obs - mean) / √variance, cut to ± LIMIT, by the moments of all observations so far.

    Raises ValueError where observations are not a Box.
    """
    space = spec.observation_space
    if not isinstance(space, Box):
        raise InputError(f"normalize_observations needs observations in a Box; {spec.id} has {space}")
    shape = space.shape

    def scaled(state: ObservationStatistics, obs: jax.Array) -> jax.Array:
        mean, deviation = state.moments.mean, jnp.sqrt(state.moments.variance + EPSILON)
        centred = obs.astype(jnp.float32) - jnp.broadcast_to(mean, obs.shape)
        return jnp.clip(centred / jnp.broadcast_to(deviation, obs.shape), -LIMIT, LIMIT)

    def init(key: Key, hp: Any, params: PyTree = None) -> ObservationStatistics:
        inner, moments = params if isinstance(params, Normalised) else (params, Moments.of_nothing(shape))
        return ObservationStatistics(agent.init(key, hp, inner), moments)

    def params_of(state: ObservationStatistics) -> Normalised:
        return Normalised(agent.params(state.inner) if agent.params else None, state.moments)

    def learn(
        hp: Any, state: ObservationStatistics, rollout: Rollout, clock: Clock, key: Key
    ) -> tuple[ObservationStatistics, Metrics]:
        s = rollout.steps
        steps = s._replace(obs=scaled(state, s.obs), next_obs=scaled(state, s.next_obs))
        inner, metrics = agent.learn(hp, state.inner, Rollout(steps, rollout.memory), clock, key)
        return ObservationStatistics(inner, state.moments.updated(s.obs.astype(jnp.float32), s.valid)), metrics

    return _with_statistics(agent, init, learn, scaled)._replace(params=params_of)


def normalize_rewards(agent: Agent, num_envs: int) -> Agent:
    """`agent` that learns from rewards / √variance, cut to ± LIMIT, of the discounted return G_t = r_t + γ G_{t-1}.

    The variance is of all G up to the rollout's end, as VecNormalize's (Stable-Baselines3) is of those up to the step. G
    begins anew with each episode; γ is `hparams.gamma`. Rewards are not centred: that would change what is optimal.
    """

    def init(key: Key, hp: Any, params: PyTree = None) -> RewardStatistics:
        return RewardStatistics(agent.init(key, hp, params), Moments.of_nothing(()), jnp.zeros(num_envs, jnp.float32))

    def learn(
        hp: Any, state: RewardStatistics, rollout: Rollout, clock: Clock, key: Key
    ) -> tuple[RewardStatistics, Metrics]:
        s = rollout.steps

        def discounted(ret: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            reward, ended, valid = xs
            ret = jnp.where(valid, reward + hp.gamma * ret, ret)
            return jnp.where(ended, 0.0, ret), ret

        ret, returns = jax.lax.scan(discounted, state.ret, (s.reward, s.terminated | s.truncated, s.valid))
        moments = state.moments.updated(returns, s.valid)
        scaled = jnp.clip(s.reward / jnp.sqrt(moments.variance + EPSILON), -LIMIT, LIMIT)
        inner, metrics = agent.learn(hp, state.inner, Rollout(s._replace(reward=scaled), rollout.memory), clock, key)
        return RewardStatistics(inner, moments, ret), metrics

    return _with_statistics(agent, init, learn, lambda state, obs: obs)


def _with_statistics(agent: Agent, init: Any, learn: Any, seen: Callable[[Any, PyTree], PyTree]) -> Agent:
    """`agent` under a state that holds its own as `inner`. seen: (state, obs) -> the observations that the agent gets."""

    def act(hp: Any, state: Any, memory: PyTree, obs: PyTree, *rest: Any) -> tuple[PyTree, PyTree, PyTree]:
        return agent.act(hp, state.inner, memory, seen(state, obs), *rest)

    def greedy(hp: Any, state: Any, memory: PyTree, obs: PyTree, *rest: Any) -> tuple[PyTree, PyTree]:
        return agent.greedy(hp, state.inner, memory, seen(state, obs), *rest)

    params_of = agent.params and (lambda state: agent.params(state.inner))
    return Agent(init, agent.memory, act, greedy, learn, params=params_of)
