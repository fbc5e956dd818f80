"""Names -> agents, environments, transforms, torsos; an unknown name is refused with the nearest valid ones.

A new agent is a file in `agents/` with `Config`, `HParams` and `make(spec, config)`; a new environment is a file in
`envs/` with `make(**kwargs) -> Env`, known by its file's name in CamelCase. Nothing else is edited. Those that lie elsewhere
are named `package.module:attribute` or `path/file.py:attribute` (see lookup.py).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import agents, envs
from jaxrl.core import checks
from jaxrl.core.errors import InputError, nearest, unknown
from jaxrl.core.settings import check, read
from jaxrl.core.types import Agent, Env, EnvSpec, PyTree, VecEnv
from jaxrl.experiment import lookup

NOT_ENVS = {"transforms"}


class AgentFactory(Protocol):
    """What makes an agent: a module of `jaxrl.agents`, or anything with these three names."""

    Config: type
    HParams: type
    make: Callable[[EnvSpec, Any], Agent]


def agent_names() -> list[str]:
    """Every agent, by file name."""
    return sorted(m.name for m in pkgutil.iter_modules(agents.__path__) if not m.ispkg)


def find_agent(agent: str | AgentFactory | Callable) -> tuple[str, AgentFactory]:
    """An agent's name, or what to call one without, and its factory. Raises ValueError. agent: as in `named_agent`."""
    name, factory = named_agent(agent)
    return name or getattr(factory, "__name__", type(factory).__name__).rpartition(".")[2], factory


def named_agent(agent: str | AgentFactory | Callable) -> tuple[str | None, AgentFactory]:
    """The name by which an agent is found again, None where there is none, and its factory.

    agent: a name, a factory, or a `make` function that lies beside `Config` and `HParams`. Raises ValueError.
    """
    name = agent if isinstance(agent, str) else lookup.name_of(agent)
    if isinstance(agent, str):
        if lookup.is_name(agent):
            agent = lookup.find(agent)
        elif agent in agent_names():
            return agent, importlib.import_module(f"{agents.__name__}.{agent}")
        else:
            raise unknown_name("agent", agent, agent_names())
    factory: Any = agent
    if inspect.isfunction(agent):
        factory = sys.modules.get(agent.__module__)
        if getattr(factory, "make", None) is not agent:  # another function of that module
            known = {kind: getattr(factory, kind) for kind in ("Config", "HParams") if hasattr(factory, kind)}
            factory = types.SimpleNamespace(**known, make=agent, __name__=agent.__name__, __doc__=agent.__doc__)
    missing = [part for part in ("Config", "HParams", "make") if not hasattr(factory, part)]
    if missing:
        raise InputError(f"agent {name or repr(agent)} lacks {', '.join(missing)}")
    for cls, base in ((factory.Config, "extend jaxrl.LoopConfig"), (factory.HParams, "decorate it @jaxrl.hyperparameters")):
        if not dataclasses.is_dataclass(cls) or (cls is factory.Config and not hasattr(cls, "updates_per_iteration")):
            raise InputError(f"{cls.__name__} of agent {name or repr(agent)} must be a dataclass of settings: {base}")
    package, _, last = getattr(factory, "__name__", "").rpartition(".")
    return last if package == agents.__name__ else name, factory


def unknown_name(what: str, name: str, valid: list[str]) -> InputError:
    """The error for a name that is none of the valid ones, or a file whose attribute was forgotten."""
    if name.endswith(".py"):
        found = lookup.functions(name)
        there = f"; it has {', '.join(found)}" if found else ""
        return InputError(f"{name} is a file: name the {what} in it, as {name}:{(*found, 'make')[0]}{there}")
    return unknown(what, name, valid)


@functools.cache
def own_envs() -> dict[str, str]:
    """Our own environments: id -> module name."""
    names = [m.name for m in pkgutil.iter_modules(envs.__path__) if not m.ispkg and m.name not in NOT_ENVS]
    return {"".join(part.capitalize() for part in n.split("_")): n for n in names}


def env_names() -> list[str]:
    """Every environment's id."""
    from jaxrl.envs.adapters import gymnax  # starts the XLA backend, so not before a name is asked for

    return sorted([*own_envs(), *gymnax.ids()])


