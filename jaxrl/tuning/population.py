"""Population-based training on the host: a wave that trains in rounds, with selection (pbt.py) between them.

In a directory the population is written as any wave is; rounds.jsonl has a line for each round. A checkpoint never stands
between a round's end and the selection after it, so that a resumed population knows which selections were made.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import stream
from jaxrl.core.numbers import readable
from jaxrl.devices.programs import Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.members import Member
from jaxrl.experiment.search_space import Setting, Span
from jaxrl.runs import documents, files, metrics, snapshot
from jaxrl.runs.callbacks import RowCallback
from jaxrl.runs.directory import ROUNDS
from jaxrl.runs.driver import Stop, Training
from jaxrl.runs.metrics import Table, plain
from jaxrl.runs.progress import Progress
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import reading
from jaxrl.sweeps.result import Recorder, RunResult
from jaxrl.sweeps.waves import DEFAULTS, Options
from jaxrl.tuning import pbt
from jaxrl.tuning.pbt import Round
from jaxrl.tuning.studies import TuningPlan

PBT_KEY = 2**31 - 1  # the root key of selection and perturbation: no member's seed
ROUND_ROW = {"score": list, "diverged": list[bool], "parent": list[int], "hparams": dict}


class PopulationResult(RunResult):
    """What a population of P members gave. Unpacks as `trainer, states`, leaves [P, ...].

    final_return: greedy, mean of 64 episodes, float [P]; NaN where what a member ended with has diverged. best_member: of
    the highest, which is `value`; of the highest on validation levels where the environment has levels. best: the
    hyper-parameters that it ended with; schedule: {name: [R]}, those it was trained under.
    rounds: scores, divergence, parents and hyper-parameters, fields [R, P]. Raises ValueError where every member diverged.
    """

    def __init__(self, *parts: Any, rounds: Round) -> None:
        """parts: as a RunResult takes them."""
        super().__init__(*parts)
        wave, summary = self.wave, self.summary
        lost = {tuple(name) for name in summary["diverged"]}
        self.diverged = np.array([member.name in lost for member in wave.members])
        self.final_return = np.where(self.diverged, np.nan, self.final_return)
        if np.isnan(self.final_return).all():
            raise InputError(f"every member of the population ({len(wave.members)}) diverged")
        initial = {name: np.array([member.hparams[name] for member in wave.members]) for name in rounds.hparams}
        self.rounds, self.env_steps, self.programs = rounds, summary["env_steps"], 1
        chosen_by = np.where(self.diverged, np.nan, self.splits.get("validation", self.final_return))
        self.best_member = int(np.nanargmax(chosen_by))
        self.value = float(self.final_return[self.best_member])
        self.best: Setting = {name: float(values[-1, self.best_member]) for name, values in rounds.hparams.items()}
        self.schedule = pbt.schedule(initial, rounds, self.best_member)

    def __repr__(self) -> str:
        best = f"best: {self.best_member} {search_space.text(self.best)} {readable(self.value)}"
        base = self.wave.experiment
        return f"PopulationResult({base.agent} on {base.env}, {len(self.seeds)} members, {best})"

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each member, as `pandas.DataFrame` takes them."""
        last = {name: values[-1].tolist() for name, values in self.rounds.hparams.items()}
        return {"member": list(range(len(self.seeds))), **last, "final_return": self.final_return.tolist()}


def check(plan: TuningPlan) -> None:
    """Raises ValueError where what is varied cannot be perturbed, rounds are more than iterations, or cannot be stored."""
    if getattr(plan.base.environment, "host", None):
        raise InputError(f"{plan.base.env} is simulated on the host, where a population's rounds cannot be gone on with")
    known = search_space.fields(plan.base)
    for name, axis in plan.axes.items():
        if not isinstance(axis, Span) or known[name].kind != "hparams":
            raise InputError(f"{name}: pbt perturbs ranges of traced hyper-parameters; give {name}=log:LOW,HIGH or leave it")
    iterations = plan.base.trainer().num_iterations
    if plan.settings.rounds > iterations:
        raise InputError(f"rounds = {plan.settings.rounds} is out of range: training has {iterations} iterations")


