"""The commands that train: `jaxrl train | sweep | tune | resume`.

Flags are read twice: first the agent, the environment and the preset, which decide what the others default to.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxrl.cli import flags
from jaxrl.cli.options import EngineOptions, ExperimentOptions, ResumeOptions, SweepOptions, TrainOptions, TuneOptions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import build
from jaxrl.devices import platform
from jaxrl.experiment import registry
from jaxrl.runs import sinks

Options = TypeVar("Options", bound=ExperimentOptions)
SHOWN = 10  # configurations of a sweep's result


def train(args: Sequence[str]) -> int:
    """train an agent: jaxrl train AGENT --env ID [flags]"""
    if _wants_help("train", args):
        return 0
    options, experiment_of = _read("train", TrainOptions, args)
    sinks.require(options.tensorboard, options.wandb)
    platform.configure()
    from jaxrl.devices.layout import Layout
    from jaxrl.runs import run, rundir

    experiment = experiment_of()
    layout = Layout.over_all_devices(options.seeds)
    out = options.out or _new_directory(experiment)
    described = rundir.Run(experiment, rundir.seeds_of(options.seed, options.seeds), options.eval_every, layout)
    how = run.Options(options.checkpoint_every, options.tensorboard, options.wandb)
    return _drive(lambda: run.train(described, out, how, options.overwrite), _print_run, options.json)


def sweep(args: Sequence[str]) -> int:
    """train configurations × seeds at once: jaxrl sweep AGENT --env ID --grid NAME=A,B [flags]"""
    if _wants_help("sweep", args):
        return 0
    options, experiment_of = _read("sweep", SweepOptions, args)
    sinks.require(options.tensorboard, options.wandb)
    grid, random = flags.lists("--grid", options.grid), flags.lists("--random", options.random)
    where = build(EngineOptions, vars(options.where), "jaxrl sweep")
    local = where.engine == "local"
    platform.configure(cpu_only=not local)
    from jaxrl.runs import run, rundir
    from jaxrl.sweeps import planning, sweepdir, sweeping

    limit = None if options.memory_limit is None else planning.read_bytes(options.memory_limit)
    experiment = experiment_of()
    settings, asked = sweeping.configurations(experiment, grid, random, options.samples, options.seed)
    out = options.out or _new_directory(experiment)
    if not options.dry_run:
        rundir.check_free(out, options.overwrite, sweepdir.read_plan_json, "sweep")
    plan = sweeping.make_plan(
        experiment,
        settings,
        options.seeds,
        options.seed,
        asked,
        eval_every=options.eval_every,
        memory_limit=limit,
        fit=local,
    )
    print("\n".join(plan.lines()), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.dry_run:
        if options.json:
            print(json.dumps(plan.summary()))
        return 0
    how = run.Options(options.checkpoint_every, options.tensorboard, options.wandb)
    return _drive(lambda: sweepdir.run(plan, out, how, options.overwrite, **vars(where)), _print_sweep, options.json)


def tune(args: Sequence[str]) -> int:
    """search for better settings: jaxrl tune AGENT --env ID [flags]"""
    if _wants_help("tune", args):
        return 0
    options, experiment_of = _read("tune", TuneOptions, args)
    search = flags.lists("--search", options.search)
    platform.configure()
    from jaxrl.tuning import tunedir

    experiment = experiment_of()
    plan = tunedir.make_plan(experiment, search, vars(options.tuning), options.storage)
    out = options.out or _new_directory(experiment)
    return _drive(lambda: tunedir.run(plan, out, options.overwrite), _print_tuning, options.json)


def resume(args: Sequence[str]) -> int:
    """go on with a stopped run, sweep or tuning: jaxrl resume DIR"""
    options = build(ResumeOptions, vars(flags.parse(ResumeOptions, args, "jaxrl resume")), "jaxrl resume")
    sinks.require(options.tensorboard, options.wandb)
    from jaxrl.runs import run, rundir
    from jaxrl.sweeps import sweepdir
    from jaxrl.tuning import tunedir

    directory, how = options.dir, run.Options(options.checkpoint_every, options.tensorboard, options.wandb)
    where = build(EngineOptions, vars(options.where), "jaxrl resume")
    if where.engine != "local" and not sweepdir.is_sweep(directory):
        raise InputError(f"--engine {where.engine} is for sweeps, and {directory} is none")
    if tunedir.is_tuning(directory):
        if options.tensorboard or options.wandb:
            raise InputError("--tensorboard and --wandb are for runs and sweeps, not for tunings")
        platform.configure()
        return _drive(lambda: tunedir.resume(directory), _print_tuning, options.json)
    if sweepdir.is_sweep(directory):
        platform.configure(max(platform.cores(), sweepdir.devices(directory)), cpu_only=where.engine != "local")
        return _drive(lambda: sweepdir.resume(directory, how, **vars(where)), _print_sweep, options.json)
    platform.configure(max(platform.cores(), rundir.devices(directory)))
    return _drive(lambda: run.resume(directory, how), _print_run, options.json)


def _wants_help(command: str, args: Sequence[str]) -> bool:
    """Whether no agent was asked for but help, which is then given. Raises ValueError where a flag stands first."""
    names = registry.agent_names()
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: jaxrl {command} AGENT --env ID [flags]; jaxrl {command} AGENT --help explains them. Agents:")
        print("\n".join(f"  {name}" for name in names))
        return True
    if args[0].startswith("-"):
        raise InputError(f"the agent comes first: jaxrl {command} AGENT --env ID; valid: {', '.join(names)}")
    return False


def _read(command: str, cls: type[Options], args: Sequence[str]) -> tuple[Options, Callable[[], Any]]:
    """The options, and a function that resolves the experiment once the platform is configured."""
    from jaxrl.experiment import experiment

    agent, words, prog = args[0], args[1:], f"jaxrl {command}"
    _, factory = registry.find_agent(agent)
    env_id = flags.peek(words, "--env")
    preset, values = registry.find_preset(agent, env_id or "", flags.peek(words, "--preset"))
    split = experiment.split_settings(factory, values, f"preset {preset} of {agent}")
    config, hparams = (build(getattr(factory, k), split[k.lower()], agent) for k in ("Config", "HParams"))
    fields = [("run", cls), ("config", factory.Config), ("hparams", factory.HParams)]
    everything = dataclasses.make_dataclass("Settings", fields)
    defaults = cls(env_id or tyro.MISSING, split["run"].get("total_steps"))
    parsed: Any = flags.parse(everything, words, f"{prog} {agent}", everything(defaults, config, hparams))
    options = build(cls, vars(parsed.run), prog)

    def resolve() -> Any:
        found = experiment.resolve(
            agent,
            options.env,
            total_steps=options.total_steps,
            config=vars(parsed.config),
            hparams=vars(parsed.hparams),
            env_params=flags.assignments("--env-param", options.env_param),
            env_kwargs=flags.assignments("--env-kwarg", options.env_kwarg),
            preset="none",
        )
        return found.replace(preset=preset)

    return options, resolve


def _new_directory(experiment: Any) -> Path:
    return Path("runs") / f"{experiment.agent}-{experiment.env}-{time.strftime('%Y%m%d-%H%M%S')}"


def _drive(work: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None], as_json: bool) -> int:
    from jaxrl.runs.run import Interrupted

    try:
        summary = work()
    except Interrupted as stopped:
        print(f"jaxrl: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    if as_json:
        print(json.dumps(summary))
    else:
        show(summary)
    return 0


def _print_run(summary: dict[str, Any]) -> None:
    final, out = summary["final_return"], Path(summary["out"])
    interval = "" if final["ci_low"] is None else f", 95 % [{final['ci_low']:.1f}, {final['ci_high']:.1f}]"
    print(
        f"{summary['agent']} on {summary['env']}: greedy return {final['mean']:.1f} (IQM {final['iqm']:.1f}{interval}) "
        f"over {summary['seeds']} seed(s); {_pace(summary)}"
    )
    if summary["diverged"]:
        print(f"diverged (non-finite loss): seeds {', '.join(map(str, summary['diverged']))}")
    pictures = {"curve": "curve.png", "values": "values.png", "policy": "policy.gif"}
    print("\n".join(f"{name:8}{out / file}" for name, file in pictures.items() if (out / file).exists()))
    print(f"run     {out}")


def _print_sweep(summary: dict[str, Any]) -> None:
    """The best configurations with their intervals, those that diverged, and where the rest lies."""
    import numpy as np

    from jaxrl.core import stats
    from jaxrl.experiment import search_space
    from jaxrl.sweeps import sweeping

    out = Path(summary["out"])
    returns = np.array(summary["final_return"], float)
    means = returns.mean(1)
    order = sweeping.ranked(returns)
    print(
        f"{summary['agent']} on {summary['env']}: {len(returns)} configurations × {summary['seeds']} seeds; {_pace(summary)}"
    )
    print(f"{'config':>6} {'return':>10} {'95 % interval':>22}  settings")
    for c in order[:SHOWN]:
        low, high = stats.bootstrap_interval(returns[c])
        interval = "" if np.isnan(low) else f"[{low:.1f}, {high:.1f}]"
        print(f"{c:>6} {means[c]:>10.1f} {interval:>22}  {search_space.text(summary['configs'][c])}")
    if len(order) > SHOWN:
        print(f"and {len(order) - SHOWN} more in {out / 'summary.json'}")
    for c, seed in summary["diverged"]:
        print(f"diverged (non-finite loss): config {c} seed {seed}  {search_space.text(summary['configs'][c])}")
    pictures = {"curves": "curves.png", "effects": "effects.png"}
    print("\n".join(f"{name:8}{out / file}" for name, file in pictures.items() if (out / file).exists()))
    print(f"sweep   {out}")


def _print_tuning(summary: dict[str, Any]) -> None:
    """The best setting, and how it does on fresh seeds beside the one tuning began from."""
    from jaxrl.experiment import search_space
    from jaxrl.tuning import tunedir

    print(f"{summary['agent']} on {summary['env']}, {summary['method']}: best value {summary['value']:.1f} with")
    print(f"  {search_space.text(summary['best'])}")
    for name, found in (summary.get("confirmation") or {}).items():
        low, high = found["interval"]
        interval = "" if low is None else f", 95 % [{low:.1f}, {high:.1f}]"
        print(f"{name:7} {found['mean']:.1f}{interval} on {len(found['per_seed'])} fresh seeds")
    print(f"{summary['env_steps']:,} steps in {summary['run_s']:.1f} s, {summary['programs']} program(s) compiled")
    if (picture := Path(summary["out"]) / tunedir.PICTURE).exists():
        print(f"picture {picture}")
    print(f"tuning  {summary['out']}")


def _pace(summary: dict[str, Any]) -> str:
    return (
        f"{summary['env_steps']:,} steps in {summary['run_s']:.1f} s "
        f"({summary['steps_per_s']:,} steps/s), compiled in {summary['compile_s']:.1f} s"
    )
