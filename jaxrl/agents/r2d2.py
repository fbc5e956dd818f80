"""R2D2: recurrent replay distributed DQN (Kapturowski et al. 2019, sections 2.3 and 3), in one process.

Q(o_t, m_t, ·; θ) reads an observation and a memory m_t of those before it. Replay keeps sequences, each with the memory that
acting had at its start. From there θ and θ⁻ unroll; the first `burn_in` steps only refresh the memory, and for the T steps
after them the loss is

    L(θ) = E[½ (y_t - Q(o_t, m_t, a_t; θ))²]
    y_t  = h(r_t + … + γ^(n-1) r_{t+n-1} + γ^n h⁻¹(Q(o_{t+n}, m⁻_{t+n}, a*; θ⁻))),   a* = argmax_a Q(o_{t+n}, m_{t+n}, a; θ)

with fewer rewards where the episode ends or is truncated, and at the sequence's end. h compresses returns (Pohlen et al.
2018). A sequence is drawn in proportion to p^α, where p = η max_t |δ_t| + (1 - η) mean_t |δ_t| of its last errors δ = y - Q,
corrected by importance weights. Every `target_update_every` environment steps θ⁻ ← τ θ + (1 - τ) θ⁻: τ = 1 copies.

Unlike in the paper, one ε serves all environments and falls over training, the network is not fed the last action and the
last reward, and the exponent β of the importance weights rises to 1.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import common, hidden, q_replay
from jaxrl.core import trees
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State, Transition
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import TorsoSetting
from jaxrl.ops import losses, value_rescaling, values
from jaxrl.ops.returns import n_step_returns
from jaxrl.replay import sequence
from jaxrl.replay.sequence import Sequences


@dataclasses.dataclass(frozen=True)
class Config(q_replay.Config):
    """R2D2's static settings: network, replay of sequences, and targets."""

    num_envs: Annotated[int, Count] = 16
    rollout_length: Annotated[int, Count] = 20
    """Steps each environment takes between two learning phases, and steps of a sequence that are learnt from (T)."""
    torso: TorsoSetting = "gru"
    """Network under the Q head; under a memory come dense layers, or a CNN for images. auto: a CNN or MLP without memory."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64, 64)
    """Units of each layer; the last is the memory's size, and that of each stream of a dueling head."""
    window: Annotated[int, Count] = 16
    """Steps that a transformer sees, the present one included."""
    replay_capacity: Annotated[int, Count] = 50_000
    batch_size: Annotated[int, Count] = 32
    """Sequences per gradient step."""
    burn_in: Annotated[int, NonNegative] = 10
    """Steps of a sequence, before those learnt from, that only refresh the memory."""
    gradient_steps: Annotated[int, Count] = 4
    learning_starts: Annotated[int, NonNegative] = 5_000
    target_update_every: Annotated[int, Count] = 2_000
    double: bool = True
    dueling: bool = True
    n_step: Annotated[int, Count] = 5
    prioritized: bool = True
    rescale_values: bool = True
    """Learn h of the return, which grows like its root."""


@hyperparameters
class HParams(q_replay.HParams):
    """R2D2's traced settings: step size, exploration, targets and priorities."""

    learning_rate: Annotated[float, Positive] = 5e-4
    priority_exponent: Annotated[float, NonNegative] = 0.9
    priority_mixing: Annotated[float, Fraction] = 0.9
    """Weight of a sequence's largest error in its priority, against the mean (η)."""
    importance_exponent: Annotated[float, Fraction] = 0.6


def q_network(spec: EnvSpec, config: Config) -> QNetwork:
    """The network for an environment. Raises InputError where it does not fit the spaces."""
    num_actions, sizes, window = common.discrete_actions(spec, "r2d2"), config.hidden_sizes, config.window
    options: dict[str, Any] = {"dueling": config.dueling, "layers": hidden.layers(config), "window": window}
    network = QNetwork(spec.observation_space, config.torso, sizes, num_actions, **options)
    network.check()
    return network


