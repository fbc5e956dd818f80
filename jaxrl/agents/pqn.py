"""PQN: Q-learning from fresh rollouts of many environments; no replay, no target network (Gallici et al. 2024, algorithm 1).

Layer normalisation keeps the off-policy bootstrap stable. After T steps of N environments the λ-return targets

    G_t = r_t + γ (1 - terminated_t) [λ G_{t+1} + (1 - λ) max_a Q(s_{t+1}, a; θ)]

(Peng's Q(λ); cut at truncations and at the rollout's end, where they bootstrap from next_obs) are held fixed while
E[½ (G_t - Q(s_t, a_t; θ))²] is descended over epochs of minibatches, with RAdam on gradients clipped by global norm.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts import minibatch
from jaxrl.agents.parts.common import annealed, discrete_actions, example_obs, next_values, no_memory
from jaxrl.core import trees
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, LoopConfig, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import Layers, TorsoName, resolve
from jaxrl.ops import exploration, losses, values
from jaxrl.ops.returns import lambda_returns


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    num_envs: Annotated[int, Count] = 32
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
    num_epochs: Annotated[int, Count] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int, Count] = 16
    """Gradient steps per pass."""
    torso: TorsoName = "auto"
    """Network under the Q head; auto = CNN for images, else MLP."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (128, 128)
    """Units of each dense hidden layer."""
    layer_norm: bool = True
    """Normalise each hidden layer before its activation; without it learning may diverge."""


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 5e-4
    """RAdam's step size."""
    learning_rate_anneal: Annotated[float, Fraction] = 1.0
    """Share of the step size given up linearly over training; 1 = annealed to 0."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    return_lambda: Annotated[float, Fraction] = 0.65
    """Weight of longer returns (λ); 0 = one step, 1 = Monte Carlo."""
    epsilon_start: Annotated[float, Fraction] = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """Probability of a random action from the end of the schedule on."""
    epsilon_fraction: Annotated[float, Fraction] = 0.2
    """Share of training over which ε falls linearly."""
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 10.0
    """Global norm to which gradients are clipped."""


class State(NamedTuple):
    params: PyTree
    opt_state: PyTree


class Rows(NamedTuple):
    """What a gradient step reads: leaves [B, ...]. target: the λ-return."""

    obs: jax.Array
    action: jax.Array
    target: jax.Array
    valid: jax.Array


def make(spec: EnvSpec, config: Config) -> Agent:
    """PQN for discrete actions and any array observation."""
    num_actions = discrete_actions(spec, "pqn")
    resolve(config.torso, spec.observation_space)
    minibatch.check(config.num_envs * config.rollout_length, config.num_minibatches)
    layers = Layers(layer_norm=config.layer_norm)
    network: Any = QNetwork(spec.observation_space, config.torso, config.hidden_sizes, num_actions, layers=layers)

    def q_values(params: PyTree, obs: jax.Array) -> jax.Array:
        return network.apply(params, obs)[..., 0]

    def optimizer(hp: HParams, progress: Scalar) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.radam(annealed(hp, progress)))

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        if params is None:
            params = network.init(key, example_obs(spec))
        return State(params, optimizer(hp, 0.0).init(params))

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, jax.Array]:
        epsilon = exploration.linear_schedule(clock.progress, hp.epsilon_start, hp.epsilon_end, hp.epsilon_fraction)
        q = q_values(state.params, obs)
        keys = jax.random.split(key, obs.shape[0])
        return jax.vmap(exploration.epsilon_greedy, (0, 0, None))(keys, q, epsilon), memory, q.max(-1)

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return jnp.argmax(q_values(state.params, obs), -1).astype(jnp.int32), memory

    def loss(params: PyTree, rows: Rows) -> tuple[jax.Array, Metrics]:
        q_taken = values.at_action(q_values(params, rows.obs), rows.action)
        value = masked_mean(losses.squared(rows.target - q_taken), rows.valid)
        return value, {"loss": Mean.of(value), "q_value": Mean.of(q_taken, rows.valid)}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        following = next_values(lambda obs: q_values(state.params, obs).max(-1), s, s.extras)
        target = jax.vmap(lambda_returns, (1, None, None, 1, 1, 1), 1)(
            s.reward, hp.gamma, hp.return_lambda, s.terminated, s.truncated, following
        )

        def gradient_step(state: State, rows: Rows) -> tuple[State, Metrics]:
            grads, metrics = jax.grad(loss, has_aux=True)(state.params, rows)
            updates, opt_state = optimizer(hp, clock.progress).update(grads, state.opt_state)
            return State(optax.apply_updates(state.params, updates), opt_state), metrics

        rows = trees.flatten_time(Rows(s.obs, s.action, target, s.valid))
        return minibatch.descend(gradient_step, state, rows, key, config.num_epochs, config.num_minibatches)

    return Agent(init, no_memory, act, greedy, learn, lambda hp, state, obs: q_values(state.params, obs))
