"""EnvPool: the loop's rows are the library's own, those spent on resets left out; members apart; starting anew."""

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.types import Stack
from jaxrl.envs.host import envpool as adapter
from jaxrl.envs.host.vec_env import vec_env
from tests.command_line import assert_killed_ends_as_whole
from tests.extras import extra
from tests.small import assert_trees_equal

envpool = extra("envpool")
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting")  # of its spaces' bounds
WIDTH, STEPS = 2, 40


def raw(name, seeds, **kwargs):
    return envpool.make_gymnasium(name, num_envs=len(seeds), seed=seeds.tolist(), **kwargs)


def played(vec, key, actions):
    """(first obs, rows) of actions [T, N, ...]."""

    def one(state, action):
        state, obs, _, out = vec.step(jax.random.split(key, WIDTH), state, (), action, ())
        return state, (obs, out)

    state, first = vec.init(key, ())
    return first, jax.lax.scan(one, state, actions)[1]


@pytest.mark.parametrize("name", ["CartPole-v1", "HalfCheetah-v5"])
def test_rows_are_those_of_the_library(name):
    """The same seeds and actions over several episodes of at most seven steps: truncated, and begun anew one row later."""
    simulators = adapter.simulators(name, max_episode_steps=7)
    vec, key = vec_env(simulators, WIDTH), jax.random.key(0)
    actions = jax.vmap(jax.vmap(vec.spec.action_space.sample))(jax.random.split(key, (STEPS, WIDTH)))
    first, (obs, out) = jax.device_get(jax.jit(lambda key: played(vec, key, actions))(key))
    seeds = next(iter(simulators._running.values())).seeds
    envs = raw(name, np.asarray(seeds), max_episode_steps=7)
    np.testing.assert_array_equal(first, envs.reset()[0].astype(np.float32))
    over = np.zeros(WIDTH, bool)
    for t in range(STEPS):
        expected, reward, terminated, truncated, _ = envs.step(np.asarray(actions[t], envs.action_space.dtype))
        np.testing.assert_array_equal(obs[t], expected.astype(np.float32))
        np.testing.assert_array_equal(out.valid[t], ~over)
        np.testing.assert_array_equal(out.reward[t], np.where(over, 0, reward).astype(np.float32))
        np.testing.assert_array_equal(out.truncated[t], truncated & ~over)
        np.testing.assert_array_equal(out.terminated[t], terminated & ~over)
        over = (terminated | truncated) & ~over
    assert out.truncated.sum() >= 4 and (~out.valid).sum() >= 4
    simulators.close()


def test_frames_have_their_channels_last_and_are_stacks():
    """Four frames, all the same at first, as `EnvSpec.stack` says; then each step brings one."""
    simulators = adapter.simulators("Pong-v5")
    assert simulators.spec.observation_space.shape == (84, 84, 4) and simulators.spec.stack == Stack(4)
    for settings in ({"episodic_life": True}, {"gray_scale": False}):  # where frames before the first are seen; where C = 3
        assert adapter.simulators("Pong-v5", **settings).spec.stack is None
    pool, seeds = simulators.new(WIDTH), np.arange(WIDTH)
    obs, envs = pool.reset(seeds), raw("Pong-v5", seeds)
    np.testing.assert_array_equal(obs, np.moveaxis(envs.reset()[0], 1, -1))
    assert (obs == obs[..., :1]).all() and obs.any()
    for _ in range(3):
        pool.send(np.zeros(WIDTH, np.int32))
        after = pool.receive().obs
        np.testing.assert_array_equal(after, np.moveaxis(envs.step(np.zeros(WIDTH, np.int32))[0], 1, -1))
        np.testing.assert_array_equal(after[..., :-1], obs[..., 1:])
        obs = after
    pool.close()


def test_a_folded_pool_plays_what_each_member_plays():
    """Pools of members are stepped by one call; trajectories are those of each member's own program, bit for bit."""
    simulators = adapter.simulators("HalfCheetah-v5", max_episode_steps=7)
    vec, keys = vec_env(simulators, WIDTH), jax.random.split(jax.random.key(1), 3)
    actions = jax.vmap(jax.vmap(vec.spec.action_space.sample))(jax.random.split(keys[0], (STEPS, WIDTH)))
    run = lambda key: played(vec, key, actions)  # noqa: E731
    together = jax.device_get(jax.jit(jax.vmap(run))(keys))
    for i, key in enumerate(keys):
        assert_trees_equal(jax.tree.map(lambda x, i=i: x[i], together), jax.device_get(jax.jit(run)(key)))
    assert (together[0][0] != together[0][1]).any()
    simulators.close()


