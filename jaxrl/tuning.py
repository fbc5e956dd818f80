"""Tuning by ask and tell: Optuna asks a batch of settings, one vmapped program trains them, the results are told.

The study lies in an SQLite file by default, in any Optuna storage by its URL. Between chunks trials can be cut, by one of
Optuna's pruners or by successive halving (Jamieson and Talwalkar 2016); the survivors are packed into a narrower program.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxrl import planning, registry, search_space, sweeping
from jaxrl.errors import InputError
from jaxrl.experiment import Experiment
from jaxrl.packs import Shelf, packed
from jaxrl.search_space import Axis, Choice, Setting, Span
from jaxrl.settings import Count, NonNegative, Range, build
from jaxrl.sweeping import SweepResult

if TYPE_CHECKING:
    import optuna

STUDY, DIVERGED = "jaxrl", "diverged"


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How to search.

    method: an Optuna sampler; "halving" draws at random and halves the trials at each rung but the last; rungs double.
    pruner: an Optuna pruner, asked at each of `rungs` evenly spaced evaluations.
    """

    trials: Annotated[int, Count] = 64
    """Settings to try."""
    parallel: Annotated[int, Count] = 16
    """Trials trained at once, as one program."""
    seeds: Annotated[int, Count] = 3
    """Seeds of each trial; its value is the mean greedy return over them."""
    seed: Annotated[int, NonNegative] = 1000
    """The first seed, of the sampler too; those of the confirmation follow the trials'."""
    method: Literal["tpe", "random", "qmc", "cmaes", "halving", "pbt"] = "tpe"
    """How settings are drawn; halving: at random, then cut by successive halving; pbt: population-based training."""
    pruner: Literal["none", "median", "percentile", "halving", "hyperband"] = "none"
    """Which trials are stopped early, by Optuna's pruner of this name."""
    rungs: Annotated[int, Count] = 4
    """Evaluations of a trial, where something prunes or halves."""
    confirm: Annotated[int, NonNegative] = 8
    """Fresh seeds on which the best setting and the one it began from are trained again; 0 = none."""
    population: Annotated[int, Range(low=2)] = 16
    """Members of a population, with method pbt; one seed each."""
    rounds: Annotated[int, Count] = 20
    """Times that a population's worst members go on from the best ones, with method pbt."""

    def check(self) -> None:
        """Raises ValueError where the fields do not fit each other."""
        if self.method == "halving" and self.pruner != "none":
            raise InputError(f"pruner = {self.pruner!r} beside method = 'halving', which cuts by itself")
        if self.seed + self.seeds + self.confirm > sweeping.MAX_SEED:
            raise InputError(f"seed = {self.seed} is out of range: must be < 2**31 - seeds - confirm")


@dataclasses.dataclass
class TuneResult:
    """study: Optuna's. best: the setting of the highest value. trials: {number, state, value, setting} in order.

    confirmation: the best setting (configuration 0) and the one tuning began from (1) on fresh seeds; None if not asked for.
    programs: training programs compiled for the trials. env_steps: of all trials, as far as they went.
    """

    study: optuna.Study
    best: Setting
    value: float
    trials: list[dict[str, Any]]
    confirmation: SweepResult | None
    programs: int
    env_steps: int


def default_axes(base: Experiment) -> dict[str, Axis]:
    """What is varied where nothing is said: presets/search.toml, as far as the agent has the settings."""
    table = registry.presets("search")
    texts = {**table["common"], **table.get(base.agent, {})}
    names = vars(base.hparams)
    return search_space.read_axes(base, {name: x for name, x in texts.items() if name in names}, ranges=True)


