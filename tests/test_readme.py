"""README.md: what it shows runs."""

import re
import shlex
from pathlib import Path

import pytest

from jaxrl.cli import experiments
from jaxrl.cli import main as cli
from jaxrl.cli.options import SweepOptions, TrainOptions, TuneOptions
from jaxrl.experiment import registry

README = Path(__file__).parent.parent / "README.md"


def test_the_python_examples_run(capsys, monkeypatch):
    """The second goes on from the first."""
    monkeypatch.setattr("jaxrl.configure", lambda: None)  # the backend of this process runs
    names = {}
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.S):
        exec(code.replace("100_000", "11_000").replace("50_000", "1_000"), names)
    trained, swept, evaluated, played = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"\d+\.", trained)) == 2 and len(re.findall(r"\d+\.\d+", swept)) == 4
    assert 1 <= float(evaluated) <= 500 and 1 <= int(played) <= 500


def test_the_commands_exist_and_take_their_flags():
    for line in re.findall(r"^jaxrl (.*)$", README.read_text(), re.M):
        command, *words = shlex.split(line.split("#")[0])
        assert command in cli.COMMANDS
        options = {"train": TrainOptions, "sweep": SweepOptions, "tune": TuneOptions}.get(command)
        if options:
            experiments.read(command, options, words)


@pytest.mark.parametrize("agent", registry.agent_names())
def test_every_agent_is_listed(agent):
    assert f"| {agent} |" in README.read_text()
