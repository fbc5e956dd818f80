"""What adapters of JAX libraries share: states and flags of any dtype become an `Env` that the loop takes."""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Env
from jaxrl.envs.adapters import common
from jaxrl.envs.adapters.common import Outcome
from jaxrl.experiment import registry

LIBRARIES = {"envpool:Pong-v5": "envpool", "brax:ant": "brax", "playground:CartpoleBalance": "playground",
             "jumanji:Snake-v1": "jumanji", "xminigrid:MiniGrid-Empty-5x5": "xminigrid", "ale:Pong": "ale"}  # fmt: skip


@pytest.mark.parametrize("env", LIBRARIES)
def test_a_library_that_is_missing_is_an_extra(env, monkeypatch):
    for module in ("envpool", "brax.envs", "mujoco_playground", "jumanji", "xminigrid", "ale_py"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"^{env} needs the extra: pip install 'jaxrl\[{LIBRARIES[env]}\]' \(.*{env[:3]}"):
        registry.find_env(env)


def test_a_misspelt_library_is_named():
    with pytest.raises(InputError, match="jumanj:Snake-v1: No module named 'jumanj'; nearest: jumanji:ID"):
        registry.find_env("jumanj:Snake-v1")


class Seen(NamedTuple):
    count: jax.Array
    flags: dict


def counting():
    """Counts as int, goes on as float; flags are float, rewards int: all that libraries do."""

    def reset(key):
        return {"count": 0, "done": 0.0, "key": key}

    def step(state, action):
        count = state["count"] + 1.0 * action
        return {"count": count, "done": (count > 2).astype(jnp.float32), "key": jax.random.split(state["key"])[0]}

    def outcome(state):
        seen = common.plain(Seen(state["count"], {"even": state["count"] % 2 == 0, "nothing": None}))
        return Outcome(seen, jnp.int32(1), state["done"], state["count"] == 2)

    return common.env_of("counting", reset, step, outcome, Discrete(2))


def test_states_keep_their_dtypes_and_flags_are_flags():
    env = counting()
    assert isinstance(env, Env) and env.spec.observation_space == Product.of(
        count=Box((), dtype=np.dtype("float32")), flags=Product.of(even=Box((), 0, 1, np.dtype(bool)))
    )
    state, obs = env.reset(jax.random.key(0), ())
    seen = []
    for _ in range(3):
        state, out = jax.jit(env.step)(jax.random.key(0), state, jnp.int32(1), ())
        seen.append((float(out.obs["count"]), bool(out.obs["flags"]["even"]), bool(out.terminated), bool(out.truncated)))
    assert seen == [(1.0, False, False, False), (2.0, True, False, True), (3.0, False, True, False)]
    assert out.reward.dtype == jnp.float32 and out.terminated.dtype == bool and obs["count"].dtype == jnp.float32


def test_it_passes_the_check_of_environments_and_trains():
    assert jaxrl.check_env(counting()).lines  # a fault is raised
    settings = {"config": {"num_envs": 2, "rollout_length": 4, "num_minibatches": 1, "hidden_sizes": (4,)}}
    trainer = jaxrl.make_trainer("ppo", counting(), total_steps=64, preset="none", **settings)
    metrics = jax.jit(trainer.train)(jax.random.key(0))[1]
    assert np.isfinite(metrics["episode_return"]).any()
