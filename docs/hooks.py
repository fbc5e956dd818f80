"""What the site does beside its plugins: pictures of the benchmarks, room for wide pages, parameters set as code."""

import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
ALONE = {"index.md", "tutorial.md", "concepts.md", "api.md", "benchmarks.md"}  # pages of no section
WIDE = {"benchmarks.md"}


def on_files(files, config):
    """Adds the pictures of benchmarks/results, which docs/ does not hold, as results/NAME."""
    for picture in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown, page, **_):
    """The same link shows a picture on GitHub and here; a page that is alone needs no list of its neighbours."""
    name = page.file.src_uri
    page.meta["hide"] = ["navigation"] * (name in ALONE) + ["toc"] * (name in WIDE)
    up = "../" * name.count("/")
    return markdown.replace(f"]({up}../benchmarks/results/", f"]({up}results/")


class Parameters(griffe.Extension):
    """Makes a list of what a docstring says of each parameter, as in `seeds: how many. seed: the first.`"""

    def on_object(self, *, obj, **_):
        """Functions have parameters, classes fields."""
        if obj.docstring is None or not (obj.is_function or obj.is_class):
            return
        names = (
            [p.name for p in obj.parameters] if obj.is_function else [n for n, m in obj.members.items() if m.is_attribute]
        )
        listed = "|".join(map(re.escape, names)) or "(?!)"
        pattern = rf"(?:^|(?<=\.)\s+)((?:{listed})(?:, (?:{listed}))*): "

        def item(match):
            return "\n\n- `" + "`, `".join(match[1].split(", ")) + "`: "

        obj.docstring.value = re.sub(pattern, item, obj.docstring.value, flags=re.M)
