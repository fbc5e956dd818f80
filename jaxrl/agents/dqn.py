"""DQN: deep Q-learning with experience replay and a target network (Mnih et al. 2015, algorithm 1), and its descendants.

After every T steps of N environments, a batch of stored transitions (s, a, r, s') is drawn and the loss

    L(θ) = E[ℓ(r + γ (1 - terminated) max_a' Q(s', a'; θ⁻) - Q(s, a; θ))]

is descended once; ℓ is Huber's or the squared error. Every `target_update_every` environment steps θ⁻ ← τ θ + (1 - τ) θ⁻:
τ = 1 copies. Options, each a switch of Config, all off by default; all on (with c51) they are Rainbow (Hessel et al. 2018):

double          θ chooses a', θ⁻ values it (van Hasselt et al. 2016, equation 4)
dueling         Q = V + A - mean A (Wang et al. 2016)
n_step          r + … + γ^(n-1) r_{t+n-1} + γ^n V(s_{t+n}), uncorrected (Sutton & Barto, 2nd ed., equation 7.1)
prioritized     draws in proportion to the last error^α, corrected by importance weights (Schaul et al. 2016)
distributional  c51: atoms of the return, projected target (Bellemare et al. 2017); quantile: QR-DQN (Dabney et al. 2018)
noisy           learnt noise on the weights explores, in place of ε (Fortunato et al. 2018)
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import common, hidden, off_policy, q_replay
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.spaces import has_mask
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, State
from jaxrl.networks.dense import Dense
from jaxrl.networks.noisy import NoisyDense
from jaxrl.networks.q_network import QNetwork
from jaxrl.ops import exploration, losses, value_distributions, values
from jaxrl.ops.values import ILLEGAL
from jaxrl.replay import ring
from jaxrl.replay.ring import Batch


@dataclasses.dataclass(frozen=True)
class Config(q_replay.Config):
    """DQN's static settings: network, replay, and which of its descendants' ideas to use."""

    num_envs: Annotated[int, Count] = 10
    hidden_sizes: Annotated[tuple[int, ...], Count] = (120, 84)
    """Units of each dense hidden layer; the last one is each stream's own in a dueling network."""
    replay_capacity: Annotated[int, Count] = 10_000
    batch_size: Annotated[int, Count] = 128
    learning_starts: Annotated[int, NonNegative] = 10_000
    loss: Literal["huber", "squared"] = "squared"
    """Loss of the temporal-difference error; huber bounds the gradient of an outlier, and its pull."""
    exploration: Literal["auto", "epsilon_greedy", "boltzmann", "greedy"] = "auto"
    """Behaviour policy; auto = greedy with noisy nets, else ε-greedy."""
    distributional: Literal["none", "c51", "quantile"] = "none"
    """What is learnt of the return: its mean, a histogram on fixed atoms, or its quantiles."""
    num_atoms: Annotated[int, Range(low=2)] = 51
    """Atoms of c51, or quantiles."""
    noisy: bool = False
    """Noisy linear layers instead of plain ones."""


@hyperparameters
class HParams(q_replay.HParams):
    """DQN's traced settings: step size, exploration, targets, priorities, atoms."""

    temperature: Annotated[float, Positive] = 1.0
    """Temperature of Boltzmann exploration, in units of return."""
    v_min: Annotated[float, Range()] = -10.0
    """Lowest return among the atoms of c51; returns below are cut to it."""
    v_max: Annotated[float, Range()] = 10.0
    """Highest return among the atoms of c51; returns above are cut to it: set both to what can be earned."""
    noisy_sigma: Annotated[float, Positive] = 0.5
    """Size of the noise on noisy layers at the start (σ₀)."""

    def check(self) -> None:
        """Raises ValueError where the atoms of c51 would not span anything. Traced values pass unread."""
        if isinstance(self.v_min, float) and isinstance(self.v_max, float) and self.v_min >= self.v_max:
            raise InputError(f"v_min = {self.v_min} must be below v_max = {self.v_max}")


def q_network(spec: EnvSpec, config: Config, num_actions: int, hp: HParams) -> QNetwork:
    """The network that knows of each action's return M numbers."""
    num_atoms = 1 if config.distributional == "none" else config.num_atoms
    layers = hidden.layers(config, dense=partial(NoisyDense, sigma=hp.noisy_sigma) if config.noisy else Dense)
    return QNetwork(
        spec.observation_space, config.torso, config.hidden_sizes, num_actions, num_atoms, config.dueling, layers
    )


def value_distribution(
    network: Any, params: PyTree, obs: jax.Array, noise: Key | None = None, dropout: dict[str, Key] | None = None
) -> jax.Array:
    """Z(s, ·; θ), the network's output [..., A, M]: logits of the atoms, quantiles, or with M = 1 the value itself.

    obs [..., *shape]. noise: the key of the weights' noise; None for their mean. dropout: as `hidden.rngs`; None for none.
    """
    return network.apply(params, (), obs, rngs=({} if noise is None else {"noise": noise}) | (dropout or {}))[0]


