"""`jaxrl report`: one HTML file over runs and sweeps, which needs no network to be read.

sources.py reads directories, contents.py says what is shown, as plain values; page.html, page.css and page.js show it.
"""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.show.report import contents, sources

TITLE = "jaxrl report"


def require() -> None:
    """Raises ValueError where the library of the charts is not installed."""
    _charts()


def write(directories: Sequence[Path], out: Path) -> None:
    """Write the report of finished runs and sweeps. Raises ValueError where one is none, or not finished."""
    charts = _charts()
    found = [sources.read(directory) for directory in directories]
    written = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    page = filled(contents.of(found) | {"written": written}, charts)
    draft = out.with_name(out.name + ".tmp")
    draft.write_text(page, encoding="utf-8")
    draft.replace(out)


def filled(values: dict[str, Any], charts: str) -> str:
    """The page of `values` (plain, finite numbers only). charts: the source of plotly.js."""
    names = {source["env"] for source in values["sources"]}
    parts = {
        "title": html.escape(f"{TITLE}: {', '.join(sorted(names))}"),
        "style": _text("page.css"),
        "charts": charts.replace("</script", r"<\/script"),
        "data": json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
        "script": _text("page.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("page.html"))


def _text(name: str) -> str:
    return resources.files("jaxrl.show.report").joinpath(name).read_text(encoding="utf-8")


def _charts() -> str:
    """The source of plotly.js, which the Python package brings along."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise InputError("jaxrl report needs the extra: pip install 'jaxrl[report]'") from error
    return get_plotlyjs()
