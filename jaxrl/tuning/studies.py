"""The Optuna study of a tuning: its settings, name and storage; samplers, pruners, and distributions of what is varied."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, NonNegative, Range, build
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import check_seeds
from jaxrl.experiment.search_space import Axis, Choice, Span

if TYPE_CHECKING:
    import optuna

DIVERGED = "diverged"


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
        if self.method in ("halving", "pbt") and self.pruner != "none":
            raise InputError(f"pruner = {self.pruner!r} beside method = {self.method!r}, which selects by itself")
        check_seeds(self.seed, max(self.seeds + self.confirm, self.population if self.method == "pbt" else 0))


@dataclasses.dataclass(frozen=True)
class TuningPlan:
    """What is tuned and how. axes: what is varied. storage: an Optuna storage's URL; None: the directory's own study."""

    base: Experiment
    axes: dict[str, Axis]
    settings: Tuning
    storage: str | None = None


def make_settings(values: Mapping[str, Any]) -> Tuning:
    """Checked settings. Raises ValueError naming the field."""
    return build(Tuning, values, "tune")


def require_optuna() -> Any:
    """The package. Raises ValueError naming the extra where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs the extra: pip install 'jaxrl[tune]'") from error
    return optuna


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """Optuna without its line for each trial, and without warnings of what it calls experimental; gives the package."""
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def name_of(plan: TuningPlan) -> str:
    """The study's name in a storage: agent, environment and a digest of all that makes values comparable.

    Thus a tuning goes on with its own trials only, whatever other studies the storage holds.
    """
    base, settings = plan.base, plan.settings
    varied = {name: search_space.axis_text(axis) for name, axis in plan.axes.items()}
    same = json.dumps([base.to_json(), varied, settings.seeds, settings.seed], sort_keys=True, default=str)
    return f"{base.agent}-{base.env}-{hashlib.sha256(same.encode()).hexdigest()[:8]}"


def open_study(plan: TuningPlan, storage: str | None) -> optuna.Study:
    """The plan's study in a storage (None: in memory), new or continued; for one process at a time.

    Raises ValueError where the storage cannot be opened.
    """
    name, settings = name_of(plan), plan.settings
    with quiet() as optuna:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            found = optuna.storages.get_storage(storage)
            known = name in [s.study_name for s in found.get_all_studies()]
            # A sampler's own state is not in the storage: a continued study draws from a stream of its own.
            drawn = len(found.get_all_trials(found.get_study_id_from_name(name))) if known else 0
            return optuna.create_study(
                study_name=name,
                storage=found,
                sampler=_sampler(optuna, settings.method, settings.seed + drawn),
                pruner=_pruner(optuna, settings),
                direction="maximize",
                load_if_exists=True,
            )
        except (SQLAlchemyError, ImportError, ValueError, OSError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise InputError(f"storage {storage!r} cannot be opened: {reason}") from error


def trials_of(plan: TuningPlan, directory: Path) -> list[Any]:
    """A tuning's trials so far, as Optuna has them; nothing is written."""
    with quiet() as optuna:
        if plan.storage is None and not (directory / "study.db").is_file():
            return []
        try:
            study = optuna.load_study(study_name=name_of(plan), storage=plan.storage or storage_of(directory))
        except KeyError:  # it has not begun
            return []
        return list(study.get_trials(deepcopy=False))


def finished(study: optuna.Study) -> int:
    """Trials that count: whole, cut or diverged, but not those of a killed process."""
    return sum(t.state.name in ("COMPLETE", "PRUNED") or DIVERGED in t.user_attrs for t in study.get_trials(deepcopy=False))


def best_value(study: optuna.Study) -> float:
    """NaN as long as no trial is complete."""
    try:
        return study.best_value
    except ValueError:
        return float("nan")


def distribution(axis: Axis) -> Any:
    """An axis as Optuna draws from it; choices are kept as text."""
    optuna = require_optuna()
    if isinstance(axis, Span):
        return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
    return optuna.distributions.CategoricalDistribution([search_space.value_text(v) for v in axis.values])


def value_of(axis: Axis, told: Any) -> Any:
    """A parameter as Optuna keeps it -> the setting's value."""
    if isinstance(axis, Choice):
        return next(v for v in axis.values if search_space.value_text(v) == told)
    return told


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
