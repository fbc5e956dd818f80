"""Settings of an agent by where they come from: dataclass default < preset < explicit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxrl.core.errors import InputError, unknown
from jaxrl.core.settings import build
from jaxrl.experiment import registry


def split_settings(factory: Any, values: Mapping[str, Any], owner: str) -> dict[str, dict[str, Any]]:
    """Settings by where they belong: "config", "hparams" and "run" (total_steps). Raises ValueError for an unknown one."""
    fields = {
        "config": [f.name for f in dataclasses.fields(factory.Config)],
        "hparams": [f.name for f in dataclasses.fields(factory.HParams)],
        "run": ["total_steps"],
    }
    split: dict[str, dict[str, Any]] = {kind: {} for kind in fields}
    for name, value in values.items():
        kinds = [kind for kind, names in fields.items() if name in names]
        if not kinds:
            raise unknown(f"setting of {owner}", name, sum(fields.values(), []))
        split[kinds[0]][name] = value
    return split


def settings_of(factory: Any, kind: str, preset: Mapping[str, Any], explicit: Any, agent: str) -> Any:
    """An instance of the factory's Config or HParams: an explicit one alone, else `preset` overlaid with a mapping.

    Raises ValueError naming the setting.
    """
    cls, other = getattr(factory, kind), "HParams" if kind == "Config" else "Config"
    if isinstance(explicit, cls):
        values: Mapping[str, Any] = vars(explicit)
    elif explicit is not None and not isinstance(explicit, Mapping):
        raise InputError(f"{kind.lower()} of {agent} must be a mapping or its {kind}, not {type(explicit).__name__}")
    else:
        values = {**preset, **(explicit or {})}
    for name in values:
        if name in {f.name for f in dataclasses.fields(getattr(factory, other))}:
            raise InputError(f"{name!r} of {agent} belongs in {other.lower()}=, not in {kind.lower()}=")
    if "torso" in values:
        values = {**values, "torso": registry.find_torso(values["torso"])}
    return build(cls, values, agent)
