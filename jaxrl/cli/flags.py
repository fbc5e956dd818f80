"""Reading flags into dataclasses with tyro; what it refuses becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxrl.core.errors import InputError, nearest
from jaxrl.core.settings import hints

T = TypeVar("T")


def parse(cls: type[T], args: Sequence[str], prog: str, default: Any = None) -> T:
    """Parse flags into a dataclass with tyro. Help exits with 0; what tyro refuses is an InputError of one line."""
    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed, rest = tyro.cli(
                cls, args=list(args), prog=prog, config=(tyro.conf.OmitArgPrefixes,), return_unknown_args=True, **kwargs
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise InputError(_first_sentence(printed.getvalue())) from None
    if rest:
        flags = [name.replace("_", "-") for name in _field_names(cls)]
        name = rest[0].partition("=")[0]
        what = "flag" if name.startswith("-") else "argument"
        raise InputError(f"unknown {what} {name!r} of {prog}; {nearest(name, ['--' + flag for flag in flags])}")
    return parsed


def _field_names(cls: Any) -> list[str]:
    """The flags' names: fields of `cls`, and of the dataclasses it is made of."""
    names = []
    for name, hint in hints(cls).items():
        names += _field_names(hint) if dataclasses.is_dataclass(hint) else [name]
    return names


def _first_sentence(box: str) -> str:
    """The message of tyro's box, drawn in Unicode or ASCII, as one line: without its title and what follows a rule."""
    lines = [line.strip(" │|╭╮╰╯") for line in box.splitlines()]
    _title, *body = [line for line in lines if line]
    message = itertools.takewhile(lambda line: not _is_rule(line), itertools.dropwhile(_is_rule, body))
    return " ".join(message) or "bad arguments"


def _is_rule(line: str) -> bool:
    return set(line) <= set("─-")


def peek(args: Sequence[str], flag: str) -> str | None:
    """The value of a flag before the real parse, to find the defaults that its value decides."""
    for i, word in enumerate(args):
        if word.startswith(flag + "="):
            return word.partition("=")[2]
        if word == flag:
            return args[i + 1] if i + 1 < len(args) else None
    return None


def assignments(flag: str, words: Sequence[str]) -> dict[str, Any]:
    """name=value words as a dict; a value is read as JSON where it is JSON, else as text."""
    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(f"{flag} {word!r} must look like name=value")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = {"True": True, "False": False}.get(text, text)
    return values


def lists(flag: str, words: Sequence[str]) -> dict[str, str]:
    """name=values words as a dict of texts. Raises ValueError for one without a name or values, or a name given twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.replace("-", "_")
        if not equals or not name or not text:
            raise InputError(f"{flag} {word!r} must look like name=A,B")
        if name in found:
            raise InputError(f"{flag} {name} is given twice")
        found[name] = text
    return found


def check_writable(flag: str, out: Path, endings: Sequence[str] = ()) -> None:
    """Raises ValueError where a file cannot be written there, or its name has none of the endings."""
    if endings and out.suffix.lower() not in endings:
        raise InputError(f"{flag} {out} must end in {' or '.join(endings)}")
    try:
        folder = out.absolute().parent
        if out.is_dir():
            raise InputError(f"{flag} {out} is a directory; give a file")
        if not folder.is_dir():
            raise InputError(f"{flag} {out}: no such directory {folder}")
        if not os.access(folder, os.W_OK) or (out.exists() and not os.access(out, os.W_OK)):
            raise InputError(f"{flag} {out} cannot be written to")
    except OSError as error:  # the working directory is gone
        raise InputError(f"{flag} {out} cannot be written to: {error.strerror}") from error
