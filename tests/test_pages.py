"""README, docs/ and the notebooks: every block of code runs, every link leads somewhere, every public name is explained."""

import contextlib
import json
import re
import subprocess
import sys
import tomllib

import jax
import pytest

import jaxrl
from jaxrl.experiment import registry
from tests import pages
from tests.command_line import without_pictures

ROOT = pages.ROOT
MARKDOWN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "experiments").glob("*.ipynb"))


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages.pages(), ids=name)
def test_every_block_runs(page, keep_platform, monkeypatch):
    monkeypatch.setattr("jaxrl.configure", lambda: None)  # the backend of this process runs
    monkeypatch.setenv("MPLBACKEND", "agg")
    drawn = contextlib.nullcontext() if page.name == "README.md" else without_pictures()
    with jax.numpy_rank_promotion("allow"), drawn:
        pages.run(page)


def test_blocks_are_shortened_only_where_a_page_says_so(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '<!-- tests: 3 => 4; x => y -->\n```python\nx = 3\n```\n\n```python title="a.py"\nx = 3\n```\n```text\n3\n```\n'
    )
    assert pages.blocks(page) == [("python", "", "y = 4\n"), ("python", "a.py", "x = 3\n"), ("text", "", "3\n")]
    with pytest.raises(ValueError, match="'z' is to be changed"):
        pages.changed("x = 3", "z => 1")


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_every_block_says_what_it_is(page):
    """So that none is left out: code is python or sh, all else text."""
    kinds = {block.kind for block in pages.blocks(page)}
    assert kinds <= {"python", "sh", "text", "toml"}
    fences = re.findall(r"^\s*```", page.read_text(), re.M)
    assert len(fences) == 2 * len(pages.blocks(page))


def test_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_every_link_leads_to_a_file(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("agent", registry.agent_names())
def test_every_agent_is_in_the_table(agent):
    assert f"| {agent} |" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_every_public_name_has_a_docstring():
    assert jaxrl_names_without_docstring() == []


def jaxrl_names_without_docstring():
    """Public names of jaxrl, and public methods and properties of its classes, that explain nothing."""
    lacking = []
    for public in jaxrl.__all__:
        thing = getattr(jaxrl, public)
        members = vars(thing).items() if isinstance(thing, type) else ()
        fields = getattr(thing, "_fields", ())
        own = [(f"{public}.{n}", m) for n, m in members if n[0] != "_" and n not in fields and explains_itself(m)]
        lacking += [label for label, x in [(public, thing), *own] if not doc_of(x)]
    return lacking


def explains_itself(member):
    return callable(member) or isinstance(member, property | staticmethod | classmethod)


def doc_of(thing):
    """A docstring that somebody wrote: dataclasses and NamedTuples make up one of their fields."""
    text = (thing.__doc__ or "").strip()
    return "" if isinstance(thing, type) and text.startswith(f"{thing.__name__}(") else text


def test_the_reference_has_every_public_name_once():
    shown = re.findall(r"^::: jaxrl\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(shown) == sorted(jaxrl.__all__)


def test_the_site_builds_without_a_warning(tmp_path):
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", ".mkdocs.yml", "--site-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "api" / "index.html").read_text()
    assert all(f'id="jaxrl.{public}"' in reference for public in jaxrl.__all__)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebooks_are_kept_with_their_outputs(notebook):
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(cell["execution_count"] for cell in cells) and any(
        "image/png" in output.get("data", {}) for output in outputs
    )
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert notebook.stat().st_size < 400_000


def test_the_newest_changes_are_those_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.M)
    assert newest[1] == version
