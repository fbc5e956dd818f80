"""REINFORCE: Monte-Carlo policy gradient, with a learned baseline (Williams 1992; Sutton & Barto, 2nd ed., 13.3–13.4).

From a rollout of T steps of N environments, with G_t the discounted return from step t, one step descends

    L = -E[(G_t - V(s_t)) log π(a_t | s_t)] + c_v · ½ E[(G_t - V(s_t))²] - c_e E[H(π(· | s_t))].

An episode that is cut (time limit, or the rollout's end) has no return of its own: with the baseline it bootstraps from
V(next_obs); without, a truncated return stops at its cut and an episode unfinished at the rollout's end is left out.
As is usual, the factor γ^t of the discounted objective is dropped.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import actor_critic, transforms
from jaxrl.agents.parts.actor_critic import Batch, State
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout
from jaxrl.ops import losses
from jaxrl.ops.returns import discounted_returns


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    num_envs: Annotated[int, Count] = 8
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
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


def make(spec: EnvSpec, config: Config) -> Agent:
    """REINFORCE for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "reinforce")

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = actor_critic.first_params(network, spec, key)
        return State(params, actor_critic.optimizer(hp, 0.0).init(params))

    def returns(hp: HParams, params: PyTree, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
        """G [T, N], and which steps have one: bool [T, N]."""
        steps = rollout.steps
        if config.baseline:
            next_values, usable = actor_critic.values_along(network, params, rollout)[1], steps.valid
        else:
            next_values = jnp.zeros_like(steps.reward)
            ended = steps.terminated | steps.truncated
            usable = steps.valid & (jnp.cumsum(ended[::-1], 0)[::-1] > 0)
        g = jax.vmap(discounted_returns, (1, None, 1, 1, 1), 1)(
            steps.reward, hp.gamma, steps.terminated, steps.truncated, next_values
        )
        return g, usable

    def loss(params: PyTree, hp: HParams, batch: Batch) -> tuple[jax.Array, Metrics]:
        steps, g, usable = batch.rows
        out: Any = network.apply(params, batch.memory, steps.obs, steps.first)
        error = g - out.value if config.baseline else g
        policy_loss = -masked_mean(jax.lax.stop_gradient(error) * out.policy.log_prob(steps.action), usable)
        value_loss = masked_mean(losses.squared(error), usable) if config.baseline else jnp.float32(0)
        entropy = masked_mean(out.policy.entropy(), usable)
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        metrics = {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return total, {name: Mean.of(x) for name, x in metrics.items()}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        batch = actor_critic.whole(network, rollout.memory, (rollout.steps, *returns(hp, state.params, rollout)))
        grads, metrics = jax.grad(loss, has_aux=True)(state.params, hp, batch)
        updates, opt_state = actor_critic.optimizer(hp, clock.progress).update(grads, state.opt_state)
        return State(optax.apply_updates(state.params, updates), opt_state), metrics

    return transforms.normalized(actor_critic.agent_of(network, init, learn), spec, config)
