"""What is trained, as one plain value: an Experiment decides defaults < preset < explicit, and builds the Trainer.

The library, the command line and `resume` all go through here, so that the same names mean the same run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Annotated, Any

import jax

from jaxrl.agents.parts import optimizer
from jaxrl.core import checks, trees
from jaxrl.core.errors import InputError, nearest, unknown
from jaxrl.core.loop import Trainer, make_loop
from jaxrl.core.settings import Range, check
from jaxrl.core.types import Agent, Env, EnvSpec, VecEnv
from jaxrl.devices import memory
from jaxrl.experiment import initial, lookup, presets, registry
from jaxrl.experiment.presets import settings_of, split_settings

DEFAULT_TOTAL_STEPS = 100_000
MAX_TOTAL_STEPS = 2**31 - 2**24  # steps are counted in int32; the last iteration rounds up
TotalSteps = Annotated[int, Range(low=1, high=MAX_TOTAL_STEPS)]
FIELDS: dict[str, type] = {
    "agent": str, "env": str, "env_kwargs": dict, "env_params": dict, "total_steps": int, "config": dict, "hparams": dict,
    "preset": str,
}  # fmt: skip
INITIAL = ("init_from", "init_leaves", "init_strict")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Experiment:
    """One agent in one environment with every setting decided and checked: defaults < preset for (agent, env) < explicit.

    agent: a name (`jaxrl list agents`), `package.module:attribute`, `path/file.py:attribute`, a module with `Config`,
        `HParams` and `make`, or its `make`.
    env: an id (`jaxrl list envs`), a name as above, an Env, a VecEnv, a gymnax Environment, or a function that makes one.
    total_steps: environment steps of a seed, rounded up to whole iterations.
    config, hparams: some fields as a mapping, or a whole instance, which then decides alone. `torso` of config may be the
        name of a flax.linen.Module.
    env_params: traced parameters of the environment, the overridden ones only. env_kwargs: arguments of its constructor.
    env_transforms: names of functions Env -> Env with arguments, "stack_frames(4)", applied in this order.
    init_from: what the agent's parameters begin as: the directory of a run or of a wave of a sweep, DIR:PART for those of
        its leaves that lie under PART, or a .safetensors file; None draws them. Seed k begins with the source's k-th member.
    init_leaves: patterns of the leaves to load, as "torso*"; () for all that fit. init_strict: refuse where one does not.
    preset: None takes the tuned values for (agent, env) if there are any, "none" none, else the named one's; or a TOML file,
        or the directory of a run or a tuning, as `presets.find_preset` reads them.

    Read back, agent, env and preset are names, config and hparams instances. Experiments are equal where every setting is.
    Raises ValueError for a name that does not exist or a value out of range.
    """

    agent: Any
    env: Any
    _: dataclasses.KW_ONLY
    total_steps: Any = None
    config: Any = None
    hparams: Any = None
    env_params: Any = None
    env_kwargs: Any = None
    env_transforms: Any = ()
    init_from: Any = None
    init_leaves: Any = ()
    init_strict: bool = False
    preset: Any = None
    factory: Any = dataclasses.field(init=False)
    environment: Env | VecEnv = dataclasses.field(init=False)
    given: dict[str, Any] = dataclasses.field(init=False)
    """The names of agent and env; where one has none, what was given."""
    sources: dict[str, dict[str, str]] = dataclasses.field(init=False)
    """The files of own code as they were when it was loaded: {name: {"path", "sha256"}}."""

    def __post_init__(self) -> None:
        if isinstance(self.env_transforms, str) or not isinstance(self.env_transforms, Sequence):
            raise InputError(f"env_transforms = {self.env_transforms!r} must be a sequence of names")
        agent, factory = registry.named_agent(self.agent)
        env_kwargs = _mapping("env_kwargs", self.env_kwargs)
        env, environment = registry.named_env(self.env, env_kwargs)
        known_as = env or environment.spec.id
        for transform in self.env_transforms:
            environment = registry.transformed(environment, transform)
            known_as = environment.spec.id
        preset, chosen = presets.find_preset(agent or "", known_as, self.preset)
        steps = self.total_steps
        label = registry.find_agent(factory)[0] if agent is None else agent
        split = split_settings(factory, chosen, f"preset {preset} of {label}")
        self._set(
            agent=label,
            env=env or environment.spec.id,
            env_kwargs=env_kwargs,
            env_params=split["env"] | _mapping("env_params", self.env_params),
            env_transforms=tuple(self.env_transforms),
            **_checked_initial(self.init_from, self.init_leaves, self.init_strict),
            total_steps={"total_steps": DEFAULT_TOTAL_STEPS, **split["run"]}["total_steps"] if steps is None else steps,
            config=settings_of(factory, "Config", split["config"], self.config, label),
            hparams=settings_of(factory, "HParams", split["hparams"], self.hparams, label),
            preset=preset,
            factory=factory,
            environment=environment,
            given={"agent": agent or self.agent, "env": env or self.env},
        )

    def _set(self, **values: Any) -> None:
        """Decide these fields, and check what has to fit together."""
        values["env_params"] = _mapping("env_params", values.get("env_params", self.env_params))
        values["total_steps"] = check("total_steps", values.get("total_steps", self.total_steps), TotalSteps)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        named = [name.partition("(")[0] for name in self._parts().values() if name]
        before = self.__dict__.get("sources", {})
        own = {name: before.get(name) or lookup.source(name) for name in named if lookup.is_recorded(name)}
        object.__setattr__(self, "sources", {name: file for name, file in own.items() if file or lookup.is_name(name)})
        registry.with_params(self.environment.spec.id, self.environment.params, self.env_params)
        starts = getattr(self.config, "learning_starts", 0)
        if starts >= self.total_steps:
            raise InputError(
                f"learning_starts = {starts} must be below total_steps = {self.total_steps}, or nothing is learnt"
            )

    def replace(self, **changes: Any) -> Experiment:
        """The experiment with some arguments changed; a mapping for config or hparams changes the fields that it names.

        The preset is not read again: `preset` only says what it was. With another agent all of its settings begin anew.
        """
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init} | self.given
        for name in changes:
            if name not in kept:
                raise unknown("argument of Experiment", name, kept)
        if "agent" in changes:
            return Experiment(**{**kept, "config": None, "hparams": None, "preset": None, **changes})
        for kind in ("Config", "HParams"):
            if (name := kind.lower()) in changes:
                changes[name] = settings_of(self.factory, kind, vars(kept[name]), changes[name], self.agent)
        if changes.keys() & {"env", "env_kwargs", "env_transforms"}:
            label = changes.pop("preset", self.preset)
            return Experiment(**{**kept, **changes, "preset": "none"}).replace(preset=label)
        changed = object.__new__(Experiment)
        changed.__dict__.update(self.__dict__)
        changed._set(**changes)
        return changed

    def check(self) -> None:
        """Raises ValueError where a setting would do nothing beside the others. Of what varies each variant is asked."""
        optimizer.check(self.config, self.hparams)

    def trainer(self) -> Trainer:
        """The training program. Raises ValueError where agent, environment and settings do not fit together or in memory."""
        spec = self.environment.spec
        params = registry.with_params(spec.id, self.environment.params, self.env_params)
        config = self.config
        vec = self.environment if isinstance(self.environment, VecEnv) else None
        if vec and not vec.host and vec.num_envs != config.num_envs:
            raise InputError(f"num_envs = {config.num_envs}, but this VecEnv has {vec.num_envs}")
        try:
            trainer = make_loop(
                self.environment,
                initial.loadable(self.agent_for(spec)),
                self.hparams,
                params,
                total_steps=self.total_steps,
                num_envs=config.num_envs,
                rollout_length=config.rollout_length,
                updates_per_iteration=config.updates_per_iteration,
            )
            own = any(part is None or lookup.is_name(part) for part in self._parts().values())
            state = trainer.check() if own else jax.eval_shape(trainer.init, jax.random.key(0))
            if trainer.agent.params:
                optimizer.check_leaves(self.config, trainer.agent.params(state.agent))
        except (OverflowError, MemoryError) as error:
            raise InputError(f"{self._largest()} is too large: {str(error).splitlines()[0]}") from error
        needed = trees.nbytes(state) + 2 * config.rollout_length * trees.nbytes(state.obs)  # obs and next_obs of a rollout
        if needed > (limit := memory.total_bytes()):
            has = f"{needed / 1e9:,.1f} GB, of {limit / 1e9:,.1f} GB that are there"
            raise InputError(f"{self._largest()} is too large: one seed of {self.agent} on {self.env} takes {has}")
        return trainer

    def agent_for(self, spec: EnvSpec) -> Agent:
        """The agent in an environment of this kind. Raises InputError for what own code raises, naming its line."""
        own = lookup.is_name(self.agent) or not isinstance(self.given["agent"], str)
        with checks.explained(f"make of agent {self.agent}, for {spec},", (Exception,) if own else ()):
            return self.factory.make(spec, self.config)

    def _largest(self) -> str:
        """The largest number among the static settings, which is likely what makes a state large."""
        numbers = {
            name: max((x for x in (value if isinstance(value, tuple) else [value]) if type(x) is int), default=0)
            for name, value in {**self.env_kwargs, **vars(self.config)}.items()
        }
        name = max(numbers, key=numbers.__getitem__)
        return f"{name} = {numbers[name]}"

    def check_rebuildable(self) -> None:
        """Raises ValueError where `to_json` cannot say how to make the experiment again, naming what and how to mend it."""
        for name, what in self._parts().items():
            if what is None:
                shown = {"agent": self.agent, "env": self.env}.get(name, getattr(self.config, name, name))
                more = " or an id, with env_kwargs and env_transforms" if name == "env" else ""
                raise InputError(
                    f"{name} {shown} is an object that config.json cannot name, so it could not be made again: give it as "
                    f"package.module:attribute or path/file.py:attribute{more}"
                )

    def _parts(self) -> dict[str, str | None]:
        """What makes up the experiment, each with the name by which it is found again, or None."""
        parts = {name: what if isinstance(what, str) else None for name, what in self.given.items()}
        for i, transform in enumerate(self.env_transforms):
            parts[f"env_transforms[{i}]"] = transform if isinstance(transform, str) else lookup.name_of(transform)
        torso = getattr(self.config, "torso", "auto")
        return parts | {"torso": torso if isinstance(torso, str) else lookup.name_of(torso)}

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same experiment, where it is rebuildable."""
        parts = {name: what or f"<{name}>:" for name, what in self._parts().items()}  # which no one finds
        torso = {"torso": parts["torso"]} if hasattr(self.config, "torso") else {}
        transforms = [what for name, what in parts.items() if name.startswith("env_transforms")]
        return {
            "agent": parts["agent"],
            "env": parts["env"],
            "env_kwargs": self.env_kwargs,
            "env_params": self.env_params,
            "env_transforms": transforms,
            **({"init_from": self.init_from} if self.init_from else {}),
            **({"init_leaves": list(self.init_leaves)} if self.init_leaves else {}),
            **({"init_strict": True} if self.init_strict else {}),
            "total_steps": self.total_steps,
            "config": {**vars(self.config), **torso},
            "hparams": dict(vars(self.hparams)),
            "preset": self.preset,
            "sources": self.sources,
        }

    def _key(self) -> tuple[Any, ...]:
        unnamed = None in self._parts().values()
        same = (id(self.factory), id(self.environment), self.config) if unnamed else ()
        return (json.dumps(self.to_json(), sort_keys=True, default=repr), *same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> Any:
        self.check_rebuildable()
        return from_json, (self.to_json(),)

    def __repr__(self) -> str:
        """What differs from the defaults."""
        words = [repr(self.agent), repr(self.env), f"total_steps={self.total_steps}", f"preset={self.preset!r}"]
        of_env = {name: getattr(self, name) for name in ("env_kwargs", "env_params", "env_transforms", *INITIAL)}
        words += [f"{name}={value!r}" for name, value in of_env.items() if value]
        for settings in (self.config, self.hparams):
            fields = [(f, getattr(settings, f.name)) for f in dataclasses.fields(settings)]
            words += [f"{f.name}={value!r}" for f, value in fields if repr(value) != repr(f.default)]
        return f"Experiment({', '.join(words)})"


resolve = Experiment  # its former name


def _checked_initial(init_from: Any, init_leaves: Any, init_strict: Any) -> dict[str, Any]:
    """The settings of what the agent begins as. Raises InputError for one of a wrong type, or that would do nothing."""
    if not isinstance(init_from, str | PathLike | None):
        raise InputError(f"init_from = {init_from!r} must be a path")
    if isinstance(init_leaves, str) or not isinstance(init_leaves, Sequence):
        raise InputError(f"init_leaves = {init_leaves!r} must be a sequence of patterns")
    for name, value in (("init_leaves", init_leaves), ("init_strict", init_strict)):
        if value and init_from is None:
            raise InputError(f"{name} needs init_from")
    path = None if init_from is None else str(init_from)
    return {"init_from": path, "init_leaves": tuple(init_leaves), "init_strict": check("init_strict", init_strict, bool)}


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise InputError(f"{name} = {value!r} must be a mapping")
    return dict(value or {})


def experiment_of(agent: Any, env: Any = None, **kwargs: Any) -> Experiment:
    """An Experiment with `kwargs` replaced; or the one of an agent, an environment and the keywords of Experiment."""
    if isinstance(agent, Experiment):
        if env is not None:
            raise InputError(f"env = {env!r} beside an Experiment, which has its own; change that with replace")
        return agent.replace(**kwargs) if kwargs else agent
    if env is None:
        raise InputError(f"agent {agent!r} needs an environment: give env")
    names = [field.name for field in dataclasses.fields(Experiment) if field.init]
    for name in kwargs:
        if name not in names:
            raise InputError(
                f"unknown argument {name!r}: settings go in config={{...}} or hparams={{...}}; {nearest(name, names)}"
            )
    return Experiment(agent, env, **kwargs)


def make_trainer(agent: Any, env: Any = None, **kwargs: Any) -> Trainer:
    """The training program of one agent in one environment: `jax.jit(trainer.train)(key)`.

    agent, env, kwargs: the arguments of `Experiment`; or an Experiment alone. Raises ValueError as it does.
    """
    experiment = experiment_of(agent, env, **kwargs)
    experiment.check()
    return experiment.trainer()


def from_json(values: Mapping[str, Any], anyway: bool = False) -> Experiment:
    """The experiment of a `to_json`. Its preset is not read again: presets may change, a run may not.

    anyway: although a file of own code has changed since. Raises ValueError naming the field that is missing, of a wrong
    type or out of range, or the file that has changed.
    """
    for name, kind in FIELDS.items():
        if name not in values:
            raise InputError(f"the experiment has no {name}")
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise InputError(f"{name} = {str(values[name])[:40]!r} of the experiment must be of type {kind.__name__}")
    sources, transforms = values.get("sources", {}), values.get("env_transforms", [])
    if not isinstance(transforms, list | tuple) or not all(isinstance(x, str) for x in transforms):
        raise InputError(f"env_transforms = {str(transforms)[:40]!r} of the experiment must be a list of names")
    if not isinstance(sources, dict) or not all(
        lookup.is_recorded(name) and isinstance(x, dict) and all(isinstance(x.get(k), str) for k in ("path", "sha256"))
        for name, x in sources.items()
    ):
        raise InputError(f"sources = {str(sources)[:40]!r} of the experiment must name files with their path and sha256")
    if not anyway:
        lookup.check_unchanged(sources)
    names = [name for name in FIELDS if name != "preset"]
    with lookup.recorded(sources):
        initially = {name: values[name] for name in INITIAL if name in values}
        experiment = Experiment(**{n: values[n] for n in names}, env_transforms=transforms, **initially, preset="none")
    return experiment.replace(preset=values["preset"])
