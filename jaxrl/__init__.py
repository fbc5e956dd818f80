"""jaxrl: functional reinforcement learning on JAX.

trainer = jaxrl.make_trainer("dqn", "CartPole-v1", total_steps=100_000)
state, metrics = jax.jit(trainer.train)(jax.random.key(0))
jaxrl.evaluate(trainer, state, jax.random.key(1)).returns.mean()
"""

from jaxrl.devices import platform

platform.set_flags()  # before anything can start the backend

from jaxrl.api import load, sweep, train, tune  # noqa: E402
from jaxrl.core.evaluation import Evaluation, evaluate  # noqa: E402
from jaxrl.core.loop import Trainer  # noqa: E402
from jaxrl.core.means import Mean  # noqa: E402
from jaxrl.core.spaces import Box, Discrete  # noqa: E402
from jaxrl.core.trees import member  # noqa: E402
from jaxrl.core.types import Agent, Clock, Env, EnvSpec, EnvStep, Grid, Rollout, TrainState, Transition, VecEnv  # noqa: E402
from jaxrl.core.vectorize import vectorize  # noqa: E402
from jaxrl.experiment.experiment import Experiment, make_trainer  # noqa: E402
from jaxrl.runs.callbacks import Callback  # noqa: E402
from jaxrl.sweeps.result import RunResult, SweepResult  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Box",
    "Clock",
    "Discrete",
    "Env",
    "EnvSpec",
    "EnvStep",
    "Evaluation",
    "Grid",
    "Mean",
    "Rollout",
    "Callback",
    "Experiment",
    "RunResult",
    "SweepResult",
    "TrainState",
    "Trainer",
    "Transition",
    "VecEnv",
    "evaluate",
    "load",
    "make_trainer",
    "member",
    "sweep",
    "train",
    "tune",
    "vectorize",
]
