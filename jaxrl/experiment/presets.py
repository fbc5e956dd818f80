"""Settings of an agent by where they come from: dataclass default < preset < explicit.

A preset is a table of our own (`presets/<agent>.toml`), of a TOML file of yours, or what a run or a tuning was trained with.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl.core import aliases
from jaxrl.core.errors import InputError, setting_called, unknown
from jaxrl.core.settings import build, hints
from jaxrl.experiment import registry

ENV = "env."  # before the name of an environment's parameter


@functools.cache
def presets(agent: str) -> dict[str, dict[str, Any]]:
    """An agent's presets by name, out of `presets/<agent>.toml`; empty where it has none. `envs` are a table's names."""
    file = importlib.resources.files("jaxrl") / "presets" / f"{agent}.toml"
    tables = tomllib.loads(file.read_text()) if file.is_file() else {}
    return {each: table for name, table in tables.items() for each in table.pop("envs", [name])}


def find_preset(agent: str, env_id: str, name: str | Path | None = None) -> tuple[str, dict[str, Any]]:
    """A preset's name and settings.

    name: None takes the environment's own, if there is one (that of ID for gymnasium:ID and envpool:ID); "none" takes none.
    `path/file.toml` is a table of settings, or a table for each environment; a directory gives the settings of the run in
    it, or those that the tuning in it found best.

    Raises ValueError where there is no such preset, or a file does not say what it should.
    """
    known = presets(agent)
    if name is None:
        alike = env_id.removeprefix("gymnasium:").removeprefix("envpool:")
        name = next((each for each in (env_id, alike) if each in known), "none")
    if name == "none":
        return "none", {}
    if name in known:
        return str(name), known[str(name)]
    path = Path(name)
    if path.suffix == ".toml":
        return str(name), _of_file(path, env_id)
    if path.is_dir():
        return str(name), _of_directory(path, agent)
    raise unknown(f"preset of {agent}", str(name), [*known, "none"])


def _of_file(path: Path, env_id: str) -> dict[str, Any]:
    values = _read(path, tomllib.loads)
    tables = [name for name, value in values.items() if isinstance(value, dict) and name != "env"]
    if set(tables) <= {"config", "hparams"}:
        chosen = {name: value for name, value in values.items() if name not in tables}
        for table in tables:
            chosen |= values[table]
    elif env_id in tables:
        chosen = dict(values[env_id])
    else:
        where = "settings lie at its top, in [config] and [hparams], or in a table named like the environment"
        raise InputError(f"preset {path} has no table for {env_id}, but has {', '.join(tables)}: {where}")
    params = chosen.pop("env", {})  # env.NAME = value is a table for TOML
    return chosen | {ENV + name: value for name, value in params.items()}


def _of_directory(path: Path, agent: str) -> dict[str, Any]:
    config = _read(path / "config.json", json.loads)
    try:
        found = {"total_steps": config["total_steps"], **config["config"], **config["hparams"]}
        found |= {ENV + name: value for name, value in config["env_params"].items()}
        if config["agent"] != agent:
            raise InputError(f"preset {path} is of agent {config['agent']}, not of {agent}")
        if config["kind"] in ("tuning", "population"):
            return found | _read(path / "summary.json", json.loads)["best"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"preset {path} is damaged: {error!r}") from error
    if config["kind"] != "run":
        raise InputError(f"preset {path} is a {config['kind']}, which has no settings of its own: give a run or a tuning")
    return found


def _read(path: Path, loads: Any) -> Any:
    try:
        return loads(path.read_text())
    except OSError as error:
        raise InputError(f"preset {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, JSON or text
        raise InputError(f"preset {path} is damaged: {error}") from error


def split_settings(factory: Any, values: Mapping[str, Any], owner: str) -> dict[str, dict[str, Any]]:
    """Settings by where they belong: "config", "hparams", "env" (without the prefix) and "run" (total_steps).

    A name of another library becomes ours. Raises ValueError for one that belongs nowhere.
    """
    fields = {"config": [*hints(factory.Config)], "hparams": [*hints(factory.HParams)], "run": ["total_steps"]}
    split: dict[str, dict[str, Any]] = {"config": {}, "hparams": {}, "run": {}, "env": {}}
    for given, value in values.items():
        name = given if given.startswith(ENV) else setting_called(given, sum(fields.values(), []), owner)
        kind = next((kind for kind, names in fields.items() if name in names), "env")
        _put(split[kind], name.removeprefix(ENV), value, owner)
    return split


def _put(settings: dict[str, Any], name: str, value: Any, owner: str) -> None:
    if name in settings:
        raise InputError(f"{name} of {owner} is given twice")
    settings[name] = value


def settings_of(factory: Any, kind: str, preset: Mapping[str, Any], explicit: Any, agent: str) -> Any:
    """An instance of the factory's Config or HParams: an explicit one alone, else `preset` overlaid with a mapping.

    In the mapping a setting may have the name that another library gives it. Raises ValueError naming the setting.
    """
    cls, other = getattr(factory, kind), "HParams" if kind == "Config" else "Config"
    known, elsewhere = hints(cls), hints(getattr(factory, other))
    if not isinstance(explicit, cls | Mapping | None):
        raise InputError(f"{kind.lower()} of {agent} must be a mapping or its {kind}, not {type(explicit).__name__}")
    given: dict[str, Any] = {}
    for name, value in (vars(explicit) if isinstance(explicit, cls) else explicit or {}).items():
        if aliases.meant(name, elsewhere) and not aliases.meant(name, known):
            raise InputError(f"{name!r} of {agent} belongs in {other.lower()}=, not in {kind.lower()}=")
        _put(given, setting_called(name, known, agent), value, agent)
    values = given if isinstance(explicit, cls) else {**preset, **given}
    if "torso" in values:
        values = {**values, "torso": registry.find_torso(values["torso"])}
    return build(cls, values, agent)
