"""Libraries of environments, which are extras."""

from __future__ import annotations

import importlib
from typing import Any

from jaxrl.core.errors import InputError


def library(env_id: str, module: str, extra: str) -> Any:
    """A module of a library. Raises InputError, naming the extra, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{env_id} needs the extra: pip install 'jaxrl[{extra}]' ({str(error).splitlines()[0]})") from error
