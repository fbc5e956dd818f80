"""Names -> agents, environments, presets; an unknown name is refused with the nearest valid ones.

A new agent is a file in `agents/` with `Config`, `HParams` and `make(spec, config)`; a new environment is a file in
`envs/` with `make(**kwargs) -> Env`, known by its file's name in CamelCase. Nothing else is edited.
"""

from __future__ import annotations

import functools
import importlib
import importlib.resources
import inspect
import pkgutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import agents, envs
from jaxrl.core.errors import InputError, nearest, unknown
from jaxrl.core.types import Agent, Env, EnvSpec, PyTree, VecEnv

NOT_ENVS = {"gymnax", "transforms"}


class AgentFactory(Protocol):
    """What makes an agent: a module of `jaxrl.agents`, or anything with these three names."""

    Config: type
    HParams: type
    make: Callable[[EnvSpec, Any], Agent]


def agent_names() -> list[str]:
    """Every agent, by file name."""
    return sorted(m.name for m in pkgutil.iter_modules(agents.__path__) if not m.ispkg)


def find_agent(agent: str | AgentFactory | Callable) -> tuple[str, AgentFactory]:
    """An agent's name and factory. agent: a name, a factory, or a factory's `make` function. Raises ValueError."""
    if isinstance(agent, str):
        if agent not in agent_names():
            raise unknown("agent", agent, agent_names())
        return agent, importlib.import_module(f"{agents.__name__}.{agent}")
    factory: Any = sys.modules.get(agent.__module__) if inspect.isfunction(agent) else agent
    missing = [name for name in ("Config", "HParams", "make") if not hasattr(factory, name)]
    if missing:
        raise InputError(f"agent factory {agent!r} lacks {', '.join(missing)}")
    return getattr(factory, "__name__", type(factory).__name__).rpartition(".")[2], factory


@functools.cache
def own_envs() -> dict[str, str]:
    """Our own environments: id -> module name."""
    names = [m.name for m in pkgutil.iter_modules(envs.__path__) if not m.ispkg and m.name not in NOT_ENVS]
    return {"".join(part.capitalize() for part in n.split("_")): n for n in names}


def env_names() -> list[str]:
    """Every environment's id."""
    from jaxrl.envs import gymnax  # starts the XLA backend, so not before a name is asked for

    return sorted([*own_envs(), *gymnax.ids()])


def find_env(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> Env | VecEnv:
    """An environment. env: an id (constructed with `env_kwargs`), an Env, a VecEnv or a gymnax Environment instance.

    Raises ValueError for an unknown id, unknown or refused kwargs, or kwargs beside an instance.
    """
    kwargs = dict(env_kwargs or {})
    if not isinstance(env, str):
        if kwargs:
            raise InputError(f"env_kwargs {sorted(kwargs)} need an environment id, not an instance")
        if isinstance(env, Env | VecEnv):
            return env
        from jaxrl.envs import gymnax

        if not isinstance(env, gymnax.Environment):
            raise InputError(f"env {env!r} is neither an id, a jaxrl Env or VecEnv, nor a gymnax Environment")
        return gymnax.wrap(env)
    if env in own_envs():
        make = importlib.import_module(f"{envs.__name__}.{own_envs()[env]}").make
        return _construct(env, make, make, kwargs)
    from jaxrl.envs import gymnax

    if env in gymnax.NEEDS_DOWNLOAD:
        raise InputError(f"environment {env!r} needs a download, which jaxrl does not do; {nearest(env, env_names())}")
    if env not in gymnax.ids():
        raise unknown("environment", env, env_names())
    return _construct(env, functools.partial(gymnax.make, env), gymnax.constructor(env), kwargs)


def _construct(env_id: str, make: Callable, signature_of: Callable, kwargs: dict[str, Any]) -> Env:
    valid = [p.name for p in inspect.signature(signature_of).parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name in kwargs:
        if name not in valid:
            raise unknown(f"argument of {env_id}", name, valid)
    parameters = inspect.signature(signature_of).parameters
    for name, value in kwargs.items():
        if type(parameters[name].default) is int and type(value) is not int:
            raise InputError(f"argument {name} = {value!r} of {env_id} must be an integer")
    if not kwargs:
        return make()
    try:
        return make(**kwargs)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"{env_id} refuses {kwargs}: {str(error).splitlines()[0] if str(error) else error!r}") from error


def with_params(env_id: str, params: PyTree, overrides: Mapping[str, Any]) -> PyTree:
    """Environment parameters with some replaced, as arrays of the default's dtype and shape.

    Raises ValueError for an unknown name, a value that is no number, or another shape.
    """
    names = param_names(params)
    changed = {}
    for name, value in overrides.items():
        if name not in names:
            raise unknown(f"parameter of {env_id}", name, names)
        default = jnp.asarray(params[name] if isinstance(params, dict) else getattr(params, name))
        changed[name] = _like(name, value, default)
    if not changed:
        return params
    if isinstance(params, dict):
        return {**params, **changed}
    return params._replace(**changed) if hasattr(params, "_replace") else params.replace(**changed)


def param_names(params: PyTree) -> list[str]:
    """The names of environment parameters kept in a dict, a NamedTuple or a dataclass."""
    if isinstance(params, dict):
        return list(params)
    return list(getattr(params, "_fields", None) or getattr(params, "__dataclass_fields__", {}))


def _like(name: str, value: Any, default: jax.Array) -> jax.Array:
    if isinstance(value, jax.core.Tracer):
        return value.astype(default.dtype)
    try:
        array = jnp.asarray(value)
        cast = array.astype(default.dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"environment parameter {name} = {value!r} is not a number") from error
    if array.shape != default.shape:
        raise InputError(f"environment parameter {name} = {value!r} must have shape {default.shape}")
    if not jnp.issubdtype(default.dtype, jnp.floating) and not bool(jnp.all(cast == array)):
        raise InputError(f"environment parameter {name} = {value!r} must be of type {default.dtype.name}")
    return cast


@functools.cache
def presets(agent: str) -> dict[str, dict[str, Any]]:
    """An agent's presets by name, out of `presets/<agent>.toml`; empty where it has none."""
    file = importlib.resources.files("jaxrl") / "presets" / f"{agent}.toml"
    return tomllib.loads(file.read_text()) if file.is_file() else {}


def find_preset(agent: str, env_id: str, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """A preset's name and settings. name: None takes the environment's own, if there is one; "none" takes none."""
    known = presets(agent)
    if name is None:
        name = env_id if env_id in known else "none"
    if name == "none":
        return name, {}
    if name not in known:
        raise unknown(f"preset of {agent}", name, [*known, "none"])
    return name, known[name]
