"""Configurations × seeds in one call: plan, train wave by wave, and hand back every member's numbers and policy."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from jaxrl.core import stats
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.settings import Count, NonNegative, check
from jaxrl.core.types import PyTree, TrainState
from jaxrl.devices.programs import CHUNK, FINAL_EPISODES
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment, resolve
from jaxrl.experiment.search_space import Setting
from jaxrl.runs import checkpoint
from jaxrl.runs.rundir import Run, check_seeds
from jaxrl.sweeps import planning
from jaxrl.sweeps.planning import Group, Plan

CountInt, NonNegativeInt = Annotated[int, Count], Annotated[int, NonNegative]
Metrics = dict[str, np.ndarray]


@dataclasses.dataclass
class Wave:
    """A finished wave. metrics: {name: [members, iterations]}. final_return: greedy, mean over episodes, [members].

    states: gives the final states, host leaves [members, ...].
    """

    run: Run
    metrics: Metrics
    final_return: np.ndarray
    states: Callable[[], PyTree]


class SweepResult:
    """What a sweep gave. C configurations, S seeds, I iterations (the most that any program has).

    plan: what was run. configs: the varied settings of each configuration. seeds: their numbers.
    metrics: {name: [C, S, I]}; where a configuration has fewer iterations, floats are NaN, counts 0, and `env_steps` stays.
    final_return: greedy evaluation after training, mean of 64 episodes, float [C, S].
    diverged: whether a member's loss was not finite at some time, bool [C, S].
    compile_s, run_s: seconds.
    """

    def __init__(self, plan: Plan, waves: Sequence[tuple[Group, Wave]], compile_s: float, run_s: float) -> None:
        self.plan, self._waves, self.compile_s, self.run_s = plan, waves, compile_s, run_s
        self.configs = plan.settings
        self.seeds = list(range(plan.seed, plan.seed + plan.seeds))
        self._where = {
            (m.config or 0, m.seed): (w, i) for w, (_, wave) in enumerate(waves) for i, m in enumerate(wave.run.members)
        }
        self.metrics = self._gathered()
        self.final_return = np.full((len(self.configs), len(self.seeds)), np.nan)
        for c, s in itertools.product(range(len(self.configs)), range(len(self.seeds))):
            wave, i = self._find(c, s)
            self.final_return[c, s] = wave.final_return[i]
        self.diverged = self.metrics["diverged"].any(-1)

    def agent(self, i: int, j: int) -> tuple[Trainer, TrainState]:
        """The trained policy of configuration i and j-th seed: `jaxrl.evaluate(trainer, state, key)`."""
        w, member = self._where[i, self.seeds[j]]
        group, wave = self._waves[w]
        trainer = group.programs.trainer
        template = jax.eval_shape(trainer.init, jax.random.key(0))
        return trainer, checkpoint.from_host(template, jax.tree.map(lambda x: x[member], wave.states()))

    def best(self) -> int:
        """The configuration of the highest mean final return; one with a return that is no finite number comes last."""
        return ranked(self.final_return)[0]

    def interval(self, i: int) -> stats.Interval:
        """The 95 % bootstrap interval of configuration i's mean final return over seeds."""
        return stats.bootstrap_interval(self.final_return[i])

    def _find(self, c: int, s: int) -> tuple[Wave, int]:
        w, i = self._where[c, self.seeds[s]]
        return self._waves[w][1], i

    def _gathered(self) -> Metrics:
        """Every wave's rows as [C, S, I]; names that some program lacks are NaN there."""
        names = {name: x.dtype for _, wave in self._waves for name, x in wave.metrics.items()}
        iterations = max(group.programs.trainer.num_iterations for group, _ in self._waves)
        shape = (len(self.configs), len(self.seeds), iterations)
        table = {name: np.full(shape, np.nan if dtype.kind == "f" else 0, dtype) for name, dtype in names.items()}
        for c, s in itertools.product(range(shape[0]), range(shape[1])):
            wave, i = self._find(c, s)
            for name, x in wave.metrics.items():
                table[name][c, s, : x.shape[1]] = x[i]
            steps = wave.metrics["env_steps"][i]
            table["env_steps"][c, s, len(steps) :] = steps[-1]
        return table


def ranked(final_return: np.ndarray) -> list[int]:
    """Configurations by their mean final return [C, S], the best first; those with one that is no finite number last."""
    known = np.isfinite(final_return)
    means = np.where(known, final_return, 0).mean(-1)
    return np.argsort(-np.where(known.all(-1), means, -np.inf), kind="stable").tolist()


