"""Whether an environment or an agent does what jaxrl relies on: what `jaxrl check` prints, line by line.

Shapes, dtypes and structures are read off a trace (`core/checks.py`, as `make_trainer` does with own code); what only shows
in numbers is seen in some steps: bounds, purity, finite results, `vmap` and `scan`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import checks, trees
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product, Space, check_mask
from jaxrl.core.types import Clock, Env, EnvSpec, PyTree, Split, VecEnv
from jaxrl.core.vectorize import batch_of
from jaxrl.experiment import lookup, registry
from jaxrl.experiment.experiment import Experiment
from jaxrl.ops import exploration

WIDTH, STEPS = 8, 128  # environments and steps that are tried
HOMES = ("CartPole-v1", "Pendulum-v1", "RandomGame", "GaussianBandit")  # where an agent is tried, the first that it takes


class Line(NamedTuple):
    """One thing found. ok: a check that passed; else a note, which may or may not be as you meant it."""

    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'note':6}{self.text}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check found: its lines in order. (A fault is raised, not reported.)"""

    name: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n".join([self.name, *map(str, self.lines)])


def is_agent(name: str) -> bool:
    """Whether a name means an agent, not an environment. Raises ValueError where it means neither."""
    if lookup.is_name(name):
        found = lookup.find(name)
        beside = sys.modules.get(getattr(found, "__module__", ""))
        return any(hasattr(each, "Config") or hasattr(each, "HParams") for each in (found, beside))
    if ":" in name:  # of a library
        return False
    if name not in registry.agent_names() and name not in registry.env_names():
        raise registry.unknown_name("agent or environment", name, [*registry.agent_names(), *registry.env_names()])
    return name in registry.agent_names()


def env_lines(
    env: Any, env_kwargs: Mapping[str, Any] | None = None, env_params: Mapping[str, Any] | None = None
) -> Iterator[Line]:
    """Check an environment; see `jaxrl.check_env`. A line for each check that passes; the first fault is raised."""
    environment = registry.find_env(env, env_kwargs)
    spec, name = environment.spec, environment.spec.id
    for field, space in (("observation_space", spec.observation_space), ("action_space", spec.action_space)):
        if not isinstance(space, Discrete | Box | MultiDiscrete | Product):
            raise InputError(f"spec.{field} of {name} is {type(space).__name__}: make it of jaxrl.Box, jaxrl.Discrete, ...")
    check_mask(spec.observation_space, spec.action_space)
    yield Line(True, f"spec: {spec}")
    params = trees.strong(registry.with_params(name, environment.params, env_params or {}))
    if names := registry.param_names(params):
        yield Line(True, f"params, traced: {', '.join(names)}")
    own_width = isinstance(environment, VecEnv) and not environment.host
    vec = batch_of(environment, environment.num_envs if own_width else WIDTH, WIDTH * STEPS)  # type: ignore[union-attr]
    with checks.explained(name, (Exception,)):
        jax.eval_shape(lambda p: _random_steps(vec, p), params)
        yield Line(True, "reset and step: structure, shapes and dtypes of state, obs, reward, flags and metrics")
        first, again = (jax.jit(lambda p: _random_steps(vec, p))(params) for _ in range(2))  # traced anew each
    yield Line(True, f"vmap and scan: {vec.num_envs} environments for {STEPS} random steps")
    if vec.host:
        first, again = ((start, vec.host.stored(jax.device_get(last)), steps) for start, last, steps in (first, again))
    for function, i in (("reset", 0), ("step", 1), ("step", 2)):
        _same(f"{function} of {name} gives", first[i], again[i])
    yield Line(True, "pure: the same key and action give the same results")
    (start, steps), states = jax.device_get((first[0], first[2])), first[1]
    for what, obs in (("reset", start), ("step", steps.obs)):
        if wrong := _outside(spec.observation_space, obs):
            raise InputError(f"{what} of {name} gives an obs outside of spec.observation_space: {wrong}")
    yield Line(True, "obs: within the bounds of spec.observation_space")
    if not trees.finite((start, steps)):
        raise InputError(f"step of {name} gives obs, rewards or metrics that are NaN or infinite")
    yield Line(True, "obs, rewards and metrics: finite")
    stored = jax.tree.map(lambda x: x.astype(spec.storage_dtype or x.dtype).astype(x.dtype), steps.obs)
    if _difference(steps.obs, stored):
        raise InputError(
            f"spec.storage_dtype of {name} is {spec.storage_dtype}, which does not hold its observations exactly"
        )
    if spec.render is not None and isinstance(environment, Env):
        with checks.explained(f"spec.render of {name}", (Exception,)):
            frame = np.asarray(spec.render(trees.member(states, 0), params))
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise InputError(f"spec.render of {name} gives {frame.dtype}{list(frame.shape)}, expected uint8 [H, W, 3]")
        yield Line(True, f"render: a picture of {frame.shape[1]} × {frame.shape[0]}")
    yield from _level_lines(spec, params)
    yield from _env_notes(environment, params, start, steps)


