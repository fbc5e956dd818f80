"""What agents with replay share: settings and a replay of transitions; and SAC's and TD3's actor and gradient steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.agents.parts import hidden, optimizer
from jaxrl.agents.parts.common import example_obs, gradient_steps, zero_transitions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, Fraction, NonNegative, hyperparameters
from jaxrl.core.spaces import Box, check_mask, legal_actions
from jaxrl.core.types import Clock, EnvSpec, Key, Metrics, PyTree, Rollout, State
from jaxrl.networks.policy import masked
from jaxrl.networks.torsos import Torso, TorsoSetting, remembers, torso_of
from jaxrl.ops import boxes, exploration
from jaxrl.replay import ring, uniform
from jaxrl.replay.ring import Batch, Replay


@dataclasses.dataclass(frozen=True)
class Config(hidden.Config):
    """The network, the replay and how much is learnt from it, beside hidden layers and optimiser."""

    torso: TorsoSetting = "auto"
    """Network under the heads, without a memory (with one: r2d2 or ppo): mlp, minatar, nips, nature, resnet18,
    resnet18_frozen_bn (for torchvision's weights), or auto (minatar or nature for images, else mlp); or a flax Module."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (256, 256)
    """Units of each dense hidden layer."""
    replay_capacity: Annotated[int, Count] = 100_000
    """Environment steps kept; the oldest make room."""
    batch_size: Annotated[int, Count] = 256
    """Transitions per gradient step."""
    gradient_steps: Annotated[int, Count] = 1
    """Gradient steps after each rollout."""
    learning_starts: Annotated[int, NonNegative] = 1_000
    """Environment steps before the first gradient step; sac and td3 act at random until then."""


@hyperparameters
class HParams(optimizer.HParams):
    """Step sizes, discount and targets of the actor-critics."""

    actor_learning_rate: Annotated[float, NonNegative] = 0.0
    """The actor's own step size; 0 = learning_rate."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    tau: Annotated[float, Fraction] = 0.005
    """Share of the networks in an update of their targets; 1 = hard copy."""


def check_torso(spec: EnvSpec, torso: Any, agent: str, instead: str) -> None:
    """Raises InputError for a torso that cannot take the observations, or that has a memory: single steps are replayed.

    instead: an agent that learns with a memory.
    """
    if remembers(torso):
        raise InputError(f"torso = {torso} has a memory, but agent {agent!r} replays single steps; use agent {instead!r}")
    torso_of(torso, spec.observation_space, ())
    check_mask(spec.observation_space, spec.action_space)


def is_bounded_box(space: Any) -> bool:
    """Whether a space is a Box every element of which has finite bounds."""
    return isinstance(space, Box) and boxes.is_bounded(space)


class Actor(nn.Module):
    """obs [..., *shape] -> what `head` makes of a torso's features: any module's class or factory."""

    spec: EnvSpec
    config: Config
    head: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, obs: jax.Array) -> Any:
        space = self.spec.observation_space
        out = self.head()(Torso(space, self.config.torso, self.config.hidden_sizes)(obs))
        return masked(out, legal_actions(space, obs))


def example_inputs(spec: EnvSpec) -> tuple[PyTree, jax.Array]:
    """An observation [1, ...] and an action [1, ...] of zeros, for tracing networks."""
    space: Any = spec.action_space
    return example_obs(spec, batch=(1,)), jnp.zeros((1, *space.shape), space.dtype)


def of_actor(hp: HParams) -> HParams:
    """The hyper-parameters with the actor's step size."""
    size = jnp.where(hp.actor_learning_rate > 0, hp.actor_learning_rate, hp.learning_rate)
    changed: HParams = dataclasses.replace(hp, learning_rate=size)  # type: ignore[type-var]
    return changed


def empty_replay(spec: EnvSpec, config: Any, n_step: int = 1) -> Replay:
    """A replay of the environment's transitions."""
    example: Any = zero_transitions(spec, spec.storage_dtype)
    sizes = (config.replay_capacity, config.num_envs, config.rollout_length, n_step)
    return ring.init_transitions(spec, example._replace(first=()), *sizes)


def push(replay: Replay, rollout: Rollout) -> Replay:
    """The replay with a rollout's transitions, but for `first` and `extras`."""
    steps: Any = rollout.steps
    return ring.push_transitions(replay, steps._replace(extras=()))


def random_at_first(spec: EnvSpec, config: Config, clock: Clock, key: Key, obs: PyTree, action: PyTree) -> PyTree:
    """`action` [N], but uniform draws up to `learning_starts`; legal ones where obs [N, ...] has a mask."""
    keys = jax.random.split(key, len(jax.tree.leaves(action)[0]))
    drawn = exploration.random_actions(keys, spec.observation_space, spec.action_space, obs)
    return jax.tree.map(lambda x, y: jnp.where(clock.env_steps <= config.learning_starts, x, y), drawn, action)


def learn(
    config: Config,
    hp: HParams,
    step: Callable[[PyTree, Batch, Key], tuple[PyTree, Metrics]],
    state: State,
    rollout: Rollout,
    clock: Clock,
    key: Key,
) -> tuple[State, Metrics]:
    """Stores a rollout, then takes `gradient_steps` on batches drawn uniformly, none before `learning_starts`.

    step: (learner, batch, key) -> (learner, metrics). state.experience: a replay of transitions.
    """
    replay = push(state.experience, rollout)

    def gradient_step(learner: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        sample_key, loss_key = jax.random.split(key)
        slots = uniform.draw_slots(replay, sample_key, config.batch_size)
        return step(learner, ring.read_n_step(replay, slots, hp.gamma, n_step=1), loss_key)

    learner, metrics = gradient_steps(config, clock, gradient_step, state.learner, key)
    return State(learner, replay), metrics
