"""DigitsBandit: see a handwritten digit, name it: a contextual bandit over scikit-learn's bundled 8 × 8 digits.

The usual way to make a bandit of a classification problem (Dudík et al. 2011; Riquelme et al. 2018): an image is drawn
uniformly, reward 1 if the action is its label, else 0, and the episode ends. Only the named digit's reward is seen.
The data: 1,797 images, "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), part of scikit-learn; nothing
is downloaded. Needs the extra `jaxrl[digits]`.
Step metrics: regret, and optimal (1 if no action has a higher expected reward).
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.settings import check
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key
from jaxrl.datasets.image_sets import digits

LEVELS = 16  # a pixel counts the dark ones among 4 × 4 bits
Split = Literal["all", "train", "test"]


class Params(NamedTuple):
    """flip: probability that a reward is exchanged, 0 for 1 and 1 for 0, float32 []."""

    flip: jax.Array


class State(NamedTuple):
    """image: which one is shown, int32 []."""

    image: jax.Array


@functools.cache
def load(split: Split = "all") -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [M, 8, 8, 1] in 0 … 16, and their labels, int32 [M].

    split: "test" is every fifth image of each label (360), "train" the others (1,437). Raises InputError without the extra.
    """
    found = digits("DigitsBandit")
    by_label = np.argsort(found.labels, kind="stable")
    tested = np.arange(len(by_label)) % 5 == 0
    chosen = {"all": by_label, "train": by_label[~tested], "test": by_label[tested]}[split]
    return found.images[chosen], found.labels[chosen]


def make(split: Split = "all") -> Env:
    """The bandit over the images of a split: "all", "train" (80 %) or "test" (20 %), fixed and balanced by label."""
    check("split", split, Split)
    images, labels = map(jnp.asarray, load(split))

    def observe(state: State) -> jax.Array:
        return images[state.image].astype(jnp.float32) / LEVELS

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        state = State(jax.random.randint(key, (), 0, labels.shape[0], jnp.int32))
        return state, observe(state)

    def step(key: Key, state: State, action: jax.Array, params: Params) -> tuple[State, EnvStep]:
        right = action == labels[state.image]
        flipped = jax.random.bernoulli(key, params.flip)
        expected = jnp.where(right, 1.0 - params.flip, params.flip)
        regret = jnp.maximum(1.0 - params.flip, params.flip) - expected
        metrics = {"regret": regret, "optimal": (regret == 0).astype(jnp.float32)}
        reward = (right != flipped).astype(jnp.float32)
        return state, EnvStep(observe(state), reward, jnp.bool_(True), jnp.bool_(False), metrics)

    # Sixteenths in [0, 1] are exact in half precision: replay takes half the memory.
    spec = EnvSpec("DigitsBandit", Box((8, 8, 1), 0.0, 1.0), Discrete(10), storage_dtype="float16")
    return Env(spec, Params(jnp.float32(0)), reset, step)
