"""REINFORCE: Monte-Carlo policy gradient, with a learned baseline (Williams 1992; Sutton & Barto, 2nd ed., 13.3–13.4).

Over the steps of all episodes that ended in the last rollout, of T steps of N environments, with G_t the discounted return
from step t to the episode's end, one step descends

    L = -E[(G_t - V(s_t)) log π(a_t | s_t)] + c_v · ½ E[(G_t - V(s_t))²] - c_e E[H(π(· | s_t))].

Episodes are learnt from whole: steps of an episode that the rollout leaves unfinished wait for its end. By then the policy
may have moved since they were taken; longer rollouts make that rare. As is usual, the factor γ^t is dropped.

An episode that is cut has no return of its own. With the baseline it bootstraps from V(next_obs) at the cut (Pardo et al.
2018, section 3); without, the return stops there, as if the cut were a part of the task. Cut is an episode by a time limit,
and where more than `max_episode_length` of its steps wait; and with `bootstrap` each episode at each rollout's end.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import actor_critic, transforms
from jaxrl.agents.parts.actor_critic import Batch
from jaxrl.agents.parts.common import example_obs, when_started
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.ops import losses
from jaxrl.ops.returns import discounted_returns


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    num_envs: Annotated[int, Count] = 8
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
    max_episode_length: Annotated[int, Count] = 500
    """Most steps of an episode that wait for its end; a longer one is cut. Memory and time to learn grow with it."""
    baseline: bool = True
    """Subtract a learned state value from the return, and bootstrap from it where an episode is cut."""
    bootstrap: bool = False
    """Cut every episode at the rollout's end, so that no step waits: A2C with λ = 1, not Williams's REINFORCE."""

    def check(self) -> None:
        """Raises ValueError for a bootstrap that has nothing to bootstrap from."""
        if self.bootstrap and not self.baseline:
            raise InputError("bootstrap = True needs baseline = True: there is no other value to bootstrap from")


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


class Experience(NamedTuple):
    """Where the steps lie that wait for their episode's end.

    past: the rollouts before the next one, the latest last: steps [K, T, N, ...], memory [K, N, ...]; () where none wait.
    waiting: how many of each environment's last steps do, int32 [N].
    """

    past: Rollout | tuple
    waiting: jax.Array


class State(NamedTuple):
    params: PyTree
    opt_state: PyTree
    experience: Experience


def none_waiting(network: ActorCritic, spec: EnvSpec, config: Config) -> Experience:
    """The experience at the start: K rollouts of zeros, enough for `max_episode_length` steps."""
    waiting, number = jnp.zeros(config.num_envs, jnp.int32), -(-config.max_episode_length // config.rollout_length)
    if config.bootstrap:
        return Experience((), waiting)
    obs, flag = example_obs(spec, jnp.float32 if config.normalize_observations else None), jnp.bool_(False)
    action = jax.eval_shape(spec.action_space.sample, jax.random.key(0))
    step = Transition(obs, flag, action, jnp.float32(0), flag, flag, obs, (), flag)
    shape = (number, config.rollout_length, config.num_envs)
    steps = jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape), x.dtype), step)
    memory = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), network.initial(config.num_envs))
    return Experience(Rollout(steps, memory), waiting)


def joined(past: Rollout | tuple, rollout: Rollout) -> tuple[Rollout, Rollout | tuple]:
    """`past` and a rollout as one of (K + 1) · T steps; and what is past by the next one."""
    if not past:
        return rollout, ()
    rollouts = jax.tree.map(lambda old, new: jnp.concatenate([old, new[None]]), past, rollout)
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts.steps)
    return Rollout(steps, trees.member(rollouts.memory, 0)), jax.tree.map(lambda x: x[1:], rollouts)


def due(steps: Transition, waiting: jax.Array, new: int, limit: int) -> tuple[jax.Array, jax.Array]:
    """Which steps [W, N] are learnt from now, bool [W, N]; and how many of each environment's last wait on, int32 [N].

    waiting: how many waited before the last `new` were taken. limit: the most that may wait.
    """
    ended, length = steps.terminated | steps.truncated, len(steps.reward)
    unlearnt = jnp.arange(length)[:, None] >= length - new - waiting[None]
    unfinished = unlearnt & (jnp.cumsum(ended[::-1], 0)[::-1] == 0)
    number = unfinished.sum(0, dtype=jnp.int32)
    cut = number > limit
    return steps.valid & unlearnt & (~unfinished | cut[None]), jnp.where(cut, 0, number)


def make(spec: EnvSpec, config: Config) -> Agent:
    """REINFORCE for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "reinforce")
    limit = 0 if config.bootstrap else config.max_episode_length

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = actor_critic.first_params(network, spec, key)
        return State(params, actor_critic.optimizer(hp, 0.0).init(params), none_waiting(network, spec, config))

    def returns(hp: HParams, params: PyTree, rollout: Rollout) -> jax.Array:
        """G [T, N]; of an episode that is not finished, as if it were cut at the end."""
        s = rollout.steps
        next_values = jnp.zeros_like(s.reward)
        if config.baseline:
            next_values = actor_critic.values_along(network, params, rollout)[1]
        return jax.vmap(discounted_returns, (1, None, 1, 1, 1), 1)(
            s.reward, hp.gamma, s.terminated, s.truncated, next_values
        )

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
        whole, past = joined(state.experience.past, rollout)
        usable, waiting = due(whole.steps, state.experience.waiting, config.rollout_length, limit)

        def descend(learner: tuple[PyTree, PyTree]) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = learner
            batch = actor_critic.whole(network, whole.memory, (whole.steps, returns(hp, params, whole), usable))
            grads, metrics = jax.grad(loss, has_aux=True)(params, hp, batch)
            updates, opt_state = actor_critic.optimizer(hp, clock.progress).update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), metrics

        learner, metrics = when_started(usable.any(), descend, (state.params, state.opt_state))
        return State(*learner, Experience(past, waiting)), metrics

    return transforms.normalized(actor_critic.agent_of(network, init, learn), spec, config)
