"""jaxrl environments under Gymnasium's own checks, and step by step beside ours."""

import warnings

import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from jaxrl.core.spaces import Discrete, Product
from jaxrl.envs.host.as_gymnasium import GymnasiumEnv, GymnasiumVectorEnv
from jaxrl.envs.host.spaces import gymnasium_space, space_of
from jaxrl.experiment.registry import find_env


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "CliffWalking", "GearShift"])
def test_gymnasiums_own_check(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a registered spec and render modes
        check_env(GymnasiumEnv(find_env(name)), skip_render_check=True)


def test_a_step_is_ours():
    env = find_env("CartPole-v1")
    theirs = GymnasiumEnv(env)
    obs, _ = theirs.reset(seed=1)
    state = theirs._state
    after, reward, terminated, truncated, _ = theirs.step(1)
    expected = env.step(jax.random.key(0), state, np.int32(1), env.params)[1]
    np.testing.assert_allclose(after, expected.obs, rtol=1e-6)
    assert (reward, terminated, truncated) == (1.0, False, False)
    assert (theirs.reset(seed=1)[0] == obs).all() and (theirs.reset()[0] != obs).any()


def test_vector_env_resets_in_the_step_that_ends_an_episode():
    envs = GymnasiumVectorEnv(find_env("CartPole-v1"), 4)
    envs.reset(seed=0)
    for _ in range(30):
        obs, reward, terminated, truncated, info = envs.step(np.ones(4, np.int64))
        ended = terminated | truncated
        assert reward.tolist() == [1.0] * 4 and (np.abs(obs[ended]) < 0.05).all()
        if ended.any():
            assert (info["_final_obs"] == ended).all()
            assert (np.abs(info["final_obs"][ended][:, 2]) > 0.2).all()  # the pole fell
            return
    pytest.fail("no episode ended")


def test_spaces_there_and_back():
    space = Product.of(place=Discrete(3), rest=find_env("Pendulum-v1").spec.observation_space)
    assert space_of(gymnasium_space(space), "space") == space
