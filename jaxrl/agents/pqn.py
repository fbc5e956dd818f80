"""PQN: Q-learning from fresh rollouts of many environments; no replay, no target network (Gallici et al. 2024, algorithm 1).

Layer normalisation keeps the off-policy bootstrap stable. After T steps of N environments the λ-return targets

    G_t = r_t + γ (1 - terminated_t) [λ G_{t+1} + (1 - λ) max_a Q(s_{t+1}, a; θ)]

(Peng's Q(λ); cut at truncations and at the rollout's end, where they bootstrap from next_obs) are held fixed while
E[½ (G_t - Q(s_t, a_t; θ))²] is descended over epochs of minibatches, with RAdam on gradients clipped by global norm. A torso
with memory takes minibatches of whole sequences in time order.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax

from jaxrl.agents.parts import common, hidden, minibatch, optimizer
from jaxrl.agents.parts.common import EpsilonSchedule, discrete_actions
from jaxrl.agents.parts.minibatch import Batch
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, Positive, Range, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import TorsoSetting
from jaxrl.ops import losses, values
from jaxrl.ops.returns import lambda_returns


@dataclasses.dataclass(frozen=True)
class Config(hidden.Config):
    """PQN's static settings: N, T, epochs and minibatches, and the network."""

    num_envs: Annotated[int, Count] = 32
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
    num_epochs: Annotated[int, Count] = 4
    """Passes over each rollout."""
    num_minibatches: Annotated[int, Count] = 16
    """Gradient steps per pass."""
    torso: TorsoSetting = "auto"
    """Network under the Q head; auto = CNN for images, else MLP; gru, lstm and transformer have a memory."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (128, 128)
    """Units of each dense hidden layer; with a memory the last is the memory's size."""
    window: Annotated[int, Count] = 16
    """Steps that a transformer sees, the present one included."""
    optimizer: optimizer.Rule = "radam"
    layer_norm: bool = True
    """Normalise each hidden layer before its activation; without it learning may diverge."""


@hyperparameters
class HParams(optimizer.HParams, EpsilonSchedule):
    """PQN's traced settings: step size, λ and exploration."""

    epsilon_fraction: Annotated[float, Fraction] = 0.2
    learning_rate: Annotated[float, Positive] = 5e-4
    learning_rate_anneal: Annotated[float, Fraction] = 1.0
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    return_lambda: Annotated[float, Fraction] = 0.65
    """Weight of longer returns (λ); 0 = one step, 1 = Monte Carlo."""
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 10.0
    """Global norm to which gradients are clipped."""


class State(NamedTuple):
    """What is learnt: the network's parameters and the optimiser's state."""

    params: PyTree
    opt_state: PyTree


class Rows(NamedTuple):
    """What a gradient step reads of each step. target: the λ-return."""

    obs: jax.Array
    first: jax.Array
    action: jax.Array
    target: jax.Array
    valid: jax.Array


def q_network(spec: EnvSpec, config: Config) -> QNetwork:
    """The network for an environment. Raises InputError where it does not fit the spaces."""
    num_actions, layers = discrete_actions(spec, "pqn"), hidden.layers(config)
    sizes, window = config.hidden_sizes, config.window
    network = QNetwork(spec.observation_space, config.torso, sizes, num_actions, layers=layers, window=window)
    network.check()
    return network


def make(spec: EnvSpec, config: Config) -> Agent:
    """PQN for discrete actions and any array observation."""
    network: Any = q_network(spec, config)
    minibatch.check(config, network)

    def q_values(params: PyTree, obs: jax.Array) -> jax.Array:
        """Q(s, ·) of a network without memory: [..., A]."""
        return network.apply(params, (), obs)[0][..., 0]

    def optimizer_of(hp: HParams, progress: Scalar) -> optimizer.Optimizer:
        return optimizer.make(config, hp, progress, limit=hp.max_grad_norm)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        params = common.first_params(network, spec, key, params)
        return State(params, optimizer_of(hp, 0.0).init(params))

    def max_next_q(params: PyTree, rollout: Rollout) -> jax.Array:
        """max_a Q(s_{t+1}, a; θ) of every step: float32 [T, N]."""
        s = rollout.steps
        if network.remembers:
            return common.unroll(network.apply, params, rollout.memory, s)[1][..., 0].max(-1)
        return common.next_values(lambda obs: q_values(params, obs).max(-1), s, s.extras)

    def loss(params: PyTree, batch: Batch, key: Key | None) -> tuple[jax.Array, Metrics]:
        rows: Rows = batch.rows
        q, _ = network.apply(params, batch.memory, rows.obs, rows.first, rngs=hidden.rngs(config, key))
        q_taken = values.at_action(q[..., 0], rows.action)
        value = masked_mean(losses.squared(rows.target - q_taken), rows.valid)
        return value, {"loss": Mean.of(value), "q_value": Mean.of(q_taken, rows.valid)}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        target = jax.vmap(lambda_returns, (1, None, None, 1, 1, 1), 1)(
            s.reward, hp.gamma, hp.return_lambda, s.terminated, s.truncated, max_next_q(state.params, rollout)
        )

        def gradient_step(state: State, batch: Batch, key: Key | None) -> tuple[State, Metrics]:
            params, opt_state, metrics = optimizer_of(hp, clock.progress).descend(loss, *state, batch, key)
            return State(params, opt_state), metrics

        rows = Rows(s.obs, s.first, s.action, target, s.valid)
        return minibatch.descend(config, network, gradient_step, state, rollout.memory, rows, key)

    def action_values(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return q_values(state.params, obs)

    agent = common.epsilon_greedy_agent(network, init, learn, lambda state: state.params, extras_of=lambda q: q.max(-1))
    return agent if network.remembers else agent._replace(values=action_values)
