"""agents/r2d2.py: its loss by hand, its gates, and replayed memory against acting."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import r2d2
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.replay import sequence

QUICK = {"xla_backend_optimization_level": 1}  # compiles in half the time
SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
ONLINE, TARGET = [1.0, 3.0], [5.0, 2.0]
SMALL = {
    "num_envs": 1, "rollout_length": 3, "hidden_sizes": (4,), "batch_size": 8, "learning_starts": 0, "replay_capacity": 60,
    "target_update_every": 10, "burn_in": 0, "gradient_steps": 1, "dueling": False, "double": False, "rescale_values": False,
    "n_step": 2,
}  # fmt: skip


@functools.cache
def made(config):
    """An agent, compiled once for all tests of its configuration, and its first state."""
    agent = r2d2.make(SPEC, config)
    state = jax.jit(agent.init, compiler_options=QUICK)(jax.random.key(0), r2d2.HParams())
    return agent._replace(learn=jax.jit(agent.learn, compiler_options=QUICK)), state


def setup(hparams=None, target=TARGET, **config):
    """An agent whose online values are ONLINE and target values `target` in every state: its head's bias."""
    agent, state = made(r2d2.Config(**(SMALL | config)))
    hp = r2d2.HParams(**({"gamma": 0.5, "learning_rate": 0.01} | (hparams or {})))

    def constant(values):
        zero = jax.tree.map(jnp.zeros_like, state.learner.params)
        return {"params": {**zero["params"], "Dense_0": {**zero["params"]["Dense_0"], "bias": jnp.array(values)}}}

    return agent, hp, state._replace(learner=state.learner._replace(params=constant(ONLINE), target_params=constant(target)))


def rollout(terminated=(), truncated=(), invalid=(), reward=1.0, length=3, num_envs=1):
    """Steps of action 0, with the named times marked."""

    def marked(times):
        return jnp.isin(jnp.arange(length), jnp.array(times, int))[:, None] & jnp.ones((1, num_envs), bool)

    obs, ended = jnp.zeros((length, num_envs, 3)), marked(terminated) | marked(truncated)
    first = jnp.concatenate([jnp.zeros((1, num_envs), bool), ended[:-1]])
    reward, action = jnp.full((length, num_envs), reward), jnp.zeros((length, num_envs), int)
    valid = ~marked(invalid)
    steps = Transition(obs, first, action, reward, marked(terminated), marked(truncated), obs, (), valid)
    return Rollout(steps, jnp.zeros((num_envs, 4)))


def learn(agent, hp, state, steps, env_steps=7):
    return agent.learn(hp, state, steps, Clock(jnp.int32(env_steps), jnp.float32(0)), jax.random.key(1))


def bias(params):
    return np.asarray(params["params"]["Dense_0"]["bias"])


