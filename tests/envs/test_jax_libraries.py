"""Environments of JAX libraries: what an `Env` gives is what the library gives; each passes the check, and is trained in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.experiment import registry
from tests.extras import extra

pytestmark = pytest.mark.filterwarnings("ignore:Brax System", "ignore::DeprecationWarning")  # of libraries
CASES = [
    ("brax.envs", "brax:fast", "ppo"),
    ("brax.envs", "brax:inverted_pendulum", "ppo"),
    ("mujoco_playground", "playground:CartpoleBalance", "ppo"),
    ("jumanji", "jumanji:Snake-v1", "dqn"),
    ("jumanji", "jumanji:Minesweeper-v0", "ppo"),
    ("xminigrid", "xminigrid:MiniGrid-Empty-5x5", "ppo"),
]


@pytest.mark.parametrize(("module", "env", "agent"), CASES, ids=lambda x: x)
def test_it_is_checked_and_trained_in(module, env, agent):
    extra(module)
    assert jaxrl.check_env(env).lines  # a fault is raised
    config = {"num_envs": 2, "hidden_sizes": (8,)} | (
        {"rollout_length": 8, "num_minibatches": 2} if agent == "ppo" else {"learning_starts": 8, "replay_capacity": 64}
    )
    result = jaxrl.train(agent, env, seeds=1, total_steps=48, config=config, preset="none")
    assert not result.metrics["diverged"].any()


def steps_of(env, actions, key):
    """The rows of actions, before any reset."""
    state, obs = env.reset(key, env.params)
    step, rows = jax.jit(env.step), []
    for action in actions:
        state, out = step(key, state, action, env.params)
        rows.append(out)
    return obs, rows


def test_brax_is_brax_and_truncated_at_its_episodes_length():
    envs = extra("brax.envs")
    key, actions = jax.random.key(3), jnp.linspace(-1, 1, 5)[:, None]
    obs, rows = steps_of(registry.find_env("brax:inverted_pendulum", {"episode_length": 5}), actions, key)
    raw = envs.get_environment("inverted_pendulum")
    state = raw.reset(key)
    np.testing.assert_allclose(obs, state.obs, rtol=1e-5, atol=1e-6)
    for t, action in enumerate(actions):
        state = jax.jit(raw.step)(state, action)
        np.testing.assert_allclose(rows[t].obs, state.obs, rtol=1e-4, atol=1e-5)
        assert rows[t].reward == state.reward and rows[t].terminated == bool(state.done)
        assert rows[t].truncated == (t == 4)


def test_jumanjis_masks_are_of_all_actions():
    """Minesweeper's squares are numbered row by row; a game ends by a mine, which is no truncation."""
    jumanji = extra("jumanji")
    env, key = registry.find_env("jumanji:Minesweeper-v0"), jax.random.key(0)
    assert env.spec.action_space == Discrete(100)
    raw = jumanji.make("Minesweeper-v0")
    state, _ = raw.reset(key)
    actions = [37, 5, 90, 62]
    obs, rows = steps_of(env, jnp.int32(actions), key)
    assert obs["action_mask"].shape == (100,) and obs["action_mask"].all()
    for action, row in zip(actions, rows, strict=True):
        state, now = raw.step(state, jnp.int32([action // 10, action % 10]))
        np.testing.assert_array_equal(row.obs["board"], now.observation.board)
        np.testing.assert_array_equal(row.obs["action_mask"], now.observation.action_mask.ravel())
        assert row.reward == now.reward and row.terminated == (now.step_type == 2) and not row.truncated
        if row.terminated:
            return


def test_jumanjis_several_agents_with_a_reward_each_are_refused():
    extra("jumanji")
    with pytest.raises(InputError, match="jumanji:Connector-v3 gives a reward for each of 10 agents"):
        registry.find_env("jumanji:Connector-v3")


def test_a_grid_world_shows_one_hot_cells_and_is_truncated():
    worlds = extra("xminigrid")
    env, key = registry.find_env("xminigrid:MiniGrid-Empty-5x5", {"max_steps": 3}), jax.random.key(1)
    obs, rows = steps_of(env, jnp.int32([1, 1, 1]), key)
    raw, params = worlds.make("MiniGrid-Empty-5x5", max_steps=3)
    now = raw.reset(params, key)
    tiles = obs.shape[-1] - 12
    np.testing.assert_array_equal(obs[..., :tiles].argmax(-1), now.observation[..., 0])
    np.testing.assert_array_equal(obs[..., tiles:].argmax(-1), now.observation[..., 1])
    assert [bool(row.truncated) for row in rows] == [False, False, True] and not any(row.terminated for row in rows)
    plain = registry.find_env("xminigrid:MiniGrid-Empty-5x5", {"one_hot": False, "max_steps": 3})
    np.testing.assert_array_equal(plain.reset(key, ())[1], now.observation)
    assert isinstance(env.spec.observation_space, Box)
    assert env.spec.render(env.reset(key, ())[0], ()).shape[-1] == 3


@pytest.mark.parametrize(
    ("module", "env", "nearest"),
    [("brax.envs", "brax:reachr", "reacher"), ("mujoco_playground", "playground:CartpoleBalanc", "CartpoleBalance"),
     ("jumanji", "jumanji:Snake-v2", "Snake-v1"), ("xminigrid", "xminigrid:MiniGrid-Empty-5x6", "MiniGrid-Empty-5x5")],
)  # fmt: skip
def test_unknown_names_are_one_line(module, env, nearest):
    extra(module)
    with pytest.raises(InputError, match=f"unknown .* environment '{env.partition(':')[2]}'; nearest: .*{nearest}"):
        registry.find_env(env)
