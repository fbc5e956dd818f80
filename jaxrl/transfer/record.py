"""Recording: whole episodes that a trained policy plays, in a loop that is one compiled program for every so many steps.

N environments play one episode after another. Which episodes are kept is decided without regard to their length, else short
ones would be too many: they are numbered first by how many came before in their environment, then by environment, and kept
are the first of this order, up to the one with which enough is recorded. (Those that happen to end first, or before a
number of steps, are shorter than others.) What an environment plays beyond is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import checks, spaces, trees
from jaxrl.core.errors import InputError, nearest
from jaxrl.core.evaluation import SIMULATORS
from jaxrl.core.loop import Trainer, stream
from jaxrl.core.settings import Count, Fraction, check, read
from jaxrl.core.types import Clock, Key, PyTree, TrainState, VecEnv
from jaxrl.core.vectorize import batch_of
from jaxrl.datasets import files
from jaxrl.datasets.files import Format
from jaxrl.datasets.transitions import Episode, Info
from jaxrl.experiment import registry
from jaxrl.experiment.experiment import Experiment
from jaxrl.ops import exploration

RECORD = int.from_bytes(b"reco")  # what the key of a recording is folded with: no tag of a run's root key
POLICIES = ("greedy", "behaviour", "epsilon=0.1")
MAX_ENVS, STEPS_PER_ENV = 64, 256  # environments at most, and the steps for which one more is worth while
CHUNK, CHUNK_BYTES = 256, 256_000_000  # steps of a program at most, and bytes of their observations
MAX_STEPS = 100_000  # of an episode

Act = Callable[..., tuple[PyTree, PyTree]]


class Running(NamedTuple):
    """What goes from step to step; leaves [N, ...]. first: bool [N]."""

    env: PyTree
    pool: PyTree
    obs: PyTree
    first: jax.Array
    memory: PyTree


class Steps(NamedTuple):
    """T steps of N environments, leaves [T, N, ...]; next_obs is that before a reset. Rows not `valid` are none."""

    obs: PyTree
    action: PyTree
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: PyTree
    valid: Any


def check_settings(steps: int | None, episodes: int | None, policy: str) -> float | None:
    """The share of random actions of a policy by name, None of the behaviour policy.

    Raises InputError for an unknown policy, and unless one of steps and episodes is given.
    """
    if (steps is None) == (episodes is None):
        raise InputError("how much to record: give either steps or episodes")
    for name, value in (("steps", steps), ("episodes", episodes)):
        if value is not None:
            check(name, value, Annotated[int, Count])
    name, equals, share = str(policy).partition("=")
    if name == "epsilon" and equals:
        return float(check("epsilon", read("epsilon", share, float), Annotated[float, Fraction]))
    if policy not in POLICIES[:2]:
        raise InputError(f"unknown policy {policy!r}; {nearest(str(policy), POLICIES)}")
    return 0.0 if policy == "greedy" else None


def record(
    trainer: Trainer,
    state: TrainState,
    out: Path,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    policy: str = "greedy",
    seed: int = 0,
    format: Format = "npz",
    overwrite: bool = False,
    experiment: Experiment | None = None,
    trained: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Record whole episodes of one member's policy into `out`: its steps, episodes and mean_return.

    steps: at least so many, up to the end of an episode; or episodes: exactly so many. policy, format, overwrite: as in
    `jaxrl.record`. experiment, trained: what the dataset says of where it comes from. Raises InputError.
    """
    epsilon = check_settings(steps, episodes, policy)
    files.check_free(out, format, overwrite)
    info = _info(trainer, state, experiment, policy, trained, seed)
    found = _kept(
        play(trainer, state, stream(jax.random.key(seed), RECORD), epsilon, _width(steps, episodes)), steps, episodes
    )
    return {"out": str(out), **files.write_episodes(out, info, found, format=format, overwrite=overwrite)}


