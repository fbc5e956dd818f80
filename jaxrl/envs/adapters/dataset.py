"""Recorded data as an environment, `dataset:PATH`: so that supervised learning is training as any other.

An observation has two parts: `input`, what was recorded, and `target`, what an agent should answer to it. An action is an
answer, and the reward says how right it is: of integers 1 where it equals the target, else 0, so that the mean return of
episodes of one step is the accuracy; of a Box minus the mean squared error; of several parts the sum over them.

An agent that is to learn from `input` must not be shown `target` when it acts: who trains one leaves it out.

Every step is an episode of its own, of an example drawn from the split; with `sequences` an episode is a recorded one,
played from its beginning whatever the actions, so that an agent with memory learns from what came before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError, unknown
from jaxrl.core.settings import check
from jaxrl.core.spaces import ArraySpace, Box, Discrete, MultiDiscrete, Product, Space
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, PyTree
from jaxrl.datasets import files, image_sets, minari, shards
from jaxrl.datasets.transitions import SPLITS, parted

Target = Literal["auto", "action", "label", "observation"]
EXAMPLES = 1_000  # of an evaluation, drawn anew each time: accuracies to about a hundredth
FRACTION, SEED = (0.8, 0.1, 0.1), 0  # how episodes and images are split, always alike


class Params(NamedTuple):
    """split: of which examples are: 0 train, 1 validation, 2 test, int32 []."""

    split: jax.Array


class State(NamedTuple):
    """row: the example that is shown. last: that of the episode's last step. int32 []."""

    row: jax.Array
    last: jax.Array


class Examples(NamedTuple):
    """Examples [M, ...], those of the train split first, then validation, then test.

    inputs, targets: leaves [M, ...] as they are stored; see, aim: make of one of each what is observed. counts: examples of
    each split, int32 [3]. starts, lengths: of recorded episodes, int32 [E]; episodes: how many of each split, int32 [3].
    """

    input_space: Space
    target_space: Space
    inputs: PyTree
    targets: PyTree
    see: Callable[[PyTree], PyTree]
    aim: Callable[[PyTree], PyTree]
    counts: np.ndarray
    starts: np.ndarray | None = None
    lengths: np.ndarray | None = None
    episodes: np.ndarray | None = None


def make(path: str, target: Target = "auto", sequences: bool = False) -> Env:
    """The data of a folder: a dataset that `jaxrl.datasets.read` reads, or images as `jaxrl.datasets.images` takes them.

    target: "action" or "label", what was recorded beside; "auto", the one that there is; "observation", the input itself,
    pixels scaled to [0, 1]. sequences: whether an episode is a recorded one. Of episodes, or of each label's images, 80 %
    are to train on, 10 % for validation and 10 % for tests; the parameter `split` decides, and is train by default.

    The arrays are constants of each compiled program. Raises InputError.
    """
    check("target", target, Target)
    check("sequences", sequences, bool)
    data = _recorded(path, target) if _is_dataset(path) else _images(path, target)
    if sequences and data.starts is None:
        raise InputError(f"sequences = True: {path} holds images, which have no episodes")
    inputs, targets = jax.tree.map(jnp.asarray, (data.inputs, data.targets))
    drawn = data.episodes if sequences and data.episodes is not None else data.counts
    counts, before = jnp.asarray(drawn, jnp.int32), jnp.asarray(np.cumsum(drawn) - drawn, jnp.int32)
    starts, lengths = (jnp.asarray(x, jnp.int32) if sequences else None for x in (data.starts, data.lengths))

    def observe(row: jax.Array) -> tuple[dict[str, PyTree], PyTree]:
        shown, wanted = jax.tree.map(lambda x: x[row], (inputs, targets))
        wanted = data.aim(wanted)
        return {"input": data.see(shown), "target": wanted}, wanted

    def reset(key: Key, params: Params) -> tuple[State, PyTree]:
        drawn = before[params.split] + jax.random.randint(key, (), 0, counts[params.split], jnp.int32)
        state = State(drawn, drawn)
        if starts is not None and lengths is not None:
            state = State(starts[drawn], starts[drawn] + lengths[drawn] - 1)
        return state, observe(state.row)[0]

    def step(key: Key, state: State, action: PyTree, params: Params) -> tuple[State, EnvStep]:
        del key, params  # what is played was decided at the reset
        reward = _rightness(data.target_space, action, observe(state.row)[1])
        after = State(
            jnp.minimum(state.row + 1, state.last), state.last
        )  # what is seen last stands for what is not recorded
        return after, EnvStep(observe(after.row)[0], reward, state.row >= state.last, jnp.bool_(False))

    space = Product.of(input=data.input_space, target=data.target_space)
    spec = EnvSpec(f"dataset:{path}", space, data.target_space, splits=_split, eval_episodes=0 if sequences else EXAMPLES)
    return Env(spec, Params(jnp.int32(0)), reset, step)


