"""Simulators on the host: what the compiled loop sees is what they gave; members apart; starting anew from a checkpoint."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import EnvSpec
from jaxrl.envs.host import gymnasium as host_gymnasium
from jaxrl.envs.host.pool import Handle, Received, Simulators
from jaxrl.envs.host.vec_env import vec_env

WIDTH, STEPS = 3, 60


@pytest.fixture(scope="module")
def cartpole():
    simulators = host_gymnasium.simulators("CartPole-v1", max_episode_steps=15)
    yield simulators
    simulators.close()


def played(vec, key):
    """Rollout of random actions, leaves [T, N, ...]; the loop's order of calls."""
    init_key, action_key, step_key = jax.random.split(key, 3)
    state, obs = vec.init(init_key, ())
    actions = jax.random.randint(action_key, (STEPS, vec.num_envs), 0, 2)

    def one(carry, xs):
        state, obs = carry
        action, key = xs
        state, after, _, out = vec.step(jax.random.split(key, vec.num_envs), state, (), action, ())
        return (state, after), (obs, action, out)

    (state, _), rows = jax.lax.scan(one, (state, obs), (actions, jax.random.split(step_key, STEPS)))
    return state, rows


@pytest.fixture(scope="module")
def single(cartpole):
    vec = vec_env(cartpole, WIDTH)
    return jax.jit(lambda key: played(vec, key))(jax.random.key(3))


def test_rows_are_those_of_the_library(cartpole, single):
    """Each environment is played again by itself: CartPole is deterministic but for its resets."""
    _, (obs, actions, out) = jax.device_get(single)
    assert out.valid.all() and (out.terminated | out.truncated).sum() > WIDTH
    env = gymnasium.make("CartPole-v1", max_episode_steps=15)
    for n in range(WIDTH):
        env.reset(seed=0)
        length = 0
        env.unwrapped.state = np.float64(obs[0, n])
        for t in range(STEPS):
            expected, reward, terminated, truncated, _ = env.step(int(actions[t, n]))
            length += 1
            assert out.obs[t, n] == pytest.approx(expected, abs=1e-5)
            assert (out.reward[t, n], out.terminated[t, n], out.truncated[t, n]) == (reward, terminated, length == 15)
            if terminated or truncated:
                env.reset(seed=0)
                length = 0
                assert t + 1 == STEPS or not np.allclose(obs[t + 1, n], out.obs[t, n])  # the next row begins anew
            elif t + 1 < STEPS:
                assert (obs[t + 1, n] == out.obs[t, n]).all()
            if t + 1 < STEPS:
                env.unwrapped.state = np.float64(obs[t + 1, n])


def test_members_under_vmap_are_the_members_alone(cartpole, single):
    vec = vec_env(cartpole, WIDTH)
    keys = jnp.stack([jax.random.key(3), jax.random.key(4)])
    handles, together = jax.jit(jax.vmap(lambda key: played(vec, key)))(keys)
    assert handles.number[0] != handles.number[1]
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), together, single[1])
    obs = np.asarray(together[0])
    assert (obs[0] != obs[1]).any()


def test_a_state_can_be_stepped_once_only(cartpole):
    state, _ = vec_env(cartpole, WIDTH).init(jax.random.key(0), ())
    handle, actions = Handle(*(np.asarray(x)[None] for x in state)), np.zeros((1, WIDTH), np.int32)
    cartpole.step(handle, actions)
    with pytest.raises(InputError, match="are at step 1, the state at step 0"):
        cartpole.step(handle, actions)
    with pytest.raises(InputError, match="are gone: it cannot be gone on with"):
        cartpole.step(handle._replace(number=np.int32([10_000])), actions)