def _level_lines(spec: EnvSpec, params: PyTree) -> Iterator[Line]:
    """That the parameters of every split of levels are as `params`, where there are levels."""
    if spec.splits is not None:
        for split in get_args(Split):
            jax.eval_shape(lambda p: checks.levels(spec, p, split), params)  # noqa: B023
        yield Line(True, f"levels: params of the same shapes for {', '.join(get_args(Split))}")


def _random_steps(vec: VecEnv, params: PyTree) -> tuple[PyTree, PyTree, Any]:
    """Random legal actions for STEPS: first observations [N, ...], last states [N, ...], EnvSteps [T, N, ...]."""
    init_key, pool_key, act_key, env_key = jax.random.split(jax.random.key(0), 4)
    n = vec.num_envs

    def one_step(carry: tuple[PyTree, PyTree, PyTree], keys: Any) -> tuple[tuple[PyTree, PyTree, PyTree], Any]:
        action = exploration.random_actions(keys[0], vec.spec.observation_space, vec.spec.action_space, carry[2])
        state, obs, pool, out = vec.step(keys[1], *carry[:2], action, params)
        return (state, pool, obs), out

    state, obs = vec.init(init_key, params)
    keys = (jax.random.split(act_key, (STEPS, n)), jax.random.split(env_key, (STEPS, n)))
    (last, *_), steps = jax.lax.scan(one_step, (state, vec.prepare(pool_key, params), obs), keys)
    return obs, last, steps


def _env_notes(environment: Env | VecEnv, params: PyTree, start: PyTree, steps: Any) -> Iterator[Line]:
    ended, terminated = (steps.terminated | steps.truncated).sum(), steps.terminated.sum()
    yield Line(False, f"episodes that ended: {ended}, of which {terminated} terminated, in {steps.reward.size} random steps")
    yield Line(False, f"rewards of random actions: {steps.reward.min():.4g} to {steps.reward.max():.4g}")
    if steps.metrics:
        yield Line(False, "metrics: " + ", ".join(f"{name} {x.mean():.4g}" for name, x in steps.metrics.items()))
    alike = all((x == x[:1]).all() for x in jax.tree.leaves(start))
    yield Line(False, "starts: every episode begins with the same obs" if alike else "starts: another obs for another key")
    if isinstance(environment, Env):
        state = jax.eval_shape(environment.reset, jax.random.key(0), params)[0]
        weak = [jax.tree_util.keystr(p) for p, x in jax.tree_util.tree_leaves_with_path(state) if x.weak_type]
        if weak:
            yield Line(False, f"state{weak[0]} is weakly typed (from a Python number); jaxrl gives it the dtype it shows")