def play(
    trainer: Trainer, state: TrainState, key: Key, epsilon: float | None, num_envs: int
) -> Generator[list[list[Episode]]]:
    """The episodes of each environment that ended in some steps, and in those after them, without end.

    epsilon: the share of actions drawn at random, others are greedy; None: the behaviour policy as at the end of training.
    """
    host = trainer.env.host if isinstance(trainer.env, VecEnv) else None
    num_envs = min(num_envs, SIMULATORS) if host else num_envs
    seen = trees.nbytes(checks.element(trainer.env.spec.observation_space, (num_envs,)))
    length = max(1, min(CHUNK, CHUNK_BYTES // max(seen, 1)))
    vec = batch_of(trainer.env, num_envs, 0 if host else num_envs * length)
    n = vec.num_envs
    advance = jax.jit(functools.partial(_advance, trainer, vec, _policy(trainer, epsilon), length))
    env_state, obs = jax.jit(vec.init)(stream(key, 0), state.env_params)
    running = Running(env_state, (), obs, jnp.ones(n, bool), trainer.agent.memory(n))
    parts: list[list[Steps]] = [[] for _ in range(n)]
    try:
        for number in range(1, 2**31):
            running, steps = advance(state, running, stream(key, number))
            yield _ended(jax.device_get(steps), parts, trainer.env.spec.id)
    finally:
        if host:
            host.release(running.env)


def _policy(trainer: Trainer, epsilon: float | None) -> Act:
    """(state, memory, obs, first, key) -> (action, memory), within the bounds of the action space."""
    agent, spec = trainer.agent, trainer.env.spec
    end = Clock(jnp.int32(trainer.total_steps), jnp.float32(1.0))

    def act(state: TrainState, memory: PyTree, obs: PyTree, first: jax.Array, key: Key) -> tuple[PyTree, PyTree]:
        key, which_key, random_key = jax.random.split(key, 3)
        if epsilon is None:
            action, memory, _ = agent.act(state.hparams, state.agent, memory, obs, first, end, key)
        else:
            action, memory = agent.greedy(state.hparams, state.agent, memory, obs, first, key)
        if epsilon:
            n = first.shape[0]
            keys = jax.random.split(random_key, n)
            drawn = exploration.random_actions(keys, spec.observation_space, spec.action_space, obs)
            action = trees.where(jax.random.bernoulli(which_key, epsilon, (n,)), drawn, action)
        return jax.vmap(functools.partial(spaces.clip, spec.action_space))(action), memory

    return act


def _advance(
    trainer: Trainer, vec: VecEnv, act: Act, length: int, state: TrainState, running: Running, key: Key
) -> tuple[Running, Steps]:
    """`length` steps of every environment."""
    pool_key, act_key, env_key = jax.random.split(key, 3)
    n = vec.num_envs

    def one_step(c: Running, keys: tuple[Key, Key]) -> tuple[Running, Steps]:
        action, memory = act(state, c.memory, c.obs, c.first, keys[0])
        env, obs, pool, out = vec.step(keys[1], c.env, c.pool, action, state.env_params)
        ended = out.terminated | out.truncated
        memory = trees.where(ended, trainer.agent.memory(n), memory)
        valid = jnp.broadcast_to(out.valid, out.reward.shape)
        steps = Steps(c.obs, action, out.reward, out.terminated, out.truncated, out.obs, valid)
        return Running(env, pool, obs, ended, memory), steps

    running = running._replace(pool=vec.prepare(pool_key, state.env_params))
    keys = (jax.random.split(act_key, length), jax.random.split(env_key, (length, n)))
    running, steps = jax.lax.scan(one_step, running, keys)
    return running._replace(pool=()), steps


def _ended(steps: Steps, parts: list[list[Steps]], env_id: str) -> list[list[Episode]]:
    """The episodes of each environment that ended in these steps; `parts` has, and is left with, unfinished ones."""
    found: list[list[Episode]] = [[] for _ in parts]
    done = steps.terminated | steps.truncated
    for n, unfinished in enumerate(parts):
        begin = 0
        for t in map(int, np.flatnonzero(done[:, n] & steps.valid[:, n])):
            unfinished.append(_cut(steps, n, begin, t + 1))
            found[n].append(_whole(unfinished))
            unfinished.clear()
            begin = t + 1
        unfinished.append(_cut(steps, n, begin, len(done)))
        if sum(len(part.reward) for part in unfinished) > MAX_STEPS:
            raise InputError(f"an episode of {env_id} has not ended after {MAX_STEPS:,} steps: only whole ones are recorded")
    return found


def _cut(steps: Steps, n: int, begin: int, end: int) -> Steps:
    """Steps of one environment, those that are valid, copied: a view would keep those of all."""
    rows = begin + np.flatnonzero(steps.valid[begin:end, n])
    return jax.tree.map(lambda x: x[rows, n], steps)


def _whole(parts: list[Steps]) -> Episode:
    steps: Steps = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    obs = jax.tree.map(lambda x, y: np.concatenate([x, y[-1:]]), steps.obs, steps.next_obs)
    return Episode(obs, steps.action, steps.reward, steps.terminated, steps.truncated)


def _kept(found: Generator[list[list[Episode]]], steps: int | None, episodes: int | None) -> Iterator[Episode]:
    """The first episodes of the order that the head of this file tells, up to the one with which there are enough."""
    waiting: list[list[Episode]] = []
    recorded, count = 0, 0
    with contextlib.closing(found):
        for some in found:
            waiting = [before + new for before, new in zip(waiting or [[] for _ in some], some, strict=True)]
            while waiting[count % len(waiting)]:
                episode = waiting[count % len(waiting)].pop(0)
                recorded, count = recorded + len(episode.reward), count + 1
                yield episode
                if recorded >= (steps or math.inf) or count >= (episodes or math.inf):
                    return


def _width(steps: int | None, episodes: int | None) -> int:
    """How many environments are worth while."""
    return min(MAX_ENVS, episodes if episodes else max(1, (steps or 0) // STEPS_PER_ENV))


def _info(
    trainer: Trainer, state: TrainState, experiment: Experiment | None, policy: str, trained: tuple[int, ...], seed: int
) -> Info:
    spec, params = trainer.env.spec, state.env_params
    numbers = {name: np.asarray(registry.param(params, name)).tolist() for name in registry.param_names(params)}
    found = Info(
        spec.id, spec.observation_space, spec.action_space, env_params=numbers, policy=policy, seeds=trained, seed=seed
    )
    if experiment is None:
        return found
    transforms = tuple(map(str, experiment.env_transforms))
    named = {"env": experiment.env, "env_kwargs": experiment.env_kwargs, "env_transforms": transforms}
    return dataclasses.replace(found, agent=experiment.agent, **named)
