"""Every agent with a discount bootstraps where an episode is cut: the values it learns, beside a chain's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import pqn, r2d2
from jaxrl.agents.parts import actor_critic
from jaxrl.core.spaces import Box
from jaxrl.experiment.experiment import resolve
from jaxrl.networks.critic import TwinBoxCritic
from tests.chain import chain_values, chain_values_if_truncation_ended, time_limit_chain
from tests.small import AGENTS, QUICK, hparam_names, released

ON_POLICY = ({"hidden_sizes": (32,), "num_envs": 8, "rollout_length": 7}, {"max_grad_norm": 50.0})
OFF_POLICY = {"hidden_sizes": (32,), "learning_starts": 500, "batch_size": 32, "num_envs": 4, "gradient_steps": 1}
CHAIN_SETTINGS = {
    "dqn": (
        {"hidden_sizes": (32,), "learning_starts": 500, "target_update_every": 100},
        {"learning_rate": 3e-3, "learning_rate_anneal": 1.0},
        15_000,
    ),  # fmt: skip
    "pqn": ({"hidden_sizes": (32,), "num_envs": 4, "rollout_length": 8}, {"learning_rate": 1e-2}, 15_000),
    "reinforce": (ON_POLICY[0], ON_POLICY[1] | {"learning_rate": 1e-2}, 15_000),
    "a2c": (ON_POLICY[0], ON_POLICY[1] | {"learning_rate": 1e-2}, 15_000),
    "ppo": (ON_POLICY[0] | {"num_minibatches": 2}, ON_POLICY[1] | {"learning_rate": 5e-3}, 15_000),
    # Entropy would be worth something, were the temperature not next to nothing.
    "sac": (OFF_POLICY | {"auto_temperature": False}, {"learning_rate": 3e-3, "temperature": 1e-6, "tau": 0.05}, 10_000),
    "r2d2": (
        OFF_POLICY | {"rollout_length": 7, "burn_in": 3, "n_step": 3, "target_update_every": 100},
        {"learning_rate": 5e-3, "learning_rate_anneal": 1.0},
        20_000,
    ),
    "td3": (OFF_POLICY, {"learning_rate": 3e-3, "tau": 0.05}, 10_000),
}
TABULAR = ({}, {"learning_rate": 0.1}, 20_000)
CHAIN_CASES = {agent: (agent, {}) for agent in AGENTS if "gamma" in hparam_names(agent)} | {
    "dqn n-step": ("dqn", {"n_step": 3, "prioritized": True, "double": True, "dueling": True, "hidden_sizes": (32, 32)}),
    "c51": ("dqn", {"distributional": "c51", "num_atoms": 11}),
    "qr-dqn": ("dqn", {"distributional": "quantile", "num_atoms": 8}),
    "gru": ("ppo", {"torso": "gru", "hidden_sizes": (16, 16)}),
    "pqn gru": ("pqn", {"torso": "gru", "hidden_sizes": (16, 16), "num_minibatches": 4}),
    "r2d2 transformer": ("r2d2", {"torso": "transformer", "hidden_sizes": (16,), "window": 4}),
    "r2d2 mlp": ("r2d2", {"torso": "mlp"}),
}


def learnt_values(trainer, experiment, state):
    """What the agent thinks each place of the chain is worth: float32 [4]."""
    if trainer.agent.values is not None:
        obs = jnp.eye(4) if isinstance(trainer.env.spec.observation_space, Box) else jnp.arange(4)
        return trainer.agent.values(state.hparams, state.agent, obs).mean(-1)
    if experiment.agent == "td3":
        critic = TwinBoxCritic(trainer.env.spec.observation_space, trainer.env.spec.action_space, "mlp", (32,))
        return critic.apply(state.agent.learner.params.critic, jnp.eye(4), jnp.zeros((4, 1))).mean(0)
    obs, first = jnp.eye(4)[None], jnp.ones((1, 4), bool)
    if experiment.agent == "r2d2":
        network = r2d2.q_network(trainer.env.spec, experiment.config)
        q, _ = network.apply(state.agent.learner.params, network.initial(4), obs, first)
        return r2d2.unscale(experiment.config, q[0, ..., 0]).mean(-1)
    if experiment.agent == "pqn":
        network = pqn.q_network(trainer.env.spec, experiment.config)
        return network.apply(state.agent.params, network.initial(4), obs, first)[0][0, ..., 0].mean(-1)
    network = actor_critic.network_for(trainer.env.spec, experiment.config, experiment.agent)
    params = getattr(state.agent, "learner", state.agent).params
    return network.apply(params, network.initial(4), obs, first)[0].value[0]


RARE = ("c51", "qr-dqn", "pqn gru", "r2d2 transformer", "r2d2 mlp")


@pytest.mark.parametrize("case", [*(case for case in CHAIN_CASES if case not in RARE), *released(*RARE)])
def test_truncation_bootstraps_to_the_closed_form(case):
    """Every agent with a discount; every action is worth the same."""
    gamma = 0.8
    agent, options = CHAIN_CASES[case]
    config, hparams, steps = CHAIN_SETTINGS.get(agent, TABULAR)
    tabular = agent not in CHAIN_SETTINGS
    hparams = hparams | {"gamma": gamma} | ({"v_min": 0.0, "v_max": 10.0} if agent == "dqn" else {})
    env = time_limit_chain(one_hot=not tabular, continuous=agent == "td3")
    experiment = resolve(agent, env, total_steps=steps, config=config | options, hparams=hparams)
    trainer = experiment.trainer()
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    right, wrong = chain_values(gamma), chain_values_if_truncation_ended(gamma)
    assert np.abs(right - wrong).min() > 0.9  # a mistake shows: it is several times the tolerance
    found = jax.jit(lambda state: learnt_values(trainer, experiment, state), compiler_options=QUICK)(state)
    np.testing.assert_allclose(found, right, atol=0.3)
