"""`check_env` and `check_agent`: what is right passes, and each fault is named in words."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import Agent, Box, Discrete, Env, EnvSpec, EnvStep, LoopConfig, Mean
from jaxrl.core.errors import InputError
from jaxrl.experiment import contract


def env_of(spec=None, **functions):
    """A walk on a line that is right but for the functions given: obs is the place, in [0, 1]."""

    def reset(key, params):
        start = jax.random.uniform(key, (1,))
        return {"place": start, "time": 0}, start

    def step(key, state, action, params):
        place = jnp.clip(state["place"] + 0.2 * action - 0.1, 0.0, 1.0)
        state = {"place": place, "time": state["time"] + 1}
        return state, EnvStep(place, place.sum(), place[0] > 0.9, state["time"] >= params["limit"], {"height": place[0]})

    spec = spec or EnvSpec("Line", Box((1,), 0.0, 1.0), Discrete(2))
    return Env(spec, {"limit": jnp.int32(20)}, functions.get("reset", reset), functions.get("step", step))


GOOD = env_of()


def test_a_right_environment_passes_and_is_described():
    report = jaxrl.check_env(GOOD)
    text = str(report)
    passed, notes = ([line.text for line in report.lines if line.ok is ok] for ok in (True, False))
    assert "params, traced: limit" in passed and "pure: the same key and action give the same results" in passed
    assert any(line.startswith("metrics: height 0.") for line in notes) and "another obs for another key" in text
    assert any("weakly typed" in line and "state['time']" in line for line in notes)  # reset gives Python's 0
    numbers = [int(n) for n in re.findall(r"\d+", next(line for line in notes if line.startswith("episodes")))]
    assert numbers[0] >= numbers[1] > 0 and numbers[2] == 8 * 128


def changed_step(change):
    """The line's step, its result changed."""

    def step(key, state, action, params):
        return change(state, *GOOD.step(key, state, action, params))

    return {"step": step}


COUNTER = []


def counting(key, params):
    COUNTER.append(0)  # which a trace sees once
    return {"place": jnp.zeros(1) + len(COUNTER) / 1000, "time": 0}, jnp.zeros(1) + len(COUNTER) / 1000


def branching(state, after, out):
    return (after, out) if out.reward > 0 else (state, out)


def numpy_on_traced(state, after, out):
    return after, out._replace(reward=np.asarray(out.reward))


LEAKED = []


def leaking(state, after, out):
    LEAKED.append(out.reward)
    return after, out._replace(reward=LEAKED[0])


