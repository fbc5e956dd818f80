"""What flags a member as diverged: anything that its agent saw, did or learnt is NaN or infinite."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.means import Mean
from jaxrl.core.settings import LoopConfig, hyperparameters
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Agent, Env, EnvSpec, EnvStep
from tests.small import QUICK, small_config

PLACES = ("nothing", "obs", "start", "reward", "action", "params", "loss", "replay", "experience")
HARMLESS = {"nothing", "replay", "experience"}


@hyperparameters
class HParams:
    action: float = 0.0
    params: float = 0.0
    loss: float = 0.0
    replay: float = 0.0
    experience: float = 0.0


def spoilt_env(actions):
    """Episodes of 4 steps, whose first observation or second step (observation, reward) is spoilt by what `params` adds."""

    def reset(key, params):
        return jnp.int32(0), params["start"][None]

    def step(key, state, action, params):
        second = state == 1
        obs = jnp.where(second, params["obs"], 0.0)[None]
        return state + 1, EnvStep(obs, jnp.where(second, params["reward"], 0.0), state == 3, jnp.bool_(False))

    params = {name: jnp.float32(0) for name in ("obs", "start", "reward")}
    return Env(EnvSpec("Spoilt", Box((1,)), actions), params, reset, step)


def make(spec, config):
    """An agent that acts, learns, reports and stores what its hyper-parameters say, and does not look."""

    def init(key, hp, params=None):
        return {"params": jnp.float32(0), "replay": {"data": jnp.zeros(2)}, "experience": jnp.float32(0)}

    def act(hp, state, memory, obs, first, *rest):
        action = jnp.full(first.shape, hp.action)
        return (action, memory, ()) if len(rest) == 2 else (action, memory)

    def learn(hp, state, rollout, clock, key):
        state = {"params": hp.params + 0, "replay": {"data": jnp.full(2, hp.replay)}, "experience": hp.experience + 0}
        return state, {"loss": Mean.of(hp.loss)}

    return Agent(init, lambda n: (), act, act, learn)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_whatever_is_not_finite_flags_the_member(value):
    """In an iteration of 3 steps, so that no episode ends and no return shows it."""
    agent = SimpleNamespace(Config=LoopConfig, HParams=HParams, make=make, __name__="blind")
    config = {"rollout_length": 3, "updates_per_iteration": 1}
    trainer = jaxrl.make_trainer(agent, spoilt_env(Box(())), total_steps=3, config=config)
    spoils = {name: jnp.float32([value if place == name else 0.0 for place in PLACES]) for name in PLACES}
    hparams = HParams(**{name: spoils[name] for name in vars(HParams())})
    env_params = {name: spoils[name] for name in ("obs", "start", "reward")}
    train = jax.jit(jax.vmap(trainer.train, (None, 0, 0)), compiler_options=QUICK)
    _, metrics = train(jax.random.key(0), hparams, env_params)
    flagged = dict(zip(PLACES, metrics["diverged"][:, 0].tolist(), strict=True))
    assert flagged == {place: place not in HARMLESS for place in PLACES}


def test_dqn_that_sees_nan_is_flagged_before_it_learns():
    trainer = jaxrl.make_trainer(
        "dqn", spoilt_env(Discrete(2)), total_steps=600, env_params={"obs": float("inf")},
        config=small_config("dqn") | {"learning_starts": 500}, preset="none",
    )  # fmt: skip
    _, metrics = jax.jit(trainer.train, compiler_options=QUICK)(jax.random.key(0))
    assert np.isnan(metrics["loss"][0]) and metrics["diverged"].all()
