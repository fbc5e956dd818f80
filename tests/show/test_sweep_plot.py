"""sweep_plot.py: what is drawn, against numbers worked out by hand, from configurations made up here."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxrl.core import stats
from jaxrl.show import plot, sweep_plot
from jaxrl.show.configurations import Configuration, by_return

NAN = float("nan")


def made(settings, final_return, lengths=None, diverged=()):
    """Configurations of up to 6 iterations of 10 steps, one episode each, whose return is the number + half the seed's."""
    found = []
    for c, (setting, final) in enumerate(zip(settings, final_return, strict=True)):
        shape = (len(final), lengths[c] if lengths else 6)
        metrics = {
            "env_steps": np.broadcast_to(np.arange(1, shape[1] + 1) * 10, shape),
            "episodes": np.ones(shape, int),
            "episode_return": np.broadcast_to(c + 0.5 * np.arange(shape[0])[:, None], shape),
        }
        lost = np.array([(c, s) in diverged for s in range(shape[0])])
        found.append(Configuration(c, setting, range(shape[0]), metrics, np.array(final, float), lost, None, {}))
    return found


@pytest.fixture
def figures(monkeypatch):
    """Figures stay open for the test to look into."""
    kept = []
    monkeypatch.setattr(plot, "save", lambda fig, out: (fig.savefig(out), kept.append(fig)))
    yield kept
    for fig in kept:
        plt.close(fig)


def rates(*values):
    return [{"rate": value} for value in values]


def test_a_curve_of_three_seeds_has_a_band():
    curve = sweep_plot.curve_of(made(rates(0.1, 0.2), [[1, 1, 1], [2, 2, 2]], lengths=[6, 4])[1])
    assert curve.label == "rate=0.2" and curve.evaluations is None
    np.testing.assert_array_equal(curve.steps, [10, 20, 30, 40])
    np.testing.assert_array_equal(curve.returns, [[1.0] * 4, [1.5] * 4, [2.0] * 4])
    np.testing.assert_array_equal(plot.mean(curve), [1.5] * 4)
    low, high = plot.band(curve)
    assert (low < 1.5).all() and (high > 1.5).all()


def evaluated(seeds):
    """A configuration that was evaluated after iterations 2 and 4."""
    (found,) = made([{}], [[1.0] * seeds])
    values = np.full((seeds, 6), NAN, np.float32)
    values[:, [2, 4]] = [7, 9]
    return found._replace(metrics={**found.metrics, "eval_return": values})


def test_evaluations_lie_beside_the_returns_in_training(figures, tmp_path):
    curve = sweep_plot.curve_of(evaluated(3))
    plot.compare([curve._replace(label="training")], tmp_path / "a.png", "dqn on Chain")
    (ax,) = figures[0].axes
    training, greedy = ax.lines
    np.testing.assert_array_equal(greedy.get_xydata(), [[30, 7], [50, 9]])
    assert greedy.get_color() == training.get_color() and greedy.get_linestyle() == "--"
    assert "greedy evaluations" in ax.get_legend().get_title().get_text() and ax.get_ylabel() == "episode return"


@pytest.mark.parametrize(("seeds", "bands"), [(1, 0), (2, 0), (3, 2)])
def test_no_interval_comes_from_two_seeds_or_fewer(seeds, bands, figures, tmp_path):
    plot.compare([sweep_plot.curve_of(evaluated(seeds))], tmp_path / "a.png")
    (ax,) = figures[0].axes
    assert len(ax.collections) == bands
    assert ("interval" in ax.get_legend().get_title().get_text()) == (bands > 0)
    sweep = made(rates(0.1, 0.2), [[1.0] * seeds, [2.0] * seeds])
    assert all(np.isfinite([e.low, e.high]).all() == (seeds > 2) for e in sweep_plot.effects_of(sweep))


