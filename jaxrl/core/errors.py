"""What a user got wrong, said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a name that does not exist, a value out of range, files that are not ours. The message is one line.

    The command line prints it and exits with 2; any other exception is a bug and keeps its traceback.
    """


def printable(text: str) -> str:
    """Text that a terminal takes for no command: control characters are shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid names nearest to `name`, for a message; where none is near, the valid ones."""
    names = sorted(map(str, valid))
    of = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), of, 3, 0.5)
    if close:
        return "nearest: " + ", ".join(of[n] for n in close)
    if not names:
        return "there are none"
    return "valid: " + ", ".join(names[:20]) + (" …" if len(names) > 20 else "")


def unknown(what: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that is none of the valid ones."""
    return InputError(f"unknown {what} {name!r}; {nearest(name, valid)}")
