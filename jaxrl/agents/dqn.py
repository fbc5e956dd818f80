"""DQN: deep Q-learning with experience replay and a target network (Mnih et al. 2015, algorithm 1).

After every T steps of N environments, a batch of stored transitions (s, a, r, s') is drawn uniformly and the loss

    L(θ) = E[ℓ(r + γ (1 - terminated) max_a' Q(s', a'; θ⁻) - Q(s, a; θ))]

is descended once; ℓ is Huber's or the squared error. Double DQN (van Hasselt et al. 2016, equation 4) lets θ choose a'
and θ⁻ value it. Every `target_update_every` environment steps θ⁻ ← τ θ + (1 - τ) θ⁻: τ = 1 copies.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import trees
from jaxrl.agents._common import discrete_actions, example_obs, no_memory
from jaxrl.networks.initializers import near_zero
from jaxrl.networks.torsos import Torso, TorsoName, resolve
from jaxrl.ops import exploration, losses, values
from jaxrl.ops.means import Mean, masked_mean
from jaxrl.ops.returns import td_target
from jaxrl.replay import uniform
from jaxrl.settings import Count, Fraction, LoopConfig, NonNegative, Positive, hyperparameters
from jaxrl.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    num_envs: Annotated[int, Count] = 10
    """Environments stepped in parallel (N)."""
    torso: TorsoName = "auto"
    """Network under the Q head; auto = CNN for images, else MLP."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (120, 84)
    """Units of each dense hidden layer."""
    replay_capacity: Annotated[int, Count] = 10_000
    """Transitions kept; the oldest make room."""
    batch_size: Annotated[int, Count] = 128
    """Transitions per gradient step."""
    gradient_steps: Annotated[int, Count] = 1
    """Gradient steps after each rollout."""
    learning_starts: Annotated[int, NonNegative] = 10_000
    """Environment steps before the first gradient step."""
    target_update_every: Annotated[int, Count] = 500
    """Environment steps between updates of the target network."""
    double: bool = False
    """Double DQN: the online network chooses the next action, the target network values it."""
    loss: Literal["huber", "squared"] = "squared"
    """Loss of the temporal-difference error; huber bounds the gradient of an outlier, and its pull."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 2.5e-4
    """Adam's step size."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    epsilon_start: Annotated[float, Fraction] = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """Probability of a random action from the end of the schedule on."""
    epsilon_fraction: Annotated[float, Fraction] = 0.5
    """Share of training over which ε falls linearly."""
    tau: Annotated[float, Fraction] = 1.0
    """Share of the online network in a target update; 1 = hard copy."""


class Stored(NamedTuple):
    """One transition in replay; fields as in Transition, observations in the spec's storage dtype."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    next_obs: jax.Array
    valid: jax.Array


class State(NamedTuple):
    params: PyTree
    target_params: PyTree
    opt_state: PyTree
    replay: uniform.Replay


class QNetwork(nn.Module):
    """Q(s, ·): float32 [..., A]."""

    torso: Torso
    num_actions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        return nn.Dense(self.num_actions, kernel_init=near_zero)(self.torso(obs))


def make(spec: EnvSpec, config: Config) -> Agent:
    """DQN for discrete actions and any array observation."""
    num_actions = discrete_actions(spec, "dqn")
    resolve(config.torso, spec.observation_space)
    network: Any = QNetwork(Torso(spec.observation_space, config.torso, config.hidden_sizes), num_actions)
    loss_of = getattr(losses, config.loss)
    steps_per_update = config.num_envs * config.rollout_length

    def optimizer(hp: HParams) -> optax.GradientTransformation:
        return optax.adam(hp.learning_rate)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = network.init(key, example_obs(spec))
        obs = example_obs(spec, spec.storage_dtype)
        example = Stored(obs, jnp.int32(0), jnp.float32(0), jnp.bool_(False), obs, jnp.bool_(False))
        replay = uniform.init(example, config.replay_capacity, config.num_envs, config.rollout_length)
        return State(params, params, optimizer(hp).init(params), replay)

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, PyTree]:
        epsilon = exploration.linear_schedule(clock.progress, hp.epsilon_start, hp.epsilon_end, hp.epsilon_fraction)
        keys = jax.random.split(key, obs.shape[0])
        q = network.apply(state.params, obs)
        return jax.vmap(exploration.epsilon_greedy, (0, 0, None))(keys, q, epsilon), memory, ()

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return jnp.argmax(network.apply(state.params, obs), -1).astype(jnp.int32), memory

    def loss(params: PyTree, hp: HParams, target_params: PyTree, batch: Stored) -> tuple[jax.Array, Metrics]:
        q = network.apply(params, batch.obs)
        q_taken = values.at_action(q, batch.action)
        next_q = network.apply(target_params, batch.next_obs)
        if config.double:
            next_value = values.at_action(next_q, jnp.argmax(network.apply(params, batch.next_obs), -1))
        else:
            next_value = next_q.max(-1)
        target = jax.lax.stop_gradient(td_target(batch.reward, hp.gamma, batch.terminated, next_value))
        value = masked_mean(loss_of(target - q_taken), batch.valid)
        return value, {"loss": Mean.of(value), "q_value": Mean.of(q_taken, batch.valid)}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        replay = uniform.push(state.replay, Stored(s.obs, s.action, s.reward, s.terminated, s.next_obs, s.valid))

        def gradient_step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = carry
            batch = uniform.sample(replay, key, config.batch_size)
            grads, metrics = jax.grad(loss, has_aux=True)(params, hp, state.target_params, batch)
            updates, opt_state = optimizer(hp).update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def descend(learner: tuple[PyTree, PyTree]) -> tuple[tuple[PyTree, PyTree], Metrics]:
            learner, metrics = jax.lax.scan(gradient_step, learner, jax.random.split(key, config.gradient_steps))
            return learner, jax.tree.map(lambda x: x.sum(0), metrics)

        def wait(learner: tuple[PyTree, PyTree]) -> tuple[tuple[PyTree, PyTree], Metrics]:
            metrics = jax.eval_shape(descend, learner)[1]
            return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

        # The branches return parameters and optimiser state, never the buffer: under `vmap` both are computed and selected.
        started = clock.env_steps >= config.learning_starts
        (params, opt_state), metrics = jax.lax.cond(started, descend, wait, (state.params, state.opt_state))

        every = config.target_update_every
        due = clock.env_steps // every > (clock.env_steps - steps_per_update) // every
        moved = optax.incremental_update(params, state.target_params, hp.tau)
        return State(params, trees.where(due, moved, state.target_params), opt_state, replay), metrics

    return Agent(init, no_memory, act, greedy, learn)
