"""`jaxrl list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxrl.cli import flags
from jaxrl.cli.options import ListOptions
from jaxrl.core import settings
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box
from jaxrl.devices import platform
from jaxrl.experiment import lookup, registry, search_space


def main(args: Sequence[str]) -> int:
    """Print the names of agents and environments, a line each; of one named, all that can be set."""
    options = flags.parse(ListOptions, args, "jaxrl list")
    if options.name is not None and options.what == "all":
        raise InputError(
            f"say what {options.name!r} is: jaxrl list agents {options.name}, or jaxrl list envs {options.name}"
        )
    if options.what != "agents":
        platform.configure(1)
    print("\n".join(_lines(options.what, options.name)))
    return 0


def _lines(what: str, name: str | None) -> Iterator[str]:
    if name is not None:
        yield from _agent(name) if what == "agents" else _env(name)
        return
    if what in ("agents", "all"):
        for agent in registry.agent_names():
            yield f"{agent:19}{(registry.named_agent(agent)[1].__doc__ or '').splitlines()[0]}"
    if what == "all":
        yield ""
    if what in ("envs", "all"):
        for env in registry.env_names():
            yield f"{env:26}{_spaces(env)}"
        yield f"{'gymnasium:ID':26}any registered Gymnasium environment, simulated on the host"
        yield f"{'ale:GAME':26}Atari 2600, as ale:Pong, simulated on the host (extra: ale)"
        yield f"{'envpool:ID':26}EnvPool's, as envpool:HalfCheetah-v5, simulated on the host (extra: envpool)"
        yield f"{'dataset:PATH':26}recorded episodes or images, to learn from with targets (jaxrl record)"
        for library in (name for name, folder in lookup.LIBRARIES.items() if folder == "adapters" and name != "dataset"):
            yield f"{library + ':ID':26}of another JAX library (extra: {library})"


def _spaces(env: str) -> str:
    try:
        spec = registry.find_env(env).spec
    except InputError as missing:  # an extra that is not installed
        return str(missing)
    return f"observations {str(spec.observation_space):18}actions {spec.action_space}"


def _agent(name: str) -> Iterator[str]:
    """Every field of an agent's settings: name, type and range, default."""
    factory = registry.named_agent(name)[1]
    yield (factory.__doc__ or name).splitlines()[0]
    for kind, cls in (("Config, static", factory.Config), ("HParams, traced", factory.HParams)):
        yield f"{kind}:"
        types = settings.hints(cls)
        yield from _table((f.name, settings.type_text(types[f.name]), f.default) for f in dataclasses.fields(cls))
    yield f"what each does: jaxrl train {name} --help"


def _env(name: str) -> Iterator[str]:
    """An environment's spaces, arguments and parameters."""
    environment = registry.find_env(name)
    for what, space in (("observations", environment.spec.observation_space), ("actions", environment.spec.action_space)):
        bounds = f" from {np.min(space.low):.6g} to {np.max(space.high):.6g}" if isinstance(space, Box) else ""
        yield f"{what} {space}{bounds}"
    arguments = registry.arguments(name)
    yield "--env-kwarg NAME=VALUE, of the constructor:" if arguments else "--env-kwarg: it takes none"
    yield from _table((p.name, type(p.default).__name__, p.default) for p in arguments)
    params = {n: registry.param(environment.params, n) for n in registry.param_names(environment.params)}
    yield "--env-param NAME=VALUE, traced; env.NAME in --grid and --search:" if params else "--env-param: it has none"
    yield from _table((n, f"{x.dtype}{list(x.shape) or ''}", x.tolist() if x.size < 8 else "…") for n, x in params.items())


def _table(rows: Iterable[tuple[str, str, Any]]) -> Iterator[str]:
    for name, kind, default in rows:
        shown = f"{default:.6g}" if isinstance(default, float) else search_space.value_text(default)
        yield f"  {name:25} {kind:23} {shown}"
