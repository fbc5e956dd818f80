"""Every agent with the smallest settings that do something, and comparing what they end with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.experiment import registry

AGENTS = registry.agent_names()
SMALL = {
    "hidden_sizes": (16,),
    "learning_starts": 100,
    "replay_capacity": 1000,
    "batch_size": 16,
    "rollout_length": 8,
    "num_epochs": 2,
    "num_minibatches": 4,
}
CANDIDATES = ["CartPole-v1", "RandomGame", "Breakout-MinAtar", "Pendulum-v1", "GearShift"]
BANDITS = ["GaussianBandit", "DigitsBandit", "CartPole-v1", "dataset:digits", "tests.toys:images_to_draw"]
RAINBOW = {
    "double": True, "dueling": True, "n_step": 3, "prioritized": True, "distributional": "c51", "noisy": True,
    "num_atoms": 5, "hidden_sizes": (16, 16),
}  # fmt: skip
CASES = {agent: (agent, {}) for agent in AGENTS} | {  # what every test of states runs over
    "rainbow": ("dqn", RAINBOW),
    "gru": ("ppo", {"torso": "gru", "num_minibatches": 2, "normalize_observations": True}),
    "transformer": ("a2c", {"torso": "transformer", "window": 4, "normalize_rewards": True}),
}
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time, where neither last bits nor speed matter

AS_USERS = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}  # where the order of sums could differ
# The first level vectorises as the third does, and compiles in two thirds of the time.
NEARLY = AS_USERS | {"xla_backend_optimization_level": 1}


def of_config(agent, values):
    """Those of some settings that are fields of the agent's Config."""
    return {name: value for name, value in values.items() if hasattr(registry.find_agent(agent)[1].Config(), name)}


def small_config(agent):
    """SMALL as far as the agent has the fields; a rollout length only where the default is longer than a step."""
    config = registry.find_agent(agent)[1].Config
    fields = {f.name: f.default for f in dataclasses.fields(config)}
    values = {k: v for k, v in SMALL.items() if k in fields and not (k == "rollout_length" and fields[k] == 1)}
    return values | {"num_envs": 2, "updates_per_iteration": 16 if fields["rollout_length"] == 1 else 4}


def small_trainer(agent, env="", total_steps=1000, **kwargs):
    kwargs["config"] = small_config(agent) | kwargs.get("config", {})
    return jaxrl.make_trainer(agent, env or home(agent), total_steps=total_steps, preset="none", **kwargs)


def small_case(case, total_steps=600):
    """Tests of a case share its programs, which the compilation cache then finds: the same steps, and WIDTH seeds."""
    agent, config = CASES[case]
    return small_trainer(agent, config=config, total_steps=total_steps)


WIDTH = 4


def root_keys(n=WIDTH):
    return jax.vmap(jax.random.key)(jnp.arange(n))


def hparam_names(agent):
    return [f.name for f in dataclasses.fields(registry.find_agent(agent)[1].HParams)]


def config_names(agent):
    return [f.name for f in dataclasses.fields(registry.find_agent(agent)[1].Config)]


def home(agent):
    """The first candidate environment that an agent takes."""
    return suitable(agent)[0]


def suitable(agent):
    """Candidates that the agent takes; an agent without a discount learns no sequences: bandits are its home."""
    found = []
    for env in CANDIDATES if "gamma" in hparam_names(agent) else BANDITS:
        try:
            registry.find_agent(agent)[1].make(registry.find_env(env).spec, registry.find_agent(agent)[1].Config())
        except ValueError:
            continue
        found.append(env)
    return found


def released(*cases):
    """Cases of a parametrised test that only `make test-all` runs."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.release) for case in cases]


def equal(a, b):
    """Bit for bit."""
    raw = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b)]
    return np.array_equal(*map(np.asarray, raw), equal_nan=raw[0].dtype.kind == "f")


def assert_trees_equal(a, b):
    different = [
        jax.tree_util.keystr(path)
        for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
        if not equal(x, y)
    ]
    assert not different, different


def assert_same_run(a, b):
    """The same rows and the same final states."""
    (metrics_a, states_a), (metrics_b, states_b) = (
        ((out / "metrics.jsonl").read_bytes(), jaxrl.load(out).states) for out in (a, b)
    )
    assert metrics_a == metrics_b
    assert_trees_equal(states_a, states_b)