def find_env(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> Env | VecEnv:
    """An environment. env, env_kwargs: as in `named_env`. Raises ValueError."""
    return named_env(env, env_kwargs)[1]


def named_env(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> tuple[str | None, Env | VecEnv]:
    """The name by which an environment is found again, None where there is none, and the environment.

    env: an id, `library:ID` (as gymnasium:CartPole-v1), the name of own code, an Env, a VecEnv, a gymnax Environment, or the
    class of one or a function that makes one of these; the last two, and ids, are given `env_kwargs`.

    Raises ValueError for an unknown id, unknown or refused kwargs, or kwargs beside an instance.
    """
    kwargs = dict(env_kwargs or {})
    if not isinstance(env, str):
        ours = {f"{envs.__name__}.{file}:make": env_id for env_id, file in own_envs().items()}
        name = lookup.name_of(env)
        return _made(ours.get(name or "", name), env, kwargs)
    if lookup.is_name(env):
        return env, _made(env, lookup.find(env), kwargs)[1]
    if ":" in env:
        from jaxrl.envs.host.vec_env import vec_env

        make = _of_library(env)
        made = _construct(env, make, make, kwargs)
        return env, made if isinstance(made, Env) else vec_env(made, 1)
    if env in own_envs():
        make = importlib.import_module(f"{envs.__name__}.{own_envs()[env]}").make
        return env, _construct(env, make, make, kwargs)
    from jaxrl.envs.adapters import gymnax

    if env in gymnax.NEEDS_DOWNLOAD:
        raise InputError(f"environment {env!r} needs a download, which jaxrl does not do; {nearest(env, env_names())}")
    if env not in gymnax.ids():
        raise unknown_name("environment", env, env_names())
    return env, _construct(env, functools.partial(gymnax.make, env), gymnax.constructor(env), kwargs)


def arguments(env: str) -> list[inspect.Parameter]:
    """The arguments of an environment's constructor, for `env_kwargs`; env: a name as in `named_env`."""
    if lookup.is_name(env):
        made: Any = lookup.find(env)
    elif ":" in env:
        made = _of_library(env)
    elif env in own_envs():
        made = importlib.import_module(f"{envs.__name__}.{own_envs()[env]}").make
    else:
        from jaxrl.envs.adapters import gymnax

        made = gymnax.constructor(env)
    return [*inspect.signature(made).parameters.values()] if callable(made) and not isinstance(made, tuple) else []


def _of_library(name: str) -> Callable:
    """What makes `library:ID`: its simulators on the host, or an Env."""
    library, _, env_id = name.partition(":")
    folder = lookup.LIBRARIES[library]
    module = importlib.import_module(f"{envs.__name__}.{folder}.{library}")
    return functools.partial(module.simulators if folder == "host" else module.make, env_id)


def _made(name: str | None, env: Any, kwargs: dict[str, Any]) -> tuple[str | None, Env | VecEnv]:
    """What a function, a class or an instance means; see `named_env`."""
    label = name or repr(env)
    if isinstance(env, Env | VecEnv) or _of_gymnax(type(env)):
        if kwargs:
            raise InputError(f"env_kwargs {sorted(kwargs)} need an environment id or a function, not an instance")
    elif not callable(env):
        raise InputError(f"env {label} is neither an id, a jaxrl Env or VecEnv, nor a gymnax Environment")
    else:
        env = _construct(label, env, env, kwargs)
    if isinstance(env, Env | VecEnv):
        return name, env
    if not _of_gymnax(type(env)):
        raise InputError(f"env {label} makes {type(env).__name__}, neither a jaxrl Env or VecEnv nor a gymnax Environment")
    from jaxrl.envs.adapters import gymnax

    return name or gymnax.registered_id(env), gymnax.wrap(env)


def _of_gymnax(kind: type) -> bool:
    """Whether instances are gymnax Environments; told without importing gymnax, which takes a second."""
    base = ("gymnax.environments.environment", "Environment")
    return any((parent.__module__, parent.__name__) == base for parent in kind.__mro__)


def _construct(env_id: str, make: Callable, signature_of: Callable, kwargs: dict[str, Any]) -> Any:
    parameters = inspect.signature(signature_of).parameters
    valid = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    any_name = len(valid) < len(parameters) and ":" in env_id
    for name in kwargs:
        if name not in valid and not any_name:
            raise unknown(f"argument of {env_id}", name, valid)
    kwargs = {name: _as_default(f"argument {name}", value, parameters.get(name)) for name, value in kwargs.items()}
    if make is signature_of:  # a user's own
        _check_whole(env_id, parameters, kwargs)
        with checks.explained(f"making {env_id}", (Exception,)):
            return _called(env_id, make, kwargs)
    return _called(env_id, make, kwargs)


def _check_whole(env_id: str, parameters: Mapping[str, inspect.Parameter], kwargs: Collection[str]) -> None:
    """Raises InputError naming what a user's function needs and was not given."""
    optional = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [n for n, p in parameters.items() if p.default is p.empty and p.kind not in optional and n not in kwargs]
    if missing:
        given = " ".join(f"--env-kwarg {name}=..." for name in missing)
        raise InputError(f"env {env_id} needs {', '.join(missing)}: {given} (env_kwargs)")


def _called(env_id: str, make: Callable, kwargs: dict[str, Any]) -> Any:
    """What `make` gives. Raises InputError where it refuses its arguments, or they do not fit the memory."""
    if not kwargs:
        return make()
    try:
        return make(**kwargs)
    except (TypeError, ValueError, AssertionError, ArithmeticError, LookupError, AttributeError) as error:
        raise InputError(f"{env_id} refuses {kwargs}: {str(error).splitlines()[0] if str(error) else error!r}") from error
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        raise InputError(f"{env_id} with {kwargs} does not fit the memory") from error


def _as_default(what: str, value: Any, parameter: inspect.Parameter | None) -> Any:
    """An argument in the type of its default, as far as people write it otherwise: 1e3 for 1000, 8x8 for (8, 8)."""
    default = None if parameter is None else parameter.default
    if isinstance(default, tuple) and default and isinstance(value, str | list):
        value = (
            read(what, value, types.GenericAlias(tuple, (type(default[0]), ...))) if isinstance(value, str) else tuple(value)
        )
    return check(what, value, int) if type(default) is int else value


@functools.cache
def transforms() -> dict[str, Callable]:
    """Our environment transforms by name: the functions of envs/transforms.py that take an `env`."""
    module = importlib.import_module(f"{envs.__name__}.transforms")
    found = {name: f for name, f in vars(module).items() if inspect.isfunction(f) and name[0] != "_"}
    return {name: f for name, f in found.items() if next(iter(inspect.signature(f).parameters), "") == "env"}


def transformed(environment: Env | VecEnv, transform: str | Callable) -> Env | VecEnv:
    """An environment with one transform. transform: a function, or its name with arguments: "stack_frames(4)".

    Raises ValueError for a name that does not exist, or arguments that do not fit.
    """
    what, function = f"environment transform {transform!r}", transform
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if isinstance(transform, str):
        name, args, kwargs = lookup.call_of(transform, "environment transform")
        if not lookup.is_name(name) and name not in transforms():
            raise unknown("environment transform", name, transforms())
        function = lookup.find(name) if lookup.is_name(name) else transforms()[name]
        if isinstance(environment, VecEnv) and not lookup.is_name(name):
            raise InputError(f"{what} is of an Env, and {environment.spec.id} is a VecEnv")
    if not callable(function):
        raise InputError(f"{what} is no function")
    found = lookup.fitting(function, what, environment, *args, **kwargs)
    if not isinstance(found, Env | VecEnv):
        raise InputError(f"{what} gives {type(found).__name__}, not an Env or a VecEnv")
    return found


def with_params(env_id: str, params: PyTree, overrides: Mapping[str, Any]) -> PyTree:
    """Environment parameters with some replaced, as arrays of the default's dtype and shape.

    Raises ValueError for an unknown name, a value that is no number, or another shape.
    """
    names = param_names(params)
    changed = {}
    for name, value in overrides.items():
        if name not in names:
            raise unknown(f"parameter of {env_id}", name, names)
        changed[name] = _like(name, value, param(params, name))
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


def param(params: PyTree, name: str) -> jax.Array:
    """One of the `param_names`."""
    return jnp.asarray(params[name] if isinstance(params, dict) else getattr(params, name))


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


def find_torso(torso: Any) -> Any:
    """A torso as a Config takes it: the name of own code is the class or instance of `flax.linen.Module` that it names.

    With arguments, "net.py:Wide(64)", it is the instance that the class gives. Raises ValueError.
    """
    if not lookup.is_name(torso):
        return torso
    found = lookup.made(torso, "torso")
    if not (issubclass(found, nn.Module) if isinstance(found, type) else isinstance(found, nn.Module)):
        raise InputError(f"torso = {torso} must be a flax.linen.Module, or an instance of one")
    return found
