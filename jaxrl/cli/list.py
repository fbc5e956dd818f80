"""`jaxrl list`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import ListOptions
from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.experiment import registry


def main(args: Sequence[str]) -> int:
    """Print the names of agents and environments, a line each."""
    what = flags.parse(ListOptions, args, "jaxrl list").what
    if what in ("agents", "all"):
        for name in registry.agent_names():
            print(f"{name:19}{(registry.find_agent(name)[1].__doc__ or '').splitlines()[0]}")
    if what == "all":
        print()
    if what in ("envs", "all"):
        platform.configure(1)
        for name in registry.env_names():
            print(f"{name:26}{_spaces(name)}")
    return 0


def _spaces(env: str) -> str:
    try:
        spec = registry.find_env(env).spec
    except InputError as missing:  # an extra that is not installed
        return str(missing)
    return f"observations {str(spec.observation_space):18}actions {spec.action_space}"
