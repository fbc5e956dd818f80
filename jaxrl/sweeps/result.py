"""What training gave: every member's numbers and policy, of a run, a sweep, a tuning or a population alike."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import stats, trees
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree, TrainState
from jaxrl.experiment import search_space
from jaxrl.runs import checkpoint
from jaxrl.runs.callbacks import Callback, Event
from jaxrl.runs.metrics import Table
from jaxrl.runs.wave import Wave
from jaxrl.sweeps.plan import Plan


@dataclasses.dataclass
class WaveResult:
    """What a wave gave. metrics: {name: [members, iterations]}. final_return: greedy, mean over episodes, [members].

    states: gives the final states, host leaves [members, ...]. summary: what its summary.json says.
    """

    wave: Wave
    metrics: Table
    final_return: np.ndarray
    states: Callable[[], PyTree]
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)


class Recorder(Callback):
    """Keeps every chunk's metrics in memory."""

    def __init__(self) -> None:
        self._parts: list[Table] = []
        self._evaluated: dict[str, list[tuple[int, np.ndarray]]] = {}

    def wants_state(self, done: int) -> bool:
        """It keeps metrics only."""
        return False

    def update(self, event: Event) -> None:
        """Keep them."""
        for chunk in event.chunks:
            self._parts.append(chunk.metrics)
            for name, values in chunk.evaluated.items():
                self._evaluated.setdefault(name, []).append((chunk.first + chunk.count - 1, values))

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

    plan: what was run. configs: the varied settings of each configuration. seeds: their numbers.
    metrics: {name: [C, S, I]}; where a configuration has fewer iterations, floats are NaN, counts 0, and `env_steps` stays.
    final_return: greedy evaluation after training, mean of 64 episodes, float [C, S]; NaN of what is not finished.
    diverged: whether something was not finite at some time, bool [C, S]. compile_s, run_s: seconds.
    Unpacks as `trainer, states`: those of the best configuration, leaves [S, ...].
    """

    def __init__(self, plan: Plan, waves: Sequence[WaveResult], compile_s: float, run_s: float) -> None:
        self.plan, self.waves, self.compile_s, self.run_s = plan, waves, compile_s, run_s
        self.configs = plan.configurations
        self.seeds = list(range(plan.seed, plan.seed + plan.seeds))
        self._where = {(m.config or 0, m.seed): (found, i) for found in waves for i, m in enumerate(found.wave.members)}
        self.metrics = self._gathered()
        self.final_return = np.full((len(self.configs), len(self.seeds)), np.nan)
        for c, s in itertools.product(range(len(self.configs)), range(len(self.seeds))):
            found, i = self._where[c, self.seeds[s]]
            self.final_return[c, s] = found.final_return[i]
        self.diverged: np.ndarray = np.asarray(self.metrics["diverged"].any(-1))

    def __repr__(self) -> str:
        best, shape = self.best(), self.final_return.shape
        what = f"{self.plan.base.agent} on {self.plan.base.env}, {shape[0]} configurations × {shape[1]} seeds"
        return (
            f"SweepResult({what}, best: {best} {search_space.text(self.configs[best])} {self.final_return[best].mean():.4g})"
        )

    def __iter__(self) -> Iterator[Any]:
        yield from self.policies(self.best())

    def agent(self, i: int, j: int) -> tuple[Trainer, TrainState]:
        """The trained policy of configuration i and j-th seed: `jaxrl.evaluate(trainer, state, key)`."""
        found, member = self._where[i, self.seeds[j]]
        trainer = self.plan.program_list[found.wave.program].compiled.trainer
        template = jax.eval_shape(trainer.init, jax.random.key(0))
        return trainer, checkpoint.from_host(template, trees.member(found.states(), member))

    def policies(self, i: int) -> tuple[Trainer, PyTree]:
        """The trainer and the final states of configuration i, leaves [S, ...]."""
        found = [self.agent(i, j) for j in range(len(self.seeds))]
        return found[0][0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in found))

    def best(self) -> int:
        """The configuration of the highest mean final return; one with a return that is no finite number comes last."""
        return ranked(self.final_return)[0]

    def interval(self, i: int) -> stats.Interval:
        """The 95 % bootstrap interval of configuration i's mean final return over seeds."""
        return stats.seed_interval(self.final_return[i])

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each member, as `pandas.DataFrame` takes them: settings, seed, final return."""
        names = dict.fromkeys(name for config in self.configs for name in config)
        pairs = list(itertools.product(range(len(self.configs)), range(len(self.seeds))))
        columns: dict[str, list[Any]] = {"config": [c for c, _ in pairs]}
        columns |= {name: [self.configs[c].get(name) for c, _ in pairs] for name in names}
        columns |= {"seed": [self.seeds[s] for _, s in pairs]}
        columns |= {"final_return": [float(self.final_return[pair]) for pair in pairs]}
        return columns | {"diverged": [bool(self.diverged[pair]) for pair in pairs]}

    def _gathered(self) -> Table:
        """Every wave's rows as [C, S, I]; names that some program lacks are NaN there."""
        names = {name: x.dtype for found in self.waves for name, x in found.metrics.items()}
        iterations = max(found.metrics["env_steps"].shape[1] for found in self.waves)
        shape = (len(self.configs), len(self.seeds), iterations)
        table = {name: np.full(shape, np.nan if dtype.kind == "f" else 0, dtype) for name, dtype in names.items()}
        for c, s in itertools.product(range(shape[0]), range(shape[1])):
            found, i = self._where[c, self.seeds[s]]
            for name, x in found.metrics.items():
                table[name][c, s, : x.shape[1]] = x[i]
            steps = found.metrics["env_steps"][i]
            table["env_steps"][c, s, len(steps) :] = steps[-1]
        return table


