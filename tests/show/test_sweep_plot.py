"""sweep_plot.py: what is drawn, against numbers worked out by hand, from results made up here."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxrl.cli import main as cli
from jaxrl.core import stats
from jaxrl.runs import documents
from jaxrl.show import plot, sweep_plot, value_map
from jaxrl.sweeps import reading
from jaxrl.sweeps.result import SweepResult, ranked

NAN = float("nan")


def result(configs, final_return, lengths=None, diverged=()):
    """A sweep of 6 iterations of 10 steps, one episode each, whose return is the configuration's number + the seed's."""
    returns = np.array(final_return, float)
    shape = (len(configs), returns.shape[1], 6)
    lengths = np.array(lengths or [6] * len(configs))[:, None, None]
    steps = np.broadcast_to(np.minimum(np.arange(1, 7), lengths) * 10, shape).astype(np.int32)
    episodes = np.broadcast_to(np.arange(6) < lengths, shape).astype(np.int32)
    number = np.arange(shape[0])[:, None, None] + 0.5 * np.arange(shape[1])[:, None]
    found = SimpleNamespace(
        plan=SimpleNamespace(base=SimpleNamespace(agent="dqn", env="Chain"), alone=configs == [{}]),
        configs=configs,
        seeds=list(range(shape[1])),
        metrics={
            "env_steps": steps,
            "episodes": episodes,
            "episode_return": np.where(episodes > 0, number, NAN).astype(np.float32),
        },
        final_return=returns,
        diverged=np.zeros(shape[:2], bool),
        best=lambda: ranked(returns)[0],
    )
    for member in diverged:
        found.diverged[member] = True
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


def test_a_shorter_configuration_ends_where_it_ended():
    curve = sweep_plot.config_curve(result(rates(0.1, 0.2), [[1, 1], [2, 2]], lengths=[6, 4]), 1)
    assert curve.label == "rate=0.2"
    np.testing.assert_array_equal(curve.steps, [10, 20, 30, 40])
    np.testing.assert_array_equal(curve.returns, [[1.0] * 4, [1.5] * 4])
    np.testing.assert_array_equal(plot.mean(curve), [1.25] * 4)
    np.testing.assert_array_equal(plot.band(curve), [[1.0] * 4, [1.5] * 4])


def test_thinning_weighs_returns_by_their_episodes(monkeypatch):
    monkeypatch.setattr(plot, "POINTS", 3)
    returns, episodes = np.array([[1.0, 4, NAN, NAN, 5, 7]]), np.array([[1, 2, 0, 0, 1, 1]])
    curve = plot.thinned("a", np.arange(1, 7), returns, episodes)
    np.testing.assert_array_equal(curve.steps, [2, 4, 6])
    np.testing.assert_array_equal(curve.returns, [[3, NAN, 6]])
    np.testing.assert_array_equal(plot.mean(curve), [3, 3, 6])  # no episode ended: the last value stays
    assert np.isnan(plot.band(curve)).all()  # one seed


def test_ranks_put_what_is_no_number_last():
    sweep = result(rates(1, 2, 3, 4), [[1, 3], [NAN, 9], [5, 5], [2, 2]])
    assert ranked(sweep.final_return) == [2, 0, 3, 1]
    best = sweep_plot.best_curve(sweep)
    assert (best.label, best.detail) == ("dqn Chain", "best of 4: rate=3")


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
    returns = np.stack([np.log10(values), np.log10(values) + 1], 1)
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
    sweep = result(rates(0.1, 0.2), [[1, 1], [2, 3]], lengths=[6, 3], diverged=[(0, 1), (0, 0)])
    sweep_plot.curves(sweep, tmp_path / "curves.png")
    (ax,) = figures[0].axes
    assert [line.get_label() for line in ax.lines] == ["rate=0.2", "rate=0.1 (2 diverged)"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[10, 1.25], [20, 1.25], [30, 1.25]])
    assert len(ax.lines[1].get_xydata()) == 6 and len(ax.collections) == 2
    assert "2 configurations × 2 seeds" in ax.get_title(loc="left")


def test_of_many_curves_five_are_shown_and_the_others_grey(figures, tmp_path):
    sweep = result(rates(*range(1, 13)), [[c, c + 1] for c in range(11)] + [[NAN, 99]], diverged=[(0, 0), (11, 0)])
    sweep_plot.curves(sweep, tmp_path / "curves.png")
    (ax,) = figures[0].axes
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert texts == ["rate=11", "rate=10", "rate=9", "rate=8", "rate=7", "7 others (2 diverged)"]
    assert len(ax.lines) == 12 and len(ax.collections) == 5
    assert {line.get_color() for line in ax.lines[5:]} == {sweep_plot.GREY}


def test_effects_has_a_panel_for_each_setting_that_varies(figures, tmp_path):
    configs = [{"rate": r, "sizes": s, "same": 1} for r in (0.1, 10.0) for s in ((64, 64), (8, 8), (4,))]
    sweep = result(configs, [[c, c + 2] for c in range(5)] + [[NAN, 0]])
    sweep_plot.effects(sweep, tmp_path / "effects.png")
    rate, sizes = figures[0].axes
    assert (rate.get_xlabel(), rate.get_xscale(), sizes.get_xlabel()) == ("rate", "log", "sizes")
    assert rate.get_ylim() == sizes.get_ylim()
    assert [text.get_text() for text in sizes.get_xticklabels()] == ["64x64", "8x8", "4"]
    drawn = {line.get_label(): line for line in sizes.lines}
    np.testing.assert_allclose(drawn[sweep_plot.MEAN].get_ydata(), [2.5, 3.5, 3])
    np.testing.assert_array_equal(drawn["best configuration"].get_xydata(), [[1, 5]])
    assert len(drawn["one configuration"].get_xdata()) == 5
    np.testing.assert_array_equal(drawn[sweep_plot.LOST].get_xdata(), [2])


@pytest.mark.parametrize("returns", [[[1.0]], [[NAN]], [[NAN, NAN], [NAN, 1]], [[float("inf"), -float("inf")], [1, 2]]])
def test_what_is_no_number_neither_fails_nor_warns(returns, tmp_path):
    sweep = result(rates(*range(1, 1 + len(returns))), returns)
    sweep.metrics["episode_return"][0] = np.array(returns[0])[:, None]
    for draw in (sweep_plot.curves, sweep_plot.effects):
        draw(sweep, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


class Swept(SweepResult):
    """One made up here."""

    def __init__(self, *args):
        vars(self).update({name: x for name, x in vars(result(*args)).items() if name != "best"})


def test_the_command_line_tells_sweeps_from_runs(keep_platform, monkeypatch, capsys, figures, tmp_path):
    (tmp_path / "sweep").mkdir()
    swept, trained = Swept(rates(0.1, 0.2), [[1, 1], [2, 2]]), SimpleNamespace(sweep=result([{}], [[1]]))
    monkeypatch.setattr(value_map, "of_run", lambda result: None)
    monkeypatch.setattr(reading, "load", lambda directory: swept if directory.name == "sweep" else trained)
    monkeypatch.setattr(documents, "read_config", lambda directory, *_: {"kind": directory.name})

    def run(*args):
        assert cli.main(["plot", *map(str, args)]) == 0
        return [Path(line).relative_to(tmp_path) for line in capsys.readouterr().out.splitlines()]

    assert run(tmp_path / "sweep") == [Path("sweep/curves.png"), Path("sweep/effects.png")]
    assert run(tmp_path / "sweep", "--out", tmp_path / "a.png") == [Path("a.png"), Path("effects.png")]
    assert run(tmp_path / "run", tmp_path / "sweep", "--out", tmp_path / "b.png") == [Path("b.png")]
    labels = figures[-1].axes[0].get_legend_handles_labels()[1]
    assert labels == ["dqn Chain (1 seed)", "dqn Chain, best of 2: rate=0.2 (2 seeds)"]
    assert cli.main(["plot", str(tmp_path / "sweep"), "--out", str(tmp_path / "effects.png")]) == 2
