"""The callback that writes a wave's files: metrics.jsonl, timing.jsonl, checkpoints and, at its end, summary.json."""

from __future__ import annotations

from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.runs import documents, metrics
from jaxrl.runs.callbacks import Callback, Event
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.documents import SUMMARY
from jaxrl.runs.driver import Training
from jaxrl.runs.metrics import METRICS, TIMING, JsonLines
from jaxrl.runs.snapshot import Snapshot, resumable
from jaxrl.runs.wave import CHECKPOINTS, Wave


def read_metrics(wave: Wave) -> metrics.Table:
    """A wave's metrics.jsonl as {name: [members, iterations]}. Raises ValueError."""
    rows = metrics.read(wave.directory / METRICS)
    if not rows:
        raise InputError(f"{wave.directory} has no metrics yet")
    return metrics.table(rows, [member.name for member in wave.members], wave.directory / METRICS)


class Files(Callback):
    """Writes what is new after each chunk, and a checkpoint every so many seconds and where training ends.

    Rows are on disk before the checkpoint that records how many bytes of them belong to it.
    """

    def __init__(self, wave: Wave, checkpoint_every: float, restored: Snapshot | None) -> None:
        """checkpoint_every: seconds of training. restored: where the files are gone on from; None: from nothing."""
        self._directory, self._every = wave.directory, checkpoint_every
        self._checkpoints = Checkpoints(self._directory / CHECKPOINTS)
        self._bytes = restored.meta["metrics_bytes"] if restored else 0
        meta = restored.meta if restored else {"iteration": -1, "stopped": ""}
        self._unsaved, self._saved = 0.0, (meta["iteration"], meta["stopped"])
        self._due = False  # whether the next `update` saves

    def start(self, training: Training) -> None:
        """Cut what comes after the checkpoint."""
        self._trainer = training.trainer
        self._checkpoints.discard_after(training.done)
        self._log = JsonLines(self._directory / METRICS, self._bytes)
        self._timing = JsonLines(self._directory / TIMING)

    def wants_state(self, done: int) -> bool:
        """For a checkpoint that is due."""
        self._due = self._unsaved >= self._every and resumable(self._trainer, done)
        return self._due

    def update(self, event: Event) -> None:
        """Write the rows; save where a checkpoint is due."""
        self._log.write(event.rows)
        per = event.training.trainer.steps_per_iteration
        for chunk in event.chunks:
            steps = (chunk.first + chunk.count) * per
            row = {"env_steps": steps, "iterations": chunk.count, "seconds": round(chunk.seconds, 6)}
            self._timing.write([row | ({"eval_seconds": round(chunk.eval_seconds, 6)} if chunk.evaluated else {})])
            self._unsaved += chunk.seconds
        if self._due:
            self._save(event)
            self._due = False
        elif event.evaluation:
            self._log.flush()  # whoever watches the run sees it

    def leave(self, event: Event) -> None:
        """Save where training ends, or from where it can go on."""
        done = event.training.done
        if self._saved != (done, event.training.stopped) and (event.training.finished or resumable(self._trainer, done)):
            self._save(event)

    def finish(self, training: Training, summary: dict[str, Any]) -> None:
        """Write summary.json, which tells that the wave is finished."""
        documents.write(self._directory / SUMMARY, summary)

    def close(self) -> None:
        for file in (getattr(self, "_log", None), getattr(self, "_timing", None)):
            if file:
                file.close()

    def _save(self, event: Event) -> None:
        self._timing.flush()
        meta = event.training.meta() | {"metrics_bytes": self._log.flush()}
        self._checkpoints.save(event.training.done, event.state(), meta)
        self._saved, self._unsaved = (event.training.done, event.training.stopped), 0.0
