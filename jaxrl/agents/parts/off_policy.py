"""What the off-policy actor-critics share: settings of replay and networks, and the replay's bookkeeping."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.common import example_obs
from jaxrl.core.settings import Count, LoopConfig, NonNegative
from jaxrl.core.types import Clock, EnvSpec, Key, PyTree, Rollout
from jaxrl.networks.torsos import TorsoName
from jaxrl.replay import ring
from jaxrl.replay.ring import Replay, Stored


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """Replay and networks, beside the shape of an iteration."""

    torso: TorsoName = "auto"
    """Network under actor and critics; auto = CNN for images, else MLP."""
    hidden_sizes: Annotated[tuple[int, ...], Count] = (256, 256)
    """Units of each dense hidden layer."""
    replay_capacity: Annotated[int, Count] = 100_000
    """Transitions kept; the oldest make room."""
    batch_size: Annotated[int, Count] = 256
    """Transitions per gradient step."""
    gradient_steps: Annotated[int, Count] = 1
    """Gradient steps after each rollout."""
    learning_starts: Annotated[int, NonNegative] = 1_000
    """Environment steps of uniformly random actions before the first gradient step."""


def empty_replay(spec: EnvSpec, config: Config) -> Replay:
    """A replay of the environment's transitions."""
    obs, flag = example_obs(spec, spec.storage_dtype), jnp.bool_(False)
    space = spec.action_space
    action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(space.sample, jax.random.key(0)))
    example = Stored(obs, action, jnp.float32(0), flag, flag, obs, flag)
    return ring.init(example, config.replay_capacity, config.num_envs, config.rollout_length)


def pushed(replay: Replay, rollout: Rollout) -> Replay:
    """`replay` with a rollout's transitions."""
    s = rollout.steps
    return ring.push(replay, Stored(s.obs, s.action, s.reward, s.terminated, s.truncated, s.next_obs, s.valid))


def random_at_first(spec: EnvSpec, config: Config, clock: Clock, key: Key, action: PyTree) -> PyTree:
    """`action` [N], but uniform draws up to `learning_starts`."""
    keys = jax.random.split(key, config.num_envs)
    drawn = jax.vmap(spec.action_space.sample)(keys)
    return jax.tree.map(lambda x, y: jnp.where(clock.env_steps <= config.learning_starts, x, y), drawn, action)