def test_seeds_are_as_the_keys(cartpole):
    """Each simulator has a seed of its own, the same for the same key, that Gymnasium takes."""
    seen = []

    class Watched(Fake):
        def __init__(self):
            super().__init__(reset=lambda seeds: (seen.append(seeds), np.zeros((2, 4), np.float32))[1])

    vec = vec_env(Simulators(cartpole.spec, lambda width: Watched()), 2)
    for seed in (0, 0, 1):
        jax.block_until_ready(vec.init(jax.random.key(seed), ()))
    assert (seen[0] == seen[1]).all() and len({*seen[0].tolist(), *seen[2].tolist()}) == 4
    assert all(((x >= 0) & (x < 2**31)).all() for x in seen)


class Fake:
    """Two simulators that give what a test wants."""

    def __init__(self, reset=None, step=None):
        self.reset = reset or (lambda seeds: np.zeros((2, 1), np.float32))
        self.receive = step

    def send(self, action):
        pass

    def close(self):
        pass


def received(obs, reward=(0, 0)):
    no = np.zeros(2, bool)
    return Received(obs, obs, np.float32(reward), no, no, ~no)


def fails():
    raise RuntimeError("the ROM is gone\nand more")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (fails, r"step of fake raises RuntimeError: the ROM is gone \(.*test_host_pool.py, line \d+\)$"),
        (lambda: received(np.float32([[0], [np.nan]])), r"step gives obs that is not finite, in simulator 1 of 2"),
        (
            lambda: received(np.zeros((2, 1), np.float32), (np.inf, 0)),
            r"step gives reward that is not finite, in simulator 0",
        ),
        (lambda: received(np.zeros((2, 3), np.float32)), r"step gives obs float32\[2, 3\], expected float32\[2, 1\]"),
        (lambda: received([[0.0], [0.0]]), r"step gives obs list, expected|another structure"),
    ],
)
def test_a_simulator_that_fails_is_named(step, message):
    simulators = Simulators(EnvSpec("fake", Box((1,)), Discrete(2)), lambda width: Fake(step=step))
    number, _ = simulators.start(np.zeros(2, np.int32))
    handle = Handle(np.int32([number]), np.zeros((1, 2), np.int32), np.int32([0]))
    with pytest.raises(InputError, match=message):
        simulators.step(handle, np.zeros((1, 2), np.int32))


def test_simulators_that_cannot_start_are_named():
    simulators = Simulators(EnvSpec("fake", Box((1,)), Discrete(2)), lambda width: Fake(reset=lambda seeds: fails()))
    with pytest.raises(InputError, match="start of fake raises RuntimeError: the ROM is gone "):
        simulators.start(np.zeros(2, np.int32))


def test_processes_play_what_this_process_plays():
    seeds, action = np.arange(2), np.int32([0, 1])
    pools = [host_gymnasium.simulators("CartPole-v1", processes=p).new(2) for p in (False, True)]
    starts = [pool.reset(seeds) for pool in pools]
    np.testing.assert_array_equal(*starts)
    for pool in pools:
        pool.send(action)
    rows = [pool.receive() for pool in pools]
    jax.tree.map(np.testing.assert_array_equal, *rows)
    for pool in pools:
        pool.close()


def test_unknown_environments_and_what_they_refuse_are_one_line():
    with pytest.raises(InputError, match="unknown Gymnasium environment 'CartPool-v1'; nearest: CartPole-v1"):
        host_gymnasium.simulators("CartPool-v1")
    with pytest.raises(InputError, match="making gymnasium:CartPole-v1 raises TypeError: .*nonsense"):
        host_gymnasium.simulators("CartPole-v1", nonsense=3)


def test_the_loop_trains_in_it(cartpole):
    """PPO learns as in gymnax's: far above the 22 steps of random play."""
    simulators = host_gymnasium.simulators("CartPole-v1")
    config = {"num_envs": 4, "rollout_length": 128, "hidden_sizes": (32,)}
    settings = {"config": config, "hparams": {"learning_rate": 3e-3}, "preset": "none"}
    trainer = jaxrl.make_trainer("ppo", vec_env(simulators, 4), total_steps=15_000, **settings)
    metrics = jax.jit(trainer.train)(jax.random.key(0))[1]
    assert metrics["episode_return"][-5:].mean() > 60
    simulators.close()
