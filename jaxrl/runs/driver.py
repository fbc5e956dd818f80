"""The one driver: trains a wave in chunks of the compiled loop, evaluates it, and tells callbacks.

While a chunk runs, callbacks are told of the one before. A chunk's length adapts to about a third of a second; no number
depends on it. Runs, sweeps, trials of a tuning and populations are all trained here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, get_args

import jax
import numpy as np

from jaxrl.core import stats, trees
from jaxrl.core.evaluation import Evaluation
from jaxrl.core.types import PyTree, Split
from jaxrl.devices.programs import CHUNK, EVAL_EPISODES, FINAL_EPISODES, Arguments, Programs
from jaxrl.runs import weights
from jaxrl.runs.callbacks import Chunk, Event, Listener
from jaxrl.runs.checkpoint import to_host
from jaxrl.runs.metrics import plain
from jaxrl.runs.returns import gap_of, stats_of
from jaxrl.runs.snapshot import Snapshot
from jaxrl.runs.wave import Wave

CHUNK_SECONDS = 0.3


class Interruption(Exception):
    """Training was stopped by a signal; what was written can be gone on with. number: the signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, number)  # both, or it could not pass between processes
        self.number = number

    def __str__(self) -> str:
        return str(self.args[0])


class Stop:
    """Whether training was asked to stop. number: the signal that did, or 0."""

    number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM ask training to stop after its chunk; a second one stops it at once, as without us."""
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


class Training:
    """A wave in training. A context manager: callbacks are started when it is entered and closed when it is left.

    done: iterations so far. states: of the members, on the devices, leaves [padded, ...]. stopped: why a callback ended
    training, "" where none did. diverged: bool [members]. run_s, eval_s: seconds of training and of evaluations.
    """

    def __init__(
        self,
        wave: Wave,
        programs: Programs,
        callbacks: Sequence[Any] = (),
        restored: Snapshot | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.wave, self.programs, self.trainer = wave, programs, programs.trainer
        self._listeners, self._stop = [Listener(callback) for callback in callbacks], stop or Stop()
        meta = restored.meta if restored else {}
        self.done = meta.get("iteration", 0)
        self.stopped = meta["stopped"] if meta.get("total_steps") == self.trainer.total_steps else ""  # else it was extended
        self.run_s, self.eval_s = meta.get("run_s", 0.0), meta.get("eval_s", 0.0)
        names = meta.get("diverged", [])
        self.diverged = np.array([member.label in names for member in wave.members])
        try:
            self.states = self._place(restored.states) if restored else programs.start(self._arguments())
        except jax.errors.JaxRuntimeError as error:
            raise self._cause(error) from None
        self._pace, self._exits = Pace(), ExitStack()

    def __enter__(self) -> Training:
        with self._exits:
            for listener in self._listeners:
                self._exits.callback(listener.call, "close")
                listener.call("start", self)
            self._exits = self._exits.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._exits.close()
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise self._cause(error) from None
        if self.trainer.vec.host and error is None:
            self.trainer.vec.host.release(jax.device_get(self.states.env))

    def _cause(self, error: Exception) -> Exception:
        """What a simulator on the host raised, where an error of JAX comes from that."""
        return (self.trainer.vec.host and self.trainer.vec.host.failure()) or error

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.stopped) or self.done >= self.trainer.num_iterations

    @property
    def env_steps(self) -> int:
        """Environment steps of each member so far."""
        return self.done * self.trainer.steps_per_iteration

    def meta(self) -> dict[str, Any]:
        """Plain values that go on with the states: `Snapshot` takes them back."""
        return {
            "iteration": self.done,
            "total_steps": self.trainer.total_steps,
            "stopped": self.stopped,
            "run_s": self.run_s,
            "eval_s": self.eval_s,
            "diverged": [m.label for m, lost in zip(self.wave.members, self.diverged, strict=True) if lost],
        }

    def advance(self, until: int | None = None) -> None:
        """Train until so many iterations are done in all (None: to the end), or a callback stops it.

        Raises Interruption where a signal came.
        """
        until = self.trainer.num_iterations if until is None else until
        program, running = self.programs.chunk, None
        self._pace.resume()
        while self.done < until and not self.stopped:
            count = min(self._pace.length, self._boundary(until) - self.done)
            self.states, rows = program(self.states, np.int32(count))
            if running:
                self._tell(*running, synchronous=False)
            running = (self.done, count, rows)
            self.done += count
            interrupted = self._stop.number  # a signal from here on waits for the next chunk
            wanted = [each.call("wants_state", self.done) for each in self._listeners if not each.every]  # all are asked
            if interrupted or any(wanted) or self.done == self._boundary(until, self.done - 1):
                self._tell(*running, synchronous=True)
                running = None
            if interrupted and self.done < self.trainer.num_iterations:
                self._leave()
                where = f"step {self.env_steps:,} of {self.trainer.total_steps:,}"
                raise Interruption(f"stopped by {signal.Signals(interrupted).name} at {where}", interrupted)
        if running:
            self._tell(*running, synchronous=True)
        if self.finished:
            self._leave()

    def keep(self, index: np.ndarray, programs: Programs, wave: Wave) -> None:
        """Go on with the members at `index` only, in other programs; `wave` are these members, laid out for them."""
        kept = trees.member(self.states, index)
        self.wave, self.programs, self.diverged = wave, programs, self.diverged[index]
        self.states = self._place(kept)

    def host_states(self) -> PyTree:
        """A copy of the members' states on the host, leaves [members, ...]; typed keys as their raw data."""
        states, host = self.wave.layout.unpad(to_host(self.states)), self.trainer.vec.host
        return states._replace(env=host.stored(states.env)) if host else states

    @property
    def validation(self) -> Split | None:
        """The levels by which anything is chosen: "validation" where the environment has levels, else None."""
        return "validation" if self.trainer.env.spec.splits else None

    def evaluate(self, episodes: int = FINAL_EPISODES, split: Split | None = None) -> Evaluation:
        """A greedy evaluation of the members as they stand, on the host: fields [members, episodes].

        split: of an environment with levels those to play; None: its parameters as they are. Raises ValueError.
        """
        return self.wave.layout.unpad(self.programs.evaluate(self.states, episodes, self.done, split))

    def conclude(self) -> dict[str, Any]:
        """The final evaluation and what summary.json says; callbacks are told of it.

        Where the environment has levels each split is evaluated; what is called final is of those of the test.
        """
        of_splits = {split: self.evaluate(split=split) for split in get_args(Split)} if self.validation else {}
        result = of_splits["test"] if of_splits else self.evaluate()
        per_seed, scores = np.mean(result.returns, -1), self.trainer.env.spec.scores
        summary = {
            "agent": self.wave.experiment.agent,
            "env": self.wave.experiment.env,
            "seeds": len(self.wave.members),
            "env_steps": self.env_steps * len(self.wave.members),
            "final_return": stats_of(per_seed),
            **gap_of({split: np.mean(found.returns, -1) for split, found in of_splits.items()}),
            **({"human_normalized": plain(scores.normalized(per_seed.mean()))} if scores else {}),
            "per_seed_interval": [plain(stats.bootstrap_interval(x)) for x in result.returns],
            "diverged": [m.name for m, lost in zip(self.wave.members, self.diverged, strict=True) if lost],
            "compile_s": round(self.programs.compile_s, 3),
            "run_s": round(self.run_s, 6),
            "eval_s": round(self.eval_s, 6),
            "steps_per_s": round(self.env_steps * len(self.wave.members) / max(self.run_s, 1e-9)),
            "peak_bytes": self.programs.peak_bytes(),
            **({"stopped": self.stopped} if self.stopped else {}),
            **({"out": str(self.wave.path)} if self.wave.path else {}),
        }
        for listener in self._listeners:
            listener.call("finish", self, summary)
        return summary

    def _arguments(self) -> Arguments:
        """What the members begin with."""
        seeds = np.array([member.seed for member in self.wave.members])
        loaded = weights.loaded(self.wave.experiment, self.trainer, seeds)
        return self.wave.arguments(self.trainer)._replace(params=self.wave.layout.pad(loaded))

    def _place(self, states: PyTree) -> PyTree:
        """The members' states [members, ...] on the devices that compute them, padded."""
        padded, host, members = self.wave.layout.pad(states), self.trainer.vec.host, len(self.wave.members)
        if host:
            env = jax.tree.map(lambda x, y: np.concatenate([x[:members], y[members:]]), padded.env, host.idle(padded.env))
            padded = padded._replace(env=env)
        return jax.device_put(padded, self.programs.layout.sharding)

    def _boundary(self, until: int, after: int | None = None) -> int:
        """The next iteration count at which somebody must be told: an evaluation, a callback's `every`, or `until`."""
        done = self.done if after is None else after
        restarts = self.trainer.restart_iterations * self.trainer.steps_per_iteration if self.trainer.vec.host else 0
        periods = [restarts, self.wave.eval_every, *(listener.every for listener in self._listeners)]
        return min([until, *(self._reached(done, every) for every in periods if every)])

    def _reached(self, done: int, every: int) -> int:
        """The first iteration count after `done` that reaches a multiple of `every` environment steps."""
        per = self.trainer.steps_per_iteration
        return -(-(done * per // every + 1) * every // per)

    def _due(self, every: int) -> bool:
        return bool(every) and self.done == self._reached(self.done - 1, every)

    def _tell(self, first: int, count: int, device_rows: Any, *, synchronous: bool) -> None:
        """Tell callbacks of a chunk. synchronous: no other one was begun, so that the state is that after it."""
        rows = {name: x[: len(self.wave.members), :count] for name, x in jax.device_get(device_rows).items()}
        seconds = self._pace.finished(count)
        self.run_s += seconds
        self.diverged |= rows["diverged"].any(1)
        evaluated, eval_seconds = self._evaluated() if synchronous and self._due(self.wave.eval_every) else ({}, 0.0)
        chunk = Chunk(first, rows, evaluated, seconds, eval_seconds)
        for listener in self._listeners:
            listener.pending.append(chunk)
            if not listener.every or (synchronous and self._due(listener.every)):
                listener.call("update", self._event(listener, synchronous))
                listener.pending = []

    def _evaluated(self) -> tuple[dict[str, np.ndarray], float]:
        """Means over a greedy evaluation's episodes, each [members], and its seconds, without compiling."""
        jax.block_until_ready(self.states)
        self.programs.evaluator(EVAL_EPISODES, self.validation)
        begin = time.perf_counter()
        result = self.evaluate(EVAL_EPISODES, self.validation)
        seconds = time.perf_counter() - begin
        self.eval_s += seconds
        self._pace.resume()
        lengths = np.mean(result.lengths, -1, dtype=np.float32)
        return {"eval_return": np.mean(result.returns, -1), "eval_length": lengths}, seconds

    def _leave(self) -> None:
        for listener in self._listeners:
            listener.call("leave", self._event(listener, True))
            listener.pending = []

    def _event(self, listener: Listener, synchronous: bool) -> Event:
        done = (listener.pending[-1].first + listener.pending[-1].count) if listener.pending else self.done
        steps = done * self.trainer.steps_per_iteration
        state = self.host_states if synchronous else _no_state
        return Event(self, list(listener.pending), steps, steps / self.trainer.total_steps, state, self._stop_for)

    def _stop_for(self, reason: str) -> None:
        self.stopped = self.stopped or reason or "stopped"


def _no_state() -> PyTree:
    raise RuntimeError("the state is given away by now: let the callback's `wants_state` ask for it, or set `every`")


class Pace:
    """How long chunks take, and from that how many iterations the next one should have."""

    def __init__(self) -> None:
        self.length = 1
        self._last = time.perf_counter()

    def resume(self) -> None:
        """What was done until now is none of training's."""
        self._last = time.perf_counter()

    def finished(self, iterations: int) -> float:
        """A chunk of so many iterations is done; returns the seconds since the last one was."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        ideal = iterations * CHUNK_SECONDS / max(seconds, 1e-6)
        self.length = max(1, min(CHUNK, int(ideal), 4 * self.length))
        return seconds