def test_seeds_have_the_numbers_they_have_among_others():
    """Training, over restarts too: four seeds at once, and two by two."""
    config = {"num_envs": WIDTH, "rollout_length": 8, "num_minibatches": 2, "hidden_sizes": (8,)}
    settings = {"total_steps": 160, "config": config, "preset": "none", "env_kwargs": {"restart_every": 32}}
    together = jaxrl.train("ppo", "envpool:CartPole-v1", seeds=4, **settings)
    for seed in (0, 2):
        two = jaxrl.train("ppo", "envpool:CartPole-v1", seeds=2, seed=seed, **settings)
        for i in range(2):
            assert_trees_equal(together.agent(seed + i)[1].agent, two.agent(i)[1].agent)
            np.testing.assert_array_equal(together.metrics["episode_return"][seed + i], two.metrics["episode_return"][i])


def test_a_run_killed_and_resumed_is_the_same_run(tmp_path):
    """By kill -9 after a restart of the simulators, in MuJoCo."""
    words = ["a2c", "--env", "envpool:HalfCheetah-v5", "--env-kwarg", "restart_every=1000", "--num-envs", WIDTH]
    words += [
        "--updates-per-iteration",
        5,
        "--rollout-length",
        10,
        "--hidden-sizes",
        8,
        "--seeds",
        2,
        "--total-steps",
        "2e4",
    ]
    assert_killed_ends_as_whole(*words, folder=tmp_path)


def test_it_learns_although_rows_are_not_valid():
    """PPO on CartPole: far above the 22 steps of random play, and episodes are as long as they were."""
    config = {"num_envs": 4, "rollout_length": 128, "hidden_sizes": (32,)}
    result = jaxrl.train("ppo", "envpool:CartPole-v1", seeds=1, total_steps=20_000, config=config, preset="none",
                         hparams={"learning_rate": 3e-3})  # fmt: skip
    returns, lengths = result.metrics["episode_return"], result.metrics["episode_length"]
    assert np.nanmean(returns[0, -5:]) > 60
    np.testing.assert_allclose(returns, lengths)


def test_what_it_does_not_know_is_one_line():
    with pytest.raises(InputError, match="unknown EnvPool environment 'Pong-v6'; nearest: Pong-v5"):
        adapter.simulators("Pong-v6")
    with pytest.raises(InputError, match="argument seed of envpool:Pong-v5 is the loop's"):
        adapter.simulators("Pong-v5", seed=3)
    with pytest.raises(InputError, match="making envpool:CartPole-v1 raises .*nonsense"):
        adapter.simulators("CartPole-v1", nonsense=3)
    pool = adapter.simulators("CartPole-v1").new(1)
    pool.reset(np.zeros(1, np.int64))
    with pytest.raises(InputError, match="action 2 is none of 2"):
        pool.send(np.int32([2]))
    pool.close()


def test_a_film_shows_what_can_be_drawn():
    filmed = adapter.simulators("Pong-v5").filmed()
    filmed.reset(np.zeros(1, np.int64))
    assert filmed.frame().shape == (210, 160, 3)
    filmed.close()


def test_evaluations_of_atari_play_whole_games_for_their_own_rewards():
    """Where in training a lost life ends an episode, and rewards are clipped; and the score of a person is known."""
    made = adapter.simulators("SpaceInvaders-v5", episodic_life=True, reward_clip=True)
    rng, rows = np.random.default_rng(0), []
    actions = rng.integers(0, 6, (800, 1)).astype(np.int32)
    for pool in (made.new(1), made.evaluated.new(1)):
        pool.reset(np.zeros(1, np.int64))
        received = []
        for action in actions:
            pool.send(action)
            received.append(pool.receive())
        rows.append([np.array([getattr(r, name)[0] for r in received]) for name in ("reward", "terminated")])
        pool.close()
    (reward, ended), (own, over) = rows
    assert set(np.unique(reward)) == {0, 1} and own.max() > 1 and ended.sum() > over.sum()
    assert made.spec.scores.human == 1668.7
