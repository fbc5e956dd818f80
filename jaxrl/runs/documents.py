"""JSON documents that we wrote, read back through one typed schema: what is damaged is refused in one line that names it."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl.core import durable
from jaxrl.core.errors import InputError

CONFIG, SUMMARY = "config.json", "summary.json"
FORMAT = 3
FORMER = ("sweep.json", "tune.json")  # of directories that jaxrl 0.1 wrote
SCHEMA = {
    "jaxrl": int, "kind": str, "agent": str, "env": str, "env_kwargs": dict, "env_params": dict, "total_steps": int,
    "config": dict, "hparams": dict, "preset": str, "versions": dict, "device": dict, "bits": dict,
}  # fmt: skip
MEMBERS = {"members": list[dict], "program": dict, "eval_every": int}
PLAN = {
    "configurations": list[dict], "seeds": int, "seed": int, "eval_every": int, "memory_limit": int | None,
    "programs": list[dict], "asked": list[str], "callbacks": list[str],
}  # fmt: skip
TUNING = {"search": dict, "tuning": dict, "storage": str | None}
KINDS: dict[str, dict[str, Any]] = {
    "run": SCHEMA | MEMBERS | PLAN,
    "sweep": SCHEMA | PLAN,
    "wave": SCHEMA | MEMBERS,
    "tuning": SCHEMA | TUNING,
    "population": SCHEMA | MEMBERS | TUNING,
}
RUN_SUMMARY = {"final_return": dict, "env_steps": int, "compile_s": float, "run_s": float, "steps_per_s": int}
SWEEP_SUMMARY = {"final_return": list, "env_steps": int, "compile_s": float, "run_s": float, "steps_per_s": int}


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part; on disk when this returns.

    Raises ValueError where that is impossible.
    """
    try:
        with durable.written(path) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the fields of `schema`, more allowed. Raises ValueError where it is damaged."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    values = parsed(text, str(path))
    check(values, str(path), schema)
    return values


def parsed(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError, naming `where` it is from."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{where} is damaged: it is no JSON object")
    return values


def check(values: Mapping[str, Any], where: str, schema: Mapping[str, Any]) -> None:
    """Raises ValueError where a field of the schema {name: type} is missing, or of another type."""
    for name, hint in schema.items():
        if name not in values:
            raise InputError(f"{where} is damaged: it has no {name}")
        if not _fits(values[name], hint):
            wanted = getattr(hint, "__name__", str(hint))
            raise InputError(f"{where} is damaged: {name} is {str(values[name])[:40]!r}, not of type {wanted}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return any(_fits(value, each) for each in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(each, typing.get_args(hint)[0]) for each in value)
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    return isinstance(value, hint)


def kind_of(directory: Path) -> str:
    """What a directory of ours holds: a key of `KINDS`. Raises ValueError where it is none of ours, or damaged."""
    return read_config(directory)["kind"]


def read_config(directory: Path, *kinds: str) -> dict[str, Any]:
    """DIR/config.json. kinds: which are welcome; none given: all.

    Raises ValueError where there is no such directory, it is of another kind, was written by another version, or is damaged.
    """
    path, what = directory / CONFIG, " or ".join(kinds) or "jaxrl"
    if not directory.is_dir():
        raise InputError(f"no {what} directory {directory}")
    if any((directory / name).is_file() for name in FORMER) and not path.is_file():
        raise InputError(_too_old(directory))
    if not path.is_file():
        raise InputError(f"{directory} is no {what} directory: it has no {CONFIG}")
    values = read(path, {})
    if "jaxrl_run" in values:
        raise InputError(_too_old(directory))
    check(values, str(path), {"jaxrl": int, "kind": str})
    if values["jaxrl"] != FORMAT:
        raise InputError(f"{path} has format {values['jaxrl']}, which this version of jaxrl does not know")
    if values["kind"] not in KINDS:
        raise InputError(f"{path} is damaged: kind is {values['kind']!r}, none of {', '.join(KINDS)}")
    if kinds and values["kind"] not in kinds:
        raise InputError(f"{directory} is a {values['kind']}, not a {what}")
    check(values, str(path), KINDS[values["kind"]])
    for name in ("configurations", "programs"):
        if not values.get(name, [0]):
            raise InputError(f"{path} is damaged: it has no {name}")
    return values


def _too_old(directory: Path) -> str:
    return f"{directory} was written by jaxrl 0.1, whose states this version cannot read: use jaxrl 0.1, or train again"
