"""The commands that train a run or a sweep again, to the bit: every setting that is not a default is spelled out."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

from jaxrl.experiment.search_space import Choice, Setting, axis_text
from jaxrl.sweeps.plan import Plan


def commands(plan: Plan) -> list[str]:
    """`jaxrl train ...` for a run; `jaxrl sweep ...` for a sweep, one for each configuration that was given by itself."""
    if plan.alone:
        return [_command("train", plan, [])]
    asked = [plan.asked] if plan.asked else [_one_point(setting) for setting in plan.configurations]
    return [_command("sweep", plan, words) for words in asked]


def _one_point(setting: Setting) -> list[str]:
    return [word for name, value in setting.items() for word in ("--grid", f"{name}={axis_text(Choice((value,)))}")]


def _command(name: str, plan: Plan, more: list[str]) -> str:
    experiment = plan.base
    words = ["jaxrl", name, experiment.agent, "--env", experiment.env, "--preset", "none"]
    words += ["--total-steps", str(experiment.total_steps), "--seeds", str(plan.seeds), "--seed", str(plan.seed)]
    words += ["--eval-every", str(plan.eval_every)] if plan.eval_every else []
    for flag, values in (("--env-kwarg", experiment.env_kwargs), ("--env-param", experiment.env_params)):
        words += [word for name, value in values.items() for word in (flag, f"{name}={json.dumps(value)}")]
    words += [word for callback in plan.callbacks for word in ("--callback", callback)]
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
