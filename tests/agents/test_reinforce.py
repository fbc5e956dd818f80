"""agents/reinforce.py: its loss and gradient by hand, on a network whose outputs are its heads' biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl.agents import reinforce
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition

SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
VALUE = 0.5
LN2 = float(np.log(2))


def setup(hparams=None, **config):
    """π uniform and V = VALUE in every state."""
    agent = reinforce.make(SPEC, reinforce.Config(**({"num_envs": 1, "rollout_length": 2, "hidden_sizes": (4,)} | config)))
    hp = reinforce.HParams(**({"gamma": 0.5, "max_grad_norm": 1e9, "entropy_coef": 0.0} | (hparams or {})))
    params = jax.tree.map(jnp.zeros_like, agent.init(jax.random.key(0), hp).params)
    params["params"]["value_head"]["bias"] = jnp.array([VALUE])
    return agent, hp, agent.init(jax.random.key(0), hp, params)


def rollout(rewards, actions, terminated=(False, True), truncated=(False, False), valid=(True, True)):
    """Two steps of one environment."""

    def column(x, dtype):
        return jnp.array(x, dtype)[:, None]

    obs = jnp.zeros((2, 1, 3))
    flags = [column(x, bool) for x in (terminated, truncated, valid)]
    first = column((True, False), bool)
    steps = Transition(
        obs, first, column(actions, jnp.int32), column(rewards, jnp.float32), flags[0], flags[1], obs, (), flags[2]
    )
    return Rollout(steps, ())


def learn(agent, hp, state, steps, progress=1.0):
    clock = Clock(jnp.int32(2), jnp.float32(progress))
    after, metrics = jax.jit(agent.learn)(hp, state, steps, clock, jax.random.key(0))
    return after, {name: float(m.value) for name, m in metrics.items()}


# Rewards 1, 2 with γ = ½; G of the first and second step, in what follows the second:
RETURNS = {
    "terminated": ({}, {}, [1 + 0.5 * 2, 2.0]),
    "truncated bootstraps": (
        {},
        {"terminated": (False, False), "truncated": (False, True)},
        [1 + 0.5 * 2.25, 2 + 0.5 * VALUE],
    ),
    "rollout's end bootstraps": ({}, {"terminated": (False, False)}, [1 + 0.5 * 2.25, 2 + 0.5 * VALUE]),
    "both ends": ({}, {"truncated": (False, True)}, [2.0, 2.0]),
    "cut in the middle": ({}, {"truncated": (True, False)}, [1 + 0.5 * VALUE, 2.0]),
}


@pytest.mark.parametrize("case", RETURNS)
def test_losses_by_hand(case):
    config, step, returns = RETURNS[case]
    agent, hp, state = setup(**config)
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], **step))
    advantages = np.array(returns) - VALUE
    np.testing.assert_allclose(metrics["policy_loss"], np.mean(advantages * LN2), rtol=1e-6)
    np.testing.assert_allclose(metrics["value_loss"], np.mean(advantages**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], LN2, rtol=1e-6)


def test_without_baseline_unfinished_episodes_are_left_out():
    """First step ends an episode of return 1; the second belongs to one that goes on, and must not count."""
    agent, hp, state = setup(baseline=False)
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], terminated=(True, False)))
    np.testing.assert_allclose([metrics["policy_loss"], metrics["value_loss"]], [1.0 * LN2, 0.0], rtol=1e-6)
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], (False, False), (False, True)))
    np.testing.assert_allclose(metrics["policy_loss"], np.mean([2.0, 2.0]) * LN2, rtol=1e-6)  # a truncated one stops there
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], (False, False)))
    assert metrics["policy_loss"] == 0.0


def test_invalid_rows_do_not_count():
    agent, hp, state = setup()
    _, metrics = learn(agent, hp, state, rollout([4, 2], [0, 1], valid=(False, True)))
    np.testing.assert_allclose(metrics["policy_loss"], (2 - VALUE) * LN2, rtol=1e-6)


def test_policy_gradient_on_a_bandit_is_the_analytic_one():
    """∇ of E[r log π(a)] in the logits θ is E[A (1_a - π)] (Sutton & Barto, 2nd ed., section 13.3); Adam sees its sign,
    so the gradient is read from its first moment, (1 - β₁) g."""
    agent, hp, state = setup({"value_coef": 0.0})
    after, _ = learn(agent, hp, state, rollout([1, 3], [0, 1], terminated=(True, True)))
    advantages = np.array([1.0, 3.0]) - VALUE
    gradient = -np.mean([advantages[0] * np.array([0.5, -0.5]), advantages[1] * np.array([-0.5, 0.5])], 0)
    moment = ravel_pytree(after.params)[1](after.opt_state[1][0].mu)["params"]  # Adam keeps one vector for all
    np.testing.assert_allclose(moment["policy_head"]["Dense_0"]["bias"] / 0.1, gradient, rtol=1e-5)


def test_gradient_norm_is_clipped_over_all_parameters():
    agent, hp, state = setup({"max_grad_norm": 0.01})
    after, _ = learn(agent, hp, state, rollout([1, 2], [0, 1]))
    squares = [float(jnp.sum((x / 0.1) ** 2)) for x in jax.tree.leaves(after.opt_state[1][0].mu)]
    np.testing.assert_allclose(sum(squares) ** 0.5, 0.01, rtol=1e-4)


@pytest.mark.parametrize(("anneal", "progress", "share"), [(0.0, 1.0, 1.0), (1.0, 0.25, 0.75), (0.5, 0.5, 0.75)])
def test_step_size_anneals(anneal, progress, share):
    agent, hp, state = setup({"learning_rate": 0.1, "learning_rate_anneal": anneal})
    after, _ = learn(agent, hp, state, rollout([1, 2], [0, 1]), progress)
    moved = after.params["params"]["value_head"]["bias"] - VALUE
    np.testing.assert_allclose(moved, 0.1 * share, rtol=1e-4)  # Adam's first step has the size of the learning rate