FAULTS = {
    "obs beyond the space": (
        changed_step(lambda s, after, out: (after, out._replace(obs=out.obs + 2))),
        r"step of Line gives an obs outside of spec.observation_space: .* at \[0\], which must be at least 0 and at most 1$",
    ),
    "start beyond the space": (
        {"reset": lambda key, params: ({"place": jnp.zeros(1), "time": 0}, -jnp.ones(1))},
        r"reset of Line gives an obs outside of spec.observation_space: -1 at \[0\]",
    ),
    "NaN reward": (changed_step(lambda s, after, out: (after, out._replace(reward=out.reward / 0 * 0))), "NaN or infinite"),
    "random numbers of its own": ({"reset": counting}, r"different results for the same key .*from `key` alone"),
    "Python's if": (
        changed_step(branching),
        rf"^step of Line decides by Python \(if, .*use jnp.where \({__file__}, line \d+\)",
    ),
    "NumPy": (changed_step(numpy_on_traced), "^step of Line gives a traced value to NumPy: use jax.numpy"),
    "a leak": (changed_step(leaking), "keeps a traced value outside of its state"),
    "a bug": (changed_step(lambda s, after, out: after["nothing"]), r"^Line raises KeyError: 'nothing' \(.*, line \d+\)$"),
    "text in the state": (
        {"reset": lambda key, params: ({"place": jnp.zeros(1), "name": "me"}, jnp.zeros(1))},
        r"^reset of Line gives state\['name'\] of type str: keep arrays and numbers only",
    ),
    "the loop's metric": (
        changed_step(lambda s, after, out: (after, out._replace(metrics={"seed": out.reward}))),
        "^Line has a metric named 'seed', which is the loop's own",
    ),
    "storage": (
        {"spec": EnvSpec("Line", Box((1,), 0.0, 1.0), Discrete(2), storage_dtype="bool")},
        "spec.storage_dtype of Line is bool, which does not hold its observations exactly",
    ),
    "a picture": (
        {"spec": EnvSpec("Line", Box((1,), 0.0, 1.0), Discrete(2), render=lambda state, params: np.zeros((4, 5)))},
        r"spec.render of Line gives float64\[4, 5\], expected uint8 \[H, W, 3\]",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_environment_is_named(fault):
    changes, words = FAULTS[fault]
    with pytest.raises(InputError, match=words):
        jaxrl.check_env(env_of(**changes))


def test_environments_of_ours_pass_by_name_and_with_arguments():
    assert "Discrete(6)" in str(jaxrl.check_env("RandomGame", env_kwargs={"num_states": 6}))
    with pytest.raises(InputError, match="unknown parameter of RandomGame 'gravity'"):
        jaxrl.check_env("RandomGame", env_params={"gravity": 1})


@jaxrl.hyperparameters
class HParams:
    rate: float = 0.5


class Averager:
    """An agent that learns the mean reward; `change` spoils one of its functions."""

    Config, HParams = LoopConfig, HParams
    __name__ = "averager"

    def __init__(self, **functions):
        self.functions = functions

    def make(self, spec, config):
        def act(hp, state, memory, obs, first, clock, key):
            return jax.random.randint(key, first.shape, 0, 2), memory, ()

        def greedy(hp, state, memory, obs, first, key):
            return jnp.zeros(first.shape, jnp.int32), memory

        def learn(hp, state, rollout, clock, key):
            mean = rollout.steps.reward.mean()
            return state + hp.rate * (mean - state), {"reward": Mean.of(mean)}

        parts = {"init": lambda key, hp, params=None: jnp.float32(0), "memory": lambda n: ()}
        return Agent(**{**parts, "act": act, "greedy": greedy, "learn": learn, **self.functions})


def test_a_right_agent_passes_and_is_described():
    report = jaxrl.check_agent(Averager(), GOOD, config={"num_envs": 2})
    text = str(report)
    assert "actions for 2 environments at once" in text and "note  metrics: height 0." in text and "reward 0." in text
    assert "init: the same state for every key" in text
    assert "on CartPole-v1" in str(jaxrl.check_agent(Averager()))  # where none is named


def nothing(*args):
    """Not an agent's function."""


AGENT_FAULTS = {
    "an action that does not exist": (
        {"greedy": lambda hp, state, memory, obs, first, key: (jnp.full(first.shape, 2), memory)},
        "agent averager gives an action outside of the action space: 2, which must be at least 0 and at most 1",
    ),
    "NaN": (
        {"learn": lambda hp, state, rollout, clock, key: (state * jnp.nan, {})},
        "agent averager has actions, parameters or metrics that are NaN or infinite, on Line",
    ),
    "numbers of its own": (
        {"learn": lambda hp, state, rollout, clock, key: (state + np.random.default_rng().normal(), {})},
        "different results for the same key",
    ),
    "wider state": (
        {"learn": lambda hp, state, rollout, clock, key: (jnp.zeros(3), {})},
        r"^learn of the agent gives state float32\[3\], expected float32\[\]: it keeps its structure",
    ),
    "Python's if on hparams": (
        {"init": lambda key, hp, params=None: jnp.float32(1 if hp.rate > 0.3 else 0)},
        "^init of the agent decides by Python",
    ),
    "a function in the state": (
        {"init": lambda key, hp, params=None: {"optimizer": nothing}},
        r"^init of the agent gives state\['optimizer'\] of type function: keep arrays and numbers only",
    ),
    "a bug": (
        {"learn": lambda hp, state, rollout, clock, key: rollout.reward},
        "^agent averager raises AttributeError: 'Rollout' object has no attribute 'reward'",
    ),
}


@pytest.mark.parametrize("fault", AGENT_FAULTS)
def test_a_fault_of_an_agent_is_named(fault):
    changes, words = AGENT_FAULTS[fault]
    with pytest.raises(InputError, match=words):
        jaxrl.check_agent(Averager(**changes), GOOD)


def test_own_code_is_refused_when_a_trainer_is_made():
    """The cheap part: shapes and what cannot be traced, before anything compiles; a bug keeps its traceback."""
    with pytest.raises(InputError, match="^step of Line decides by Python"):
        jaxrl.make_trainer("dqn", env_of(**changed_step(branching)))
    with pytest.raises(InputError, match=r"learn of the agent gives state float32\[3\]"):
        jaxrl.make_trainer(Averager(**AGENT_FAULTS["wider state"][0]), GOOD)
    with pytest.raises(AttributeError, match="has no attribute 'reward'"):
        jaxrl.make_trainer(Averager(**AGENT_FAULTS["a bug"][0]), GOOD)


def test_what_make_of_own_code_raises_is_one_line(tmp_path):
    """For spaces it did not think of; `check` then goes on to the next environment."""
    (tmp_path / "mine.py").write_text(
        "from jaxrl.agents.q_learning import Config, HParams, make as made\n"
        "def make(spec, config):\n    assert spec.observation_space.n\n    return made(spec, config)\n"
    )
    name = f"{tmp_path}/mine.py:make"
    with pytest.raises(InputError, match=r"raises AttributeError: 'Box' object has no attribute 'n' \(.*mine.py, line 3\)"):
        jaxrl.make_trainer(name, "CartPole-v1")
    assert jaxrl.check_agent(name).lines
    with pytest.raises(InputError, match=r"unknown argument 'learning_rate': settings go in config=\{...\} or hparams"):
        jaxrl.make_trainer("ppo", "CartPole-v1", learning_rate=1e-3)


def test_what_a_name_means():
    assert contract.is_agent("ppo") and not contract.is_agent("RandomGame")
    assert contract.is_agent("jaxrl.agents.ppo:make") and not contract.is_agent("jaxrl.envs.garnet:make")
    with pytest.raises(InputError, match="unknown agent or environment 'pppo'; nearest: ppo"):
        contract.is_agent("pppo")