def sweep(
    agent: Any,
    env: Any,
    *,
    grid: Mapping[str, Any] | None = None,
    random: Mapping[str, Any] | None = None,
    samples: int = 0,
    seeds: int = 8,
    seed: int = 0,
    total_steps: int | None = None,
    config: Any = None,
    hparams: Any = None,
    env_params: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    preset: str | None = None,
    memory_limit: int | None = None,
    out: str | Path | None = None,
    engine: str = "local",
) -> SweepResult:
    """Train configurations × seeds: one program for each static configuration, its members vmapped over all devices.

    grid: {setting: values}; every combination is a configuration. random: {setting: values, or "log:LOW,HIGH", or
    "uniform:LOW,HIGH"}, drawn `samples` times (with a grid: at each of its points). A setting is a field of Config or
    HParams, or `env.NAME`, a traced parameter of the environment. seeds: how many, from `seed` on, the same for every
    configuration. memory_limit: bytes; default: what is free. out: a directory that the sweep is written to, and can be
    resumed from; None keeps all in memory. engine: "local", this process; with `out` also "ray", the workers of the running
    Ray cluster (extra: ray). The rest as in `make_trainer`.

    A member's numbers are those of the same configuration and seed in any other sweep or run of several seeds, bit for bit
    on CPU. Raises ValueError before any compile.
    """
    base = resolve(
        agent,
        env,
        total_steps=total_steps,
        config=config,
        hparams=hparams,
        env_params=env_params,
        env_kwargs=env_kwargs,
        preset=preset,
    )
    settings, asked = configurations(base, grid or {}, random or {}, samples, seed)
    check("engine", engine, Literal["local", "ray"])
    if out is None and engine == "ray":
        raise InputError("engine = 'ray' needs out, a directory that all workers see")
    plan = make_plan(base, settings, seeds, seed, asked, memory_limit=memory_limit, fit=engine == "local")
    if out is None:
        return in_memory(plan)
    from jaxrl.sweeps import sweepdir

    sweepdir.run(plan, Path(out), engine=engine)
    return sweepdir.load(Path(out))


def configurations(
    base: Experiment, grid: Mapping[str, Any], random: Mapping[str, Any], samples: int, seed: int
) -> tuple[list[Setting], list[str]]:
    """The configurations of a grid and of random draws, and the flags of `jaxrl sweep` that ask for the same.

    Raises ValueError naming what is wrong.
    """
    both = sorted(set(grid) & set(random))
    if both:
        raise InputError(f"{both[0]} is in the grid and random too")
    if not grid and not random:
        raise InputError("a sweep needs something to vary: a grid (learning_rate=1e-4,1e-3) or random draws")
    if bool(random) != bool(samples):
        raise InputError("random draws and samples need each other: " + ("samples = 0" if random else "nothing is random"))
    fixed, drawn = search_space.read_axes(base, grid, ranges=False), search_space.read_axes(base, random, ranges=True)
    draws = search_space.sample(drawn, check("samples", samples, NonNegativeInt), seed) if random else [{}]
    flags = {"--grid": fixed, "--random": drawn}
    asked = [[flag, f"{name}={search_space.axis_text(axis)}"] for flag, axes in flags.items() for name, axis in axes.items()]
    asked += [["--samples", str(samples)]] if random else []
    return [point | draw for point in search_space.grid(fixed) for draw in draws], sum(asked, [])


def make_plan(
    base: Experiment,
    settings: list[Setting],
    seeds: int,
    seed: int,
    asked: Sequence[str] = (),
    *,
    eval_every: int = 0,
    memory_limit: int | None = None,
    fit: bool = True,
) -> Plan:
    """Check the numbers, then plan, for this machine or (not `fit`) for others."""
    check("seeds", seeds, CountInt)
    check("seed", seed, NonNegativeInt)
    check_seeds(seed, seeds)
    plan = planning.make(base, settings, seeds, seed, eval_every, memory_limit, fit=fit)
    return dataclasses.replace(plan, asked=list(asked))


def in_memory(plan: Plan) -> SweepResult:
    """Run a plan without writing anything; final states are kept on the host."""
    done, run_s = [], 0.0
    for group in plan.groups:
        for run in group.waves(plan.eval_every):
            state = group.programs.start(run.arguments(group.programs.trainer))
            begin = time.perf_counter()
            state, rows = train(group, state)
            run_s += time.perf_counter() - begin
            unpad = run.layout.unpad
            result = unpad(group.programs.evaluate(state, FINAL_EPISODES, group.programs.trainer.num_iterations))
            host = unpad(checkpoint.to_host(state))
            done.append((group, Wave(run, unpad(rows), result.returns.mean(-1), lambda host=host: host)))  # type: ignore[misc]
    return SweepResult(plan, done, sum(g.programs.compile_s for g in plan.groups), run_s)


def train(group: Group, state: PyTree) -> tuple[PyTree, Metrics]:
    """All iterations, in chunks: the final states, and metrics {name: [padded, iterations]} on the host."""
    parts, total = [], group.programs.trainer.num_iterations
    for first in range(0, total, CHUNK):
        n = min(CHUNK, total - first)
        state, rows = group.programs.chunk(state, np.int32(n))
        parts.append(jax.tree.map(lambda x, n=n: np.asarray(x)[:, :n], rows))
    return state, jax.tree.map(lambda *x: np.concatenate(x, 1), *parts)
