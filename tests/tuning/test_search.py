"""Tuning by ask and tell: what it finds, how it cuts, what it costs, how it goes on, and what it refuses."""

import builtins

import numpy as np
import optuna
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.core.numbers import readable
from jaxrl.devices import programs
from jaxrl.experiment import registry, search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.runs.driver import Stop
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import packs, search, studies
from tests.small import assert_trees_equal, released, small_config
from tests.toys import Level, level_env

WORDS = {"total_steps": 4000, "search": {"level": "uniform:0,40"}, "parallel": 8, "seeds": 2, "confirm": 0}


def tune(**words):
    return jaxrl.tune(Level, level_env(), **(WORDS | words))


@pytest.fixture(scope="module")
def base():
    return resolve(Level, level_env(), total_steps=4000)


def test_it_finds_the_best_level_with_one_program():
    """The return is -(level - 3)². Of 40 uniform draws the best is within 1.5 of 3 all but 1 time in 20; TPE aims."""
    found = tune(trials=40, confirm=2)
    assert abs(found.best["level"] - 3) < 1.5
    assert found.value == pytest.approx(-((found.best["level"] - 3) ** 2), rel=1e-3)
    assert found.programs == 1 and len(found.trials) == 40
    assert found.env_steps == 40 * 2 * resolve(Level, level_env(), total_steps=4000).trainer().total_steps
    np.testing.assert_allclose(found.confirmation.final_return, [[found.value] * 2, [-289.0] * 2], rtol=1e-3)
    assert found.confirmation.seeds == [1002, 1003]
    late = [t["setting"]["level"] for t in found.trials[24:]]
    assert np.median(np.abs(np.array(late) - 3)) < 8  # uniform draws: a median distance of 17


def test_static_choices_are_programs_of_their_own():
    found = tune(trials=16, method="random", search={"level": "uniform:0,10", "scale": [1, 2]})
    assert {t["setting"]["scale"] for t in found.trials} == {1, 2}
    for t in found.trials:
        level, scale = t["setting"]["level"], t["setting"]["scale"]
        assert t["value"] == pytest.approx(-((level * scale - 3) ** 2), rel=1e-3, abs=1e-4)


HALVING = [(4, [0.125, 0.25, 0.5, 1.0]), (1, [1.0])]


@pytest.mark.parametrize(("rungs", "shares"), HALVING)
def test_rungs_of_halving_double(rungs, shares):
    assert search.rung_shares(studies.make_settings({"method": "halving", "rungs": rungs})) == shares


def test_rungs_of_a_pruner_are_even():
    assert search.rung_shares(studies.make_settings({"pruner": "median", "rungs": 4})) == [0.25, 0.5, 0.75, 1.0]
    assert search.rung_shares(studies.make_settings({})) == [1.0]


def test_halving_keeps_the_better_half_and_trains_no_more(base):
    """Of 8 trials in 8 iterations: 8 for 1, 4 for 1 more, 2 for 2 more, 1 for 4 more: 8 + 4 + 4 + 4 = 20 iterations."""
    found = tune(trials=8, method="halving", rungs=4)
    trainer = base.trainer()
    assert trainer.num_iterations == 8
    assert found.env_steps == 20 * 2 * trainer.steps_per_iteration
    ranked = sorted(found.trials, key=lambda t: abs(t["setting"]["level"] - 3))
    assert [t["state"] for t in ranked] == ["complete"] + ["pruned"] * 7
    assert found.best == ranked[0]["setting"]
    assert [len(t.intermediate_values) for t in sorted(found.study.trials, key=lambda t: ranked_at(t, ranked))] == [
        4, 3, 2, 2, 1, 1, 1, 1,
    ]  # fmt: skip
    assert found.programs == 4  # 16, 8, 4 and 2 members


def ranked_at(trial, ranked):
    return [t["number"] for t in ranked].index(trial.number)


def test_a_pruner_stops_the_worse_ones():
    found = tune(trials=24, pruner="median", method="random")
    states = [t["state"] for t in found.trials]
    assert states.count("pruned") > 4 and states.count("complete") > 4
    complete, pruned = (
        np.mean([abs(t["setting"]["level"] - 3) for t in found.trials if t["state"] == state])
        for state in ("complete", "pruned")
    )
    assert complete < pruned