def test_thinning_weighs_returns_by_their_episodes(monkeypatch):
    monkeypatch.setattr(plot, "POINTS", 3)
    returns, episodes = np.array([[1.0, 4, NAN, NAN, 5, 7]]), np.array([[1, 2, 0, 0, 1, 1]])
    curve = plot.thinned("a", np.arange(1, 7), returns, episodes)
    np.testing.assert_array_equal(curve.steps, [2, 4, 6])
    np.testing.assert_array_equal(curve.returns, [[3, NAN, 6]])
    np.testing.assert_array_equal(plot.mean(curve), [3, 3, 6])  # no episode ended: the last value stays
    assert np.isnan(plot.band(curve)).all()  # one seed


def test_ranks_put_what_is_no_number_last():
    sweep = made(rates(1, 2, 3, 4), [[1, 3], [NAN, 9], [5, 5], [2, 2]])
    assert by_return(sweep) == [2, 0, 3, 1]
    best = sweep_plot.best_curve(sweep, "dqn")
    assert best.label == "dqn, best of 4: rate=3"


def test_effect_of_values_pools_the_configurations_that_have_them():
    returns = np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 4.0], [0.0, 1.0, 2.0], [5.0, NAN, 5.0]])
    e = sweep_plot.effect("rate", [0.1, 0.2, 0.1, 0.2], returns)
    assert (e.scale, e.joined, e.binned, e.labels) == ("linear", True, False, ("0.1", "0.2"))
    np.testing.assert_array_equal(e.x, [0.1, 0.2])
    np.testing.assert_allclose(e.mean, [2.0, 10 / 3])  # without the configuration that has a NaN
    np.testing.assert_array_equal([e.low[0], e.high[0]], stats.bootstrap_interval(returns[[0, 2]]))
    np.testing.assert_array_equal([e.low[1], e.high[1]], stats.bootstrap_interval(returns[[1]]))
    np.testing.assert_array_equal(e.each_x, [0.1, 0.2, 0.1, 0.2])
    np.testing.assert_allclose(e.each_y, [3, 10 / 3, 1, NAN])


@pytest.mark.parametrize("values,scale,labels,x", [
    ((1e-3, 1e-4, 1e-5), "log", ("1e-05", "0.0001", "0.001"), (1e-5, 1e-4, 1e-3)),
    ((2, 1, 20), "even", ("1", "2", "20"), (0, 1, 2)),  # spans a factor of 20, but not more
    ((0.9, 0.999, 0.99), "even", ("0.9", "0.99", "0.999"), (0, 1, 2)),  # would lie on one another
    ((0.0, 50.0, 100.0), "linear", ("0", "50", "100"), (0, 50, 100)),
    ((-1.0, 1.0, 200.0), "even", ("-1", "1", "200"), (0, 1, 2)),
    (((64, 64), (8,), [32, 32]), "even", ("64x64", "8", "32x32"), (0, 1, 2)),
    ((True, False, True), "even", ("True", "False"), (0, 1)),
    (("mlp", "cnn", "gru"), "even", ("mlp", "cnn", "gru"), (0, 1, 2)),
    ((1.0, None, 0.5), "even", ("1", "None", "0.5"), (0, 1, 2)),
    ((1.0, float("inf"), 0.5), "even", ("1", "inf", "0.5"), (0, 1, 2)),
])  # fmt: skip
def test_where_values_lie(values, scale, labels, x):
    e = sweep_plot.effect("x", values, np.ones((3, 2)))
    assert (e.scale, e.labels) == (scale, labels)
    np.testing.assert_array_equal(e.x, x)


@pytest.mark.parametrize("count,bins", [(12, 12), (13, 4), (40, 8)])
def test_many_values_are_binned_by_quantiles(count, bins):
    values = np.random.default_rng(0).permutation(np.geomspace(1e-4, 1.0, count)).tolist()
    returns = np.stack([np.log10(values) + seed for seed in range(3)], 1)
    e = sweep_plot.effect("rate", values, returns)
    assert (len(e.x), e.scale, e.binned, e.labels) == (bins, "log", bins < count, ())
    groups = np.array_split(np.sort(returns, 0), bins)
    np.testing.assert_allclose(e.mean, [group.mean() for group in groups])
    np.testing.assert_allclose(np.log10(e.x), [group[:, 0].mean() for group in groups])  # the middle, on a log axis
    np.testing.assert_allclose(e.low[0], stats.bootstrap_interval(groups[0]).low)
    assert np.all(np.diff(e.x) > 0) and np.all(e.low <= e.mean) and np.all(e.mean <= e.high)


