"""jaxrl: functional reinforcement learning on JAX.

jaxrl.configure()  # before anything computes; not needed, but makes a seed's bits the same whatever runs beside it on CPU
trainer = jaxrl.make_trainer("dqn", "CartPole-v1", total_steps=100_000)
state, metrics = jax.jit(trainer.train)(jax.random.key(0))
jaxrl.evaluate(trainer, state, jax.random.key(1)).returns.mean()
"""

import importlib.metadata

from jaxrl import datasets
from jaxrl.api import check_agent, check_env, load, policy, record, sweep, train, tune
from jaxrl.core.evaluation import Evaluation, evaluate
from jaxrl.core.loop import Trainer
from jaxrl.core.means import Mean
from jaxrl.core.settings import LoopConfig, Range, hyperparameters
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.trees import member
from jaxrl.core.types import Agent, Clock, Env, EnvSpec, EnvStep, Grid, Rollout, State, TrainState, Transition, VecEnv
from jaxrl.core.vectorize import vectorize
from jaxrl.devices.platform import SamenessWarning, configure
from jaxrl.experiment.experiment import Experiment, make_trainer
from jaxrl.runs.callbacks import Callback
from jaxrl.sweeps.result import RunResult, SweepResult

__version__ = importlib.metadata.version("jaxrl")

__all__ = [
    "Agent",
    "Box",
    "Callback",
    "Clock",
    "Discrete",
    "Env",
    "EnvSpec",
    "EnvStep",
    "Evaluation",
    "Experiment",
    "Grid",
    "LoopConfig",
    "Mean",
    "Range",
    "Rollout",
    "RunResult",
    "SamenessWarning",
    "State",
    "SweepResult",
    "TrainState",
    "Trainer",
    "Transition",
    "VecEnv",
    "check_agent",
    "check_env",
    "configure",
    "datasets",
    "evaluate",
    "hyperparameters",
    "load",
    "make_trainer",
    "member",
    "policy",
    "record",
    "sweep",
    "train",
    "tune",
    "vectorize",
]