# Rewards 1, γ = ½, n = 2, Q(·, 0) = 1; V(next_obs) is 5, the target network's highest. Errors y - 1 of the three steps.
ONE, TWO = 0.5 * 5, 0.5 + 0.25 * 5  # what follows r: one step on, two steps on
BY_HAND = {
    "going on": ({}, [TWO, TWO, ONE]),
    "terminated 0": ({"terminated": [0]}, [0, TWO, ONE]),
    "terminated 1": ({"terminated": [1]}, [0.5, 0, ONE]),
    "terminated 2": ({"terminated": [2]}, [TWO, 0.5, 0]),
    "truncated 0": ({"truncated": [0]}, [ONE, TWO, ONE]),
    "truncated 1": ({"truncated": [1]}, [TWO, ONE, ONE]),
    "truncated 2": ({"truncated": [2]}, [TWO, TWO, ONE]),
    "both": ({"terminated": [1], "truncated": [1]}, [0.5, 0, ONE]),
    "invalid": ({"invalid": [0, 2]}, [None, TWO, None]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_errors_by_hand(case):
    """The loss is their mean of squares over two; the priority 0.9 of the largest and 0.1 of the mean; the step is up."""
    marks, expected = BY_HAND[case]
    agent, hp, state = setup({"priority_exponent": 1.0})
    after, metrics = learn(agent, hp, state, rollout(**marks))
    errors = np.array([e for e in expected if e is not None])
    np.testing.assert_allclose(metrics["loss"].value, np.mean(errors**2) / 2, rtol=1e-5)
    priority = 0.9 * errors.max() + 0.1 * errors.mean()
    np.testing.assert_allclose(after.experience.priorities.tree[0][0], priority, rtol=1e-4)
    np.testing.assert_allclose(bias(after.learner.params) - ONLINE, [0.01, 0.0], atol=1e-5)


def test_gradients_are_clipped():
    """Going on, the errors are 1.75, 1.75 and 2.5; their mean is the gradient, clipped to ½; Adam's first moment a tenth."""
    for norm, slope in ((0.0, 2.0), (0.5, 0.5)):
        agent, hp, state = setup({"max_grad_norm": norm})
        after, _ = learn(agent, hp, state, rollout())
        np.testing.assert_allclose(bias(after.learner.opt_state[1][0].mu), [-0.1 * slope, 0.0], rtol=1e-5)


def test_invalid_steps_teach_nothing():
    agent, hp, state = setup()
    after, metrics = learn(agent, hp, state, rollout(invalid=[0, 1, 2]))
    np.testing.assert_array_equal(bias(after.learner.params), ONLINE)
    assert np.isnan(metrics["q_value"].value)


def test_priority_by_hand():
    """Sizes 3, 1 and one left out: ¾ · 3 + ¼ · 2."""
    error, valid = jnp.array([-3.0, 9.0, 1.0]), jnp.array([True, False, True])
    np.testing.assert_allclose(r2d2.sequence_priority(error, valid, 0.75), 2.75)
    assert r2d2.sequence_priority(error, jnp.zeros(3, bool), 0.75) == 0


@functools.cache
def compiled():
    """A trainer, its states of three seeds under greedy actions, and the program of an iteration that learns nothing."""
    config = SMALL | {"num_envs": 10, "rollout_length": 7, "burn_in": 2, "learning_starts": 10**6, "replay_capacity": 7770,
                      "hidden_sizes": (9, 9), "updates_per_iteration": 60, "torso": "lstm"}  # fmt: skip
    hparams = {"epsilon_start": 0.0, "epsilon_end": 0.0}
    trainer = jaxrl.make_trainer("r2d2", "CartPole-v1", total_steps=2_000_000, preset="none", config=config, hparams=hparams)
    states = jax.jit(jax.vmap(trainer.init), compiler_options=QUICK)(jax.vmap(jax.random.key)(jnp.arange(3)))
    return trainer, states, jax.jit(jax.vmap(trainer.step), donate_argnums=0).lower(states).compile(QUICK)


def test_replay_gives_back_what_acting_computed():
    """With parameters unchanged: stored actions are greedy for the replayed values, and each memory leads to the next."""
    trainer, states, program = compiled()
    params = jax.tree.map(lambda x: 3 * x, states.agent.learner.params)  # so that one action is clearly better
    learner = states.agent.learner._replace(params=params)
    states = states._replace(agent=states.agent._replace(learner=learner))
    for _ in range(2):
        states, _ = program(states)
    replay, params = jaxrl.member((states.agent.experience.replay, states.agent.learner.params), 1)
    assert replay.starts.shape == (111, 10) and int(replay.starts.position) == 120 - 111
    memory, steps = sequence.read(replay, jnp.arange(1110), 7)  # every rollout of every environment
    network = r2d2.q_network(trainer.env.spec, r2d2.Config(torso="lstm", hidden_sizes=(9, 9), dueling=False))
    q, after = jax.jit(network.apply)(params, memory, steps.obs, steps.first)
    taken = jnp.take_along_axis(q[..., 0], steps.action[..., None], -1)[..., 0]
    np.testing.assert_allclose(taken, q[..., 0].max(-1), atol=1e-5)
    assert 0.1 < float(steps.action.mean()) < 0.9 and float(steps.first.mean()) > 0.02
    ended = steps.terminated[-1] | steps.truncated[-1]
    after = trees.where(ended, trainer.agent.memory(1110), after)
    in_time = jax.tree.map(lambda x: jnp.roll(x.reshape(111, 10, 9), -9, 0), (memory, after))  # the oldest rollout first
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1:], y[:-1], atol=1e-5), *in_time)
    assert all(float(jnp.abs(x).max()) > 0.1 for x in jax.tree.leaves(in_time))


