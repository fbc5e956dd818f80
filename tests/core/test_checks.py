"""Wrong environments and agents are refused while they are traced, in words that say what is wrong; actions are clipped."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core import checks
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean
from jaxrl.core.settings import LoopConfig, hyperparameters
from jaxrl.core.spaces import Box, Discrete, Product, clip
from jaxrl.core.types import Agent, Env, EnvSpec, EnvStep, VecEnv

SPEC = EnvSpec("Mine", Box((2,)), Discrete(3))
COUNT, NUMBER, PAIR, LOSS = jnp.int32(0), jnp.float32(0), jnp.zeros(2), Mean.of(jnp.float32(0))
ACTION = jnp.zeros(2, jnp.int32)
OUT = EnvStep(PAIR, NUMBER, jnp.bool_(True), jnp.bool_(False))


def env_of(out=OUT, state=COUNT, start=PAIR):
    """An environment that gives just this, whatever it is told."""
    return Env(SPEC, {}, lambda key, params: (COUNT, start), lambda key, s, action, params: (state, out))


@hyperparameters
class HParams:
    level: float = 0.0


def agent_of(action=ACTION, memory=PAIR, state=NUMBER, metrics=(("loss", LOSS),)):
    """An agent that acts, remembers and learns just this."""

    def make(spec, config):
        return Agent(
            lambda key, hp, params=None: jnp.float32(0),
            lambda n: jnp.zeros(n),
            lambda *args: (action, memory, ()),
            lambda *args: (action, memory),
            lambda *args: (state, dict(metrics)),
        )

    return SimpleNamespace(Config=LoopConfig, HParams=HParams, make=make, __name__="mine")


def trainer_of(env, agent):
    return jaxrl.make_trainer(agent, env, total_steps=8, config={"num_envs": 2, "rollout_length": 2})


WRONG_ENVS = {
    "reward with an axis": (
        {"out": OUT._replace(reward=jnp.zeros(2))},
        "step of Mine gives reward float32[2], expected float32[]: one number a step",
    ),
    "integer reward": (
        {"out": OUT._replace(reward=jnp.int32(1))},
        'step of Mine gives reward int32[], expected float32[]: cast it with .astype("float32")',
    ),
    "flag that is a number": (
        {"out": OUT._replace(terminated=jnp.float32(1))},
        'step of Mine gives terminated float32[], expected bool[]: cast it with .astype("bool")',
    ),
    "observation too long": (
        {"out": OUT._replace(obs=jnp.zeros(3))},
        "step of Mine gives obs float32[3], expected float32[2] (axis 0): spec.observation_space says so",
    ),
    "first observation": (
        {"start": jnp.zeros((1, 2))},
        "reset of Mine gives obs float32[1,2], expected float32[2]: spec.observation_space says so",
    ),
    "another structure": (
        {"out": OUT._replace(obs={"position": jnp.zeros(2)})},
        "step of Mine gives obs {'position': float32[2]}, expected float32[2]: spec.observation_space says so",
    ),
    "state": (
        {"state": jnp.float32(0)},
        'step of Mine gives state float32[], expected int32[]: cast it with .astype("int32")',
    ),
    "metric": (
        {"out": OUT._replace(metrics={"regret": jnp.zeros(5)})},
        "step of Mine gives metrics['regret'] float32[5], expected float32[]",
    ),
    "five values": (
        {"out": (1, 2, 3)},
        "step of Mine gives (int32[], int32[], int32[]), expected a jaxrl.EnvStep(obs, reward, terminated, truncated)",
    ),
    "reserved": (
        {"out": OUT._replace(metrics={"episode_return": jnp.float32(0)})},
        "Mine has a metric named 'episode_return', which is the loop's own: call it something else",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ENVS)
def test_a_wrong_environment_is_refused_in_words(wrong):
    changes, words = WRONG_ENVS[wrong]
    with pytest.raises(InputError) as error:
        trainer_of(env_of(**changes), agent_of())
    assert str(error.value) == words


WRONG_AGENTS = {
    "action too wide": (
        {"action": jnp.zeros((2, 1), jnp.int32)},
        "act of the agent gives action int32[2,1], expected int32[2]: spec.action_space says so",
    ),
    "action for another width": (
        {"action": jnp.zeros(3, jnp.int32)},
        "act of the agent gives action int32[3], expected int32[2] (axis 0): spec.action_space says so",
    ),
    "continuous action": (
        {"action": jnp.zeros(2)},
        'act of the agent gives action float32[2], expected int32[2]: cast it with .astype("int32")',
    ),
    "memory": (
        {"memory": ()},
        "act of the agent gives memory (), expected float32[2]: it keeps its structure, shapes and dtypes",
    ),
    "state": (
        {"state": jnp.zeros(1)},
        "learn of the agent gives state float32[1], expected float32[]: it keeps its structure, shapes and dtypes",
    ),
    "metric that is no mean": (
        {"metrics": {"loss": jnp.float32(0)}},
        "learn of the agent gives metric 'loss' float32[], expected a Mean: jaxrl.Mean.of(x)",
    ),
    "metric with an axis": (
        {"metrics": {"loss": Mean(jnp.zeros(4), jnp.float32(0))}},
        "learn of the agent gives metric 'loss'.total float32[4], expected float32[]",
    ),
    "reserved": (
        {"metrics": {"seed": LOSS}},
        "the agent has a metric named 'seed', which is the loop's own: call it something else",
    ),
    "the environment's": (
        {"metrics": {"regret": LOSS}},
        "the agent has a metric named 'regret', and so has the environment: call one something else",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_AGENTS)
def test_a_wrong_agent_is_refused_in_words(wrong):
    changes, words = WRONG_AGENTS[wrong]
    with pytest.raises(InputError) as error:
        trainer_of(env_of(OUT._replace(metrics={"regret": jnp.float32(0)})), agent_of(**changes))
    assert str(error.value) == words
    if words.startswith("act of"):
        agent = checks.checked_agent(agent_of(**changes).make(SPEC, None), SPEC)
        with pytest.raises(InputError, match="^greedy of the agent gives "):
            agent.greedy(None, None, jnp.zeros(2), jnp.zeros((2, 2)), jnp.ones(2, bool), None)


def test_what_is_right_passes_python_numbers_too():
    """Also numbers of Python, which have no dtype of their own, where they can be what is expected."""
    trainer = trainer_of(env_of(OUT._replace(reward=1, terminated=True, metrics={"regret": 0.5})), agent_of(state=0.0))
    state, row = jax.eval_shape(trainer.step, jax.eval_shape(trainer.init, jax.random.key(0)))
    assert state.agent.dtype == jnp.float32 and not state.agent.weak_type and "regret" in row
    with pytest.raises(InputError, match="gives reward bool"):
        checks.fitted("gives reward", True, jnp.float32(0))
    with pytest.raises(InputError, match="gives time float"):
        checks.fitted("gives time", 0.5, jnp.int32(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": jnp.zeros(3)}, r"step of Host gives reward float32\[3\], expected float32\[2\] \(axis 0\)"),
        ({"obs": jnp.zeros(2)}, r"step of Host gives obs float32\[2\], expected float32\[2,1\]"),
        ({"valid": jnp.ones((2, 1), bool)}, r"step of Host gives valid bool\[2,1\], expected bool\[2\]"),
    ],
)
def test_a_wrong_vec_env_is_refused_in_words(changes, words):
    out = EnvStep(jnp.zeros((2, 1)), jnp.zeros(2), jnp.zeros(2, bool), jnp.zeros(2, bool))._replace(**changes)
    vec = VecEnv(
        EnvSpec("Host", Box((1,)), Discrete(3)), {}, 2,
        lambda key, params: (jnp.int32(0), jnp.zeros((2, 1))),
        lambda key, params: (),
        lambda keys, state, pool, action, params: (state, jnp.zeros((2, 1)), pool, out),
    )  # fmt: skip
    with pytest.raises(InputError, match=words):
        trainer_of(vec, agent_of())


STEER = Product.of(gear=Discrete(3), steer=Box((2,), -1.0, (0.5, 2.0)), free=Box(()))
CHOSEN = {"gear": jnp.int32([2, 1]), "steer": jnp.float32([[-3, 3], [0.25, -0.5]]), "free": jnp.float32([-9, 9])}
CLIPPED = np.float32([-1 + 2, 0.25 - 0.5])  # the sums of what is left of the two rows of `steer`


@pytest.mark.parametrize("batched", [False, True])
def test_actions_are_clipped_for_the_environment_and_kept_for_the_agent(batched):
    """The reward is the sum of the box's action as the environment sees it; the agent's state keeps the rollout's."""

    def step(key, state, action, params):
        return state, EnvStep(jnp.zeros(1), action["steer"].sum() + 0 * action["free"], jnp.bool_(True), jnp.bool_(False))

    def learn(hp, state, rollout, clock, key):
        return (rollout.steps.action, rollout.steps.reward), {}

    def make(spec, config):
        shown = jax.tree.map(lambda x: jnp.zeros((2, *x.shape), x.dtype), CHOSEN), jnp.zeros((2, 2))
        act = lambda *args: (CHOSEN, (), ())  # noqa: E731
        return Agent(lambda *_: shown, lambda n: (), act, lambda *args: act()[:2], learn)

    env = Env(EnvSpec("Car", Box((1,)), STEER), {}, lambda key, params: (jnp.int32(0), jnp.zeros(1)), step)
    vec = jaxrl.vectorize(env._replace(spec=EnvSpec("Car", Box((1,)), Product(*_unbounded()))), 2, 4)
    agent = SimpleNamespace(Config=LoopConfig, HParams=HParams, make=make, __name__="mine")
    trainer = trainer_of(vec._replace(spec=env.spec) if batched else env, agent)
    state, _ = trainer.step(trainer.init(jax.random.key(0)))
    action, reward = state.agent
    for name, x in CHOSEN.items():
        np.testing.assert_array_equal(action[name], np.stack([x, x]))
    np.testing.assert_array_equal(reward, np.stack([CLIPPED, CLIPPED]))
    np.testing.assert_array_equal(jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=2).returns, CLIPPED)


def _unbounded():
    return (Discrete(3), Box((2,)), Box(())), ("gear", "steer", "free")


def test_unbounded_actions_are_not_touched():
    program = str(jax.make_jaxpr(lambda x: clip(Box((3,), -3.4e38, 3.4e38), x))(jnp.zeros(3)))
    assert "clamp" not in program and "max" not in program and "min" not in program
