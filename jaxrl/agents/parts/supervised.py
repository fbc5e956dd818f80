"""What agents share that learn from examples: settings, and one gradient step on each batch of an environment's.

The environment is `dataset:PATH` or one like it: an observation is {"input", "target"}, an action is an answer, and a
reward says how right it is, so that an evaluation's return is the score. A batch is a rollout: N × T examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax

from jaxrl.agents.parts import hidden, minibatch, optimizer
from jaxrl.agents.parts.common import first_params, network_agent
from jaxrl.agents.parts.minibatch import Batch
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean, masked_mean
from jaxrl.core.settings import Count, Positive, Range, hyperparameters
from jaxrl.core.spaces import Product, Space
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.torsos import SequenceTorso, TorsoSetting, torso_of

PARTS = ("input", "target")


@dataclasses.dataclass(frozen=True)
class Config(hidden.Config):
    """The network, beside hidden layers and optimiser. A batch has num_envs × rollout_length examples."""

    num_envs: Annotated[int, Count] = 128
    """Examples drawn at once (N)."""
    torso: TorsoSetting = "auto"
    """Network under the head: mlp, minatar, nips, nature, or auto (CNN for images, else MLP); gru, lstm or transformer,
    which have a memory (then sequences=true, and a longer rollout_length); or a flax Module."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64, 64)
    """Units of each dense hidden layer; with a memory the last is the memory's size."""
    activation: Literal["tanh", "relu"] = "relu"
    """Of hidden layers: that of the agent that is to have them (ppo, a2c and reinforce: tanh by default)."""
    window: Annotated[int, Count] = 16
    """Steps that a transformer sees, the present one included."""


@hyperparameters
class HParams(optimizer.HParams):
    """Step size along training, and the bound of gradients."""

    learning_rate: Annotated[float, Positive] = 1e-3
    max_grad_norm: Annotated[float, Range(above=0, infinite=True)] = 1.0
    """Global norm to which gradients are clipped."""


class State(NamedTuple):
    """What is learnt: the network's parameters and the optimiser's state."""

    params: PyTree
    opt_state: PyTree


class Rows(NamedTuple):
    """Examples: what is seen, where an episode begins, what is to be answered, and whether it counts."""

    obs: PyTree
    first: jax.Array
    target: PyTree
    valid: jax.Array


def spaces(spec: EnvSpec, agent: str) -> tuple[Space, Space]:
    """The spaces of inputs and targets. Raises InputError for an environment that gives no examples."""
    space = spec.observation_space
    if not isinstance(space, Product) or tuple(sorted(space.names or ())) != PARTS:
        raise InputError(f"agent {agent!r} learns from examples: give --env dataset:PATH (jaxrl pretrain); not {spec}")
    parts = dict(zip(space.names, space.spaces, strict=True))
    return parts["input"], parts["target"]


def torso_for(space: Space, config: Config) -> SequenceTorso:
    """The torso for inputs of a space, initialised as policy-gradient agents initialise theirs."""
    layers = hidden.layers(config, activation=getattr(nn, config.activation), kernel_init=orthogonal(2**0.5))
    return torso_of(config.torso, space, config.hidden_sizes, layers, config.window)


def agent_of(
    spec: EnvSpec,
    config: Config,
    network: Any,
    loss: Callable[[Any, PyTree], jax.Array],
    answer: Callable[[Any], PyTree],
) -> Agent:
    """The agent that learns `network` by mean `loss(output, target)` [...] of examples and acts by `answer(output)`."""
    seen = dataclasses.replace(spec, observation_space=network.torso.space)

    def optimizer_of(hp: HParams, progress: Any) -> optimizer.Optimizer:
        return optimizer.make(config, hp, progress, limit=hp.max_grad_norm)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        params = first_params(network, seen, key, params)
        return State(params, optimizer_of(hp, 0.0).init(params))

    def batch_loss(params: PyTree, batch: Batch, key: Key) -> tuple[jax.Array, Metrics]:
        rows: Rows = batch.rows
        out = network.apply(params, batch.memory, rows.obs, rows.first, rngs=hidden.rngs(config, key))[0]
        value = masked_mean(loss(out, rows.target), rows.valid)
        return value, {"loss": Mean.of(value)}

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        batch = minibatch.whole(network, rollout.memory, Rows(s.obs["input"], s.first, s.obs["target"], s.valid))
        params, opt_state, metrics = optimizer_of(hp, clock.progress).descend(batch_loss, *state, batch, key)
        return State(params, opt_state), metrics

    def sample(hp: HParams, out: Any, clock: Clock, key: Key) -> tuple[PyTree, tuple[()]]:
        return answer(out), ()

    agent = network_agent(network, init, learn, lambda state: state.params, sample, answer)
    return _of_inputs(agent)


def _of_inputs(agent: Agent) -> Agent:
    """`agent`, which is shown inputs alone when it acts."""

    def act(hp: Any, state: Any, memory: PyTree, obs: Any, *rest: Any) -> tuple[PyTree, PyTree, PyTree]:
        return agent.act(hp, state, memory, obs["input"], *rest)

    def greedy(hp: Any, state: Any, memory: PyTree, obs: Any, *rest: Any) -> tuple[PyTree, PyTree]:
        return agent.greedy(hp, state, memory, obs["input"], *rest)

    return agent._replace(act=act, greedy=greedy)