def make_axes(base: Experiment, search: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes given, or the default ones. Raises ValueError naming what is wrong, or where there are none."""
    axes = search_space.read_axes(base, search, ranges=True) if search else default_axes(base)
    if not axes:
        raise InputError(f"{base.agent} has no default search space: say what to vary, learning_rate=log:1e-5,1e-2")
    return axes


def require_optuna() -> Any:
    """The package. Raises ValueError naming the extra where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs the extra: pip install 'jaxrl[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_study(storage: str | None, settings: Tuning) -> optuna.Study:
    """The study in a storage (None: in memory), new or continued. Raises ValueError where the storage cannot be opened."""
    optuna = require_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        found = optuna.storages.get_storage(storage)
        # A sampler's own state is not in the storage: a continued study draws from a stream of its own.
        drawn = len(found.get_all_trials(found.get_study_id_from_name(STUDY))) if _has_study(found) else 0
        return optuna.create_study(
            study_name=STUDY,
            storage=found,
            sampler=_sampler(optuna, settings.method, settings.seed + drawn),
            pruner=_pruner(optuna, settings),
            direction="maximize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(f"storage {storage!r} cannot be opened: {reason}") from error


def search(
    base: Experiment,
    axes: Mapping[str, Axis],
    settings: Tuning,
    study: optuna.Study,
    news: Callable[[int, float], None] = lambda *_: None,
) -> tuple[int, int]:
    """Ask, train and tell until the study has its trials: how many programs were compiled, and environment steps taken.

    news: told the trials finished and the best value so far, after each batch. Trials that a killed process left running
    are tried again.
    """
    optuna = require_optuna()
    states = optuna.trial.TrialState
    for left in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(left.number, state=states.FAIL)
        study.enqueue_trial(left.params)
    shelf, steps = Shelf(settings.parallel * settings.seeds), 0
    distributions = {name: _distribution(optuna, axis) for name, axis in axes.items()}
    while (done := _finished(study)) < settings.trials:
        batch = [study.ask(distributions) for _ in range(min(settings.parallel, settings.trials - done))]
        asked = {t.number: {name: _value(axes[name], t.params[name]) for name in axes} for t in batch}
        values, batch_steps = _train(base, asked, settings, shelf, {t.number: t for t in batch})
        steps += batch_steps
        for trial in batch:
            value, whole = values[trial.number]
            if np.isfinite(value):
                study.tell(trial, value if whole else None, state=states.COMPLETE if whole else states.PRUNED)
            else:
                trial.set_user_attr(DIVERGED, True)
                study.tell(trial, state=states.FAIL)
        news(_finished(study), _best_value(study))
    return shelf.compiled, steps


def _train(
    base: Experiment, asked: dict[int, Setting], settings: Tuning, shelf: Shelf, trials: Mapping[int, optuna.Trial]
) -> tuple[dict[int, tuple[float, bool]], int]:
    """Each trial's last value and whether it was trained to the end; and environment steps taken in all."""
    packs = packed(shelf, base, asked, range(settings.seed, settings.seed + settings.seeds))
    values: dict[int, tuple[float, bool]] = {}
    steps = 0
    for rung, share in enumerate(rung_shares(settings), 1):
        last = rung == len(rung_shares(settings))
        for pack in packs:
            before, total = pack.done, pack.trainer.num_iterations
            pack.advance(total if last else max(1, round(share * total)))
            steps += (pack.done - before) * pack.trainer.steps_per_iteration * len(pack.trials) * settings.seeds
            for number, score in zip(pack.trials, pack.scores(), strict=True):
                values[number] = float(score), last
                if np.isfinite(score) and len(rung_shares(settings)) > 1:
                    trials[number].report(float(score), pack.done * pack.trainer.steps_per_iteration)
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


def _finished(study: optuna.Study) -> int:
    """Trials that count: whole, cut or diverged, but not those of a killed process."""
    return sum(t.state.name in ("COMPLETE", "PRUNED") or DIVERGED in t.user_attrs for t in study.get_trials(deepcopy=False))


def _best_value(study: optuna.Study) -> float:
    try:
        return study.best_value
    except ValueError:  # no trial is complete yet
        return float("nan")


def result(base: Experiment, axes: Mapping[str, Axis], study: optuna.Study, programs: int, env_steps: int) -> TuneResult:
    """What a searched study says; not confirmed yet. Raises ValueError where every trial diverged."""
    trials = [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "value": t.value,
            "setting": {name: _value(axis, t.params[name]) for name, axis in axes.items() if name in t.params},
        }
        for t in study.get_trials(deepcopy=False)
    ]
    if np.isnan(_best_value(study)):
        raise InputError(f"none of {len(trials)} trials has a value: every one diverged or was cut")
    best: Any = trials[study.best_trial.number]
    return TuneResult(study, best["setting"], best["value"], trials, None, programs, env_steps)


def confirmation_plan(base: Experiment, best: Setting, settings: Tuning) -> planning.Plan:
    """The best setting and the one tuning began from, on seeds that no trial has seen."""
    known = search_space.fields(base)
    began = {name: _present(base, name, known[name].kind) for name in best}
    first = settings.seed + settings.seeds
    return sweeping.make_plan(base, [best, began], settings.confirm, first)


def _present(base: Experiment, name: str, kind: str) -> Any:
    if kind != "env":
        return getattr(base.config if kind == "config" else base.hparams, name)
    name = name.removeprefix(search_space.ENV)
    params = registry.with_params(base.env, base.environment.params, base.env_params)
    return np.asarray(params[name] if isinstance(params, dict) else getattr(params, name)).item()


def make_settings(values: Mapping[str, Any]) -> Tuning:
    """Checked settings. Raises ValueError naming the field."""
    return build(Tuning, values, "tune")


def _distribution(optuna: Any, axis: Axis) -> Any:
    if isinstance(axis, Span):
        return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
    return optuna.distributions.CategoricalDistribution([search_space.value_text(v) for v in axis.values])


def _value(axis: Axis, told: Any) -> Any:
    """A parameter as Optuna keeps it -> the setting's value: choices are kept as text."""
    if isinstance(axis, Choice):
        return next(v for v in axis.values if search_space.value_text(v) == told)
    return told


def _has_study(storage: Any) -> bool:
    return STUDY in [s.study_name for s in storage.get_all_studies()]


def _sampler(optuna: Any, method: str, seed: int) -> Any:
    samplers = optuna.samplers
    if method == "tpe":  # constant_liar: a batch is asked before any of it is told
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if method == "cmaes":
        return samplers.CmaEsSampler(seed=seed)
    return samplers.QMCSampler(seed=seed) if method == "qmc" else samplers.RandomSampler(seed=seed)


def _pruner(optuna: Any, settings: Tuning) -> Any:
    pruners = optuna.pruners
    made = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "percentile": lambda: pruners.PercentilePruner(25.0),
        "halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
    }
    return made[settings.pruner]()


def storage_of(directory: Path) -> str:
    """The storage that a tuning's directory holds."""
    return f"sqlite:///{(directory / 'study.db').absolute()}"
