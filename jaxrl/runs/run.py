"""The host driver: chunks of the loop, progress, files, checkpoints, signals. The only impure core file.

While a chunk runs, the rows of the one before are written. A chunk's length adapts to about a third of a second; results do
not depend on it.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from jaxrl.core import stats, trees
from jaxrl.core.errors import InputError
from jaxrl.core.evaluation import Evaluation
from jaxrl.core.loop import RENDER, stream
from jaxrl.core.types import PyTree
from jaxrl.devices.programs import CHUNK, EVAL_EPISODES, FINAL_EPISODES, Programs
from jaxrl.runs import checkpoint, metrics, rundir, sinks
from jaxrl.runs.progress import Progress
from jaxrl.runs.rundir import Run
from jaxrl.show import plot, render, value_map

CHUNK_SECONDS = 0.3


class Interrupted(Exception):
    """The run was asked to stop, and has: its state is in a checkpoint. signal: which one asked."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, number)  # both, or it could not pass between processes
        self.number = number

    def __str__(self) -> str:
        return str(self.args[0])


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is written, none of which changes its numbers.

    checkpoint_every: seconds. wandb: a project of Weights & Biases. group: what the members are there, by default the
    directory's name. label: beside the progress. patience: seconds to wait longer than usual for another process that trains
    there.
    """

    checkpoint_every: float = 30.0
    tensorboard: bool = False
    wandb: str | None = None
    pictures: bool = True
    group: str = ""
    label: str = ""
    patience: float = 0.0


def train(
    run: Run, directory: Path, options: Options = Options(), overwrite: bool = False, programs: Programs | None = None
) -> dict[str, Any]:
    """Train every member of `run` into a new directory and return its summary. Raises ValueError, Interrupted.

    programs: compiled before for this experiment and layout.
    """
    sinks.require(options.tensorboard, options.wandb)
    programs = programs or Programs(run.experiment.trainer(), run.layout)
    rundir.create(directory, run, overwrite)
    with rundir.held(directory / rundir.CONFIG, options.patience):
        return _Driver(run, programs, directory, options).finish(None)


def resume(directory: Path, options: Options = Options(), programs: Programs | None = None) -> dict[str, Any]:
    """Go on with a run where its newest intact checkpoint stands, bit for bit. Raises ValueError, Interrupted."""
    sinks.require(options.tensorboard, options.wandb)
    run, values = rundir.open_run(directory)
    if run.layout.devices > jax.local_device_count():
        raise InputError(
            f"{directory} ran on {run.layout.devices} devices, here are {jax.local_device_count()}: "
            "its numbers depend on its layout, so it cannot go on here"
        )
    began = values.get("device", {}).get("platform", jax.default_backend())
    if began != jax.default_backend():
        raise InputError(
            f"{directory} ran on {began}, here is {jax.default_backend()}: its numbers would not go on as they began"
        )
    programs = programs or Programs(run.experiment.trainer(), run.layout)
    with rundir.held(directory / rundir.CONFIG, options.patience):
        restored = rundir.restore(directory, run, programs.trainer)
        return _Driver(run, programs, directory, options).finish(restored)


class _Driver:
    """One process's share of a run."""

    def __init__(self, run: Run, programs: Programs, directory: Path, options: Options) -> None:
        self.run, self.programs, self.directory, self.options = run, programs, directory, options
        self.trainer = programs.trainer
        self.checkpoints = checkpoint.Checkpoints(directory / rundir.CHECKPOINTS)
        self.run_s = self.eval_s = 0.0
        self.labels = [member.label for member in run.members]
        self.sinks: list[sinks.Sink] = []

    def finish(self, restored: tuple[PyTree, dict[str, Any]] | None) -> dict[str, Any]:
        """Train from a restored checkpoint, or from the start, to the end; then evaluate, draw and summarise."""
        meta: dict[str, Any] = restored[1] if restored else {"iteration": 0, "metrics_bytes": 0, "run_s": 0.0, "eval_s": 0.0}
        self.run_s, self.eval_s = meta["run_s"], meta.get("eval_s", 0.0)
        self.checkpoints.discard_after(meta["iteration"])
        state = (
            self.programs.place(self.run.layout.pad(restored[0]))
            if restored
            else self.programs.start(self.run.arguments(self.trainer))
        )
        done_steps = meta["iteration"] * self.trainer.steps_per_iteration
        with ExitStack() as sinking:
            for sink in self._open_sinks(done_steps, meta["metrics_bytes"]):
                sinking.callback(sink.close)
                self.sinks.append(sink)
            state = self._train(state, meta, done_steps)
            summary = self._conclude(state)
            for sink in self.sinks:
                sink.finish(summary)
        return summary

    def _open_sinks(self, done_steps: int, done_bytes: int) -> Iterator[sinks.Sink]:
        how, group = self.options, self.options.group or self.directory.resolve().name
        return sinks.open_sinks(self.directory, self.run.members, how.tensorboard, how.wandb, group, done_steps, done_bytes)

    def _train(self, state: PyTree, meta: Mapping[str, Any], done_steps: int) -> PyTree:
        """The state after the last iteration, from the one that `meta` says."""
        with ExitStack() as stack:
            stop = stack.enter_context(stop_signals())
            self.log = metrics.JsonLines(self.directory / rundir.METRICS, meta["metrics_bytes"])
            stack.callback(self.log.close)
            self.timing = metrics.JsonLines(self.directory / rundir.TIMING)
            stack.callback(self.timing.close)
            label = f"{self.run.experiment.env} {self.run.experiment.agent} {self.options.label}".rstrip()
            self.progress = stack.enter_context(Progress(label, self.trainer.total_steps, done_steps))
            if meta["iteration"] < self.trainer.num_iterations:
                state = self._loop(state, meta["iteration"], stop)
        return state

    def _loop(self, state: PyTree, done: int, stop: Stop) -> PyTree:
        """Run chunks from iteration `done` on; every exit leaves a checkpoint of where it stands."""
        program = self.programs.chunk
        total, pace = self.trainer.num_iterations, _Pace()
        pending: tuple[int, int, Any] | None = None
        while done < total:
            boundary = min(total, self._next_evaluation(done))
            n = min(pace.length, boundary - done)
            state, rows = program(state, np.int32(n))
            if pending:
                self._write(pending, pace)
            pending = (done, n, rows)
            done += n
            evaluating = self.run.eval_every and done == self._next_evaluation(done - 1)
            stopped = stop.number  # a signal from here on waits for the next chunk
            saving = stopped or done == total or pace.since_checkpoint >= self.options.checkpoint_every
            if evaluating or saving:
                self._write(pending, pace, *self._evaluation(state, done, pace) if evaluating else ())
                pending = None
            if saving:
                self._checkpoint(state, done, pace)
            elif evaluating:
                self.log.flush()  # whoever watches the run sees it
            if stopped and done < total:
                name = signal.Signals(stopped).name
                steps = done * self.trainer.steps_per_iteration
                raise Interrupted(
                    f"stopped by {name} at step {steps:,} of {self.trainer.total_steps:,}; "
                    f"go on with: jaxrl resume {self.directory}",
                    stopped,
                )
        return state

    def _next_evaluation(self, done: int) -> int:
        """The first iteration count after `done` that reaches a multiple of `eval_every` environment steps."""
        every, per = self.run.eval_every, self.trainer.steps_per_iteration
        return -(-(done * per // every + 1) * every // per) if every else self.trainer.num_iterations

    def _write(
        self, pending: tuple[int, int, Any], pace: _Pace, evaluated: Mapping[str, np.ndarray] = {}, eval_s: float = 0.0
    ) -> None:
        """Write a chunk's rows; `evaluated` values [members], which took eval_s, go to the rows of its last iteration."""
        first, count, device_rows = pending
        host = jax.device_get(device_rows)
        seconds = pace.finished(count)
        self.run_s += seconds
        found = metrics.rows(host, first, count, self.labels)
        for name, values in evaluated.items():
            for row, value in zip(found[-len(self.labels) :], values, strict=True):
                row[name] = metrics.plain(value)
        self.log.write(found)
        for sink in self.sinks:
            sink.write(found)
        steps = (first + count) * self.trainer.steps_per_iteration
        timing = {"env_steps": steps, "iterations": count, "seconds": round(seconds, 6)}
        self.timing.write([timing | ({"eval_seconds": round(eval_s, 6)} if evaluated else {})])
        last = [row["episode_return"] for row in found if row["episode_return"] is not None][-len(self.labels) :]
        self.progress.update(steps, float(np.mean(last)) if last else math.nan)

    def _evaluation(self, state: PyTree, done: int, pace: _Pace) -> tuple[dict[str, np.ndarray], float]:
        """Means over a greedy evaluation's episodes, each [members], and the seconds that it took, compiling apart."""
        with pace.paused(state):
            self.programs.evaluator(EVAL_EPISODES)
            start = time.perf_counter()
            result = self._evaluate(state, EVAL_EPISODES, done)
            seconds = time.perf_counter() - start
        self.eval_s += seconds
        length = np.mean(result.lengths, -1, dtype=np.float32)
        return {"eval_return": np.mean(result.returns, -1), "eval_length": length}, seconds

    def _evaluate(self, state: PyTree, episodes: int, done: int) -> Evaluation:
        return self.run.layout.unpad(self.programs.evaluate(state, episodes, done))

    def _checkpoint(self, state: PyTree, done: int, pace: _Pace) -> None:
        host = self.run.layout.unpad(checkpoint.to_host(state))
        self.timing.flush()
        meta = {"iteration": done, "metrics_bytes": self.log.flush(), "run_s": self.run_s, "eval_s": self.eval_s}
        self.checkpoints.save(done, host, meta)
        pace.since_checkpoint = 0.0

    def _conclude(self, state: PyTree) -> dict[str, Any]:
        """The final evaluation, the pictures and summary.json."""
        result = self._evaluate(state, FINAL_EPISODES, self.trainer.num_iterations)
        per_seed = np.mean(result.returns, -1)
        low, high = stats.bootstrap_interval(per_seed)
        env_steps = self.trainer.total_steps * len(self.labels)
        summary = {
            "agent": self.run.experiment.agent,
            "env": self.run.experiment.env,
            "seeds": len(self.labels),
            "env_steps": env_steps,
            "final_return": {
                "mean": metrics.plain(per_seed.mean()),
                "iqm": metrics.plain(stats.iqm(per_seed)),
                "ci_low": metrics.plain(low),
                "ci_high": metrics.plain(high),
                "per_seed": metrics.plain(per_seed),
            },
            "per_seed_interval": [metrics.plain(stats.bootstrap_interval(x)) for x in result.returns],
            "diverged": metrics.diverged(metrics.read(self.directory / rundir.METRICS)),
            "compile_s": round(self.programs.compile_s, 3),
            "run_s": round(self.run_s, 6),
            "eval_s": round(self.eval_s, 6),
            "steps_per_s": round(env_steps / max(self.run_s, 1e-9)),
            "peak_bytes": self.programs.peak_bytes(),
            "out": str(self.directory),
        }
        if self.options.pictures:
            plot.curve([self.directory], self.directory / rundir.CURVE)
            first = trees.member(state, 0)
            render.policy_gif(self.trainer, first, stream(first.key, RENDER), self.directory / rundir.GIF)
            table = value_map.q_table(self.trainer, first)
            if table is not None:
                value_map.picture(self.trainer.env.spec, table, self.directory / rundir.VALUES)
        rundir.write_json(self.directory / rundir.SUMMARY, summary)
        return summary


class _Pace:
    """How long chunks take, and from that how many iterations the next one should have."""

    def __init__(self) -> None:
        self.length = 1
        self.since_checkpoint = 0.0
        self._last = time.perf_counter()

    def finished(self, iterations: int) -> float:
        """A chunk of so many iterations is done; returns the seconds since the last one was."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self.since_checkpoint += seconds
        ideal = iterations * CHUNK_SECONDS / max(seconds, 1e-6)
        self.length = max(1, min(CHUNK, int(ideal), 4 * self.length))
        return seconds

    @contextmanager
    def paused(self, state: PyTree) -> Iterator[None]:
        """Leave out of the pace what is done within; `state` is waited for first."""
        jax.block_until_ready(state)
        start = time.perf_counter()
        yield
        self._last += time.perf_counter() - start


class Stop:
    """number: the signal that asked to stop, or 0."""

    number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM ask the run to stop after its chunk; a second one stops it at once, as without us."""
    stop = Stop()
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for wanted in (signal.SIGINT, signal.SIGTERM):
        try:
            before[wanted] = signal.signal(wanted, handle)
        except ValueError:  # not the main thread: signals are not ours to take
            break
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
