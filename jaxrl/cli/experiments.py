"""Reading `AGENT --env ID [flags]`, which every command that trains begins with.

Flags are read twice: first the agent, the environment and the preset, which decide what the others default to.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxrl.cli import flags
from jaxrl.cli.options import ExperimentOptions, WatchedOptions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import build
from jaxrl.experiment import presets, registry
from jaxrl.experiment.experiment import Experiment

Options = TypeVar("Options", bound=ExperimentOptions)


def wants_help(command: str, args: Sequence[str]) -> bool:
    """Whether no agent was asked for but help, which is then given. Raises ValueError where a flag stands first."""
    names = registry.agent_names()
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: jaxrl {command} AGENT --env ID [flags]; jaxrl {command} AGENT --help explains them. Agents:")
        print("\n".join(f"  {name}" for name in names))
        return True
    if args[0].startswith("-"):
        raise InputError(f"the agent comes first: jaxrl {command} AGENT --env ID; valid: {', '.join(names)}")
    return False


def read(command: str, cls: type[Options], args: Sequence[str]) -> tuple[Options, Callable[[], Experiment]]:
    """The options, and a function that makes the experiment once the platform is configured."""
    agent, prog = args[0], f"jaxrl {command}"
    _, factory = registry.named_agent(agent)
    known = flags.fields(factory.HParams) | flags.fields(factory.Config) | flags.fields(cls)
    if args[1:] and not args[1].startswith("-"):
        raise InputError(
            f"{args[1]!r} stands where flags begin; an environment is a flag too: {prog} {agent} --env {args[1]}"
        )
    words = flags.spelled(args[1:], known, prog)
    env_id = flags.peek(words, "--env")
    preset, values = presets.find_preset(agent, env_id or "", flags.peek(words, "--preset"))
    split = presets.split_settings(factory, values, f"preset {preset} of {agent}")
    config, hparams = (presets.settings_of(factory, k, split[k.lower()], None, agent) for k in ("Config", "HParams"))
    fields = [("run", cls), ("config", factory.Config), ("hparams", factory.HParams)]
    everything = dataclasses.make_dataclass("Settings", fields)
    defaults = cls(env_id or tyro.MISSING, split["run"].get("total_steps"))
    parsed: Any = flags.parse(everything, words, f"{prog} {agent}", everything(defaults, config, hparams))
    options = build(cls, vars(parsed.run), prog)

    def experiment() -> Experiment:
        found = Experiment(
            agent,
            options.env,
            total_steps=options.total_steps,
            config=vars(parsed.config),
            hparams=vars(parsed.hparams),
            env_params=split["env"] | flags.assignments("--env-param", options.env_param),
            env_kwargs=flags.assignments("--env-kwarg", options.env_kwarg),
            env_transforms=options.env_transform,
            init_from=options.init_from,
            init_leaves=options.init_leaves,
            init_strict=options.init_strict,
            preset="none",
        )
        return found.replace(preset=preset)

    return options, experiment


def callback_names(options: WatchedOptions) -> list[str]:
    """The callbacks that flags ask for, by name."""
    names = list(options.callback)
    if options.stop_at_return is not None:
        names.append(f"stop_at_return({options.stop_at_return:g})")
    if options.patience:
        names.append(f"stop_early({options.patience})")
    return names + (["keep_best"] if options.keep_best else [])


def new_directory(experiment: Experiment) -> Path:
    """runs/<agent>-<env>-<time>."""
    name = f"{experiment.agent}-{experiment.env}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path("runs") / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
