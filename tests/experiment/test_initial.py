"""Which leaf of a source goes where, and in which shape: rows by hand."""

import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.experiment import initial
from jaxrl.experiment.initial import LEFT_OUT, LOADED, MISSING, UNUSED, Row

AGENT = {"actor/torso/w": (3, 4), "actor/head/w": (4, 2), "critic/torso/w": (2, 3, 4), "critic/head/w": (2, 4, 1)}


def states(agent, source, patterns=()):
    return {(row.leaf, row.source): row.state for row in initial.match(agent, source, patterns)}


def test_a_torso_of_one_network_goes_under_actor_and_both_critics():
    """A head of other shape stays fresh, with both shapes named; what nothing takes is named too."""
    found = states(AGENT, {"torso/w": (3, 4), "actor/head/w": (4, 5), "decoder/w": (4, 3)})
    assert found == {
        ("actor/torso/w", "torso/w"): LOADED,
        ("actor/head/w", "actor/head/w"): "fresh (shape 4×2 ≠ 4×5)",
        ("critic/torso/w", "torso/w"): LOADED,
        ("critic/head/w", ""): MISSING,
        ("decoder/w", ""): UNUSED,
    }


def test_values_take_the_actors_torso_first():
    found = states(
        {"torso/w": (3, 4), "head/w": (4, 2)}, {"critic/torso/w": (3, 4), "actor/torso/w": (3, 4), "head/w": (4, 2)}
    )
    assert found[("torso/w", "actor/torso/w")] == LOADED and found[("head/w", "head/w")] == LOADED
    assert found[("critic/torso/w", "")] == UNUSED


def test_patterns_choose_what_is_loaded():
    found = states(AGENT, {"torso/w": (3, 4), "actor/head/w": (4, 2)}, ["actor/torso"])
    assert found == {
        ("actor/torso/w", "torso/w"): LOADED, ("actor/head/w", ""): LEFT_OUT, ("critic/torso/w", ""): LEFT_OUT,
        ("critic/head/w", ""): LEFT_OUT,
    }  # fmt: skip
    with pytest.raises(
        InputError, match="init_leaves 'torzo' matches no leaf of the agent; there are actor/torso, actor/head"
    ):
        initial.match(AGENT, {"torso/w": (3, 4)}, ["torzo"])


def test_arrays_of_two_members():
    """To both critics the same; from two critics the first."""
    torso = np.arange(2 * 12, dtype=np.float32).reshape(2, 3, 4)
    rows = initial.match(AGENT, {"torso/w": (3, 4)})
    found = initial.taken(rows, {"torso/w": torso})
    np.testing.assert_array_equal(found["actor/torso/w"], torso)
    np.testing.assert_array_equal(found["critic/torso/w"], np.stack([torso, torso], 1))
    assert set(found) == {"actor/torso/w", "critic/torso/w"}
    twins = np.stack([torso, torso + 100], 1)
    rows = initial.match({"torso/w": (3, 4)}, {"critic/torso/w": (2, 3, 4)})
    np.testing.assert_array_equal(initial.taken(rows, {"critic/torso/w": twins})["torso/w"], torso)


def test_half_precision_is_widened():
    rows = initial.match({"w": (2,)}, {"w": (2,)})
    assert initial.taken(rows, {"w": np.ones((1, 2), np.float16)})["w"].dtype == np.float32


def test_nothing_loaded_and_strictness_are_refused():
    nothing = initial.match({"torso/w": (3,)}, {"decoder/w": (4,)})
    with pytest.raises(InputError, match="init_from SOURCE: no leaf of it fits the agent; it has decoder/w"):
        initial.check(nothing, "SOURCE")
    some = initial.match(AGENT, {"torso/w": (3, 4)})
    initial.check(some, "SOURCE")
    with pytest.raises(InputError, match=r"init_strict: actor/head/w 4×2 is fresh \(missing\); 2 leaves are not loaded"):
        initial.check(some, "SOURCE", strict=True)
    initial.check(initial.match(AGENT, {"torso/w": (3, 4)}, ["torso"]), "SOURCE", strict=True)


def test_the_table_says_where_from():
    lines = initial.table([Row("actor/torso/w", (3, 4), LOADED, "torso/w"), Row("head/b", (), MISSING)])
    assert lines == ["  actor/torso/w  3×4     loaded from torso/w", "  head/b         scalar  fresh (missing)"]