def _split(params: Params, name: str) -> Params:
    """The parameters of the split that is called so."""
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    return params._replace(split=jnp.int32(SPLITS.index(name)))


def _rightness(space: Space, action: Any, target: Any) -> jax.Array:
    """How right an answer is, float32 []."""
    if isinstance(space, Product):
        parts = zip(space.spaces, space.parts(action), space.parts(target), strict=True)
        return jnp.sum(jnp.stack([_rightness(part, x, y) for part, x, y in parts]))
    if isinstance(space, Discrete | MultiDiscrete):
        return jnp.all(action == target).astype(jnp.float32)
    return -jnp.mean(jnp.square(action.astype(jnp.float32) - target.astype(jnp.float32)))


def _is_dataset(path: str) -> bool:
    folder = Path(path)
    if path not in image_sets.NAMES and folder.is_dir() and not [*folder.glob("*.npz"), *folder.glob("data/*.hdf5")]:
        raise InputError(
            f"{path} holds no data: neither {shards.INDEX}, nor Minari's {minari.FILE}, nor .npz files of images"
        )
    return any((folder / name).is_file() for name in (shards.INDEX, minari.FILE))


def _recorded(path: str, target: str) -> Examples:
    """A dataset's episodes."""
    data = files.read(path)
    if target == "label":
        raise InputError(f"target = 'label': {path} holds transitions, whose targets are action or observation")
    try:
        parts = parted(len(data.lengths), FRACTION, SEED)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    data = data.take(np.concatenate(parts))
    episodes = np.array([len(part) for part in parts])
    counts = np.array([part.sum() for part in np.split(data.lengths, np.cumsum(episodes)[:-1])])
    seen, done = data.info.observation_space, data.info.action_space
    kept: dict[str, Any] = {"counts": counts, "starts": data.starts, "lengths": data.lengths, "episodes": episodes}
    if target != "observation":
        return Examples(seen, done, data.obs, data.action, _same, _same, **kept)
    if not isinstance(seen, Box):
        raise InputError(f"target = 'observation' of {path} needs observations that are a Box, not {seen}")
    space, aim = _scaled(seen)
    return Examples(seen, space, data.obs, data.obs, _same, aim, **kept)


def _images(path: str, target: str) -> Examples:
    """A set of images, pixels in [0, 1]."""
    found = image_sets.images(path)
    if target == "action":
        raise InputError(f"target = 'action': {path} holds images, whose targets are label or observation")
    parts = found.split(SEED)
    pixels, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    space, see = _scaled(Box(found.images.shape[1:], 0, found.levels, np.uint8))
    counts = np.array([len(part) for part in parts])
    if target == "observation":
        return Examples(space, space, pixels, pixels, see, see, counts)
    return Examples(space, Discrete(found.num_labels), pixels, labels, see, _same, counts)


def _scaled(space: ArraySpace) -> tuple[Box, Callable[[Any], Any]]:
    """The space of what is drawn again, float32, and what makes an element of it; whole numbers with one bound in [0, 1]."""
    assert isinstance(space, Box)
    whole = not np.issubdtype(np.dtype(space.dtype), np.floating)
    if whole and np.ndim(space.high) == 0 and math.isfinite(space.high) and np.all(np.asarray(space.low) >= 0):
        return Box(space.shape, 0.0, 1.0), lambda x: x.astype(jnp.float32) / max(float(space.high), 1.0)
    return Box(space.shape, space.low, space.high), lambda x: x.astype(jnp.float32)


def _same(x: PyTree) -> PyTree:
    return x
