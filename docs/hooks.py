"""What mkdocs does beside its plugins: pictures out of benchmarks/results, which docs/ does not hold, come to the site."""

from pathlib import Path

from mkdocs.structure.files import File

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def on_files(files, config):
    """Adds the pictures as results/NAME."""
    for picture in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown, page, **_):
    """The same link shows a picture on GitHub and here."""
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../benchmarks/results/", f"]({up}results/")
