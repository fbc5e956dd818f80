"""A Gaussian policy over a bounded box: what is learnt from is the action as drawn, not what the environment makes of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.means import Mean
from tests.small import QUICK, small_trainer


@pytest.mark.parametrize("agent", ["a2c", "ppo", "reinforce"])
def test_the_unclipped_action_is_stored_with_its_density(agent):
    """Pendulum-v1 takes ± 2; with mean 0 and σ = e a draw is beyond in 46 of 100. PPO keeps log N(a; 0, e²) as well."""

    def learn(hp, state, rollout, clock, key):
        action = rollout.steps.action
        density = -0.5 * jnp.square(action[..., 0] / np.e) - 1 - 0.5 * np.log(2 * np.pi)
        kept = rollout.steps.extras[0] if agent == "ppo" else density
        return state, {"beyond": Mean.of(jnp.abs(action) > 2), "error": Mean.of(jnp.abs(kept - density))}

    trainer = small_trainer(agent, "Pendulum-v1", config={"box_policy": "gaussian"})
    state = trainer.init(jax.random.key(0))
    weights = jax.tree.map(jnp.zeros_like, getattr(state.agent, "learner", state.agent).params["params"])
    weights["policy_head"]["log_std"] = jnp.ones(1)
    trainer = dataclasses.replace(trainer, agent=trainer.agent._replace(learn=learn))
    _, row = jax.jit(trainer.step, compiler_options=QUICK)(trainer.init(jax.random.key(0), params={"params": weights}))
    assert 0.3 < row["beyond"] < 0.6
    assert row["error"] < 1e-5
