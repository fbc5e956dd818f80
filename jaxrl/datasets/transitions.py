"""Recorded episodes in memory: what was seen, done and paid, step by step; parted by episode into train and tests."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Space
from jaxrl.core.types import EnvSpec, PyTree, Split
from jaxrl.datasets import spaces

SPLITS = get_args(Split)


@dataclasses.dataclass(frozen=True)
class Info:
    """Where a dataset comes from, as dataset.json says it.

    env, env_kwargs, env_params, env_transforms: as in `Experiment`. agent, policy: who acted, and how. seeds: with which the
    policies were trained. seed: of the recording.
    """

    env: str
    observation_space: Space
    action_space: Space
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    env_params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    env_transforms: tuple[str, ...] = ()
    agent: str = ""
    policy: str = ""
    seeds: tuple[int, ...] = ()
    seed: int = 0


class Episode(NamedTuple):
    """One whole episode of L steps. obs: leaves [L + 1, ...], the last one seen after the last action; all else [L, ...]."""

    obs: PyTree
    action: PyTree
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Whole episodes, one after the other: E episodes of M steps in all. Arrays of NumPy.

    observations: leaves [M + E, ...]: an episode has one more than steps, as in Minari. action: leaves [M, ...].
    reward: float32 [M]. terminated, truncated: bool [M]. lengths: steps of each episode, int32 [E].
    """

    info: Info
    observations: PyTree
    action: PyTree
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """M, the number of steps."""
        return len(self.reward)

    def __repr__(self) -> str:
        return f"Dataset({self.info.env}, {len(self):,} steps in {len(self.lengths):,} episodes)"

    @functools.cached_property
    def episode(self) -> np.ndarray:
        """The number of each step's episode, int32 [M]."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """The first step of each episode, int64 [E]."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    @functools.cached_property
    def obs(self) -> PyTree:
        """What was seen before each step, leaves [M, ...]."""
        return self._observed(0)

    @functools.cached_property
    def next_obs(self) -> PyTree:
        """What was seen after each step, before any reset, leaves [M, ...]."""
        return self._observed(1)

    @functools.cached_property
    def returns(self) -> np.ndarray:
        """The undiscounted return of each episode, float32 [E]."""
        return np.add.reduceat(self.reward.astype(np.float64), self.starts).astype(np.float32)

    @functools.cached_property
    def return_to_go(self) -> np.ndarray:
        """The undiscounted sum of each step's reward and those that followed it in its episode, float32 [M]."""
        before = np.cumsum(self.reward, dtype=np.float64) - self.reward
        after = np.append(before[self.starts[1:]], self.reward.sum(dtype=np.float64))
        return (after[self.episode] - before).astype(np.float32)

    def episodes(self) -> Iterator[Episode]:
        """Each episode, in order."""
        for i, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            steps, seen = slice(start, start + length), slice(start + i, start + i + length + 1)
            rest = (self.action, self.reward, self.terminated, self.truncated)
            yield Episode(_rows(self.observations, seen), *(_rows(x, steps) for x in rest))

    def take(self, episodes: Sequence[int] | np.ndarray) -> Dataset:
        """The dataset of some episodes, by number, in that order."""
        lengths = self.lengths[np.asarray(episodes, np.int64)]
        steps, seen = [np.arange(0)], [np.arange(0)]
        for i in episodes:
            steps.append(np.arange(self.starts[i], self.starts[i] + self.lengths[i]))
            seen.append(np.arange(self.starts[i] + i, self.starts[i] + i + self.lengths[i] + 1))
        rest = (self.action, self.reward, self.terminated, self.truncated)
        action, reward, terminated, truncated = (_rows(x, np.concatenate(steps)) for x in rest)
        return Dataset(
            self.info, _rows(self.observations, np.concatenate(seen)), action, reward, terminated, truncated, lengths
        )

    def split(self, fraction: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> tuple[Dataset, Dataset, Dataset]:
        """Its episodes parted at random into train, validation and test, each in recorded order; decided by `seed` alone.

        fraction: the share of episodes that each gets, rounded; of a share above 0 at least one. Raises InputError for
        shares that do not sum to 1, or fewer episodes than parts.
        """
        train, validation, test = (self.take(part) for part in parted(len(self.lengths), fraction, seed))
        return train, validation, test

    def _observed(self, later: int) -> PyTree:
        return _rows(self.observations, np.arange(len(self)) + self.episode + later)


def parted(count: int, fraction: Sequence[float], seed: int) -> list[np.ndarray]:
    """The numbers 0 … count - 1 in three disjoint parts, each in ascending order; see `Dataset.split`."""
    shares = np.asarray(fraction, np.float64)
    if shares.shape != (3,) or not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
        raise InputError(f"fraction = {tuple(fraction)} must be three shares, of train, validation and test, that sum to 1")
    wanted = shares > 0
    if count < wanted.sum():
        raise InputError(f"{count} episodes or images cannot be split into {wanted.sum()} parts")
    sizes = np.maximum(np.floor(shares * count + 0.5).astype(int), wanted)
    while sizes.sum() != count:  # rounding, or a part that would have been empty: the largest part pays
        sizes[np.argmax(sizes)] += np.sign(count - sizes.sum())
    shuffled = np.random.RandomState(seed).permutation(count)  # whose draws NumPy keeps the same in every version
    return [np.sort(part) for part in np.split(shuffled, np.cumsum(sizes)[:-1])]


def check(dataset: Dataset, spec: EnvSpec) -> None:
    """Raises InputError where a dataset does not fit an environment: other parts, shapes, dtypes or numbers of actions."""
    for what, recorded, wanted in (
        ("observations", dataset.info.observation_space, spec.observation_space),
        ("actions", dataset.info.action_space, spec.action_space),
    ):
        if spaces.difference(recorded, wanted):
            raise InputError(f"the dataset of {dataset.info.env} has {what} {recorded}, and {spec.id} has {wanted}")


def joined(info: Info, episodes: Sequence[Episode]) -> Dataset:
    """The dataset of some episodes, at least one."""
    obs, action, reward, terminated, truncated = jax.tree.map(lambda *x: np.concatenate(x), *episodes)
    lengths = np.array([len(e.reward) for e in episodes], np.int32)
    return Dataset(info, obs, action, reward, terminated, truncated, lengths)


def _rows(tree: PyTree, rows: Any) -> PyTree:
    return jax.tree.map(lambda x: x[rows], tree)
