"""Every agent with an annealed step size: the sizes of all its updates, read from how far they move the parameters."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from tests.chain import time_limit_chain
from tests.small import AGENTS, CANDIDATES, QUICK, home, hparam_names, of_config, small_trainer

ANNEALED = [agent for agent in AGENTS if "learning_rate_anneal" in hparam_names(agent)]
RATE, UPDATES = 0.5, 10
CONFIG = {  # one gradient step an update, from the first one on; episodes of 5 steps end in each rollout
    "num_envs": 2, "rollout_length": 8, "updates_per_iteration": 1, "learning_starts": 0, "burn_in": 0, "num_epochs": 1,
    "num_minibatches": 1, "gradient_steps": 1, "policy_delay": 1,
}  # fmt: skip


def by_rate(learning_rate, **options):
    """In place of an optimiser: moves every parameter by -learning_rate, whatever the gradient."""
    down = lambda g, state, params=None: (jax.tree.map(lambda x: 0 * x - learning_rate, g), state)  # noqa: E731
    return optax.GradientTransformation(lambda params: (), down)


def first_kernel(tree):
    """Of an agent's state: the network's that gradients move."""
    return next(x for path, x in jax.tree_util.tree_leaves_with_path(tree) if "kernel" in str(path[-1]))


@pytest.mark.parametrize("agent", ANNEALED)
def test_the_step_sizes_of_all_updates(agent, monkeypatch):
    """The i-th of n updates has 1 - anneal · (i - 1) / n of the learning rate: the first all of it, the last not nothing."""
    for name in ("adam", "radam"):
        monkeypatch.setattr(optax, name, by_rate)
    total_steps = UPDATES * CONFIG["num_envs"] * CONFIG["rollout_length"]
    env = time_limit_chain(one_hot=True) if home(agent) in CANDIDATES[:1] else home(agent)
    trainer = small_trainer(agent, env, total_steps=total_steps, config=of_config(agent, CONFIG))
    assert trainer.num_iterations == UPDATES
    step = jax.jit(trainer.step, compiler_options=QUICK)
    for anneal in (1.0, 0.5):
        hparams = dataclasses.replace(trainer.hparams, learning_rate=RATE, learning_rate_anneal=anneal)
        state, weights = trainer.init(jax.random.key(0), hparams), []
        for _ in range(UPDATES + 1):
            weights.append(float(first_kernel(state.agent).mean()))
            state, _ = step(state)
        expected = RATE * (1 - anneal * np.arange(UPDATES) / UPDATES)
        np.testing.assert_allclose(-np.diff(weights), expected, rtol=1e-4)
