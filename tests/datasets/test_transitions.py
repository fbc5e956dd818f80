"""datasets/transitions.py: rows of observations, sums of rewards, and splits by episode."""

import numpy as np
import pytest

from jaxrl import datasets
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from tests import recorded

DATA = recorded.counting([3, 1, 2])


def test_rows_by_hand():
    np.testing.assert_array_equal(DATA.obs, [0, 1, 2, 100, 200, 201])
    np.testing.assert_array_equal(DATA.next_obs, [1, 2, 3, 101, 201, 202])
    np.testing.assert_array_equal(DATA.episode, [0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(DATA.starts, [0, 3, 4])
    np.testing.assert_array_equal(DATA.returns, [3, 100, 401])
    np.testing.assert_array_equal(DATA.return_to_go, [3, 3, 2, 100, 401, 201])
    assert len(DATA) == 6 and repr(DATA) == "Dataset(Counting, 6 steps in 3 episodes)"


def test_episodes_taken_again_are_the_dataset():
    recorded.assert_same(datasets.transitions.joined(DATA.info, list(DATA.episodes())), DATA)
    some = DATA.take([2, 0])
    np.testing.assert_array_equal(some.obs, [200, 201, 0, 1, 2])
    np.testing.assert_array_equal(some.next_obs, [201, 202, 1, 2, 3])


@pytest.mark.parametrize("episodes", [3, 4, 10, 37])
def test_a_split_is_by_episode_disjoint_and_whole(episodes):
    data = recorded.counting([1 + i % 4 for i in range(episodes)])
    parts = data.split()
    owners = [set((part.obs // 100).tolist()) for part in parts]
    assert sum(map(len, owners)) == episodes and set.union(*owners) == set(range(episodes)) and all(owners)
    assert [len(part) for part in parts] == [sum(1 + i % 4 for i in owner) for owner in owners]
    if episodes == 10:
        assert [len(owner) for owner in owners] == [8, 1, 1]


def test_a_split_is_decided_by_its_seed():
    data = recorded.counting([1] * 30)
    first, again, other = (data.split(seed=seed) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        recorded.assert_same(a, b)
    assert set(first[0].obs.tolist()) != set(other[0].obs.tolist())
    everything, nothing, rest = data.split((0.5, 0.0, 0.5))
    assert [len(x.lengths) for x in (everything, nothing, rest) if len(x.lengths)] == [15, 15]


def test_impossible_splits_are_refused():
    with pytest.raises(InputError, match="three shares, of train, validation and test, that sum to 1"):
        DATA.split((0.5, 0.2))
    with pytest.raises(InputError, match="three shares"):
        DATA.split((0.5, 0.2, 0.2))
    with pytest.raises(InputError, match="^2 episodes or images cannot be split into 3 parts$"):
        recorded.counting([4, 4]).split()


@pytest.mark.parametrize(
    ("observations", "actions", "said"),
    [
        (Discrete(1000), Discrete(4), "has actions Discrete\\(3\\), and Other has Discrete\\(4\\)"),
        (Discrete(999), Discrete(3), "has observations Discrete\\(1000\\), and Other has Discrete\\(999\\)"),
        (Box((), dtype=np.int32), Discrete(3), None),  # an int32 scalar, but no Discrete: told apart by n
        (recorded.MIXED[0], Discrete(3), "observations"),
    ],
)
def test_another_environment_is_refused(observations, actions, said):
    with pytest.raises(InputError, match=said or "observations") as error:
        datasets.check(DATA, recorded.spec(observations, actions))
    assert "\n" not in str(error.value)


def test_the_environment_itself_is_welcome():
    datasets.check(DATA, recorded.spec(*recorded.PLAIN))
    datasets.check(recorded.mixed([2]), recorded.spec(*recorded.MIXED))