def test_draws_shared_by_grid_points_stay_in_one_bin():
    values = np.repeat(np.linspace(0, 1, 15), 2)
    e = sweep_plot.effect("x", values.tolist(), np.stack([values, values], 1))
    np.testing.assert_allclose(e.x, np.linspace(0, 1, 15).reshape(5, 3).mean(1))
    np.testing.assert_allclose(e.mean, e.x)


def test_few_curves_have_colours_and_say_who_diverged(figures, tmp_path):
    sweep = made(rates(0.1, 0.2), [[1, 1, 1], [2, 3, 4]], lengths=[6, 3], diverged=[(0, 1), (0, 0)])
    sweep_plot.curves(sweep, "dqn on Chain", tmp_path / "curves.png")
    (ax,) = figures[0].axes
    assert [line.get_label() for line in ax.lines] == ["rate=0.2", "rate=0.1 (2 diverged)"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[10, 1.5], [20, 1.5], [30, 1.5]])
    assert len(ax.lines[1].get_xydata()) == 6 and len(ax.collections) == 2
    assert ax.get_title(loc="left") == "dqn on Chain: 2 configurations × 3 seeds"


def test_of_many_curves_five_are_shown_and_the_others_grey(figures, tmp_path):
    returns = [[c, c + 1, c + 2] for c in range(11)] + [[NAN, 99, 99]]
    sweep_plot.curves(made(rates(*range(1, 13)), returns, diverged=[(0, 0), (11, 0)]), "", tmp_path / "curves.png")
    (ax,) = figures[0].axes
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert texts == ["rate=11", "rate=10", "rate=9", "rate=8", "rate=7", "7 others (2 diverged)"]
    assert len(ax.lines) == 12 and len(ax.collections) == 5
    assert {line.get_color() for line in ax.lines[5:]} == {sweep_plot.GREY}


def test_effects_has_a_panel_for_each_setting_that_varies(figures, tmp_path):
    settings = [{"rate": r, "sizes": s, "same": 1} for r in (0.1, 10.0) for s in ((64, 64), (8, 8), (4,))]
    sweep = made(settings, [[c, c + 1, c + 2] for c in range(5)] + [[NAN, 0, 0]])
    sweep_plot.effects(sweep, "", tmp_path / "effects.png")
    rate, sizes = figures[0].axes
    assert (rate.get_xlabel(), rate.get_xscale(), sizes.get_xlabel()) == ("rate", "log", "sizes")
    assert rate.get_ylim() == sizes.get_ylim()
    assert [text.get_text() for text in sizes.get_xticklabels()] == ["64x64", "8x8", "4"]
    drawn = {line.get_label(): line for line in sizes.lines}
    np.testing.assert_allclose(drawn["mean and 95 % interval over seeds"].get_ydata(), [2.5, 3.5, 3])
    np.testing.assert_array_equal(drawn["best configuration"].get_xydata(), [[1, 5]])
    assert len(drawn["one configuration"].get_xdata()) == 5
    np.testing.assert_array_equal(drawn[sweep_plot.LOST].get_xdata(), [2])


@pytest.mark.parametrize("returns", [[[1.0]], [[NAN]], [[NAN, NAN], [NAN, 1]], [[float("inf"), -float("inf")], [1, 2]]])
def test_what_is_no_number_neither_fails_nor_warns(returns, tmp_path):
    sweep = made(rates(*range(1, 1 + len(returns))), returns)
    sweep[0].metrics["episode_return"] = np.broadcast_to(np.array(returns[0])[:, None], (len(returns[0]), 6))
    for draw in (sweep_plot.curves, sweep_plot.effects):
        draw(sweep, "", tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
