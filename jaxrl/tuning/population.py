"""Population-based training on the host: a wave that trains in rounds, with selection (pbt.py) between them.

In a directory the population is written as any wave is; rounds.jsonl has a line for each round. A checkpoint never stands
between a round's end and the selection after it, so that a resumed population knows which selections were made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer, stream
from jaxrl.core.types import PyTree, TrainState
from jaxrl.devices.programs import Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import Member
from jaxrl.experiment.search_space import Axis, Setting, Span
from jaxrl.runs import documents, files, metrics
from jaxrl.runs.callbacks import Callback, Event
from jaxrl.runs.directory import ROUNDS
from jaxrl.runs.driver import Stop, Training
from jaxrl.runs.metrics import METRICS, Table, plain
from jaxrl.runs.progress import Progress
from jaxrl.runs.wave import Wave
from jaxrl.sweeps.waves import DEFAULTS, Options
from jaxrl.tuning import pbt
from jaxrl.tuning.pbt import Round
from jaxrl.tuning.studies import Tuning

PBT_KEY = 2**31 - 1  # the root key of selection and perturbation: no member's seed
ROUND_ROW = {"score": list, "diverged": list[bool], "parent": list[int], "hparams": dict}


@dataclasses.dataclass
class PopulationResult:
    """final_return: greedy, mean of 64 episodes, float [P]; NaN where what a member ended with has diverged.

    best: the hyper-parameters that the best member ended with. rounds: scores, divergence, parents and hyper-parameters,
    fields [R, P]. schedule: {name: [R]}, under which the best was trained. states: leaves [P, ...]. Unpacks as
    `trainer, states`.
    """

    trainer: Trainer
    states: PyTree
    final_return: np.ndarray
    rounds: Round
    best_member: int
    best: Setting
    schedule: dict[str, list[float]]
    env_steps: int

    def __iter__(self) -> Iterator[Any]:
        yield from (self.trainer, self.states)

    def agent(self, i: int) -> tuple[Trainer, TrainState]:
        """The policy of member i: `jaxrl.evaluate(trainer, state, key)`."""
        return self.trainer, trees.member(self.states, i)

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each member, as `pandas.DataFrame` takes them."""
        last = {name: values[-1].tolist() for name, values in self.rounds.hparams.items()}
        return {"member": list(range(len(self.final_return))), **last, "final_return": self.final_return.tolist()}


def check(base: Experiment, axes: Mapping[str, Axis], settings: Tuning) -> None:
    """Raises ValueError where what is varied cannot be perturbed, or there are more rounds than iterations."""
    known = search_space.fields(base)
    for name, axis in axes.items():
        if not isinstance(axis, Span) or known[name].kind != "hparams":
            raise InputError(f"{name}: pbt perturbs ranges of traced hyper-parameters; give {name}=log:LOW,HIGH or leave it")
    iterations = base.trainer().num_iterations
    if settings.rounds > iterations:
        raise InputError(f"rounds = {settings.rounds} is out of range: training has {iterations} iterations")


def wave_of(base: Experiment, spans: Mapping[str, Axis], settings: Tuning, folder: Path | None) -> Wave:
    """The population as a wave: one seed a member, from `settings.seed` on, each with hyper-parameters of its own."""
    drawn = search_space.sample(spans, settings.population, settings.seed)
    members = tuple(Member(settings.seed + i, i, setting) for i, setting in enumerate(drawn))
    return Wave(base, members, pbt.layout_of(settings.population), path=folder)


