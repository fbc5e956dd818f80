"""What the policy-gradient agents with a critic share: settings of the network, acting, and values along a rollout."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.agents.parts import hidden, minibatch, optimizer
from jaxrl.agents.parts.common import first_params, network_agent, next_outputs_with_memory, next_values
from jaxrl.agents.parts.minibatch import Batch
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Fraction, NonNegative, Positive, Range, hyperparameters
from jaxrl.core.spaces import check_mask
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar
from jaxrl.networks.actor_critic import ActorCritic, Output
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.policy import BoxPolicy, check_space
from jaxrl.networks.torsos import TorsoSetting, torso_of
from jaxrl.ops import losses
from jaxrl.ops.distributions import Distribution
from jaxrl.ops.returns import gae


@dataclasses.dataclass(frozen=True)
class Config(hidden.Config):
    """The network, and what is normalised, beside hidden layers and optimiser."""

    torso: TorsoSetting = "auto"
    """Network under the heads: mlp, minatar, nips, nature, resnet18, resnet18_frozen_bn (for torchvision's weights), or auto
    (minatar or nature for images, else mlp); gru, lstm or transformer, which have a memory; or a flax Module."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64, 64)
    """Units of each dense hidden layer; with a memory the last is the memory's size."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of hidden layers."""
    shared_torso: bool = False
    """One torso under policy and value instead of one each."""
    window: Annotated[int, Count] = 16
    """Steps that a transformer sees, the present one included."""
    box_policy: BoxPolicy = "squashed_gaussian"
    """Distribution over bounded continuous actions; unbounded ones need gaussian."""
    normalize_observations: bool = False
    """Scale observations by their running mean and variance."""
    normalize_rewards: bool = False
    """Scale rewards by the running deviation of the discounted return."""


@hyperparameters
class HParams(optimizer.HParams):
    """Step size, discount and the weights of the loss's parts."""

    learning_rate: Annotated[float, Positive] = 1e-3
    learning_rate_anneal: Annotated[float, Fraction] = 1.0
    adam_epsilon: Annotated[float, Positive] = 1e-5
    """ε of the optimiser, as in reference implementations: Adam's own 1e-8 makes first steps larger."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    entropy_coef: Annotated[float, NonNegative] = 0.01
    """Weight of the entropy bonus (c_e)."""
    value_coef: Annotated[float, NonNegative] = 0.5
    """Weight of the value's loss (c_v)."""
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 0.5
    """Global norm to which gradients are clipped."""
    kl_to_init: Annotated[float | None, NonNegative] = None
    """Weight of the policy's KL divergence from the policy that training began with, in nats (β); none = it is not held."""
    kl_to_init_anneal: Annotated[float, Fraction] = 0.0
    """Share of kl_to_init given up linearly over training."""


class State(NamedTuple):
    """What is learnt: the network's parameters and the optimiser's state. initial: see `initial_params`."""

    params: PyTree
    opt_state: PyTree
    initial: PyTree = ()


def network_for(spec: EnvSpec, config: Config, agent: str) -> ActorCritic:
    """The network for an environment. Raises ValueError where it does not fit the spaces."""
    check_space(spec.action_space, config.box_policy, agent)
    check_mask(spec.observation_space, spec.action_space)
    layers = hidden.layers(config, activation=getattr(nn, config.activation), kernel_init=orthogonal(2**0.5))
    torso = torso_of(config.torso, spec.observation_space, config.hidden_sizes, layers, config.window)
    return ActorCritic(spec.action_space, torso, config.box_policy, config.shared_torso)


def optimizer_of(config: Config, hp: Any, progress: Scalar) -> optimizer.Optimizer:
    """The Config's, on gradients clipped by their global norm.

    On all parameters as one vector: fewer kernels. (Measured: 0.84 to 0.89 of PPO's learning, an eighth less to compile.)
    """
    return optimizer.make(config, hp, progress, limit=hp.max_grad_norm, flat=True)


def init_state(network: ActorCritic, spec: EnvSpec, config: Config, key: Key, hp: Any, params: PyTree) -> State:
    """What is learnt before training; params: where it starts from, None to draw them."""
    params = first_params(network, spec, key, params)
    return State(params, optimizer_of(config, hp, 0.0).init(params), initial_params(network, hp, params))


def initial_params(network: Any, hp: Any, params: PyTree) -> PyTree:
    """The parameters before training where `kl_to_init` holds the policy to theirs, else ().

    Raises InputError for a network with a memory: that of the initial policy would be another one.
    """
    if hp.kl_to_init is None:
        return ()
    if network.remembers:
        raise InputError("kl_to_init needs a torso without a memory: the initial policy would remember other things")
    return params


def initial_policy(network: ActorCritic, state: Any, obs: PyTree) -> Distribution | tuple[()]:
    """π_init(· | obs) where `kl_to_init` needs it, else ()."""
    return network.apply(state.initial, (), obs)[0].policy if state.initial else ()


def kl_to_initial(
    hp: Any, progress: Scalar, policy: Distribution, initial: Any, mask: jax.Array
) -> tuple[Scalar, dict[str, jax.Array]]:
    """β E[KL(π(· | s) || π_init(· | s))], β falling by `kl_to_init_anneal`; and the mean KL as a metric. 0 without."""
    if hp.kl_to_init is None:
        return 0.0, {}
    kl = masked_mean(policy.kl(initial), mask)
    return hp.kl_to_init * (1 - hp.kl_to_init_anneal * progress) * kl, {"kl_to_init": kl}


def agent_of(
    network: ActorCritic,
    init: Any,
    learn: Any,
    extras_of: Any = lambda policy, action: (),
    params_of: Any = lambda state: state.params,
) -> Agent:
    """The agent that acts by its state's parameters: a draw from the policy in training, its mode in evaluation.

    extras_of: (policy, action [N]) -> what `learn` is handed. params_of: state -> the network's parameters.
    """

    def sample(hp: Any, out: Output, clock: Clock, key: Key) -> tuple[PyTree, PyTree]:
        action = out.policy.sample(key)
        return action, extras_of(out.policy, action)

    return network_agent(network, init, learn, params_of, sample, lambda out: out.policy.mode())


def values_and_next_values(network: ActorCritic, params: PyTree, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
    """V(obs) and V(next_obs) of every step of a rollout, float32 [T, N] each, with the memory that acting had."""

    def value_of(params: PyTree, memory: PyTree, obs: PyTree, first: jax.Array | None = None) -> tuple[jax.Array, PyTree]:
        out, memory = network.apply(params, memory, obs, first)
        return out.value, memory

    steps, memory = rollout
    if network.remembers:
        values, after = value_of(params, memory, steps.obs, steps.first)
        last, _ = value_of(params, after, jax.tree.map(lambda x: x[-1:], steps.next_obs), jnp.zeros_like(steps.first[-1:]))
        shifted = jnp.concatenate([values[1:], last])
        return values, next_outputs_with_memory(partial(value_of, params), memory, steps, shifted)
    values = value_of(params, (), trees.flatten_time(steps.obs))[0].reshape(steps.reward.shape)
    return values, next_values(lambda obs: value_of(params, (), obs)[0], steps, values)


def values_and_advantages(network: ActorCritic, hp: Any, params: PyTree, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
    """V(obs) and the generalised advantage estimate A of every step, float32 [T, N] each."""
    s = rollout.steps
    values, next_value = values_and_next_values(network, params, rollout)
    advantages = jax.vmap(gae, (1, None, None, 1, 1, 1, 1), 1)(
        s.reward, hp.gamma, hp.gae_lambda, s.terminated, s.truncated, values, next_value
    )
    return values, advantages


class Rows(NamedTuple):
    """What a policy gradient reads of each step. ret: what V is moved towards, None to leave it; mask: whether it counts.

    initial: as `initial_policy`.
    """

    obs: PyTree
    first: jax.Array
    action: PyTree
    advantage: jax.Array
    ret: jax.Array | None
    mask: jax.Array
    initial: Distribution | tuple[()] = ()


def policy_gradient(
    network: ActorCritic, config: Config, hp: Any, clock: Clock, state: State, memory: PyTree, rows: Rows, key: Key
) -> tuple[State, Metrics]:
    """One step down L = -E[A log π(a | s)] + c_v · ½ E[(G - V(s))²] - c_e E[H(π(· | s))], over rows [T, N, ...]; and, with
    `kl_to_init`, `kl_to_initial`.

    A: the rows' advantage; G: their ret. memory [N]: before step 0. key: of dropout.
    """

    def loss(params: PyTree, batch: Batch) -> tuple[jax.Array, Metrics]:
        rows: Rows = batch.rows
        out: Any = network.apply(params, batch.memory, rows.obs, rows.first, rngs=hidden.rngs(config, key))[0]
        policy_loss = -masked_mean(rows.advantage * out.policy.log_prob(rows.action), rows.mask)
        value_loss = jnp.float32(0) if rows.ret is None else masked_mean(losses.squared(rows.ret - out.value), rows.mask)
        entropy = masked_mean(out.policy.entropy(), rows.mask)
        penalty, kl = kl_to_initial(hp, clock.progress, out.policy, rows.initial, rows.mask)
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy + penalty
        metrics = {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, **kl}
        return total, {name: Mean.of(x) for name, x in metrics.items()}

    if state.initial:
        rows = rows._replace(initial=initial_policy(network, state, rows.obs))
    batch, rule = minibatch.whole(network, memory, rows), optimizer_of(config, hp, clock.progress)
    params, opt_state, metrics = rule.descend(loss, state.params, state.opt_state, batch)
    return State(params, opt_state, state.initial), metrics
