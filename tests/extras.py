"""Libraries that `make test` does not install; `make test-extras` does, and then no test that needs them is skipped."""

import importlib
import os
import warnings

import pytest

from benchmarks.harness import browser


def extra(name):
    """The module, or what asks for it is skipped. Its own warnings, as it is imported, are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _imported(name)


def _imported(name):
    return importlib.import_module(name) if os.environ.get("NEEDS_EXTRAS") else pytest.importorskip(name)


def needs_browser():
    """Skips a test where there is no browser, but not in CI, which installs one."""
    if not browser.available():
        assert "NEEDS_BROWSER" not in os.environ
        pytest.skip("needs Debian's chromium and chromium-driver")
