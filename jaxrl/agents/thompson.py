"""Thompson sampling: pull each arm as often as it is likely to be the best (Thompson 1933; Russo et al. 2018).

    μ_a ~ posterior of a's mean reward,    A = argmax_a μ_a

Config `likelihood` says how a reward comes about, and with it the conjugate posterior:

- "gaussian": r ~ N(μ_a, noise_scale²), the noise known; μ_a ~ N(m_a, v_a), before any pull N(prior_mean, prior_scale²).
  A pull moves it with gain k = v / (v + noise_scale²): m ← m + k (r - m), v ← (1 - k) v.
- "bernoulli": r ~ Bernoulli(μ_a); μ_a ~ Beta(s_a, f_a), before any pull Beta(prior_successes, prior_failures).
  A pull adds r to s_a and 1 - r to f_a; rewards outside [0, 1] count as the nearer end.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.bandit import context_free
from jaxrl.core.settings import LoopConfig, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Transition


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """Thompson sampling's static settings."""

    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """How rewards are assumed to come about: gaussian (Normal posterior) or bernoulli (Beta posterior)."""


@hyperparameters
class HParams:
    """Thompson sampling's traced settings: the prior, and the noise of rewards."""

    prior_mean: Annotated[float, Range()] = 0.0
    """Gaussian: expected value of an arm before any pull."""
    prior_scale: Annotated[float, Positive] = 1.0
    """Gaussian: standard deviation of an arm's value before any pull."""
    noise_scale: Annotated[float, Positive] = 1.0
    """Gaussian: standard deviation of a reward around its arm's value."""
    prior_successes: Annotated[float, Positive] = 1.0
    """Bernoulli: first parameter of the Beta prior, as if so many pulls had paid."""
    prior_failures: Annotated[float, Positive] = 1.0
    """Bernoulli: second parameter of the Beta prior, as if so many pulls had not paid."""


class Normal(NamedTuple):
    """Posterior of each arm's value: mean float32 [A], variance float32 [A]."""

    mean: jax.Array
    variance: jax.Array

    @staticmethod
    def prior(hp: HParams, num_actions: int) -> Normal:
        """Before any pull: N(prior_mean, prior_scale²) for each arm."""
        variance = jnp.square(jnp.float32(hp.prior_scale))
        return Normal(jnp.full(num_actions, hp.prior_mean, jnp.float32), jnp.full(num_actions, variance, jnp.float32))

    def sample(self, key: Key) -> jax.Array:
        """A value μ_a drawn for each arm: float32 [A]."""
        return self.mean + jnp.sqrt(self.variance) * jax.random.normal(key, self.mean.shape, jnp.float32)

    def updated(self, hp: HParams, action: jax.Array, reward: jax.Array) -> Normal:
        """After one pull."""
        mean, variance = self.mean[action], self.variance[action]
        gain = variance / (variance + hp.noise_scale**2)
        return Normal(self.mean.at[action].add(gain * (reward - mean)), self.variance.at[action].set((1 - gain) * variance))


class Beta(NamedTuple):
    """Posterior of each arm's value: successes float32 [A], failures float32 [A], the prior's included."""

    successes: jax.Array
    failures: jax.Array

    @property
    def mean(self) -> jax.Array:
        """The expected value of each arm: float32 [A]."""
        return self.successes / (self.successes + self.failures)

    @staticmethod
    def prior(hp: HParams, num_actions: int) -> Beta:
        """Before any pull: Beta(prior_successes, prior_failures) for each arm."""
        return Beta(*(jnp.full(num_actions, x, jnp.float32) for x in (hp.prior_successes, hp.prior_failures)))

    def sample(self, key: Key) -> jax.Array:
        """A value μ_a drawn for each arm: float32 [A]."""
        return jax.random.beta(key, self.successes, self.failures, dtype=jnp.float32)

    def updated(self, hp: HParams, action: jax.Array, reward: jax.Array) -> Beta:
        """After one pull."""
        paid = jnp.clip(reward, 0.0, 1.0)
        return Beta(self.successes.at[action].add(paid), self.failures.at[action].add(1.0 - paid))


def make(spec: EnvSpec, config: Config) -> Agent:
    """Thompson sampling for discrete actions; observations are ignored. Greedy is the highest posterior mean."""
    posterior = Normal if config.likelihood == "gaussian" else Beta

    def choose(hp: HParams, state: Normal | Beta, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        return jnp.argmax(state.sample(key)).astype(jnp.int32), ()

    def update(hp: HParams, state: Normal | Beta, step: Transition) -> Normal | Beta:
        return state.updated(hp, step.action, step.reward)

    return context_free(spec, "thompson", posterior.prior, choose, update, score=lambda state: state.mean)
