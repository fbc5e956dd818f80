"""`jaxrl check`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import CheckOptions
from jaxrl.devices import platform
from jaxrl.experiment import contract


def main(args: Sequence[str]) -> int:
    """Try an environment or an agent, and print what holds; the first fault ends it."""
    options = flags.parse(CheckOptions, args, "jaxrl check")
    platform.configure(1)
    kwargs = flags.assignments("--env-kwarg", options.env_kwarg)
    params = flags.assignments("--env-param", options.env_param)
    if contract.is_agent(options.name):
        lines = contract.agent_lines(options.name, options.env, env_kwargs=kwargs, env_params=params)
    else:
        lines = contract.env_lines(options.name, kwargs, params)
    for line in lines:
        print(line, flush=True)
    return 0
