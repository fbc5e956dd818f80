"""What training gave: every member's numbers and policy, of a run or a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import stats, trees
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.numbers import counted, readable
from jaxrl.core.types import PyTree, TrainState
from jaxrl.experiment import search_space
from jaxrl.runs import checkpoint, files
from jaxrl.runs.callbacks import Event, RowCallback
from jaxrl.runs.documents import SUMMARY
from jaxrl.runs.driver import Training
from jaxrl.runs.metrics import Table
from jaxrl.runs.wave import Wave
from jaxrl.sweeps.plan import Plan


class RunResult:
    """What members trained side by side gave: the seeds of a run, a wave of a sweep, or a population.

    M members, I iterations. metrics: {name: [M, I]}. final_return: greedy evaluation after training, mean of 64 episodes,
    float [M]; NaN before training is finished. splits: where the environment has levels, the same by "train", "validation"
    and "test", the last of which final_return is; else {}.
    diverged: whether something was not finite at some time, bool [M].
    seeds: of the members. summary: what summary.json says. plan: of a run; None of what is a part of something larger.
    Unpacks as `trainer, states`, leaves [M, ...].
    """

    def __init__(
        self,
        wave: Wave,
        trainer: Trainer,
        table: Table,
        host_states: Callable[[], PyTree],
        summary: dict[str, Any],
        plan: Plan | None = None,
    ) -> None:
        """host_states: gives the final states on the host, as `to_host` made them; called when policies are asked for."""
        self.wave, self.trainer, self.metrics, self.summary, self._plan = wave, trainer, table, summary, plan
        self._host_states = host_states
        self.seeds = [member.seed for member in wave.members]
        self.final_return = _returns(wave, summary)
        self.splits = {split: _returns(wave, summary["splits"], split) for split in summary.get("splits", {})}
        self.diverged: np.ndarray = np.asarray(table["diverged"].any(-1))
        self.compile_s, self.run_s = summary.get("compile_s", 0.0), summary.get("run_s", 0.0)

    def __repr__(self) -> str:
        base, members = self.wave.experiment, self.wave.members
        what = "seed" if members[0].config is None else "member"
        with np.errstate(invalid="ignore"):
            mean = readable(float(self.final_return.mean()))
        return f"{type(self).__name__}({base.agent} on {base.env}, {counted(len(members), what)}, final return {mean})"

    def __iter__(self) -> Iterator[Any]:
        yield from (self.trainer, self.states)

    @property
    def states(self) -> PyTree:
        """The final states of all members, leaves [M, ...]."""
        return jax.tree.map(jnp.asarray, checkpoint.from_host(self._template, self._host_states()))

    @property
    def _template(self) -> PyTree:
        return jax.eval_shape(self.trainer.init, jax.random.key(0))

    @property
    def plan(self) -> Plan:
        """Of a run. Raises ValueError for what is a part of something larger."""
        if self._plan is None:
            raise InputError(f"{self!r} has no plan of its own: it is a part of a sweep or a tuning")
        return self._plan

    @property
    def sweep(self) -> SweepResult:
        """A run as a sweep of one configuration. Raises ValueError as `plan` does."""
        return SweepResult(self.plan, [self], self.compile_s, self.run_s)

    def agent(self, i: int = 0) -> tuple[Trainer, TrainState]:
        """The trained policy of the i-th member: `jaxrl.evaluate(trainer, state, key)`."""
        return self.trainer, checkpoint.from_host(self._template, trees.member(self._host_states(), i))

    def interval(self) -> stats.Interval:
        """The 95 % bootstrap interval of the mean final return over members; NaN of two or fewer."""
        return stats.seed_interval(self.final_return)

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each member, as `pandas.DataFrame` takes them."""
        members = self.wave.members
        columns: dict[str, list[Any]] = {} if members[0].config is None else {"config": [m.config for m in members]}
        columns |= {name: [m.hparams[name] for m in members] for name in members[0].hparams}
        columns |= {"seed": self.seeds, "final_return": self.final_return.tolist()}
        return columns | {"diverged": self.diverged.tolist()}


def _returns(wave: Wave, summary: dict[str, Any], name: str = "final_return") -> np.ndarray:
    """A return of a wave's summary, float [members]; NaN where there is none yet. Raises ValueError."""
    listed = summary[name].get("per_seed") if summary else [None] * len(wave.members)
    numbers = isinstance(listed, list) and all(x is None or isinstance(x, int | float) for x in listed)
    if not numbers or len(listed) != len(wave.members):
        raise InputError(f"{wave.path}/{SUMMARY} is damaged: {name} is not one number for each member")
    return np.array([np.nan if x is None else x for x in listed], float)


class Recorder(RowCallback):
    """Keeps every chunk's metrics in memory."""

    def __init__(self) -> None:
        self._parts: list[Table] = []
        self._evaluated: dict[str, list[tuple[int, np.ndarray]]] = {}

    def start(self, training: Training) -> None:
        """Take up what an earlier process wrote."""
        if training.done:
            self._parts = [files.read_metrics(training.wave)]

    def update(self, event: Event) -> None:
        """Keep them."""
        for chunk in event.chunks:
            self._parts.append(chunk.metrics)
            for name, values in chunk.evaluated.items():
                self._evaluated.setdefault(name, []).append((chunk.first + chunk.count - 1, values))

    def result(self, training: Training, summary: dict[str, Any], plan: Plan) -> RunResult:
        """What was trained, its states copied to the host."""
        host = training.host_states()
        return RunResult(training.wave, training.trainer, self.metrics, lambda: host, summary, plan if plan.alone else None)

    @property
    def metrics(self) -> Table:
        """{name: [members, iterations]}; evaluations are NaN where there were none."""
        table = jax.tree.map(lambda *x: np.concatenate(x, 1), *self._parts)
        for name, found in self._evaluated.items():
            table[name] = np.full(table["env_steps"].shape, np.nan, np.float32)
            for iteration, values in found:
                table[name][:, iteration] = values
        return table


