"""A Gaussian policy over a bounded box: what is learnt from is the action as drawn, not what the environment makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.loop import Moving
from jaxrl.core.types import Clock
from tests.small import small_trainer

T = 20


@pytest.mark.parametrize("agent", ["a2c", "ppo", "reinforce"])
def test_the_unclipped_action_is_stored_with_its_density(agent):
    """Pendulum-v1 takes ± 2; with mean 0 and σ = e a draw is beyond in 46 of 100. PPO keeps its density, here by scipy."""
    trainer = small_trainer(agent, "Pendulum-v1", config={"box_policy": "gaussian", "rollout_length": T})
    state = trainer.init(jax.random.key(0))
    weights = jax.tree.map(jnp.zeros_like, getattr(state.agent, "learner", state.agent).params["params"])
    weights["policy_head"]["log_std"] = jnp.ones(1)
    learner = trainer.agent.init(jax.random.key(0), state.hparams, {"params": weights})
    moving = Moving(
        state.env, trainer.vec.prepare(jax.random.key(1), state.env_params), state.obs, state.first, (), state.episode
    )
    keys = jax.random.split(jax.random.key(2), T), jax.random.split(jax.random.key(3), (T, 2))
    clock = Clock(jnp.int32(2 * T), jnp.float32(0))
    _, steps, _ = jax.jit(trainer._rollout)(state, learner, moving, *keys, clock)
    assert 0.3 < np.mean(np.abs(steps.action) > 2) < 0.7
    if agent == "ppo":
        density = scipy.stats.norm.logpdf(steps.action[..., 0], scale=np.e)
        np.testing.assert_allclose(steps.extras[0], density, rtol=1e-5)
