"""The commands that train a run or a sweep again, to the bit: every setting that is not a default is spelled out."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import Choice, Setting, axis_text
from jaxrl.runs.rundir import Run
from jaxrl.sweeps.planning import Plan


def run_command(run: Run) -> str:
    """`jaxrl train ...` for a run of one configuration and consecutive seeds. The preset's values are written as flags."""
    return _command("train", run.experiment, len(run.members), run.members[0].seed, run.eval_every, [])


def sweep_commands(plan: Plan) -> list[str]:
    """`jaxrl sweep ...`; where configurations were given one by one, one for each."""
    asked = [plan.asked] if plan.asked else [_one_point(setting) for setting in plan.settings]
    return [_command("sweep", plan.base, plan.seeds, plan.seed, plan.eval_every, words) for words in asked]


def _one_point(setting: Setting) -> list[str]:
    return [word for name, value in setting.items() for word in ("--grid", f"{name}={axis_text(Choice((value,)))}")]


def _command(name: str, experiment: Experiment, seeds: int, seed: int, eval_every: int, more: list[str]) -> str:
    words = ["jaxrl", name, experiment.agent, "--env", experiment.env, "--preset", "none"]
    words += ["--total-steps", str(experiment.total_steps), "--seeds", str(seeds), "--seed", str(seed)]
    words += ["--eval-every", str(eval_every)] if eval_every else []
    for flag, values in (("--env-kwarg", experiment.env_kwargs), ("--env-param", experiment.env_params)):
        words += [word for name, value in values.items() for word in (flag, f"{name}={json.dumps(value)}")]
    words += _flags(experiment.config) + _flags(experiment.hparams)
    return shlex.join([*words, *more])


def _flags(settings: Any) -> list[str]:
    """What differs from the defaults, as flags."""
    words: list[str] = []
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), "--" + field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words
