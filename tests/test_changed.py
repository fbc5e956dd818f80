"""What `make check` runs for a change."""

import pytest

from tests.changed import GUARDS, ROOT, those_for

SOURCES = {
    "tests/agents/test_dqn.py": "from jaxrl.agents import dqn",
    "tests/agents/test_contract.py": "import jaxrl",
    "tests/agents/test_losses.py": "def f():\n    from jaxrl.agents.parts.losses import td_error",
    "tests/runs/test_dqn.py": "import jaxrl.agents.dqn",
    "tests/test_api.py": "import jaxrl",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("jaxrl/agents/dqn.py", ["tests/agents/test_dqn.py"]),  # not of another room
        ("jaxrl/agents/contract.py", ["tests/agents/test_contract.py"]),  # by its name
        ("jaxrl/agents/parts/losses.py", ["tests/agents/test_losses.py"]),
        ("jaxrl/agents/ppo.py", ["tests/agents/"]),  # nobody imports it
        ("jaxrl/agents/__init__.py", ["tests/agents/test_dqn.py"]),
        ("jaxrl/nowhere/ppo.py", []),
        ("jaxrl/api.py", []),
        ("tests/runs/test_dqn.py", ["tests/runs/test_dqn.py"]),
        ("tests/small.py", []),
        ("benchmarks/run.py", []),
    ],
)
def test_a_changed_file_has_its_tests(path, expected):
    assert those_for(path, SOURCES) == expected


def test_there_are_guards():
    assert all((ROOT / path).exists() for path in GUARDS)
