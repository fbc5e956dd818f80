"""agents/dqn.py: targets, gates and target updates on a network whose values are known: Q(s, ·) is its head's bias."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import dqn
from jaxrl.spaces import Box, Discrete
from jaxrl.types import Clock, EnvSpec, Rollout, Transition

SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
ONLINE, TARGET = [1.0, 3.0], [5.0, 2.0]


def setup(hparams=None, **config):
    """An agent with replay of one transition's width, online values ONLINE and target values TARGET in every state."""
    settings = {"num_envs": 1, "hidden_sizes": (4,), "batch_size": 8, "learning_starts": 0, "replay_capacity": 10}
    agent = dqn.make(SPEC, dqn.Config(**(settings | config)))
    hp = dqn.HParams(**({"gamma": 0.5, "learning_rate": 0.01} | (hparams or {})))
    state = agent.init(jax.random.key(0), hp)

    def constant(values):
        zero = jax.tree.map(jnp.zeros_like, state.params)
        return {"params": {**zero["params"], "Dense_0": {**zero["params"]["Dense_0"], "bias": jnp.array(values)}}}

    return agent, hp, state._replace(params=constant(ONLINE), target_params=constant(TARGET))


def rollout(n=1, reward=1.0, action=0, terminated=False, truncated=False, valid=True):
    """One step of n environments."""

    def full(x):
        return jnp.full((1, n), x)

    obs = jnp.zeros((1, n, 3))
    return Rollout(
        Transition(obs, full(False), full(action), full(reward), full(terminated), full(truncated), obs, (), full(valid)), ()
    )


def learn(agent, hp, state, steps, env_steps=7):
    return jax.jit(agent.learn)(hp, state, steps, Clock(jnp.int32(env_steps), jnp.float32(0)), jax.random.key(1))


def bias(params):
    return np.asarray(params["params"]["Dense_0"]["bias"])


# Error = r + γ V(s') - Q(s, a) with r = 1, γ = ½ and Q(s, 0) = 1. V(s') is the target network's 5, or its 2 at the online
# network's choice (action 1) in Double DQN.
CASES = {
    "plain": ({}, {}, 1 + 0.5 * 5 - 1),
    "double": ({"double": True}, {}, 1 + 0.5 * 2 - 1),
    "terminated": ({}, {"terminated": True}, 0.0),
    "truncated": ({}, {"truncated": True}, 1 + 0.5 * 5 - 1),
    "both": ({}, {"terminated": True, "truncated": True}, 0.0),
    "other action": ({}, {"action": 1}, 1 + 0.5 * 5 - 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_loss_of_one_transition_by_hand(case, loss):
    config, step, error = CASES[case]
    agent, hp, state = setup(**config, loss=loss)
    after, metrics = learn(agent, hp, state, rollout(**step))
    expected = error**2 / 2 if loss == "squared" or abs(error) < 1 else abs(error) - 0.5
    np.testing.assert_allclose(metrics["loss"].value, expected, rtol=1e-6)
    action = step.get("action", 0)
    np.testing.assert_allclose(metrics["q_value"].value, ONLINE[action])
    # Adam's first step has the size of the learning rate, towards the target, at the action taken and nowhere else.
    moved = np.zeros(2)
    moved[action] = 0.01 * np.sign(error)
    np.testing.assert_allclose(bias(after.params) - ONLINE, moved, atol=1e-5)


def test_invalid_rows_teach_nothing():
    agent, hp, state = setup()
    after, metrics = learn(agent, hp, state, rollout(valid=False))
    np.testing.assert_array_equal(bias(after.params), ONLINE)
    assert np.isnan(metrics["q_value"].value)


def test_nothing_is_learnt_before_learning_starts():
    agent, hp, state = setup(learning_starts=7)
    early, metrics = learn(agent, hp, state, rollout(), env_steps=6)
    np.testing.assert_array_equal(bias(early.params), ONLINE)
    assert int(early.opt_state[0].count) == 0 and np.isnan(metrics["loss"].value) and int(early.replay.filled) == 1
    later, metrics = learn(agent, hp, state, rollout(), env_steps=7)
    assert bias(later.params)[0] > ONLINE[0] and int(later.opt_state[0].count) == 1


@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_gradient_steps(gradient_steps):
    agent, hp, state = setup(gradient_steps=gradient_steps)
    after, metrics = learn(agent, hp, state, rollout())
    assert int(after.opt_state[0].count) == gradient_steps == float(metrics["loss"].count)


@pytest.mark.parametrize(
    ("every", "num_envs", "env_steps", "due"),
    [(20, 2, 20, True), (20, 2, 18, False), (20, 2, 22, False), (20, 2, 40, True), (20, 32, 32, True), (50, 32, 96, False),
     (50, 32, 128, True), (1, 1, 3, True)],
)  # fmt: skip
@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_target_moves_when_a_multiple_is_passed(every, num_envs, env_steps, due, tau):
    """Between env_steps - num_envs and env_steps a multiple of `every` is reached: (96, 128] holds 100, (64, 96] no 50."""
    agent, hp, state = setup({"tau": tau}, num_envs=num_envs, target_update_every=every, replay_capacity=100)
    after, _ = learn(agent, hp, state, rollout(num_envs), env_steps)
    expected = tau * bias(after.params) + (1 - tau) * np.array(TARGET) if due else TARGET
    np.testing.assert_allclose(bias(after.target_params), expected, rtol=1e-6)
    if due and tau == 1:
        np.testing.assert_array_equal(bias(after.target_params), bias(after.params))  # a copy, to the bit


def test_epsilon_falls_linearly():
    """ε from 1 to 0 over half of training: at progress ¼ half of the actions are drawn, of which half are greedy's."""
    agent, hp, state = setup({"epsilon_start": 1.0, "epsilon_end": 0.0, "epsilon_fraction": 0.5})
    for progress, share in [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (1.0, 1.0)]:
        clock = Clock(jnp.int32(0), jnp.float32(progress))
        obs = jnp.zeros((4000, 3))
        action, _, _ = agent.act(hp, state, (), obs, jnp.zeros(4000, bool), clock, jax.random.key(2))
        assert abs(float(action.mean()) - share) < 4 * (0.25 / 4000) ** 0.5 * (share < 1) + 1e-6  # greedy is action 1


def test_no_copy_of_the_buffer_in_the_vmapped_program():
    """The compiled iteration neither copies nor selects anything of the buffer's size, alone or vmapped."""
    config = {"replay_capacity": 7770, "hidden_sizes": (8,), "batch_size": 8, "updates_per_iteration": 20}
    trainer = jaxrl.make_trainer("dqn", "CartPole-v1", preset="none", config=config)
    for width, step in ((None, trainer.step), (3, jax.vmap(trainer.step))):
        keys = jax.random.key(0) if width is None else jax.vmap(jax.random.key)(jnp.arange(width))
        state = (trainer.init if width is None else jax.vmap(trainer.init))(keys)
        text = jax.jit(step, donate_argnums=0).lower(state).compile().as_text()
        loops = [line for line in text.splitlines() if re.search(r"f32\[(3,)?777,10,4\]\S* (copy|select)\(", line)]
        assert "777,10,4]" in text
        in_loop = [line for line in loops if "while" in line]
        assert not in_loop, in_loop
