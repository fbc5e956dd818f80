"""An agent and an environment in which only a hyper-parameter decides the return: what tuning should find is known."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from jaxrl.core.means import Mean
from jaxrl.core.settings import LoopConfig, Range, hyperparameters
from jaxrl.core.spaces import Box
from jaxrl.core.types import Agent, Env, EnvSpec, EnvStep
from jaxrl.experiment import registry


def images_to_draw() -> Env:
    """Digits, each of which is to be drawn again."""
    return registry.named_env("dataset:digits", {"target": "observation"})[1]


def level_env() -> Env:
    """Episodes of one step: acting x returns -(x - target)²."""

    def reset(key, params):
        return jnp.float32(0), jnp.zeros(1)

    def step(key, state, action, params):
        return state, EnvStep(jnp.zeros(1), -jnp.square(action[0] - params["target"]), jnp.bool_(True), jnp.bool_(False))

    return Env(EnvSpec("Level", Box((1,)), Box((1,), -100.0, 100.0)), {"target": jnp.float32(3)}, reset, step)


def split_env() -> Env:
    """The same with levels: the target of validation is 1 higher than that of training, of the test 1 lower."""

    def splits(params, split):
        return {"target": params["target"] + {"train": 0.0, "validation": 1.0, "test": -1.0}[split]}

    env = level_env()
    return env._replace(spec=dataclasses.replace(env.spec, id="SplitLevel", splits=splits))


class Level:
    """Acts its hyper-parameter `level`, times `scale`, and learns nothing; its loss is NaN where `level` exceeds 50."""

    @dataclasses.dataclass(frozen=True)
    class Config(LoopConfig):
        scale: Annotated[int, Range(low=1)] = 1

    @hyperparameters
    class HParams:
        level: Annotated[float, Range(low=0)] = 20.0

    @staticmethod
    def make(spec, config):
        def act(hp, state, memory, obs, first, *rest):
            action = jnp.full((obs.shape[0], 1), 1.0) * hp.level * config.scale + state["learnt"] * 0
            return (action, memory, ()) if len(rest) == 2 else (action, memory)

        def learn(hp, state, rollout, clock, key):
            loss = jnp.where(hp.level > 50, jnp.nan, 0.0)
            return state | {"learnt": state["learnt"] + 1, "replay": state["replay"] + 1}, {"loss": Mean.of(loss, True)}

        return Agent(
            lambda key, hp, params=None: {"learnt": jax.random.uniform(key), "replay": jax.random.uniform(key)},
            lambda n: (),
            act,
            act,
            learn,
        )
