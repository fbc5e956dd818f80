"""jaxrl: functional reinforcement learning on JAX.

trainer = jaxrl.make_trainer("dqn", "CartPole-v1", total_steps=100_000)
state, metrics = jax.jit(trainer.train)(jax.random.key(0))
jaxrl.evaluate(trainer, state, jax.random.key(1)).returns.mean()
"""

from jaxrl.evaluation import Evaluation, evaluate
from jaxrl.experiment import make_trainer
from jaxrl.loop import Trainer
from jaxrl.ops.sums import Mean
from jaxrl.rundir import load
from jaxrl.spaces import Box, Discrete
from jaxrl.trees import member
from jaxrl.types import Agent, Clock, Env, EnvSpec, EnvStep, Rollout, TrainState, Transition, VecEnv
from jaxrl.vectorize import vectorize

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
    "Mean",
    "Rollout",
    "TrainState",
    "Trainer",
    "Transition",
    "VecEnv",
    "evaluate",
    "load",
    "make_trainer",
    "member",
    "vectorize",
]
