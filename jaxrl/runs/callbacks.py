"""Callbacks: objects that are told on the host, between chunks of training, what is new.

A callback is any object with some of the methods of `Callback`. It can read the new rows and the state, write somewhere, or
ask training to stop. It cannot change the numbers of a member.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.core import checks
from jaxrl.core.errors import InputError, unknown
from jaxrl.core.types import PyTree
from jaxrl.experiment import lookup
from jaxrl.runs.checkpoint import Checkpoints, to_host
from jaxrl.runs.metrics import METRICS, Row, plain, read, rows_of

Training = Any  # runs.driver.Training, which tells callbacks and so cannot be imported here


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Iterations that were trained. metrics: {name: [members, count]} on the host. first: the iterations before it.

    evaluated: {name: [members]} of a greedy evaluation after it; empty where there was none.
    seconds, eval_seconds: what training and evaluation took.
    """

    first: int
    metrics: dict[str, np.ndarray]
    evaluated: dict[str, np.ndarray]
    seconds: float
    eval_seconds: float

    @property
    def count(self) -> int:
        """How many iterations."""
        return int(next(iter(self.metrics.values())).shape[1])


class Event(NamedTuple):
    """What a callback is told. chunks: those since it was told last, one or more.

    env_steps: of each member so far. progress: in [0, 1]. state: gives the TrainStates on the host, leaves [members, ...];
    only a callback that wants it (see `Callback.wants_state`) may call it. stop: ends training here, with a reason.
    """

    training: Training
    chunks: Sequence[Chunk]
    env_steps: int
    progress: float
    state: Callable[[], PyTree]
    stop: Callable[[str], None]

    @property
    def rows(self) -> list[Row]:
        """One row for each iteration and member, as in metrics.jsonl."""
        labels = [member.label for member in self.training.wave.members]
        return [row for chunk in self.chunks for row in rows_of(chunk.first, chunk.metrics, chunk.evaluated, labels)]

    @property
    def evaluation(self) -> dict[str, np.ndarray]:
        """The newest evaluation's means, {"eval_return", "eval_length": [members]}; empty where none is new."""
        return next((chunk.evaluated for chunk in reversed(self.chunks) if chunk.evaluated), {})


class Callback:
    """What a callback may do; inherit from it, or have any of these methods.

    every: environment steps of a member between two calls of `update`, which then come at the same iterations whatever the
    machine's pace; 0: after every chunk.
    """

    every: int = 0
    needs_evaluations: bool = False  # whether it is of no use without `eval_every`

    def start(self, training: Training) -> None:
        """Training begins, or goes on after `training.done` iterations."""

    def wants_state(self, done: int) -> bool:
        """Whether the next `update`, after `done` iterations, reads the state; the device then waits for it."""
        return True

    def update(self, event: Event) -> None:
        """Something was trained."""

    def leave(self, event: Event) -> None:
        """Training ends here: it is done, was stopped by a callback, or interrupted. `event.state` may be read."""

    def finish(self, training: Training, summary: dict[str, Any]) -> None:
        """Trained and evaluated; `summary` is what summary.json says."""

    def close(self) -> None:
        """Give back what is open, also after an error."""


class RowCallback(Callback):
    """A callback that reads rows and evaluations only, so that the device need not wait for it."""

    def wants_state(self, done: int) -> bool:
        """No; it may read the state after an evaluation, when it is there anyway."""
        return False


class StopAtReturn(RowCallback):
    """Stops once a greedy evaluation, averaged over all members, reaches a return. Needs evaluations (`eval_every`)."""

    needs_evaluations = True

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def update(self, event: Event) -> None:
        """Look at the newest evaluation."""
        if event.evaluation and (mean := float(np.mean(event.evaluation["eval_return"]))) >= self.value:
            event.stop(f"return {mean:.6g} >= {self.value:g}")


class StopEarly(RowCallback):
    """Stops once `patience` greedy evaluations in a row, averaged over all members, were no better than the best before.

    Needs evaluations (`eval_every`). A run that is gone on with counts those that its metrics.jsonl has.
    """

    needs_evaluations = True

    def __init__(self, patience: int) -> None:
        self.patience = int(patience)
        if self.patience < 1:
            raise InputError(f"patience = {patience} must be >= 1")

    def start(self, training: Training) -> None:
        """Look at the evaluations of an earlier process."""
        self.best, self.waited = -np.inf, 0
        path = training.wave.path and training.wave.path / METRICS
        if path and training.done:
            rows = [row for row in read(path) if row["env_steps"] <= training.env_steps and "eval_return" in row]
            for steps in sorted({row["env_steps"] for row in rows}):
                self._see([row["eval_return"] for row in rows if row["env_steps"] == steps])

    def update(self, event: Event) -> None:
        """Look at the newest evaluation."""
        if event.evaluation:
            self._see(plain(event.evaluation["eval_return"]))
            if self.waited >= self.patience:
                event.stop(f"no better than {self.best:.6g} in {self.patience} evaluations")

    def _see(self, returns: list[float | None]) -> None:
        """The members' returns as metrics.jsonl has them, so that a process that goes on sees the same numbers."""
        mean = float(np.mean([np.nan if x is None else x for x in returns]))
        self.best, self.waited = (mean, 0) if mean > self.best else (self.best, self.waited + 1)