def test_no_copy_of_the_buffers_in_the_vmapped_program():
    text = compiled()[2].as_text()
    shapes = r"f32\[3,777,10,4\]|f32\[3,111,10,9\]|f32\[3,1120\]"  # observations, memories, leaves of the priorities' tree
    assert all(shape.replace("\\", "") in text for shape in shapes.split("|"))
    copies = [line for line in text.splitlines() if re.search(rf"({shapes})\S* (copy|select)\(", line)]
    assert not [line for line in copies if "while" in line]


LATE = {"burn_in": 1, "learning_starts": 7, "gradient_steps": 2, "prioritized": False}
LATE |= {"double": True, "rescale_values": True, "n_step": 1}


def test_double_and_rescaled_errors_by_hand_once_learning_starts_and_a_sequence_is_whole():
    """The online network chooses action 1. h(24) = √25 - 1 + 0.024; 3 + ½ · 24 = 15, and h(15) = √16 - 1 + 0.015.

    A sequence of 1 + 3 steps takes two rollouts; then there are two gradient steps.
    """
    agent, hp, state = setup({"learning_rate": 1e-6}, target=[9.0, 4.024], **LATE)
    for env_steps in (9, 6):
        state, metrics = learn(agent, hp, state, rollout(reward=3.0), env_steps)
        np.testing.assert_array_equal(bias(state.learner.params), ONLINE)
        assert int(state.learner.opt_state[1][0].count) == 0 and np.isnan(metrics["loss"].value)
    state, metrics = learn(agent, hp, state, rollout(reward=3.0), 7)
    assert bias(state.learner.params)[0] > ONLINE[0]
    assert int(state.learner.opt_state[1][0].count) == 2 == float(metrics["loss"].count)
    np.testing.assert_allclose(metrics["loss"].value, (3.015 - 1) ** 2 / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["q_value"].value, 3.0, atol=0.02)  # h(3) = 1, but for ε


@pytest.mark.parametrize(("env_steps", "due"), [(12, True), (9, False), (15, False), (21, True)])
@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_target_moves_when_a_multiple_is_passed(env_steps, due, tau):
    agent, hp, state = setup({"tau": tau})
    after, _ = learn(agent, hp, state, rollout(), env_steps)
    expected = tau * bias(after.learner.params) + (1 - tau) * np.array(TARGET) if due else TARGET
    np.testing.assert_allclose(bias(after.learner.target_params), expected, rtol=1e-6)


def test_epsilon_falls_linearly():
    """ε from 1 to 0 over half of training: at progress ¼ half of the actions are drawn, of which half are greedy's."""
    agent, hp, state = setup({"epsilon_start": 1.0, "epsilon_end": 0.0, "epsilon_fraction": 0.5})
    obs, first = jnp.zeros((4000, 3)), jnp.zeros(4000, bool)
    for progress, share in [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (1.0, 1.0)]:
        clock = Clock(jnp.int32(0), jnp.float32(progress))
        action, _, _ = agent.act(hp, state, agent.memory(4000), obs, first, clock, jax.random.key(2))
        assert abs(float(action.mean()) - share) < 4 * (0.25 / 4000) ** 0.5 * (share < 1) + 1e-6  # greedy is action 1


@pytest.mark.parametrize(
    ("config", "message"),
    [({"replay_capacity": 5, "burn_in": 1}, "replay_capacity = 5 .* 4 steps"), ({"hidden_sizes": ()}, "hidden_sizes")],
)
def test_settings_that_do_not_fit_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        setup(**config)