@pytest.mark.exact
def test_survivors_packed_into_a_narrower_program_keep_their_bits():
    """Four settings × two seeds; two settings are cut half-way. The rest end as in a sweep that cut none."""
    config = small_config("reinforce")
    base = resolve("reinforce", "CartPole-v1", total_steps=1500, config=config, preset="none")
    rates = [1e-2, 3e-3, 1e-3, 3e-4]
    cache = packs.ProgramCache(8)
    (pack,) = packs.packed(cache, base, {i: {"learning_rate": rate} for i, rate in enumerate(rates)}, range(2), Stop())
    pack.training.advance(5)
    pack.keep([1, 3])
    pack.training.advance(pack.trainer.num_iterations)
    assert pack.trials == [1, 3] and cache.compiled == 2
    whole = jaxrl.sweep("reinforce", "CartPole-v1", grid={"learning_rate": rates}, seeds=2, total_steps=1500, config=config,
                        preset="none")  # fmt: skip
    for i, (config_number, seed) in enumerate([(1, 0), (1, 1), (3, 0), (3, 1)]):
        assert_trees_equal(jaxrl.member(pack.training.states, i), whole.agent(config_number, seed)[1])
    np.testing.assert_allclose(pack.scores(), whole.final_return[[1, 3]].mean(1), rtol=1e-6)


def test_a_study_goes_on_where_it_stood(base, tmp_path):
    """Trials told stay; one that a killed process left running is tried again with its own parameters."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    settings = {"parallel": 3, "seeds": 1, "confirm": 0, "method": "random"}
    plan = tunings.make_plan(base, WORDS["search"], {"trials": 6, **settings}, storage)
    study = studies.open_study(plan, storage)
    search.search(plan, study)
    told = [(t.number, t.value) for t in study.trials]
    left = study.ask({"level": optuna.distributions.FloatDistribution(0, 40)})
    study = studies.open_study(plan, storage)
    more = tunings.make_plan(base, WORDS["search"], {"trials": 10, **settings}, storage)
    search.search(more, study)
    found = search.result(more, study, 0, 0)
    assert [(t["number"], t["value"]) for t in found.trials[:6]] == told
    assert [t["state"] for t in found.trials].count("complete") == 10
    retried = [t for t in found.trials if t["setting"]["level"] == left.params["level"]]
    assert [t["state"] for t in retried] == ["fail", "complete"]
    assert len({t["setting"]["level"] for t in found.trials}) == 10


def test_other_work_in_the_same_storage_is_a_study_of_its_own(base, tmp_path):
    """The same name for the same work; another for another range, first seed, or length of training."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    words = {"storage": storage, "trials": 4, "method": "random"}
    first, again = tune(**words), tune(**words)
    assert [len(x.trials) for x in (first, again)] == [4, 4] and again.env_steps == 0
    others = [tune(**words, **more) for more in ({"search": {"level": "uniform:0,30"}}, {"seed": 7}, {"total_steps": 2000})]
    assert all(len(x.trials) == 4 and x.env_steps > 0 for x in others)
    assert len({x.study.study_name for x in (first, again, *others)}) == 4


@pytest.mark.parametrize("method", ["tpe", "random", *released("qmc", "cmaes")])
def test_every_sampler_draws_within_the_ranges(method):
    found = tune(
        trials=12, parallel=4, seeds=1, total_steps=600, method=method, search={"level": "log:1,40", "scale": [1, 2]}
    )
    assert all(1 <= t["setting"]["level"] <= 40 for t in found.trials)
    assert len({t["setting"]["level"] for t in found.trials}) == 12


@pytest.mark.parametrize("pruner", ["halving", *released("percentile", "hyperband")])
def test_every_pruner_lets_the_best_through(pruner):
    """The best level of all that were drawn, pruned ones included."""
    found = tune(trials=12, parallel=4, seeds=1, method="random", pruner=pruner, rungs=2)
    assert found.best["level"] == min((t["setting"]["level"] for t in found.trials), key=lambda level: abs(level - 3))


