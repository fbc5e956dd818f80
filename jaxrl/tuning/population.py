"""Population-based training on the host: rounds of `pbt.make_round`, their log, and checkpoints to resume from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree, TrainState
from jaxrl.devices.programs import CHUNK, FINAL_EPISODES, Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import Axis, Setting, Span
from jaxrl.runs import checkpoint, metrics, rundir
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.progress import Progress
from jaxrl.runs.rundir import Member, Run
from jaxrl.tuning import pbt
from jaxrl.tuning.pbt import Round
from jaxrl.tuning.studies import Tuning

ROUNDS = "rounds.jsonl"
PBT_KEY = 2**31 - 1  # the root key of selection and perturbation: no member's seed
CHECKPOINT_SECONDS = 30.0


@dataclasses.dataclass
class PopulationResult:
    """final_return: greedy, mean of 64 episodes, float [P]; NaN where what a member ended with has diverged.

    best: the hyper-parameters that the best member ended with. rounds: scores, divergence, parents and hyper-parameters,
    fields [R, P]. schedule: {name: [R]}, under which the best was trained.
    """

    trainer: Trainer
    states: PyTree
    final_return: np.ndarray
    rounds: Round
    best_member: int
    best: Setting
    schedule: dict[str, list[float]]
    env_steps: int

    def agent(self, i: int) -> tuple[Trainer, TrainState]:
        """The policy of member i: `jaxrl.evaluate(trainer, state, key)`."""
        return self.trainer, trees.member(self.states, i)


def check(base: Experiment, axes: Mapping[str, Axis], settings: Tuning) -> None:
    """Raises ValueError where what is varied cannot be perturbed, or there are more rounds than iterations."""
    known = search_space.fields(base)
    for name, axis in axes.items():
        if not isinstance(axis, Span) or known[name].kind != "hparams":
            raise InputError(f"{name}: pbt perturbs ranges of traced hyper-parameters; give {name}=log:LOW,HIGH or leave it")
    iterations = base.trainer().num_iterations
    if settings.rounds > iterations:
        raise InputError(f"rounds = {settings.rounds} is out of range: training has {iterations} iterations")


def train(base: Experiment, axes: Mapping[str, Axis], settings: Tuning, directory: Path | None = None) -> PopulationResult:
    """Train a population, one seed a member, from `settings.seed` on; in a directory, from its newest checkpoint."""
    spans: dict[str, Span] = {name: axis for name, axis in axes.items() if isinstance(axis, Span)}
    size, trainer = settings.population, base.trainer()
    drawn = search_space.sample(spans, size, settings.seed)
    members = tuple(Member(settings.seed + i, i, setting) for i, setting in enumerate(drawn))
    layout = pbt.layout_of(size)
    programs, run = Programs(trainer, layout), Run(base, members, 0, layout)
    each = trainer.num_iterations // settings.rounds
    program, root = pbt.make_round(trainer, layout, spans, each), jax.random.key(PBT_KEY)
    with ExitStack() as stack:
        log = _Log(directory, run, trainer, stack)
        states = programs.place(log.restored) if log.done else programs.start(run.arguments(trainer))
        progress = stack.enter_context(
            Progress(f"pbt {base.agent} on {base.env}", settings.rounds, log.done, unit="rounds", value="best score")
        )
        for number in range(log.done, settings.rounds):
            states, row = program(states, root, jnp.int32(number))
            row = jax.device_get(row)
            log.add(row, states)
            progress.update(number + 1, float(np.max(row.score, where=~row.diverged, initial=-np.inf)))
        log.save(states)
        rounds = jax.tree.map(lambda *x: np.stack(x), *log.rounds)
    states, lost = _remainder(programs, states, trainer.num_iterations - each * settings.rounds)
    lost |= rounds.diverged[-1][rounds.parent[-1]]
    returns = np.where(lost, np.nan, programs.evaluate(states, FINAL_EPISODES, trainer.num_iterations).returns.mean(-1))
    if np.isnan(returns).all():
        raise InputError(f"every member of the population ({size}) diverged")
    best = int(np.nanargmax(returns))
    initial = {name: np.array([setting[name] for setting in drawn]) for name in spans}
    return PopulationResult(
        trainer=trainer,
        states=states,
        final_return=returns,
        rounds=rounds,
        best_member=best,
        best={name: float(rounds.hparams[name][-1, best]) for name in spans},
        schedule=pbt.schedule(initial, rounds, best),
        env_steps=trainer.total_steps * size,
    )


def _remainder(programs: Programs, states: PyTree, iterations: int) -> tuple[PyTree, np.ndarray]:
    """What the rounds leave of the iterations, without selection after it; and who diverged in it, bool [P]."""
    states = programs.place(states)  # selection across devices leaves them laid out otherwise
    lost = np.zeros(programs.layout.padded, bool)
    for done in range(0, iterations, CHUNK):
        n = min(CHUNK, iterations - done)
        states, rows = programs.chunk(states, np.int32(n))
        lost |= np.asarray(rows["diverged"])[:, :n].any(1)
    return states, lost


class _Log:
    """Rounds so far; in a directory also as rounds.jsonl, with checkpoints now and then."""

    def __init__(self, directory: Path | None, run: Run, trainer: Trainer, stack: ExitStack) -> None:
        self.rounds: list[Round] = []
        self.restored: Any = None
        self._file: metrics.JsonLines | None = None
        self._last = time.perf_counter()
        if directory is None:
            return
        self._checkpoints = Checkpoints(directory / rundir.CHECKPOINTS)
        found = self._checkpoints.restore(rundir.states_template(run, trainer))
        path = directory / ROUNDS
        if found:
            self.restored, meta = found
            self._file = metrics.JsonLines(path, meta["bytes"])
            self.rounds = [_round(row) for row in metrics.read(path)]
        else:
            self._file = metrics.JsonLines(path, 0)
        stack.callback(self._file.close)

    @property
    def done(self) -> int:
        """Rounds so far."""
        return len(self.rounds)

    def add(self, row: Round, states: PyTree) -> None:
        """Keep a round's row; the states only where the last checkpoint is old."""
        self.rounds.append(row)
        if self._file:
            hparams = {name: metrics.plain(values) for name, values in row.hparams.items()}
            told = {
                "score": metrics.plain(row.score),
                "diverged": row.diverged.tolist(),
                "parent": row.parent.tolist(),
                "hparams": hparams,
            }
            self._file.write([told])
        if time.perf_counter() - self._last > CHECKPOINT_SECONDS:
            self.save(states)

    def save(self, states: PyTree) -> None:
        """A checkpoint of where it stands."""
        if self._file:
            self._checkpoints.save(self.done, checkpoint.to_host(states), {"bytes": self._file.flush()})
        self._last = time.perf_counter()


def _round(row: dict[str, Any]) -> Round:
    hparams = {name: np.array(values, np.float32) for name, values in row["hparams"].items()}
    scores = [-np.inf if x is None else x for x in row["score"]]
    diverged, parent = np.array(row["diverged"], bool), np.array(row["parent"], np.int32)
    return Round(np.array(scores, np.float32), diverged, parent, hparams)  # type: ignore[arg-type]
