"""REINFORCE: Monte-Carlo policy gradient, with a learned baseline (Williams 1992; Sutton & Barto, 2nd ed., 13.3–13.4).

From a rollout of T steps of N environments, with G_t the discounted return from step t, one step descends

    L = -E[(G_t - V(s_t)) log π(a_t | s_t)] + c_v · ½ E[(G_t - V(s_t))²] - c_e E[H(π(· | s_t))].

An episode that is cut (time limit, or the rollout's end) has no return of its own: with the baseline it bootstraps from
V(next_obs); without, a truncated return stops at its cut and an episode unfinished at the rollout's end is left out.
As is usual, the factor γ^t of the discounted objective is dropped.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import trees
from jaxrl.agents._common import discrete_actions, example_obs, no_memory
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.torsos import Layers, Torso, TorsoName, resolve
from jaxrl.ops import losses
from jaxrl.ops.distributions import categorical_entropy, categorical_log_prob
from jaxrl.ops.means import Mean, masked_mean
from jaxrl.ops.returns import discounted_returns
from jaxrl.settings import Count, Fraction, LoopConfig, NonNegative, Positive, Range, hyperparameters
from jaxrl.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, Transition


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    num_envs: Annotated[int, Count] = 8
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
    torso: TorsoName = "auto"
    """Network under the policy and the baseline; auto = CNN for images, else MLP."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64, 64)
    """Units of each dense hidden layer."""
    baseline: bool = True
    """Subtract a learned state value from the return, and bootstrap from it where an episode is cut."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size."""
    learning_rate_anneal: Annotated[float, Fraction] = 0.0
    """Share of the step size given up linearly over training; 1 = annealed to 0."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    entropy_coef: Annotated[float, NonNegative] = 0.01
    """Weight of the entropy bonus (c_e)."""
    value_coef: Annotated[float, NonNegative] = 0.5
    """Weight of the baseline's loss (c_v)."""
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 0.5
    """Global norm to which gradients are clipped."""


class State(NamedTuple):
    params: PyTree
    opt_state: PyTree


class ActorCritic(nn.Module):
    """Policy logits float32 [..., A] and baseline float32 [...], on torsos of their own."""

    actor: Torso
    critic: Torso
    num_actions: int

    def setup(self) -> None:
        self.logits = nn.Dense(self.num_actions, kernel_init=orthogonal(0.01))
        self.value_head = nn.Dense(1, kernel_init=orthogonal(1.0))

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.policy(obs), self.value(obs)

    def policy(self, obs: jax.Array) -> jax.Array:
        return self.logits(self.actor(obs))

    def value(self, obs: jax.Array) -> jax.Array:
        return self.value_head(self.critic(obs))[..., 0]


def make(spec: EnvSpec, config: Config) -> Agent:
    """REINFORCE for discrete actions and any array observation."""
    num_actions = discrete_actions(spec, "reinforce")
    resolve(config.torso, spec.observation_space)
    torso = Torso(spec.observation_space, config.torso, config.hidden_sizes, Layers(nn.tanh, orthogonal(2**0.5)))
    network: Any = ActorCritic(torso, torso.copy(), num_actions)

    def optimizer(hp: HParams, progress: Scalar) -> optax.GradientTransformation:
        learning_rate = hp.learning_rate * (1 - hp.learning_rate_anneal * progress)
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate))

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = network.init(key, example_obs(spec))
        return State(params, optimizer(hp, 0.0).init(params))

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, PyTree]:
        logits = network.apply(state.params, obs, method="policy")
        return jax.random.categorical(key, logits).astype(jnp.int32), memory, ()

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return jnp.argmax(network.apply(state.params, obs, method="policy"), -1).astype(jnp.int32), memory

    def returns(hp: HParams, params: PyTree, steps: Transition) -> tuple[jax.Array, jax.Array]:
        """G [T, N], and which steps have one: bool [T, N]."""
        if config.baseline:
            next_values = network.apply(params, trees.flatten_time(steps.next_obs), method="value")
            next_values, usable = next_values.reshape(steps.reward.shape), steps.valid
        else:
            next_values = jnp.zeros_like(steps.reward)
            ended = steps.terminated | steps.truncated
            usable = steps.valid & (jnp.cumsum(ended[::-1], 0)[::-1] > 0)
        g = jax.vmap(discounted_returns, (1, None, 1, 1, 1), 1)(
            steps.reward, hp.gamma, steps.terminated, steps.truncated, next_values
        )
        return g, usable

    def loss(params: PyTree, hp: HParams, steps: Transition, g: jax.Array, usable: jax.Array) -> tuple[jax.Array, Metrics]:
        """Over rows [T * N]."""
        logits, values = network.apply(params, steps.obs)
        error = g - values if config.baseline else g
        log_prob = jax.vmap(categorical_log_prob)(logits, steps.action)
        entropy = masked_mean(jax.vmap(categorical_entropy)(logits), usable)
        policy_loss = -masked_mean(jax.lax.stop_gradient(error) * log_prob, usable)
        value_loss = masked_mean(losses.squared(error), usable) if config.baseline else jnp.float32(0)
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        metrics = {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return total, {name: Mean.of(x) for name, x in metrics.items()}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        g, usable = returns(hp, state.params, rollout.steps)
        rows = trees.flatten_time((rollout.steps, g, usable))
        grads, metrics = jax.grad(loss, has_aux=True)(state.params, hp, *rows)
        updates, opt_state = optimizer(hp, clock.progress).update(grads, state.opt_state)
        return State(optax.apply_updates(state.params, updates), opt_state), metrics

    return Agent(init, no_memory, act, greedy, learn)
