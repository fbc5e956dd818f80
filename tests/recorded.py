"""Datasets made by hand."""

import numpy as np

from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.core.types import EnvSpec
from jaxrl.datasets import Dataset, Episode, Info
from jaxrl.datasets.transitions import joined

NAN = np.float32("nan")
PLAIN = (Discrete(1000), Discrete(3))
MIXED = (
    Product.of(sight=Box((2, 3), 0, 255, np.uint8), place=Product((Discrete(7), Box((2,), -1.0, 1.0)))),
    Product.of(move=MultiDiscrete((2, 5)), push=Box((), -2.0, 2.0)),
)


def spec(observation_space, action_space, name="Other"):
    return EnvSpec(name, observation_space, action_space)


def counting(lengths, spaces=PLAIN):
    """Episode i's observations are 100 i, 100 i + 1, ...; its actions go round; a step pays what was seen before it."""
    episodes = []
    for i, length in enumerate(lengths):
        seen = np.arange(100 * i, 100 * i + length + 1, dtype=np.int32)
        ended = np.arange(length) == length - 1
        episodes.append(
            Episode(seen, seen[:-1] % 3, seen[:-1].astype(np.float32), ended & (i % 2 == 0), ended & (i % 2 == 1))
        )
    return joined(Info("Counting", *spaces, env_kwargs={"size": 3}, agent="dqn", policy="greedy", seeds=(4,)), episodes)


def mixed(lengths, seed=0):
    """Random elements of spaces in parts of every kind, rewards with a NaN and a subnormal among them."""
    rng = np.random.default_rng(seed)
    episodes = []
    for length in lengths:
        sight = rng.integers(0, 256, (length + 1, 2, 3)).astype(np.uint8)
        cell, point = rng.integers(0, 7, length + 1).astype(np.int32), rng.normal(size=(length + 1, 2)).astype(np.float32)
        action = {
            "move": rng.integers(0, 2, (length, 2)).astype(np.int32),
            "push": rng.normal(size=length).astype(np.float32),
        }
        reward = rng.normal(size=length).astype(np.float32)
        reward[0] = 1e-42
        ended = np.arange(length) == length - 1
        obs = {"sight": sight, "place": (cell, point)}
        episodes.append(Episode(obs, action, reward, ended, np.zeros(length, bool)))
    return joined(Info("Mixed", *MIXED, env_params={"limit": 5}, env_transforms=("clip_rewards",)), episodes)


def assert_same(a: Dataset, b: Dataset):
    """Bit for bit, with what is said of them."""
    from tests.small import assert_trees_equal

    assert a.info == b.info
    fields = ("observations", "action", "reward", "terminated", "truncated", "lengths")
    assert_trees_equal({name: getattr(a, name) for name in fields}, {name: getattr(b, name) for name in fields})