class RunResult:
    """What a run gave: the only configuration of a SweepResult. S seeds, I iterations.

    metrics: {name: [S, I]}. final_return: greedy evaluation after training, mean of 64 episodes, float [S]; NaN before the
    run is finished. diverged: bool [S]. sweep: the same as a SweepResult. Unpacks as `trainer, states`, leaves [S, ...].
    """

    def __init__(self, sweep: SweepResult) -> None:
        self.sweep, self.plan, self.seeds = sweep, sweep.plan, sweep.seeds
        self.metrics = {name: x[0] for name, x in sweep.metrics.items()}
        self.final_return, self.diverged = sweep.final_return[0], sweep.diverged[0]
        self.compile_s, self.run_s = sweep.compile_s, sweep.run_s

    def __repr__(self) -> str:
        what = f"{self.plan.base.agent} on {self.plan.base.env}, {len(self.seeds)} seed(s)"
        return f"RunResult({what}, final return {self.final_return.mean():.4g})"

    def __iter__(self) -> Iterator[Any]:
        yield from self.sweep.policies(0)

    def agent(self, i: int = 0) -> tuple[Trainer, TrainState]:
        """The trained policy of the i-th seed: `jaxrl.evaluate(trainer, state, key)`."""
        return self.sweep.agent(0, i)

    def interval(self) -> stats.Interval:
        """The 95 % bootstrap interval of the mean final return over seeds."""
        return self.sweep.interval(0)

    def table(self) -> dict[str, list[Any]]:
        """Equal columns, a row for each seed, as `pandas.DataFrame` takes them."""
        return {name: column for name, column in self.sweep.table().items() if name != "config"}


def ranked(final_return: np.ndarray) -> list[int]:
    """Configurations by their mean final return [C, S], the best first; those with one that is no finite number last."""
    known = np.isfinite(final_return)
    means = np.where(known, final_return, 0).mean(-1)
    return np.argsort(-np.where(known.all(-1), means, -np.inf), kind="stable").tolist()