def wave_of(plan: TuningPlan, folder: Path | None) -> Wave:
    """The population as a wave: one seed a member, from `settings.seed` on, each with hyper-parameters of its own."""
    size, seed = plan.settings.population, plan.settings.seed
    drawn = search_space.sample(plan.axes, size, seed)
    members = tuple(Member(seed + i, i, setting) for i, setting in enumerate(drawn))
    return Wave(plan.base, members, pbt.layout_of(size), path=folder)


def train(
    plan: TuningPlan, folder: Path | None = None, options: Options = DEFAULTS, stop: Stop | None = None
) -> PopulationResult:
    """Train a population; in a directory, from its newest checkpoint."""
    wave, base, rounds = wave_of(plan, folder), plan.base, plan.settings.rounds
    programs = Programs(base.trainer(), wave.layout)
    restored = snapshot.restore(wave, programs.trainer, same_settings=False) if folder else None
    each, total = programs.trainer.num_iterations // rounds, programs.trainer.num_iterations
    made = max(0, -(-(restored.meta["iteration"] if restored else 0) // each) - 1)  # selections before the checkpoint
    made = min(made, rounds - 1)
    recorder, log = Recorder(), _Rounds(folder, made)
    writes = [files.Files(wave, options.checkpoint_every, restored)] if folder else []
    progress = Progress(f"pbt {base.agent} on {base.env}")
    with Training(wave, programs, [*writes, recorder, log, progress], restored, stop) as training:
        select = _selection(training, {name: axis for name, axis in plan.axes.items() if isinstance(axis, Span)})
        for number in range(made, rounds):
            last = number == rounds - 1
            training.advance(total if last else (number + 1) * each)
            log.add(select({name: x[:, number * each :] for name, x in recorder.metrics.items()}, number, last))
        summary, host = training.conclude(), training.host_states()
        return PopulationResult(wave, training.trainer, recorder.metrics, lambda: host, summary, rounds=stacked(log.rounds))


def load(plan: TuningPlan, folder: Path) -> PopulationResult:
    """A finished population out of its directory. Raises ValueError."""
    wave, trainer = wave_of(plan, folder), plan.base.trainer()
    if not wave.finished:
        raise InputError(f"{folder} is not finished; go on with: jaxrl resume {folder}")
    summary = documents.read(folder / documents.SUMMARY, documents.RUN_SUMMARY | {"diverged": list[list]})
    host_states = reading.states_reader(wave, trainer, same_settings=False)
    rounds = stacked(read_rounds(folder, plan.settings.rounds))
    return PopulationResult(wave, trainer, files.read_metrics(wave), host_states, summary, rounds=rounds)


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


class _Rounds(RowCallback):
    """Rounds so far; in a directory also as rounds.jsonl."""

    def __init__(self, folder: Path | None, keep: int) -> None:
        """keep: rounds of an earlier process that count."""
        self.rounds: list[Round] = []
        self._file: metrics.JsonLines | None = None
        if folder is not None:
            path = folder / ROUNDS
            self.rounds = read_rounds(folder, keep) if keep else []
            lines = path.read_bytes().split(b"\n")[:keep] if keep else []
            self._file = metrics.JsonLines(path, sum(len(line) + 1 for line in lines))

    def add(self, row: Round) -> None:
        """Keep a round."""
        self.rounds.append(row)
        if self._file:
            hparams = {name: plain(values) for name, values in row.hparams.items()}
            told = {"score": plain(row.score), "diverged": row.diverged.tolist(), "parent": row.parent.tolist()}
            self._file.write([told | {"hparams": hparams}])
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()


def stacked(rounds: list[Round]) -> Round:
    """All rounds as one, fields [R, P]."""
    return jax.tree.map(lambda *x: np.stack(x), *rounds)


def read_rounds(folder: Path, count: int) -> list[Round]:
    """The first rounds of rounds.jsonl. Raises ValueError where it has fewer, or is damaged."""
    found = [_round(row) for row in metrics.read(folder / ROUNDS, ROUND_ROW)[:count]]
    if len(found) < count:
        raise InputError(f"{folder / ROUNDS} is damaged: it has fewer rounds than its checkpoint says")
    return found


def _round(row: dict[str, Any]) -> Round:
    hparams = {name: np.array(values, np.float32) for name, values in row["hparams"].items()}
    scores = [-np.inf if x is None else x for x in row["score"]]
    diverged, parent = np.array(row["diverged"], bool), np.array(row["parent"], np.int32)
    return Round(np.array(scores, np.float32), diverged, parent, hparams)  # type: ignore[arg-type]