def q_values(config: Config, hp: HParams, z: jax.Array) -> jax.Array:
    """Q(s, ·) = E[Z(s, ·)]: [..., A] of the network's output [..., A, M]."""
    if config.distributional == "c51":
        atoms = value_distributions.support(hp.v_min, hp.v_max, config.num_atoms)
        expected = (jax.nn.softmax(z) * jnp.broadcast_to(atoms, z.shape)).sum(-1)
        return jnp.where(z[..., 0] > ILLEGAL / 2, expected, ILLEGAL)
    return z.mean(-1) if config.distributional == "quantile" else z[..., 0]


def behaviour_actions(config: Config, hp: HParams, q: jax.Array, clock: Clock, keys: Key, masked: bool) -> jax.Array:
    """Actions int32 [N] of the behaviour policy. q: Q(s, ·) float32 [N, A]; keys: [N]. masked: see `epsilon_greedy`."""
    behaviour = ("greedy" if config.noisy else "epsilon_greedy") if config.exploration == "auto" else config.exploration
    if behaviour == "boltzmann":
        probs = jax.vmap(exploration.boltzmann_probs, (0, None))(q, hp.temperature)
        return jax.vmap(exploration.sample)(keys, probs)
    if behaviour == "epsilon_greedy":
        choose = partial(exploration.epsilon_greedy, masked=masked)
        return jax.vmap(choose, (0, 0, None))(keys, q, hp.epsilon(clock))
    return exploration.greedy(q)


def transition_loss(
    config: Config, hp: HParams, z: jax.Array, next_z: jax.Array, ret: jax.Array, discount: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The loss of one transition and its priority. z, next_z [M]: Z(s, a) and Z(s', a')."""
    if config.distributional == "c51":
        atoms = value_distributions.support(hp.v_min, hp.v_max, config.num_atoms)
        target = value_distributions.project(atoms, jax.nn.softmax(next_z), ret, discount)
        divergence = value_distributions.kl_divergence(target, z)
        return divergence, divergence
    if config.distributional == "quantile":
        distance = value_distributions.quantile_huber(z, ret + discount * next_z)
        return distance, distance
    td_error = ret + discount * next_z[0] - z[0]
    return getattr(losses, config.loss)(td_error), jnp.abs(td_error)


def loss(
    params: PyTree,
    target_params: PyTree,
    network: Any,
    config: Config,
    hp: HParams,
    batch: Batch,
    weight: jax.Array,
    key: Key,
) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
    """L(θ) of a batch; its metrics, and its priorities [B]. weight: importance weights [B]; key: of the weights' noise."""
    key, dropout_key = jax.random.split(key) if config.dropout else (key, None)
    online_key, target_key, choice_key = jax.random.split(key, 3) if config.noisy else (None, None, None)
    z = value_distribution(network, params, batch.obs, online_key, hidden.rngs(config, dropout_key))
    next_z = value_distribution(network, target_params, batch.next_obs, target_key)
    chooser = value_distribution(network, params, batch.next_obs, choice_key) if config.double else next_z
    next_z = values.at_action(next_z, jnp.argmax(q_values(config, hp, chooser), -1))
    each, priority = jax.vmap(partial(transition_loss, config, hp))(
        values.at_action(z, batch.action), jax.lax.stop_gradient(next_z), batch.ret, batch.discount
    )
    value = masked_mean(weight * each, batch.valid)
    q_taken = values.at_action(q_values(config, hp, z), batch.action)
    return value, ({"loss": Mean.of(value), "q_value": Mean.of(q_taken, batch.valid)}, priority)


def make(spec: EnvSpec, config: Config) -> Agent:
    """DQN for discrete actions and any array observation."""
    network = partial(q_network, spec, config, common.discrete_actions(spec, "dqn"))
    off_policy.check_torso(spec, config.torso, "dqn", "r2d2")
    sampler = q_replay.sampler_of(config, config.n_step, config.rollout_length)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        params = common.first_params(network(hp), spec, key, params)
        replay = off_policy.empty_replay(spec, config, config.n_step)
        return q_replay.init_state(config, hp, params, sampler, replay, replay)

    def action_values(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return q_values(config, hp, value_distribution(network(hp), state.learner.params, obs))

    def act(hp: HParams, state: State, obs: jax.Array, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        keys = jax.random.split(key, len(jax.tree.leaves(obs)[0]))
        if config.noisy:  # each environment has a draw of the weights of its own
            keys, noise_keys = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
            z = jax.vmap(partial(value_distribution, network(hp), state.learner.params))(obs, noise_keys)
            q = q_values(config, hp, z)
        else:
            q = action_values(hp, state, obs)
        return behaviour_actions(config, hp, q, clock, keys, has_mask(spec.observation_space)), ()

    def greedy(hp: HParams, state: State, obs: jax.Array) -> jax.Array:
        return exploration.greedy(action_values(hp, state, obs))

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        replay = off_policy.push(state.experience.replay, rollout)

        def slots_loss(params: PyTree, target_params: PyTree, slots: jax.Array, weight: jax.Array, key: Key) -> Any:
            batch = ring.read_n_step(replay, slots, hp.gamma, config.n_step)
            return loss(params, target_params, network(hp), config, hp, batch, weight, key)

        return q_replay.learn(config, hp, sampler, slots_loss, state, replay, replay, clock, key)

    return common.memoryless_agent(init, act, greedy, learn, action_values, lambda state: state.learner.params)