class Listener:
    """A callback, and the chunks that it was not told of yet. Methods that it lacks are `Callback`'s.

    callback: an object or, as `make` takes it, a name.
    """

    def __init__(self, callback: Any) -> None:
        self.name = callback if lookup.is_name(callback) else ""
        self.callback = make(callback)
        self.every = int(getattr(self.callback, "every", 0))
        self.pending: list[Chunk] = []

    def call(self, name: str, *args: Any) -> Any:
        """Call one of its methods. Raises InputError for what own code raises that was given by name."""
        found = getattr(self.callback, name, None)
        if found is None:
            return getattr(Callback, name)(self, *args)
        with checks.explained(f"{name} of callback {self.name}", (Exception,) if self.name else ()):
            return found(*args)


class KeepBest(RowCallback):
    """Keeps each member's policy of its best greedy evaluation, in the folder `best`. Needs evaluations (`eval_every`).

    `jaxrl.load(DIR, best=True)` reads it. returns: the best so far, float [members].
    """

    needs_evaluations = True

    def start(self, training: Training) -> None:
        """Go on from what an earlier process kept: it went the same way, so nothing of it can be better than what comes."""
        self.returns = np.full(len(training.wave.members), -np.inf)
        self._kept: PyTree = None
        self._files = None if training.wave.path is None else Checkpoints(training.wave.path / BEST)
        found = self._files.restore(training.wave.template(training.trainer)) if self._files else None
        if found:
            self._kept, self.returns = to_host(found[0]), np.array(found[1]["returns"], float)

    def update(self, event: Event) -> None:
        """Keep the members whose newest evaluation is their best."""
        returns = event.evaluation.get("eval_return")
        if returns is None or not (better := returns > self.returns).any():
            return
        state = event.state()
        self._kept = (
            state if self._kept is None else jax.tree.map(lambda new, old: _where(better, new, old), state, self._kept)
        )
        self.returns = np.where(better, returns, self.returns)
        if self._files:
            self._files.save(event.training.done, self._kept, {"returns": [float(x) for x in self.returns]})

    def finish(self, training: Training, summary: dict[str, Any]) -> None:
        """The best evaluations are part of the summary."""
        summary["best_return"] = plain(self.returns)


def _where(mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y)


BUILT_IN: dict[str, Callable[..., Any]] = {"stop_at_return": StopAtReturn, "stop_early": StopEarly, "keep_best": KeepBest}
METHODS = ("start", "update", "leave", "finish")
BEST = "best"  # the folder of KeepBest


def make(callback: Any) -> Any:
    """A callback from its name with arguments, `stop_at_return(475)` or `path/file.py:Solved(475)`; an object as it is.

    Raises ValueError for a name that does not exist, or arguments that do not fit.
    """
    if not isinstance(callback, str):
        return callback
    name, arguments, keywords = lookup.call_of(callback, "callback")
    if not lookup.is_name(name) and name not in BUILT_IN:
        raise unknown("callback", name, BUILT_IN)
    factory = lookup.find(name) if lookup.is_name(name) else BUILT_IN[name]
    return lookup.fitting(factory, f"callback {callback!r}", *arguments, **keywords) if callable(factory) else factory


def sources(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The files behind callbacks that were made by name: {name: {"path", "sha256"}}."""
    own = [lookup.call_of(name, "callback")[0] for name in names]
    return {name: lookup.source(name) for name in own if lookup.is_name(name)}


def check(callbacks: Iterable[Any], eval_every: int) -> None:
    """Raises ValueError where a callback cannot be made, or needs evaluations and there are none."""
    for callback in callbacks:
        made = make(callback)
        if not any(hasattr(made, name) for name in METHODS):
            raise InputError(f"callback {callback!r} has none of a callback's methods: {', '.join(METHODS)}")
        if getattr(made, "needs_evaluations", False) and not eval_every:
            raise InputError(f"callback {callback!r} needs evaluations in training: give eval_every (--eval-every)")
