"""search_space.py: what text means, what is refused, and what is drawn."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.experiment.search_space import Choice, Span


@pytest.fixture(scope="module")
def ppo():
    return resolve("ppo", "CartPole-v1", preset="none")


READ = [
    ("learning_rate", "1e-4,3e-4", (1e-4, 3e-4)),
    ("max_grad_norm", "0.5,inf", (0.5, math.inf)),
    ("hidden_sizes", "64x64,128,", ((64, 64), (128,))),
    ("hidden_sizes", "x,8", ((), (8,))),
    ("num_envs", "4,8", (4, 8)),
    ("normalize_advantages", "true,False", (True, False)),
    ("torso", "mlp,gru", ("mlp", "gru")),
    ("env.gravity", "9.8,1.6", (9.8, 1.6)),
    ("learning_rate", [1, 1e-3], (1.0, 1e-3)),
    ("learning_rate", np.array([0.5, 0.25]), (0.5, 0.25)),
    ("hidden_sizes", [[64, 64], (32,)], ((64, 64), (32,))),
]


@pytest.mark.parametrize(("name", "given", "values"), READ)
def test_values_are_read_by_the_settings_type(ppo, name, given, values):
    found = search_space.read_axes(ppo, {name: given}, ranges=False)[name]
    assert found == Choice(values)
    assert [type(a) for a in found.values] == [type(b) for b in values]
    assert search_space.read_axes(ppo, {name: search_space.axis_text(found)}, ranges=False)[name] == found


@pytest.mark.parametrize(
    ("text", "span"), [("log:1e-5,1e-2", Span(1e-5, 1e-2, True)), ("uniform:0.25,1", Span(0.25, 1.0, False))]
)
def test_ranges(ppo, text, span):
    assert search_space.read_axes(ppo, {"learning_rate": text}, ranges=True)["learning_rate"] == span


REFUSED = [
    ("learning_rte", "1", "unknown setting of ppo 'learning_rte'; nearest: learning_rate"),
    ("env.gravty", "1", "nearest: env.gravity"),
    ("learning_rate", "", "learning_rate has no values"),
    ("learning_rate", [], "learning_rate has no values"),
    ("learning_rate", "1e-3,0.001", "learning_rate lists 0.001 twice"),
    ("learning_rate", "0.1,-1", "learning_rate = -1.0 is out of range: must be > 0"),
    ("learning_rate", "fast", "learning_rate = fast must be a number"),
    ("num_envs", "2.5", "num_envs = 2.5 must be an integer"),
    ("num_envs", "log:1,8", "num_envs is static"),
    ("hidden_sizes", "uniform:1,8", "hidden_sizes is static"),
    ("torso", "mpl", "nearest: mlp"),
    ("clip_value", "maybe", "clip_value = 'maybe' must be of type bool"),
    ("learning_rate", "lg:1,2", "valid: log:LOW,HIGH, uniform:LOW,HIGH"),
    ("learning_rate", "log:1e-3", "must be two numbers"),
    ("learning_rate", "log:1e-2,1e-3", "needs LOW < HIGH"),
    ("entropy_coef", "log:0,1", "LOW > 0 for log"),
    ("gamma", "uniform:0.5,2", "gamma = 2.0 is out of range"),
]


@pytest.mark.parametrize(("name", "given", "message"), REFUSED)
def test_what_is_wrong_is_named_in_one_line(ppo, name, given, message):
    with pytest.raises(ValueError, match=".*") as refused:
        search_space.read_axes(ppo, {name: given}, ranges=True)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_grid_takes_no_range(ppo):
    with pytest.raises(ValueError, match="learning_rate has a range in a grid"):
        search_space.read_axes(ppo, {"learning_rate": "log:1e-5,1e-2"}, ranges=False)


def test_grid_is_every_combination_the_last_axis_fastest():
    points = search_space.grid({"a": Choice((1, 2)), "b": Choice(("x", "y", "z"))})
    assert [tuple(p.values()) for p in points] == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]


AXES = {"rate": Span(1e-5, 1e-2, True), "share": Span(-1.0, 3.0), "size": Choice((32, 64, 128))}


def test_draws_follow_their_distributions():
    """Kolmogorov-Smirnov and χ² tests of 2,000 draws, seeded."""
    draws = search_space.sample(AXES, 2000, 0)
    logs = np.log10([d["rate"] for d in draws])
    assert scipy.stats.kstest(logs, "uniform", (-5, 3)).pvalue > 0.01
    assert scipy.stats.kstest([d["share"] for d in draws], "uniform", (-1, 4)).pvalue > 0.01
    assert scipy.stats.chisquare(np.unique([d["size"] for d in draws], return_counts=True)[1]).pvalue > 0.01
    assert abs(scipy.stats.pearsonr(logs, [d["share"] for d in draws])[0]) < 0.07


def test_draws_are_the_seeds_and_do_not_depend_on_other_axes_or_on_how_many():
    draws = search_space.sample(AXES, 5, 3)
    assert draws == search_space.sample(AXES, 9, 3)[:5]
    assert [d["size"] for d in draws] == [d["size"] for d in search_space.sample({"size": AXES["size"]}, 5, 3)]
    assert draws != search_space.sample(AXES, 5, 4)


def test_applied_sets_each_setting_where_it_belongs(ppo):
    found = search_space.applied(ppo, {"learning_rate": 0.5, "hidden_sizes": (8,), "env.gravity": 1.6})
    assert found.hparams.learning_rate == 0.5 and found.hparams.gamma == ppo.hparams.gamma
    assert found.config.hidden_sizes == (8,) and found.config.num_envs == ppo.config.num_envs
    assert found.env_params == {"gravity": 1.6}
    assert ppo.env_params == {} and ppo.config.hidden_sizes != (8,)


def test_settings_that_do_not_fit_together_are_refused(ppo):
    with pytest.raises(ValueError, match="num_minibatches"):
        search_space.applied(ppo, {"num_minibatches": 7}).trainer()


def test_text():
    assert search_space.text({"learning_rate": 3e-4, "hidden_sizes": (64, 32), "torso": "gru"}) == (
        "learning_rate=0.0003 hidden_sizes=64x32 torso=gru"
    )
