"""Which tests `make check` runs: `python -m tests.changed` prints those of the files that differ from the main branch.

A changed test file is run itself. Of a changed file of jaxrl/ROOM, those in tests/ROOM that import it or have its name;
where there are none, all of tests/ROOM. GUARDS are run always. What other rooms make of the change, `make test` finds.
"""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUARDS = ["tests/test_api.py", "tests/agents/test_flags.py"]  # the public list; every agent, traced


def imported(source):
    """Names of the modules that a source imports, and of what it imports from them: {"jaxrl.agents.dqn", ...}."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def those_for(path, sources):
    """The test files, or the folder, for one changed file. sources: {path of a test file: its text}."""
    if path in sources:
        return [path]
    parts = Path(path).with_suffix("").parts
    if parts[0] != "jaxrl" or len(parts) < 3:
        return []
    room, module = f"tests/{parts[1]}/", ".".join(parts).removesuffix(".__init__")
    found = [
        test
        for test, text in sources.items()
        if test.startswith(room) and (test == f"{room}test_{parts[-1]}.py" or module in imported(text))
    ]
    return found or [room for test in sources if test.startswith(room)][:1]


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def changed_files():
    """That differ from where this branch left main, committed or not, and new ones."""
    base = git("merge-base", "HEAD", "main") or git("merge-base", "HEAD", "origin/main") or ["HEAD"]
    return git("diff", "--name-only", "--diff-filter=d", base[0]) + git("ls-files", "--others", "--exclude-standard")


def main():
    files = [*ROOT.glob("tests/*/test_*.py"), *ROOT.glob("tests/test_*.py")]
    sources = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    found = [test for path in changed_files() if path.endswith(".py") for test in those_for(path, sources)]
    print(*dict.fromkeys([*found, *GUARDS]))


if __name__ == "__main__":
    main()
