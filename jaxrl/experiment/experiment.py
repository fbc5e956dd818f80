"""What is trained, as plain values: an Experiment resolves defaults < preset < explicit, and builds the Trainer.

The library, the command line and `resume` all go through here, so that the same names mean the same run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax

from jaxrl.core.errors import InputError, unknown
from jaxrl.core.loop import Trainer, make_loop
from jaxrl.core.settings import Range, build, check
from jaxrl.core.types import Env, VecEnv
from jaxrl.experiment import registry

DEFAULT_TOTAL_STEPS = 100_000
MAX_TOTAL_STEPS = 2**31 - 2**24  # steps are counted in int32; the last iteration rounds up


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One agent in one environment with every setting decided.

    env_params: the overridden ones only. config, hparams: instances of the agent's `Config` and `HParams`.
    preset: the name of the preset used, or "none".
    """

    agent: str
    env: str
    env_kwargs: dict[str, Any]
    env_params: dict[str, Any]
    total_steps: int
    config: Any
    hparams: Any
    preset: str
    factory: Any = dataclasses.field(repr=False)
    environment: Env | VecEnv = dataclasses.field(repr=False)

    def trainer(self) -> Trainer:
        """The training program. Raises ValueError where agent, environment and settings do not fit together."""
        spec = self.environment.spec
        params = registry.with_params(spec.id, self.environment.params, self.env_params)
        config = self.config
        if isinstance(self.environment, VecEnv) and self.environment.num_envs != config.num_envs:
            raise InputError(f"num_envs = {config.num_envs}, but this VecEnv has {self.environment.num_envs}")
        agent = self.factory.make(spec, config)
        trainer = make_loop(
            self.environment,
            agent,
            self.hparams,
            params,
            total_steps=self.total_steps,
            num_envs=config.num_envs,
            rollout_length=config.rollout_length,
            updates_per_iteration=config.updates_per_iteration,
        )
        jax.eval_shape(trainer.init, jax.random.key(0))  # buffers that do not fit are refused here, before any compile
        return trainer

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)

    def check_rebuildable(self):
        pass

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same experiment."""
        return {
            "agent": self.agent,
            "env": self.env,
            "env_kwargs": self.env_kwargs,
            "env_params": self.env_params,
            "total_steps": self.total_steps,
            "config": dataclasses.asdict(self.config),
            "hparams": dataclasses.asdict(self.hparams),
            "preset": self.preset,
        }


def from_json(values: Mapping[str, Any], anyway=False) -> Experiment:
    """The experiment of a `to_json`. Its preset is not read again: presets may change, a run may not."""
    experiment = resolve(
        values["agent"],
        values["env"],
        total_steps=values["total_steps"],
        config=values["config"],
        hparams=values["hparams"],
        env_params=values["env_params"],
        env_kwargs=values["env_kwargs"],
        preset="none",
    )
    return dataclasses.replace(experiment, preset=values["preset"])


def resolve(
    agent: Any,
    env: Any,
    *,
    total_steps: int | None = None,
    config: Any = None,
    hparams: Any = None,
    env_params: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    preset: str | None = None,
    env_transforms=(),
) -> Experiment:
    """Decide every setting: dataclass default < preset for (agent, env) < explicit argument.

    agent, env: as in `make_trainer`. config, hparams: a mapping of some fields, or a whole instance, which then decides
    alone. Raises ValueError naming the setting and the nearest valid ones.
    """
    name, factory = registry.find_agent(agent)
    environment = registry.find_env(env, env_kwargs)
    env_id = environment.spec.id
    preset, chosen = registry.find_preset(name, env_id, preset)
    split = split_settings(factory, chosen, f"preset {preset} of {name}")
    if total_steps is None:
        total_steps = split["run"].get("total_steps", DEFAULT_TOTAL_STEPS)
    total_steps = check("total_steps", total_steps, Annotated[int, Range(low=1, high=MAX_TOTAL_STEPS)])
    return Experiment(
        agent=name,
        env=env_id,
        env_kwargs=dict(env_kwargs or {}),
        env_params=dict(env_params or {}),
        total_steps=total_steps,
        config=_settings(factory, "Config", split["config"], config, name),
        hparams=_settings(factory, "HParams", split["hparams"], hparams, name),
        preset=preset,
        factory=factory,
        environment=environment,
    )


def split_settings(factory: Any, values: Mapping[str, Any], owner: str) -> dict[str, dict[str, Any]]:
    """Settings by where they belong: "config", "hparams" and "run" (total_steps). Raises ValueError for an unknown one."""
    fields = {
        "config": [f.name for f in dataclasses.fields(factory.Config)],
        "hparams": [f.name for f in dataclasses.fields(factory.HParams)],
        "run": ["total_steps"],
    }
    split: dict[str, dict[str, Any]] = {kind: {} for kind in fields}
    for name, value in values.items():
        kinds = [kind for kind, names in fields.items() if name in names]
        if not kinds:
            raise unknown(f"setting of {owner}", name, sum(fields.values(), []))
        split[kinds[0]][name] = value
    return split


def _settings(factory: Any, kind: str, preset: Mapping[str, Any], explicit: Any, agent: str) -> Any:
    """An instance of the factory's Config or HParams."""
    cls, other = getattr(factory, kind), "HParams" if kind == "Config" else "Config"
    if isinstance(explicit, cls):
        return build(cls, dataclasses.asdict(explicit) if kind == "Config" else vars(explicit), agent)
    if explicit is not None and not isinstance(explicit, Mapping):
        raise InputError(f"{kind.lower()} of {agent} must be a mapping or its {kind}, not {type(explicit).__name__}")
    for name in explicit or {}:
        if name in {f.name for f in dataclasses.fields(getattr(factory, other))}:
            raise InputError(f"{name!r} of {agent} belongs in {other.lower()}=, not in {kind.lower()}=")
    return build(cls, {**preset, **(explicit or {})}, agent)


def make_trainer(
    agent: Any,
    env: Any,
    *,
    total_steps: int | None = None,
    config: Any = None,
    hparams: Any = None,
    env_params: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    preset: str | None = None,
) -> Trainer:
    """The training program of one agent in one environment: `jax.jit(trainer.train)(key)`.

    agent: a name (`jaxrl list agents`), a module with `Config`, `HParams`, `make`, or its `make`.
    env: an id (`jaxrl list envs`), a gymnax Environment instance, a jaxrl Env or VecEnv.
    total_steps: environment steps a seed, rounded up to whole iterations.
    config, hparams: some fields as a mapping, or an instance. env_params: traced parameters of the environment by name.
    env_kwargs: keyword arguments of the environment's constructor.
    preset: None takes the tuned values for (agent, env) if there are any, "none" none, else the named one's.

    Raises ValueError for a name that does not exist or a value out of range.
    """
    return resolve(
        agent,
        env,
        total_steps=total_steps,
        config=config,
        hparams=hparams,
        env_params=env_params,
        env_kwargs=env_kwargs,
        preset=preset,
    ).trainer()


def experiment_of(experiment, env=None, **kwargs):
    if isinstance(experiment, Experiment):
        return experiment
    return resolve(experiment, env, **kwargs)
