"""Libraries that `make test` does not install; `make test-extras` does, and then no test that needs them is skipped."""

import importlib
import os
import warnings

import pytest


def extra(name):
    """The module, or what asks for it is skipped. Its own warnings, as it is imported, are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _imported(name)


def _imported(name):
    return importlib.import_module(name) if os.environ.get("NEEDS_EXTRAS") else pytest.importorskip(name)
