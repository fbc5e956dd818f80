"""The code of README, of docs/ and of the notebooks: what it is, and `python -m tests.pages PAGE`, which runs a page.

The Python blocks of a page run in turn in one namespace, its shell blocks between them, all in an empty folder. The tests
run all pages in one process, for importing and starting take longer than most pages. A block with a title, as in
```python title="corridor.py", is written to that file instead of being run. What would take too long is changed by a
comment before the block, which no reader sees:

    <!-- tests: --total-steps 300000 => --total-steps 3000; --seeds 8 => --seeds 2 -->
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
import types
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(?:<!-- tests: (?P<changes>[^>]*(?:=>[^>]*)+) -->\n)?^```(?P<head>\S*[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S
)
NOT_RUN = {"git", "cd", "ray", "tensorboard", "pre-commit", "wandb"}  # they need a network, a cluster, or a reader


class Block(NamedTuple):
    """One piece of code. kind: python, sh, or what else stands behind the backticks. title: the file it is, or ""."""

    kind: str
    title: str
    code: str


def pages() -> list[Path]:
    """README, every page of docs/ and every notebook, but for those without code."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").glob("*.ipynb"))]
    return [page for page in found if any(block.kind in ("python", "sh") for block in blocks(page))]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, shortened as its comments say; a notebook's cells of code."""
    if page.suffix == ".ipynb":
        return [Block("python", "", source) for source in map(_changed_cell, cells(page))]
    found = []
    for match in BLOCK.finditer(page.read_text()):
        kind, _, rest = match["head"].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(kind, title[1] if title else "", changed(match["code"], match["changes"] or "")))
    return found


def cells(notebook: Path) -> list[str]:
    """The source of a notebook's cells of code."""
    document = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def _changed_cell(source: str) -> str:
    """A cell with `x = 300_000  # tests: 3_000` taken at the value for tests."""
    return re.sub(r"= [^=#\n]+?  # tests: (.+)$", r"= \1", source, flags=re.M)


def changed(code: str, changes: str) -> str:
    """`code` with the changes `A => B; C => D`. Raises ValueError where an A is not in it."""
    for change in filter(None, (part.strip() for part in changes.split(";"))):
        old, new = (side.strip() for side in change.split("=>"))
        if old not in code:
            raise ValueError(f"{old!r} is to be changed, but is not in\n{code}")
        code = code.replace(old, new)
    return code


def write_files(folder: Path) -> None:
    """Write every file that the how-tos show into a folder."""
    for page in sorted((ROOT / "docs" / "howto").glob("*.md")):
        for block in blocks(page):
            if block.title:
                (folder / block.title).write_text(block.code)


def run(page: Path) -> None:
    """Run a page in a folder of its own, as a script that begins where JAX is set up."""
    before = sys.modules["__main__"], set(sys.modules), list(sys.path)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            sys.path.insert(0, folder)
            run_blocks(page)
        finally:
            sys.modules["__main__"], sys.path[:] = before[0], before[2]
            for name in set(sys.modules) - before[1]:
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
                    del sys.modules[name]


def run_blocks(page: Path) -> None:
    """Run the blocks of a page in the working directory."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    for number, block in enumerate(blocks(page)):
        if block.title:
            Path(block.title).write_text(block.code)
        elif block.kind == "python":
            exec(compile(block.code, f"{page.name}, block {number}", "exec"), module.__dict__)
        elif block.kind == "sh":
            for line in filter(None, block.code.replace("\\\n", " ").splitlines()):
                shell(shlex.split(line, comments=True))


def shell(words: list[str]) -> None:
    """Run one command of a page; of those that install or build, see that what they name is there."""
    if not words or words[0] in NOT_RUN:
        return
    if words[0] == "jaxrl":
        jaxrl_command(words[1:])
    elif words[0] in ("python", "cat", "ls"):
        subprocess.run([sys.executable if words[0] == "python" else words[0], *words[1:]], check=True)
    elif words[0] == "make":
        subprocess.run(["make", "--dry-run", "--directory", ROOT, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    elif words[0] == "pip":
        check_extras(words[-1])
    else:
        raise ValueError(f"no one here knows the command {words[0]!r}")


def jaxrl_command(words: list[str]) -> None:
    """The command line in this process. Raises ValueError where it fails."""
    from jaxrl.cli import main as program

    if code := program.main(words):
        raise ValueError(f"jaxrl {shlex.join(words)} ended with {code}")


def check_extras(requirement: str) -> None:
    """Raises ValueError for an extra, as in "jaxrl[ray,tune]", that pyproject.toml does not have."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*?)\]", requirement))):
        if name not in {*known, "cuda12", "cuda13"}:  # the latter two are JAX's own
            raise ValueError(f"pyproject.toml has no extra {name!r}")


def main(page: str) -> None:
    """Run one page in this process, which has done nothing yet."""
    import jaxrl

    os.environ["MPLBACKEND"] = "agg"
    jaxrl.configure()
    sys.modules[jaxrl.configure.__module__].configure = jaxrl.configure = lambda *_, **__: None  # type: ignore[attr-defined]
    run(Path(page).absolute())


if __name__ == "__main__":
    main(sys.argv[1])