def sequence_priority(error: jax.Array, valid: jax.Array, mixing: Scalar) -> jax.Array:
    """p = η max_t |δ_t| + (1 - η) mean_t |δ_t| over valid steps, 0 without any (Kapturowski et al. 2019, section 2.3).

    error δ float32 [T]; valid bool [T]; mixing η. Returns float32 [].
    """
    size = jnp.where(valid, jnp.abs(error), 0.0)
    return mixing * size.max() + (1 - mixing) * masked_mean(size, valid)


def rescale(config: Config, x: jax.Array) -> jax.Array:
    """h(x): returns as the network learns them."""
    return value_rescaling.rescale(x) if config.rescale_values else x


def unscale(config: Config, q: jax.Array) -> jax.Array:
    """h⁻¹(q): the network's values as returns."""
    return value_rescaling.unscale(q) if config.rescale_values else q


def split_burn_in(config: Config, steps: Transition) -> tuple[Transition, Transition]:
    """Steps [L, B, ...] that refresh the memory, and those after them, [T, B, ...], that are learnt from."""
    return jax.tree.map(lambda x: x[: config.burn_in], steps), jax.tree.map(lambda x: x[config.burn_in :], steps)


def q_and_next_q(
    network: Any, config: Config, params: PyTree, batch: Sequences, key: Key | None = None
) -> tuple[jax.Array, jax.Array]:
    """Q at obs and, without a gradient, at next_obs of the steps after burn-in, from refreshed memory: [T, B, A] each.

    key: of dropout; None for none.
    """
    before, steps = split_burn_in(config, batch.steps)
    fixed = jax.lax.stop_gradient(params)
    memory = network.apply(fixed, batch.memory, before.obs, before.first)[1] if config.burn_in else batch.memory
    q, next_q = common.unroll(partial(network.apply, rngs=hidden.rngs(config, key)), params, memory, steps)
    return q[..., 0], next_q[..., 0]


def loss(
    params: PyTree,
    target_params: PyTree,
    network: Any,
    config: Config,
    hp: HParams,
    batch: Sequences,
    weight: jax.Array,
    key: Key | None = None,
) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
    """L(θ) of a batch, importance `weight` [B] on each sequence; metrics, and priorities [B].

    key: of dropout, which the choice of a* has too.
    """
    _, steps = split_burn_in(config, batch.steps)
    q, next_q = q_and_next_q(network, config, params, batch, key)
    _, target_q = q_and_next_q(network, config, target_params, batch)
    choice = jnp.argmax(next_q if config.double else target_q, -1)
    next_values = unscale(config, values.at_action(target_q, choice))
    returns = jax.vmap(n_step_returns, (1, None, None, 1, 1, 1), 1)(
        steps.reward, hp.gamma, config.n_step, steps.terminated, steps.truncated, next_values
    )
    taken = values.at_action(q, steps.action)
    error = rescale(config, returns) - taken
    value = masked_mean(weight[None] * losses.squared(error), steps.valid)
    priority = jax.vmap(sequence_priority, (1, 1, None))(error, steps.valid, hp.priority_mixing)
    return value, ({"loss": Mean.of(value), "q_value": Mean.of(unscale(config, taken), steps.valid)}, priority)


def make(spec: EnvSpec, config: Config) -> Agent:
    """R2D2 for discrete actions and any array observation."""
    network = q_network(spec, config)
    length = config.burn_in + config.rollout_length
    span = sequence.span(length, config.rollout_length)
    sampler = q_replay.sampler_of(config, span, rollout_length=1)  # of sequences by their starts: a rollout is one row

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        params = common.first_params(network, spec, key, params)
        step, memory = common.zero_transitions(spec, spec.storage_dtype), trees.member(network.initial(1), 0)
        sizes = config.replay_capacity, config.num_envs, config.rollout_length, length
        replay = sequence.init(spec, step, memory, *sizes)
        return q_replay.init_state(config, hp, params, sampler, replay, replay.starts)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        replay = sequence.push(state.experience.replay, rollout.steps, rollout.memory)

        def slots_loss(params: PyTree, target_params: PyTree, slots: jax.Array, weight: jax.Array, key: Key) -> Any:
            return loss(params, target_params, network, config, hp, sequence.read(replay, slots, length), weight, key)

        return q_replay.learn(config, hp, sampler, slots_loss, state, replay, replay.starts, clock, key)

    return common.epsilon_greedy_agent(network, init, learn, lambda state: state.learner.params)