class SweepResult:
    """What configurations × seeds gave. C configurations, S seeds, I iterations (the most that any program has).

    plan: what was trained. waves: the same, as it was trained. configs: the varied settings of each configuration.
    metrics: {name: [C, S, I]}; where a configuration has fewer iterations, floats are NaN, counts 0, and `env_steps` stays.
    final_return: greedy evaluation after training, mean of 64 episodes, float [C, S]; NaN of what is not finished.
    splits: the same by split, as of a RunResult; {} where not all is finished.
    diverged: whether something was not finite at some time, bool [C, S]. compile_s, run_s: seconds.
    Unpacks as `trainer, states`: those of the best configuration, leaves [S, ...].
    """

    def __init__(self, plan: Plan, waves: Sequence[RunResult], compile_s: float, run_s: float) -> None:
        self.plan, self.waves, self.compile_s, self.run_s = plan, waves, compile_s, run_s
        self.configs = plan.configurations
        self.seeds = list(range(plan.seed, plan.seed + plan.seeds))
        where = {(m.config or 0, m.seed): (found, i) for found in waves for i, m in enumerate(found.wave.members)}
        self._members = [[where[c, seed] for seed in self.seeds] for c in range(len(self.configs))]
        self.final_return = np.array([[found.final_return[i] for found, i in row] for row in self._members])
        names = [name for name in waves[0].splits if all(name in found.splits for found in waves)]
        self.splits = {x: np.array([[found.splits[x][i] for found, i in row] for row in self._members]) for x in names}
        self.metrics = self._gathered()
        self.diverged: np.ndarray = np.asarray(self.metrics["diverged"].any(-1))

    def __repr__(self) -> str:
        best, (configs, seeds) = self.best(), self.final_return.shape
        what = f"{self.plan.base.agent} on {self.plan.base.env}, {configs} configurations × {seeds} seeds"
        setting = search_space.text(self.configs[best])
        return f"SweepResult({what}, best: {best} {setting} {readable(float(self.final_return[best].mean()))})"

    def __iter__(self) -> Iterator[Any]:
        yield from self.policies(self.best())

    def agent(self, i: int, j: int) -> tuple[Trainer, TrainState]:
        """The trained policy of configuration i and j-th seed: `jaxrl.evaluate(trainer, state, key)`."""
        found, member = self._members[i][j]
        return found.agent(member)

    def policies(self, i: int) -> tuple[Trainer, PyTree]:
        """The trainer and the final states of configuration i, leaves [S, ...]."""
        found = [self.agent(i, j) for j in range(len(self.seeds))]
        return found[0][0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in found))

    def best(self) -> int:
        """The configuration of the highest mean final return; one with a return that is no finite number comes last.

        Where the environment has levels that is on those for validation: a choice by those of the test would flatter it.
        """
        return ranked(self.splits.get("validation", self.final_return))[0]

    def interval(self, i: int) -> stats.Interval:
        """The 95 % bootstrap interval of configuration i's mean final return over seeds; NaN of two or fewer."""
        return stats.seed_interval(self.final_return[i])

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each member, as `pandas.DataFrame` takes them: settings, seed, final return."""
        names = dict.fromkeys(name for config in self.configs for name in config)
        pairs = list(np.ndindex(self.final_return.shape))
        columns: dict[str, list[Any]] = {"config": [c for c, _ in pairs]}
        columns |= {name: [self.configs[c].get(name) for c, _ in pairs] for name in names}
        columns |= {"seed": [self.seeds[s] for _, s in pairs]}
        return columns | {"final_return": self.final_return.ravel().tolist(), "diverged": self.diverged.ravel().tolist()}

    def _gathered(self) -> Table:
        """Every wave's rows as [C, S, I]; names that some program lacks are NaN there."""
        names = {name: x.dtype for found in self.waves for name, x in found.metrics.items()}
        shape = (*self.final_return.shape, max(found.metrics["env_steps"].shape[1] for found in self.waves))
        table = {name: np.full(shape, np.nan if dtype.kind == "f" else 0, dtype) for name, dtype in names.items()}
        for c, s in np.ndindex(self.final_return.shape):
            found, i = self._members[c][s]
            for name, x in found.metrics.items():
                table[name][c, s, : x.shape[1]] = x[i]
            steps = found.metrics["env_steps"][i]
            table["env_steps"][c, s, len(steps) :] = steps[-1]
        return table


def ranked(final_return: np.ndarray) -> list[int]:
    """Configurations by their mean final return [C, S], the best first; those with one that is no finite number last."""
    known = np.isfinite(final_return)
    means = np.where(known, final_return, 0).mean(-1)
    return np.argsort(-np.where(known.all(-1), means, -np.inf), kind="stable").tolist()
