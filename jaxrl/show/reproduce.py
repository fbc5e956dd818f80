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
    values = plan.base.to_json()
    words = ["jaxrl", name, values["agent"], "--env", values["env"], "--preset", "none"]
    words += ["--total-steps", str(plan.base.total_steps), "--seeds", str(plan.seeds), "--seed", str(plan.seed)]
    words += ["--eval-every", str(plan.eval_every)] if plan.eval_every else []
    for flag, given in (("--env-kwarg", "env_kwargs"), ("--env-param", "env_params")):
        words += [word for name, value in values[given].items() for word in (flag, f"{name}={json.dumps(value)}")]
    for flag, names in (("--env-transform", values["env_transforms"]), ("--callback", plan.callbacks)):
        words += [word for name in names for word in (flag, name)]
    for kind in ("config", "hparams"):
        words += _flags(getattr(plan.base, kind), values[kind])
    return shlex.join([*words, *more])


def _flags(settings: Any, values: dict[str, Any]) -> list[str]:
    """What differs from the defaults, as flags. values: the settings as JSON holds them."""
    words: list[str] = []
    for field in dataclasses.fields(settings):
        value, flag = values[field.name], "--" + field.name.replace("_", "-")
        if getattr(settings, field.name) == field.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words
