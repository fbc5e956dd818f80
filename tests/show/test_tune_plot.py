"""tune_plot.py: what is drawn, against numbers worked out by hand, from trials and rounds made up here."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxrl.experiment.search_space import Choice, Span
from jaxrl.show import plot, tune_plot
from jaxrl.tuning.pbt import Round

NAN, INF = float("nan"), float("inf")
AXES = {"rate": Span(1e-4, 1.0, True), "gamma": Span(0.9, 1.0), "sizes": Choice(((64, 64), (8,))), "same": Choice((1,))}
SPANS = {"rate": Span(1.0, 16.0, True), "gamma": Span(0.0, 1.0)}


def trials(*values, state="complete"):
    """Trials of these values; None: failed."""
    found = []
    for i, v in enumerate(values):
        setting = {"rate": 10.0 ** -(i % 5), "gamma": 0.95, "sizes": [(64, 64), (8,)][i % 2], "same": 1}
        found.append({"number": i, "state": "fail" if v is None else state, "value": v, "setting": setting})
    return found


def rounds(score=((3.0, 2.0, 1.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)), r=3):
    """After round 1 member 2 goes on from 0, after round 2 member 0 from 2, after round 3 member 1 from 0."""
    rate = np.array([[1.0, 2.0, 4.0], [8.0, 2.0, 4.0], [8.0, 16.0, 4.0]])
    parent = np.array([[0, 1, 0], [2, 1, 2], [0, 0, 2]])
    return Round(
        np.array(score)[:r], np.zeros_like(parent[:r], bool), parent[:r], {"rate": rate[:r], "gamma": rate[:r] / 16}
    )


def population(*args):
    found = rounds(*args)
    schedule = {"rate": [1.0, 4.0, 8.0][: len(found.score)], "gamma": [1 / 16, 4 / 16, 8 / 16][: len(found.score)]}
    return SimpleNamespace(rounds=found, best_member=0, schedule=schedule)


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is drawn."""
    kept, save = [], plot.save
    monkeypatch.setattr(plot, "save", lambda fig, out: (kept.append(fig), save(fig, out)))
    yield kept
    plt.close("all")


def test_the_best_so_far_counts_complete_trials_only():
    value, complete = tune_plot.values_of(trials(None, 1.0) + trials(9.0, state="pruned") + trials(0.0, 3.0, INF, 2.0))
    np.testing.assert_array_equal(value, [NAN, 1, 9, 0, 3, NAN, 2])
    np.testing.assert_array_equal(complete, [False, True, False, True, True, False, True])
    np.testing.assert_array_equal(tune_plot.best_so_far(value, complete), [NAN, 1, 1, 1, 3, 3, 3])


SHOWN = [
    ([-1e6, 0, 6, 7, 8, 9, 10, NAN, -INF], [], 0, 10),
    ([-1e6, -3, 6, 7, 8, 9, 10], [], 6, 10),
    ([-1e6, -3, 6, 7, 8, 9, 10], [NAN, -3], -3, 10),
    ([-1e6, 5, 5, 5], [], -1e6, 5),
    ([-1e6, *[10.0] * 9, 9, 8], [], 8, 10),
    ([3], [], 3, 3),
    ([NAN], [], 0, 1),
]


@pytest.mark.parametrize(("values", "kept", "floor", "top"), SHOWN)
def test_a_few_dreadful_values_do_not_flatten_the_rest(values, kept, floor, top):
    """A quarter of 7 is at 6: what is lower than 6 - 2 · (10 - 6) = -2 is left out. Of fewer than 4 none is."""
    found, (low, high) = tune_plot.limits(np.array(values, float), kept)
    height = top - floor or 3
    assert (found, low, high) == pytest.approx((floor, floor - 0.1 * height, top + 0.07 * height))


def test_lineages_branches_and_what_was_in_use_by_hand():
    """Members 0 and 1 at the end are 0, which was 2 in round 2, which was 0 in 1; member 2 is 2, and the same before."""
    np.testing.assert_array_equal(tune_plot.lineages(rounds()), [[0, 0, 0], [2, 2, 2], [0, 0, 2]])
    x, y = tune_plot.branches(rounds(), rounds().score)
    np.testing.assert_array_equal(x.reshape(2, 3, 3), [[[1, 2, NAN]] * 3, [[2, 3, NAN]] * 3])
    expected = [[[3, 4, NAN], [2, 5, NAN], [3, 6, NAN]], [[6, 7, NAN], [5, 8, NAN], [6, 9, NAN]]]
    np.testing.assert_array_equal(y.reshape(2, 3, 3), expected)
    np.testing.assert_array_equal(tune_plot.in_use(rounds(), "rate"), [[1, 2, NAN], [1, 2, 4], [8, 2, 4]])


def test_a_panel_for_the_order_and_for_each_setting_that_varies(figures, tmp_path):
    tune_plot.trials(trials(-1e9, 6, 7, 8, None, 9, 10), AXES, 5.0, tmp_path / "a.png", "title", 7.5)
    order, *others = figures[0].axes
    assert [ax.get_xlabel() for ax in others] == ["rate", "gamma", "sizes"]
    assert [ax.get_xscale() for ax in others] == ["log", "linear", "linear"]
    assert {ax.get_ylim() for ax in others} == {order.get_ylim()} and order.get_ylim()[0] > 4
    for ax, at in zip(figures[0].axes, (6, 0.1, 0.95), strict=False):
        drawn = {line.get_label(): line for line in ax.lines}
        np.testing.assert_allclose(drawn["best"].get_xydata(), [[at, 10]])
        assert len(ax.collections[0].get_offsets()) == 5
        assert len(drawn["below the axis"].get_xdata()) == len(drawn["failed: no value"].get_xdata()) == 1
    np.testing.assert_array_equal(order.lines[0].get_ydata(), [-1e9, 6, 7, 8, 8, 9, 10])
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert texts[-2:] == ["before tuning, on fresh seeds: 5.00", "the best, on fresh seeds: 7.50"]


def test_the_best_lineage_is_bold(figures, tmp_path):
    tune_plot.population(population(), SPANS, tmp_path / "a.png")
    for ax, best in zip(figures[0].axes, ([3, 6, 7], [1, 4, 8], np.array([1, 4, 8]) / 16), strict=True):
        bold = max(ax.lines, key=lambda line: line.get_linewidth())
        np.testing.assert_array_equal(bold.get_xydata(), np.stack([[1, 2, 3], best], 1))
    assert [ax.get_yscale() for ax in figures[0].axes] == ["linear", "log", "linear"]


@pytest.mark.parametrize("found", [[], trials(None), trials(2.0), trials(NAN, 1.0), trials(1.0, INF, state="pruned")])
@pytest.mark.parametrize("before", [None, NAN, -1e30])
def test_what_is_no_number_neither_fails_nor_warns(found, before, tmp_path):
    found = [*found, {"number": len(found), "state": "waiting", "value": None, "setting": {}}]
    tune_plot.trials(found, AXES, before, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("args", [([[NAN] * 3] * 3,), ([[-INF, 1, 2]] * 3,), ([[1, 2, 3]], 1)])
def test_a_population_without_scores_is_drawn(args, tmp_path):
    tune_plot.population(population(*args), SPANS, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
