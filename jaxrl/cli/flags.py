"""Reading flags into dataclasses with tyro; what it refuses becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxrl.core import aliases
from jaxrl.core.errors import InputError, nearest, setting_called
from jaxrl.core.settings import hints, read

T = TypeVar("T")


def parse(cls: type[T], args: Sequence[str], prog: str, default: Any = None) -> T:
    """Parse flags into a dataclass with tyro. Help exits with 0; what tyro refuses is an InputError of one line."""
    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    printed, known = io.StringIO(), fields(cls)
    words = spelled(args, known, prog)
    try:
        with contextlib.redirect_stderr(printed):
            parsed, rest = tyro.cli(
                cls, args=words, prog=prog, config=(tyro.conf.OmitArgPrefixes,), return_unknown_args=True, **kwargs
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise InputError(_first_sentence(printed.getvalue())) from None
    if rest:
        raise _unknown(rest[0].partition("=")[0], words, known, prog)
    return parsed


def _unknown(name: str, words: Sequence[str], known: Mapping[str, Any], prog: str) -> InputError:
    """The error for a word that belongs to no flag, or a flag that there is not."""
    if name.startswith("-"):
        others = _commands_with(name.lstrip("-").replace("-", "_"))
        advice = f"it is of {' and '.join(f'jaxrl {command}' for command in others)}" if others else ""
        return InputError(f"unknown flag {name!r} of {prog}; {advice or nearest(name, map(_flag, known))}")
    before = words[max(words.index(name) - 1, 0)] if name in words else ""
    if "=" in before or before in map(_flag, known):
        return InputError(
            f"unknown argument {name!r} of {prog} after {before!r}: several values are joined by commas, a=1,2"
        )
    return InputError(f"unknown argument {name!r} of {prog}; {nearest(name, map(_flag, known))}")


def _commands_with(name: str) -> list[str]:
    """The commands that have a flag."""
    from jaxrl.cli import main, options

    found = {command: getattr(options, f"{command.capitalize()}Options", None) for command in main.COMMANDS}
    return [command for command, cls in found.items() if cls and name in fields(cls)]


def fields(cls: Any) -> dict[str, Any]:
    """The flags' names with their types: fields of `cls`, and of the dataclasses it is made of."""
    found: dict[str, Any] = {}
    for name, hint in hints(cls).items():
        found |= fields(hint) if dataclasses.is_dataclass(hint) else {name: hint}
    return found


def spelled(args: Sequence[str], known: Mapping[str, Any], prog: str) -> list[str]:
    """Words as tyro wants them: flags by our own names, integers in digits (1e6, 1_000), sequences word by word (64x64).

    known: the flags' names with their types. Raises InputError for a name that may mean several.
    """
    words: list[str] = []
    kind: Any = None  # of the words that follow a flag, see `_kind`
    for word in args:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):
            words += _digits(word, kind, words[-1] if words else "")
            kind = tuple if kind is tuple else None
        elif not aliases.meant(name, known):
            words, kind = [*words, word], None
        else:
            name = setting_called(name, known, prog)
            kind = _kind(known[name])
            words += [_flag(name) + (equals and kind is None and word[len(flag) :] or "")]
            words += _digits(value, kind, flag) if equals and kind else []
    return words


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kind(hint: Any) -> Any:
    """int or float for a number, tuple for several whole ones, None for what tyro reads as it is."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return tuple if args[0] is int else None
    return hint if hint in (int, float) else next(filter(None, map(_kind, args)), None)


def _digits(word: str, kind: Any, flag: str) -> list[str]:
    parts = word.replace("x", " ").replace(",", " ").split() if kind is tuple else [word]
    return [_number(part, kind, flag) for part in parts] if kind else parts


def _number(text: str, kind: Any, flag: str) -> str:
    """A number as tyro reads it, whole ones in digits. Raises InputError for any other text but None."""
    if text == "None":
        return text
    value = read(flag, text, float if kind is float else int)
    if kind is float:
        return text
    if not float(value).is_integer():
        raise InputError(f"{flag} = {text} is no whole number")
    return str(int(value))


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
    """name=value words as a dict; a value is read as JSON or a Python number where it is one, else as text."""
    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(f"{flag} {word!r} must look like name=value")
        values[name] = _plain(text)
    return values


def _plain(text: str) -> Any:
    for reading in (json.loads, int, {"True": True, "False": False}.__getitem__):  # int: 1_000
        with contextlib.suppress(ValueError, KeyError):
            return reading(text)
    return text


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
