"""A2C: synchronous advantage actor-critic (Mnih et al. 2016, algorithm S3 without the asynchrony).

After T steps of N environments, with A_t the generalised advantage estimate, one step descends

    L = -E[A_t log π(a_t | s_t)] + c_v · ½ E[(A_t + V_old(s_t) - V(s_t))²] - c_e E[H(π(· | s_t))].

λ = 1 is the paper's n-step return up to the rollout's end.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import optax

from jaxrl.agents.parts import actor_critic, transforms
from jaxrl.agents.parts.actor_critic import State
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout
from jaxrl.ops import losses
from jaxrl.ops.returns import gae


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    num_envs: Annotated[int, Count] = 16
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 8
    """Steps each environment takes between two gradient steps (T)."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size."""
    learning_rate_anneal: Annotated[float, Fraction] = 1.0
    """Share of the step size given up linearly over training; 1 = annealed to 0."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    gae_lambda: Annotated[float, Fraction] = 1.0
    """Weight of longer advantage estimates (λ)."""
    entropy_coef: Annotated[float, NonNegative] = 0.01
    """Weight of the entropy bonus (c_e)."""
    value_coef: Annotated[float, NonNegative] = 0.5
    """Weight of the value's loss (c_v)."""
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 0.5
    """Global norm to which gradients are clipped."""


def make(spec: EnvSpec, config: Config) -> Agent:
    """A2C for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "a2c")

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = actor_critic.first_params(network, spec, key)
        return State(params, actor_critic.optimizer(hp, 0.0).init(params))

    def loss(params: PyTree, hp: HParams, batch: actor_critic.Batch) -> tuple[jax.Array, Metrics]:
        steps, advantage, ret = batch.rows
        out: Any = network.apply(params, batch.memory, steps.obs, steps.first)
        policy_loss = -masked_mean(advantage * out.policy.log_prob(steps.action), steps.valid)
        value_loss = masked_mean(losses.squared(ret - out.value), steps.valid)
        entropy = masked_mean(out.policy.entropy(), steps.valid)
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        metrics = {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return total, {name: Mean.of(x) for name, x in metrics.items()}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        values, following = actor_critic.values_along(network, state.params, rollout)
        advantages = jax.vmap(gae, (1, None, None, 1, 1, 1, 1), 1)(
            s.reward, hp.gamma, hp.gae_lambda, s.terminated, s.truncated, values, following
        )
        batch = actor_critic.whole(network, rollout.memory, (s, advantages, advantages + values))
        grads, metrics = jax.grad(loss, has_aux=True)(state.params, hp, batch)
        updates, opt_state = actor_critic.optimizer(hp, clock.progress).update(grads, state.opt_state)
        return State(optax.apply_updates(state.params, updates), opt_state), metrics

    return transforms.normalized(actor_critic.agent_of(network, init, learn), spec, config)
