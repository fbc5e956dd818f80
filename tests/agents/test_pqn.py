"""agents/pqn.py: targets and losses on a network whose values are known, and its minibatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import pqn
from jaxrl.agents.parts.common import next_values
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition

SPEC = EnvSpec("Two", Box((1,)), Discrete(2))


def steps(values, rewards, terminated, truncated, next_values, action=0, valid=True):
    """One environment's rollout; an observation is its own value, as are the extras."""

    def column(x, dtype=np.float32):
        return jnp.array(np.broadcast_to(np.asarray(x, dtype), len(values))[:, None])

    return Transition(
        column(values)[..., None],
        column(False, bool),
        column(action, np.int32),
        column(rewards),
        column(terminated, bool),
        column(truncated, bool),
        column(next_values)[..., None],
        column(values),
        column(valid, bool),
    )


@pytest.mark.parametrize("truncated", [[0, 0, 0], [0, 1, 0], [1, 0, 1]])
def test_next_values_shift_but_where_an_episode_was_cut(truncated):
    """V(obs) = 10, 20, 30 and V(next_obs) = 20, 30, 40, were it not for a reset after a truncation."""
    after = np.where(truncated, [77.0, 88.0, 99.0], [20.0, 30.0, 40.0])
    s = steps([10.0, 20.0, 30.0], 0, False, truncated, after)
    found = next_values(lambda obs: obs[..., 0], s, s.extras)
    np.testing.assert_array_equal(found[:, 0], after)


def constant_q(agent, hp, q):
    """Parameters under which Q(s, ·) = q everywhere."""
    state = agent.init(jax.random.key(0), hp)
    zero = jax.tree.map(jnp.zeros_like, state.params)
    head = {**zero["params"]["Dense_0"], "bias": jnp.array(q)}
    return state._replace(params={"params": {**zero["params"], "Dense_0": head}})


CASES = {
    # Q = (1, 3), γ = λ = ½. t = 2: 1 + ½ · 3 = 2.5. t = 1: 1 + ½ (½ · 3 + ½ · 2.5) = 2.375. t = 0: 1 + ½ (1.5 + 1.1875).
    "running": ({}, [2.34375, 2.375, 2.5]),
    "terminated": ({"terminated": [0, 1, 0]}, [1 + 0.5 * (1.5 + 0.5), 1.0, 2.5]),
    "truncated": ({"truncated": [0, 1, 0]}, [1 + 0.5 * (1.5 + 1.25), 2.5, 2.5]),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_by_hand(case):
    """One minibatch of the whole rollout: the mean of ½ (G - Q(s, 0))², Q(s, 0) = 1; one RAdam step on the head's bias."""
    ends, targets = CASES[case]
    config = pqn.Config(num_envs=1, rollout_length=3, num_epochs=1, num_minibatches=1, hidden_sizes=(4,))
    agent, hp = pqn.make(SPEC, config), pqn.HParams(gamma=0.5, return_lambda=0.5, learning_rate_anneal=0.0)
    state = constant_q(agent, hp, [1.0, 3.0])
    rollout = steps([3.0] * 3, 1.0, ends.get("terminated", False), ends.get("truncated", False), 0.0)
    after, metrics = agent.learn(hp, state, Rollout(rollout, ()), Clock(jnp.int32(3), jnp.float32(0)), jax.random.key(0))
    np.testing.assert_allclose(metrics["loss"].value, np.mean((np.array(targets) - 1) ** 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_value"].value, 1.0)
    moved = np.asarray(after.params["params"]["Dense_0"]["bias"]) - [1.0, 3.0]
    assert moved[0] > 0 and moved[1] == 0


def test_invalid_rows_teach_nothing():
    agent = pqn.make(SPEC, pqn.Config(num_envs=1, rollout_length=3, num_epochs=2, num_minibatches=3, hidden_sizes=(4,)))
    hp = pqn.HParams()
    state = agent.init(jax.random.key(0), hp)
    rollout = Rollout(steps([3.0] * 3, 1.0, False, False, 0.0, valid=False), ())
    after, metrics = agent.learn(hp, state, rollout, Clock(jnp.int32(3), jnp.float32(0)), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    assert np.isnan(metrics["q_value"].value) and float(metrics["loss"].count) == 6


def test_uneven_minibatches_are_refused():
    with pytest.raises(InputError, match="num_minibatches = 5 must divide .* = 12"):
        pqn.make(SPEC, pqn.Config(num_envs=4, rollout_length=3, num_minibatches=5))