def agent_lines(
    agent: Any,
    env: Any = None,
    config: Mapping[str, Any] | None = None,
    hparams: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    env_params: Mapping[str, Any] | None = None,
) -> Iterator[Line]:
    """Check an agent; see `jaxrl.check_agent`. A line for each check that passes; the first fault is raised."""
    env = _home(agent, config) if env is None else env
    settings: dict[str, Any] = {"config": config, "hparams": hparams, "env_kwargs": env_kwargs, "env_params": env_params}
    base = Experiment(agent, env, **settings, preset="none")
    name = f"agent {base.agent}"
    yield Line(True, f"Config and HParams: {len(vars(base.config))} static fields, {len(vars(base.hparams))} traced")
    with checks.explained(name, (Exception,)):
        trainer = base.trainer()
        template = trainer.check()
    n = trainer.vec.num_envs
    yield Line(True, f"make, on {base.env}: {trainer}")
    yield Line(True, f"init: {len(jax.tree.leaves(template.agent))} arrays, {trees.nbytes(template.agent):,} bytes")
    yield Line(True, f"act and greedy: actions for {n} environments at once; memory keeps its shapes")
    yield Line(True, "learn: the state keeps its structure, shapes and dtypes; metrics are Means of their own names")
    wait = getattr(base.config, "learning_starts", 0)
    iterations = min(wait // trainer.steps_per_iteration + 2, trainer.num_iterations)
    with checks.explained(name, (Exception,)):
        runs = [_two_members(dataclasses.replace(trainer), iterations) for _ in range(2)]
    (state, row, acted), other = (trees.member(runs[0], 0), trees.member(runs[0], 1))
    _same(f"{name} gives", *runs)
    yield Line(True, "pure: the same key and data give the same results")
    _same(f"{name} gives, to two members of a vmap with the same key and hparams,", (state, row, acted), other)
    yield Line(
        True, f"vmap over hparams, and scan: {iterations} iterations, {iterations * trainer.steps_per_iteration} steps"
    )
    if row["diverged"].any():
        raise InputError(f"{name} has actions, parameters or metrics that are NaN or infinite, on {base.env}")
    yield Line(True, "actions, parameters and metrics: finite")
    actions = {kind: _outside(base.environment.spec.action_space, acted[kind]) for kind in ("act", "greedy")}
    if not isinstance(base.environment.spec.action_space, Discrete | MultiDiscrete):
        beyond = [kind for kind, wrong in actions.items() if wrong]
        yield Line(False, f"actions of {' and '.join(beyond)} are clipped to bounds" if beyond else "actions: within bounds")
    elif wrong := next(filter(None, actions.values()), None):
        raise InputError(f"{name} gives an action outside of the action space: {wrong}")
    own = [n for n in row if n not in checks.RESERVED]
    yield Line(False, "metrics: " + (", ".join(f"{n} {row[n][-1]:.4g}" for n in own) or "none"))
    alike = not _difference(acted["act"], acted["act, another key"])
    yield Line(False, f"act: {'the same actions' if alike else 'other actions'} for another key")
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    begun = jax.vmap(trainer.init)(keys).agent
    alike = not _difference(trees.member(begun, 0), trees.member(begun, 1))
    yield Line(False, "init: the same state for every key" if alike else "init: another state for another key")


def _home(agent: Any, config: Mapping[str, Any] | None) -> str:
    """The first of some environments that an agent takes. Raises InputError where it takes none, and why not the first."""
    first: InputError | None = None
    for env in HOMES:
        try:
            base = Experiment(agent, env, config=config, preset="none")
            base.agent_for(base.environment.spec)
            return env
        except InputError as refused:
            first = first or refused
    raise InputError(f"{first}; none of {', '.join(HOMES)} fits: give --env") from first


def _two_members(trainer: Trainer, iterations: int) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
    """Some iterations of two members alike: agent states, metrics [2, iterations], and what they would do then."""

    def run(key: jax.Array, hparams: PyTree) -> Any:
        state = trainer.init(key, hparams)
        state, rows = jax.lax.scan(lambda s, _: trainer.step(s), state, length=iterations)
        clock = Clock(jnp.int32(trainer.total_steps), jnp.float32(1))
        seen = (state.hparams, state.agent, state.memory, state.obs, state.first)
        act, another = (trainer.agent.act(*seen, clock, jax.random.fold_in(key, i))[0] for i in range(2))
        return state.agent, rows, {"act": act, "act, another key": another, "greedy": trainer.agent.greedy(*seen, key)[0]}

    keys = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.int32))
    hparams = jax.tree.map(lambda x: jnp.stack([x, x]), trees.strong(trainer.hparams))
    return jax.device_get(jax.tree.map(_raw, jax.jit(jax.vmap(run))(keys, hparams)))


def _raw(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _difference(a: PyTree, b: PyTree) -> str | None:
    """The path of the first array in which two trees differ; None where they are equal, NaN being equal to NaN."""
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(_raw(x)), np.asarray(_raw(y))
        if not np.array_equal(x, y, equal_nan=y.dtype.kind == "f"):
            return jax.tree_util.keystr(path) or "it"
    return None


def _same(what: str, a: PyTree, b: PyTree) -> None:
    """Raises InputError where two results that should be the same are not."""
    if at := _difference(a, b):
        advice = "draw random numbers from `key` alone, and keep nothing between calls"
        raise InputError(f"{what} different results for the same key (result{at}): {advice}")


def _outside(space: Space, x: PyTree) -> str | None:
    """The first number of elements [..., *shape] that lies outside of a space, in words; None where all lie within."""
    if isinstance(space, Product):
        pairs = zip(space.spaces, space.parts(x), strict=True)
        return next(filter(None, (_outside(part, y) for part, y in pairs)), None)
    if isinstance(space, Box):
        low, high = np.asarray(space.low), np.asarray(space.high)
    else:
        low, high = np.asarray(0), np.asarray(space.n if isinstance(space, Discrete) else space.sizes) - 1
    x = np.asarray(x)
    wrong = ~((x >= low) & (x <= high))
    if not wrong.any():
        return None
    at = tuple(np.argwhere(wrong)[0])
    bounds = [np.broadcast_to(bound, x.shape)[at] for bound in (low, high)]
    where = list(map(int, at[x.ndim - len(space.shape) :]))
    return (
        f"{x[at]:.6g}{f' at {where}' if where else ''}, which must be at least {bounds[0]:.6g} and at most {bounds[1]:.6g}"
    )