def train(
    base: Experiment,
    axes: Mapping[str, Axis],
    settings: Tuning,
    folder: Path | None = None,
    options: Options = DEFAULTS,
    stop: Stop | None = None,
) -> PopulationResult:
    """Train a population; in a directory, from its newest checkpoint."""
    spans = {name: axis for name, axis in axes.items() if isinstance(axis, Span)}
    wave = wave_of(base, axes, settings, folder)
    programs = Programs(base.trainer(), wave.layout)
    restored = files.restore(wave, programs.trainer, same_settings=False) if folder else None
    each, total = programs.trainer.num_iterations // settings.rounds, programs.trainer.num_iterations
    made = max(0, -(-(restored.meta["iteration"] if restored else 0) // each) - 1)  # selections before the checkpoint
    made = min(made, settings.rounds - 1)
    window, log = _Window(made * each), _Rounds(folder, made)
    writes = [files.Files(wave, options.checkpoint_every, restored)] if folder else []
    progress = Progress(f"pbt {base.agent} on {base.env}")
    with Training(wave, programs, [*writes, window, log, progress], restored, stop) as training:
        select = _selection(training, spans)
        for number in range(made, settings.rounds):
            last = number == settings.rounds - 1
            training.advance(total if last else (number + 1) * each)
            log.add(select(window.take(), number, last))
        summary = training.conclude()
        return _result(wave, training.trainer, training.states, training.diverged, summary, log.rounds)


def load(base: Experiment, axes: Mapping[str, Axis], settings: Tuning, folder: Path) -> PopulationResult:
    """A finished population out of its directory. Raises ValueError."""
    wave, trainer = wave_of(base, axes, settings, folder), base.trainer()
    if not wave.finished:
        raise InputError(f"{folder} is not finished; go on with: jaxrl resume {folder}")
    summary = documents.read(folder / documents.SUMMARY, documents.RUN_SUMMARY)
    restored = files.restore(wave, trainer, same_settings=False)
    if restored is None:
        raise InputError(f"{folder} has no checkpoint")
    log, names = _Rounds(folder, settings.rounds, append=False), restored.meta["diverged"]
    lost = np.array([member.label in names for member in wave.members])
    return _result(wave, trainer, restored.states, lost, summary, log.rounds)


def _selection(training: Training, spans: Mapping[str, Span]) -> Any:
    """(metrics of a round, its number, whether it is the last) -> Round; the states go on as selected and perturbed."""
    program = jax.jit(
        functools.partial(pbt.exploit_and_explore, spans=spans),
        out_shardings=(training.wave.layout.sharding, None),
        donate_argnums=0,
    )
    root = jax.random.key(PBT_KEY)

    def select(table: Table, number: int, last: bool) -> Round:
        score = pbt.scores(table["episode_return"], table["episodes"])
        lost = training.diverged.copy()
        parent = np.arange(len(score), dtype=np.int32)
        if not last:
            key = stream(root, number)
            training.states, chosen = program(training.states, jnp.asarray(score), jnp.asarray(lost), key=key)
            parent = np.asarray(chosen)
            training.diverged = lost[parent]
        hparams = {name: np.asarray(getattr(training.states.hparams, name)) for name in spans}
        return Round(score, lost, parent, hparams)  # type: ignore[arg-type]

    return select


def _result(
    wave: Wave, trainer: Trainer, states: PyTree, lost: np.ndarray, summary: dict[str, Any], rounds: Round
) -> PopulationResult:
    listed = summary["final_return"]["per_seed"]
    returns = np.where(lost, np.nan, [np.nan if x is None else x for x in listed])
    if np.isnan(returns).all():
        raise InputError(f"every member of the population ({len(returns)}) diverged")
    best = int(np.nanargmax(returns))
    initial = {name: np.array([member.hparams[name] for member in wave.members]) for name in rounds.hparams}
    return PopulationResult(
        trainer=trainer,
        states=states,
        final_return=returns,
        rounds=rounds,
        best_member=best,
        best={name: float(values[-1, best]) for name, values in rounds.hparams.items()},
        schedule=pbt.schedule(initial, rounds, best),
        env_steps=summary["env_steps"],
    )


class _Window(Callback):
    """The metrics of the round in training; of one that was begun by an earlier process, what metrics.jsonl has of it."""

    def __init__(self, first: int) -> None:
        self._first, self._parts = first, list[Table]()

    def start(self, training: Training) -> None:
        """Take up what an earlier process left."""
        if training.done > self._first:
            path = training.wave.directory / METRICS
            table = metrics.table(metrics.read(path), [member.name for member in training.wave.members], path)
            self._parts = [{name: x[:, self._first :] for name, x in table.items()}]

    def wants_state(self, done: int) -> bool:
        """It keeps metrics only."""
        return False

    def update(self, event: Event) -> None:
        """Keep what selection needs."""
        self._parts += [chunk.metrics for chunk in event.chunks]

    def take(self) -> Table:
        """{name: [P, iterations]} of the round, which ends here."""
        names = ("episode_return", "episodes")
        found = {name: np.concatenate([part[name] for part in self._parts], 1) for name in names}
        self._parts = []
        return found


class _Rounds(Callback):
    """Rounds so far; in a directory also as rounds.jsonl."""

    def __init__(self, folder: Path | None, keep: int, *, append: bool = True) -> None:
        """keep: rounds of an earlier process that count. append: whether more are to come."""
        self._rounds: list[Round] = []
        self._file: metrics.JsonLines | None = None
        if folder is None:
            return
        path = folder / ROUNDS
        if keep:
            self._rounds = [_round(row) for row in metrics.read(path, ROUND_ROW)[:keep]]
            if len(self._rounds) < keep:
                raise InputError(f"{path} is damaged: it has fewer rounds than its checkpoint says")
        if not append:
            return
        lines = path.read_bytes().split(b"\n")[:keep] if keep else []
        self._file = metrics.JsonLines(path, sum(len(line) + 1 for line in lines))

    def wants_state(self, done: int) -> bool:
        """It keeps rounds only."""
        return False

    @property
    def rounds(self) -> Round:
        """All of them, fields [R, P]."""
        return jax.tree.map(lambda *x: np.stack(x), *self._rounds)

    def add(self, row: Round) -> None:
        """Keep a round."""
        self._rounds.append(row)
        if self._file:
            hparams = {name: plain(values) for name, values in row.hparams.items()}
            told = {"score": plain(row.score), "diverged": row.diverged.tolist(), "parent": row.parent.tolist()}
            self._file.write([told | {"hparams": hparams}])
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def _round(row: dict[str, Any]) -> Round:
    hparams = {name: np.array(values, np.float32) for name, values in row["hparams"].items()}
    scores = [-np.inf if x is None else x for x in row["score"]]
    diverged, parent = np.array(row["diverged"], bool), np.array(row["parent"], np.int32)
    return Round(np.array(scores, np.float32), diverged, parent, hparams)  # type: ignore[arg-type]
