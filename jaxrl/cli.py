"""The command line: `jaxrl list | train | resume | eval | plot`.

Flags come from dataclasses through tyro. Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from jaxrl import flags, platform, registry
from jaxrl.errors import InputError, unknown
from jaxrl.options import EvalOptions, ListOptions, PlotOptions, ResumeOptions, TrainOptions
from jaxrl.settings import build


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 128 + signal for a run that was stopped."""
    words = list(sys.argv[1:] if args is None else args)
    warnings.formatwarning = lambda message, *_, **__: f"jaxrl: warning: {message}\n"
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_usage())
            return 0
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        return COMMANDS[words[0]](words[1:])
    except InputError as error:
        print(f"jaxrl: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `jaxrl list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("jaxrl: interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = ["usage: jaxrl COMMAND ..., one of"]
    lines += [f"  {name:8}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "jaxrl COMMAND --help explains its flags; jaxrl train AGENT --help every hyper-parameter."])


def train(args: Sequence[str]) -> int:
    """train an agent: jaxrl train AGENT --env ID [flags]"""
    names = registry.agent_names()
    if not args or args[0] in ("-h", "--help"):
        print("usage: jaxrl train AGENT --env ID [flags]; jaxrl train AGENT --help explains them. Agents:")
        print("\n".join(f"  {name}" for name in names))
        return 0
    if args[0].startswith("-"):
        raise InputError(f"the agent comes first: jaxrl train AGENT --env ID; valid: {', '.join(names)}")
    agent = args[0]
    options, experiment_of = _train_flags(agent, args[1:])
    if options.seed + options.seeds > 2**31:
        raise InputError(f"seed = {options.seed} is out of range: must be < 2**31 - seeds")
    if options.tensorboard:
        _require_tensorboard()
    platform.configure()
    from jaxrl import run, rundir
    from jaxrl.layout import Layout

    experiment = experiment_of()
    layout = Layout.over_all_devices(options.seeds)
    out = options.out or Path("runs") / f"{agent}-{experiment.env}-{time.strftime('%Y%m%d-%H%M%S')}"
    described = rundir.Run(experiment, options.seeds, options.seed, options.eval_every, layout)
    how = run.Options(options.checkpoint_every, options.tensorboard)
    return _drive(lambda: run.train(described, out, how, options.overwrite), options.json)


def _train_flags(agent: str, words: Sequence[str]) -> tuple[TrainOptions, Callable[[], Any]]:
    """The options, and a function that resolves the experiment once the platform is configured."""
    from jaxrl import experiment

    _, factory = registry.find_agent(agent)
    env_id = flags.peek(words, "--env")
    preset, values = registry.find_preset(agent, env_id or "", flags.peek(words, "--preset"))
    split = experiment.split_settings(factory, values, f"preset {preset} of {agent}")
    config, hparams = (build(getattr(factory, k), split[k.lower()], agent) for k in ("Config", "HParams"))
    fields = [("run", TrainOptions), ("config", factory.Config), ("hparams", factory.HParams)]
    everything = dataclasses.make_dataclass("Settings", fields)
    options = TrainOptions(env_id or tyro.MISSING, split["run"].get("total_steps"))
    parsed: Any = flags.parse(everything, words, f"jaxrl train {agent}", everything(options, config, hparams))
    options = build(TrainOptions, vars(parsed.run), "jaxrl train")

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
        return dataclasses.replace(found, preset=preset)

    return options, resolve


def resume(args: Sequence[str]) -> int:
    """go on with a stopped run: jaxrl resume DIR"""
    options = build(ResumeOptions, vars(flags.parse(ResumeOptions, args, "jaxrl resume")), "jaxrl resume")
    from jaxrl import rundir

    if options.tensorboard:
        _require_tensorboard()
    platform.configure(max(platform.cores(), rundir.devices(options.dir)))
    from jaxrl import run

    how = run.Options(options.checkpoint_every, options.tensorboard)
    return _drive(lambda: run.resume(options.dir, how), options.json)


def _drive(work: Callable[[], dict[str, Any]], as_json: bool) -> int:
    from jaxrl.run import Interrupted

    try:
        summary = work()
    except Interrupted as stopped:
        print(f"jaxrl: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    if as_json:
        print(json.dumps(summary))
        return 0
    final, out = summary["final_return"], Path(summary["out"])
    interval = "" if final["ci_low"] is None else f", 95 % [{final['ci_low']:.1f}, {final['ci_high']:.1f}]"
    print(
        f"{summary['agent']} on {summary['env']}: greedy return {final['mean']:.1f} (IQM {final['iqm']:.1f}{interval}) "
        f"over {summary['seeds']} seed(s); {summary['env_steps']:,} steps in {summary['run_s']:.1f} s "
        f"({summary['steps_per_s']:,} steps/s), compiled in {summary['compile_s']:.1f} s"
    )
    if summary["diverged"]:
        print(f"diverged (non-finite loss): seeds {', '.join(map(str, summary['diverged']))}")
    pictures = {"curve": "curve.png", "values": "values.png", "policy": "policy.gif"}
    print("\n".join(f"{name:8}{out / file}" for name, file in pictures.items() if (out / file).exists()))
    print(f"run     {out}")
    return 0


def evaluate(args: Sequence[str]) -> int:
    """evaluate a run's policies greedily: jaxrl eval DIR"""
    options = build(EvalOptions, vars(flags.parse(EvalOptions, args, "jaxrl eval")), "jaxrl eval")
    platform.configure(1)
    import jax

    from jaxrl import evaluation, loop, render, rundir, trees, value_map

    trainer, states = rundir.load(options.dir)
    if options.gif and not options.gif.absolute().parent.is_dir():
        raise InputError(f"--gif {options.gif}: no such directory {options.gif.absolute().parent}")

    def one(state: Any) -> Any:
        return evaluation.evaluate(trainer, state, loop.stream(state.key, loop.EVALUATE, 0), options.episodes)

    result = jax.device_get(jax.vmap(one)(states))
    first = trees.member(states, 0)
    if options.gif:
        render.policy_gif(trainer, first, loop.stream(first.key, loop.RENDER), options.gif)
    if options.json:
        values = {name: x.tolist() for name, x in result._asdict().items()}
        print(json.dumps({**values, "mean": float(result.returns.mean())}))
        return 0
    table = value_map.q_table(trainer, first)
    if table is not None:
        print(f"action values of member 0, * greedy\n{value_map.text(trainer.env.spec, table)}")
    for seed, (returns, lengths) in enumerate(zip(result.returns, result.lengths, strict=True)):
        print(f"member {seed}: return {returns.mean():.2f} ± {returns.std():.2f}, length {lengths.mean():.1f}")
    print(f"mean return {result.returns.mean():.2f} over {result.returns.size} episodes")
    return 0


def plot(args: Sequence[str]) -> int:
    """draw learning curves, and one run's table of values: jaxrl plot DIR..."""
    options = flags.parse(PlotOptions, args, "jaxrl plot")
    if not options.dirs:
        raise InputError("jaxrl plot needs at least one run directory")
    platform.configure(1)
    from jaxrl import plot as pictures
    from jaxrl import rundir, value_map

    for directory in options.dirs:
        rundir.read_config(directory)
    out = options.out or (options.dirs[0] / rundir.CURVE if len(options.dirs) == 1 else Path("curves.png"))
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: no such directory {out.absolute().parent}")
    pictures.curve(options.dirs, out)
    print(out)
    found = value_map.of_run(options.dirs[0]) if len(options.dirs) == 1 else None
    if found:
        value_map.picture(*found, out.with_name(rundir.VALUES))
        print(out.with_name(rundir.VALUES))
    return 0


def list_names(args: Sequence[str]) -> int:
    """list agents and environments: jaxrl list [agents|envs]"""
    what = flags.parse(ListOptions, args, "jaxrl list").what
    if what in ("agents", "all"):
        for name in registry.agent_names():
            print(f"{name:19}{(registry.find_agent(name)[1].__doc__ or '').splitlines()[0]}")
    if what == "all":
        print()
    if what in ("envs", "all"):
        platform.configure(1)
        for name in registry.env_names():
            print(f"{name:26}{_spaces(name)}")
    return 0


def _spaces(env: str) -> str:
    try:
        spec = registry.find_env(env).spec
    except InputError as missing:  # an extra that is not installed
        return str(missing)
    return f"observations {str(spec.observation_space):18}actions {spec.action_space}"


def _require_tensorboard() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError("--tensorboard needs the extra: pip install 'jaxrl[tensorboard]'") from error


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_names,
    "train": train,
    "resume": resume,
    "eval": evaluate,
    "plot": plot,
}

if __name__ == "__main__":
    sys.exit(main())