def test_a_diverged_trial_is_told_as_failed_and_counts():
    found = tune(trials=16, method="random", search={"level": "uniform:0,100", "scale": [1]})
    states = [t["state"] for t in found.trials]
    assert len(states) == 16 and states.count("fail") > 2
    assert {t["state"] for t in found.trials if t["setting"]["level"] > 50} == {"fail"}


@pytest.mark.parametrize("agent", registry.agent_names())
def test_every_agent_has_a_default_search_space_around_its_defaults(agent):
    env = "CartPole-v1" if agent not in ("td3",) else "Pendulum-v1"
    found = search.default_axes(resolve(agent, env, preset="none"))
    assert found and all(isinstance(axis, search_space.Span) for axis in found.values())


BAD = [
    ({"search": {"levle": "log:1,2"}}, "nearest: level"),
    ({"search": {"scale": "log:1,2"}}, "scale is static"),
    ({"search": {}}, "has no default search space"),
    ({"trials": 0}, "trials = 0 is out of range"),
    ({"seeds": 0}, "seeds = 0 is out of range"),
    ({"method": "tep"}, "nearest: tpe"),
    ({"pruner": "medain"}, "nearest: median"),
    ({"method": "halving", "pruner": "median"}, "pruner = 'median' beside method = 'halving'"),
    ({"method": "pbt", "pruner": "median"}, "pruner = 'median' beside method = 'pbt'"),
    ({"method": "pbt", "storage": "sqlite:///x.db", "rounds": 2}, "storage 'sqlite:///x.db' beside method = 'pbt'"),
    ({"seed": 2**31 - 1}, "seed = 2147483647 is out of range"),
    ({"storage": "nosuch://x"}, "storage 'nosuch://x' cannot be opened"),
    ({"storage": "sqlite:////nowhere/at/all/x.db"}, "storage 'sqlite:////nowhere/at/all/x.db' cannot be opened"),
    ({"trails": 3}, "unknown setting of tune 'trails'; nearest: trials"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_before_any_compile(words, message, monkeypatch):
    monkeypatch.setattr(programs.Programs, "chunk", property(lambda self: pytest.fail("compiled")))
    with pytest.raises(ValueError) as refused:
        tune(**words)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_without_optuna_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.partition(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'jaxrl\[tune\]'"):
        tune()


LINE = ["tune", "q_learning", "--env", "RandomGame", "--total-steps", "3000", "--trials", "4", "--parallel", "2", "--seeds",
        "2", "--confirm", "2"]  # fmt: skip


@pytest.mark.parametrize("method", ["tpe", "halving", "pbt"])
def test_the_command_writes_a_directory_that_can_be_resumed(method, keep_platform, tmp_path, capsys):
    import json

    out = tmp_path / "tuned"
    words = [*LINE, "--method", method, "--rungs", "2", "--population", "4", "--rounds", "2", "--out", str(out), "--json"]
    assert cli.main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["agent"], result["env"], result["method"]) == ("q_learning", "RandomGame", method)
    assert json.loads((out / "summary.json").read_text()) == result
    assert cli.main(["resume", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"q_learning on RandomGame, {method}: best value {readable(result['value'])} with" in printed
    assert f"picture {out / 'trials.png'}" in printed
    again = json.loads((out / "summary.json").read_text())
    assert (again["best"], again["value"]) == (result["best"], result["value"])
    if method != "pbt":
        assert len(result["trials"]) == 4 and (out / "study.db").exists()
        assert len(result["confirmation"]["best"]["per_seed"]) == 2
        assert again["env_steps"] == 0  # nothing was left to try
        assert tunings.read(out).settings.trials == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "learning_rte=log:1e-3,1"], "nearest: learning_rate"),
        (["--storage", "nosuch://x"], "cannot be opened"),
        (["--method", "grid"], "invalid choice 'grid' for argument '--method'"),
        (["--seeds", "0"], "seeds = 0"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(words, message, keep_platform, tmp_path, capsys):
    assert cli.main([*LINE, "--out", str(tmp_path / "x"), *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1 and not list(tmp_path.iterdir())
