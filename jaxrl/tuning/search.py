"""Tuning by ask and tell: Optuna asks a batch of settings, one vmapped program trains them, the results are told.

The study lies in an SQLite file by default, in any Optuna storage by its URL. Between chunks trials can be cut, by one of
Optuna's pruners or by successive halving (Jamieson and Talwalkar 2016); the survivors are packed into a narrower program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.numbers import readable
from jaxrl.experiment import presets, registry, search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import Axis, Setting
from jaxrl.runs.driver import Stop
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps.result import SweepResult
from jaxrl.tuning import studies
from jaxrl.tuning.packs import ProgramCache, packed
from jaxrl.tuning.studies import DIVERGED, Tuning, TuningPlan, best_value, finished, value_of

if TYPE_CHECKING:
    import optuna


@dataclasses.dataclass(repr=False)
class TuneResult:
    """What a search gave. best: the setting of the highest value. trials: {number, state, value, setting} in order.

    confirmation: the best setting (configuration 0) and the one tuning began from (1) on fresh seeds; None if not asked for.
    programs: training programs compiled for the trials. env_steps: of all trials, as far as they went.
    """

    plan: TuningPlan
    study: optuna.Study
    best: Setting
    value: float
    trials: list[dict[str, Any]]
    confirmation: SweepResult | None
    programs: int
    env_steps: int

    def __repr__(self) -> str:
        base, best = self.plan.base, f"best: {search_space.text(self.best)} {readable(self.value)}"
        return f"TuneResult({base.agent} on {base.env}, {len(self.trials)} trials, {best})"


def default_axes(base: Experiment) -> dict[str, Axis]:
    """What is varied where nothing is said: presets/search.toml, as far as the agent has the settings."""
    table = presets.presets("search")
    texts = {**table["common"], **table.get(base.agent, {})}
    names = vars(base.hparams)
    return search_space.read_axes(base, {name: x for name, x in texts.items() if name in names}, ranges=True)


def make_axes(base: Experiment, search: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes given, or the default ones. Raises ValueError naming what is wrong, or where there are none."""
    axes = search_space.read_axes(base, search, ranges=True) if search else default_axes(base)
    if not axes:
        raise InputError(f"{base.agent} has no default search space: say what to vary, learning_rate=log:1e-5,1e-2")
    return axes


def search(
    plan: TuningPlan,
    study: optuna.Study,
    news: Callable[[int, float], None] = lambda *_: None,
    stop: Stop | None = None,
) -> tuple[int, int]:
    """Ask, train and tell until the study has its trials: how many programs were compiled, and environment steps taken.

    news: told the trials finished and the best value so far, after each batch. Trials that a killed process left running
    are tried again.
    """
    axes, settings = plan.axes, plan.settings
    cache, steps = ProgramCache(settings.parallel * settings.seeds), 0
    distributions = {name: studies.distribution(axis) for name, axis in axes.items()}
    with studies.quiet() as optuna:
        states = optuna.trial.TrialState
        for left in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            study.tell(left.number, state=states.FAIL)
            study.enqueue_trial(left.params)
        while (done := finished(study)) < settings.trials:
            batch = [study.ask(distributions) for _ in range(min(settings.parallel, settings.trials - done))]
            asked = {t.number: {name: value_of(axes[name], t.params[name]) for name in axes} for t in batch}
            values, batch_steps = _train(plan, asked, cache, {t.number: t for t in batch}, stop or Stop())
            steps += batch_steps
            for trial in batch:
                _tell(study, trial, *values[trial.number], states)
            news(finished(study), best_value(study))
    return cache.compiled, steps


def _tell(study: optuna.Study, trial: optuna.Trial, value: float, whole: bool, states: Any) -> None:
    """A trial's end: complete if it was trained to the end, else pruned; failed where it diverged."""
    if np.isfinite(value):
        study.tell(trial, value if whole else None, state=states.COMPLETE if whole else states.PRUNED)
    else:
        trial.set_user_attr(DIVERGED, True)
        study.tell(trial, state=states.FAIL)


def _train(
    plan: TuningPlan, asked: dict[int, Setting], cache: ProgramCache, trials: Mapping[int, optuna.Trial], stop: Stop
) -> tuple[dict[int, tuple[float, bool]], int]:
    """Each trial's last value and whether it was trained to the end; and environment steps taken in all."""
    settings, shares = plan.settings, rung_shares(plan.settings)
    packs = packed(cache, plan.base, asked, range(settings.seed, settings.seed + settings.seeds), stop)
    values: dict[int, tuple[float, bool]] = {}
    steps = 0
    for rung, share in enumerate(shares, 1):
        last = rung == len(shares)
        for pack in packs:
            before, total = pack.training.env_steps, pack.trainer.num_iterations
            pack.training.advance(total if last else max(1, round(share * total)))
            done = pack.training.env_steps
            steps += (done - before) * len(pack.trials) * settings.seeds
            for number, score in zip(pack.trials, pack.scores(), strict=True):
                values[number] = float(score), last
                if np.isfinite(score) and len(shares) > 1 and done > before:
                    trials[number].report(float(score), done)
        if not last:
            survivors = _survivors({n: values[n][0] for pack in packs for n in pack.trials}, settings, trials)
            packs = [pack for pack in packs if set(pack.trials) & set(survivors)]
            for pack in packs:
                pack.keep(survivors)
    return values, steps


def rung_shares(settings: Tuning) -> list[float]:
    """Which share of training is done at each evaluation."""
    if settings.method == "halving":
        return [0.5**k for k in reversed(range(settings.rungs))]
    return [(k + 1) / settings.rungs for k in range(settings.rungs)] if settings.pruner != "none" else [1.0]


def _survivors(scores: dict[int, float], settings: Tuning, trials: Mapping[int, optuna.Trial]) -> Sequence[int]:
    """Who goes on: the better half (rounded up), or whom the pruner lets. What diverged does not."""
    finite = {number: score for number, score in scores.items() if np.isfinite(score)}
    if settings.method == "halving":
        ranked = sorted(finite, key=lambda number: -finite[number])
        return ranked[: -(-len(scores) // 2)]
    return [number for number in finite if not trials[number].should_prune()]


def result(plan: TuningPlan, study: optuna.Study, programs: int, env_steps: int) -> TuneResult:
    """What a searched study says; not confirmed yet. Raises ValueError where every trial diverged."""
    trials = [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "value": t.value,
            "setting": {name: value_of(axis, t.params[name]) for name, axis in plan.axes.items() if name in t.params},
        }
        for t in study.get_trials(deepcopy=False)
    ]
    if np.isnan(best_value(study)):
        raise InputError(f"none of {len(trials)} trials has a value: every one diverged or was cut")
    best: Any = trials[study.best_trial.number]
    return TuneResult(plan, study, best["setting"], best["value"], trials, None, programs, env_steps)


def confirmation_plan(plan: TuningPlan, best: Setting) -> plans.Plan:
    """The best setting and the one tuning began from, on seeds that no trial has seen."""
    base, settings = plan.base, plan.settings
    known = search_space.fields(base)
    began = {name: _present(base, name, known[name].kind) for name in best}
    first = settings.seed + settings.seeds
    return plans.make(base, [best, began], settings.confirm, first)


def _present(base: Experiment, name: str, kind: str) -> Any:
    if kind != "env":
        return getattr(base.config if kind == "config" else base.hparams, name)
    name = name.removeprefix(search_space.ENV)
    params = registry.with_params(base.env, base.environment.params, base.env_params)
    return np.asarray(params[name] if isinstance(params, dict) else getattr(params, name)).item()
