"""What a user got wrong, said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from jaxrl.core import aliases


class InputError(ValueError):
    """Bad input: a name that does not exist, a value out of range, files that are not ours. The message is one line.

    The command line prints it and exits with 2; any other exception is a bug and keeps its traceback.
    """


def printable(text: str) -> str:
    """Text that a terminal takes for no command: control characters are shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid names nearest to `name`, or that other libraries call so, for a message; where none is, the valid ones."""
    names = sorted(map(str, valid))
    settings = {n.lstrip("-").replace("-", "_"): n for n in names}  # flags too
    if ours := aliases.near(name.lstrip("-").replace("-", "_"), settings):
        return "nearest: " + ", ".join(settings[n] for n in ours)
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


def setting_called(name: str, valid: Collection[str], what: str) -> str:
    """The one of the `valid` settings that is called `name`, here or in another library.

    what: whose setting, for the message. Raises InputError where there is none, or several.
    """
    found = aliases.meant(name, valid)
    if len(found) > 1:
        raise InputError(f"{name!r} of {what} may mean {' or '.join(found)}: give one of them")
    if not found:
        raise unknown(f"setting of {what}", name, valid)
    return found[0]
