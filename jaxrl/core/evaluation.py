"""Evaluation: whole episodes of a trained agent, each counted once. Pure; `vmap` it over members."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import checks, trees
from jaxrl.core.batching import everyone
from jaxrl.core.loop import Trainer
from jaxrl.core.types import Clock, Episode, Key, PyTree, Split, TrainState, VecEnv
from jaxrl.core.vectorize import batch_of

SIMULATORS = 32  # on the host, that play at once


class Evaluation(NamedTuple):
    """returns: undiscounted, float32 [episodes]. lengths: steps, int32 [episodes]."""

    returns: jax.Array
    lengths: jax.Array


@functools.partial(jax.jit, static_argnames=("trainer", "episodes", "greedy", "max_steps", "split"))
def evaluate(
    trainer: Trainer,
    state: TrainState,
    key: Key,
    episodes: int = 128,
    *,
    greedy: bool = True,
    max_steps: int = 100_000,
    split: Split | None = None,
) -> Evaluation:
    """The first `episodes` episodes of independent environments under the state's policy and environment parameters.

    greedy: the evaluation policy, or the behaviour policy as at the end of training. An episode still running after
    `max_steps` is cut there. A VecEnv plays rounds of its own width, simulators on the host rounds of `SIMULATORS`.
    split: of an environment with levels those to play, "train", "validation" or "test"; None: the parameters as they are.

    Every environment contributes its first episode only: taking whichever end first would favour short ones. Raises
    ValueError for the states of several members, and for a split of an environment without levels.
    """
    checks.one_member(state)
    params = state.env_params if split is None else checks.levels(trainer.env.spec, state.env_params, split)
    host = trainer.env.host if isinstance(trainer.env, VecEnv) else None
    vec = batch_of(trainer.env, min(episodes, SIMULATORS), 0) if host else batch_of(trainer.env, episodes, episodes)
    agent, n = trainer.agent, vec.num_envs
    rounds = -(-episodes // n)
    end = Clock(jnp.int32(trainer.total_steps), jnp.float32(1.0))

    def act(memory: PyTree, obs: PyTree, first: jax.Array, key: Key) -> tuple[PyTree, PyTree]:
        if greedy:
            return agent.greedy(state.hparams, state.agent, memory, obs, first, key)
        return agent.act(state.hparams, state.agent, memory, obs, first, end, key)[:2]

    def one_step(step_key: Key, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        t, env_state, pool, obs, first, memory, episode, ended = carry
        act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
        action, memory = act(memory, obs, first, act_key)
        keys = jax.random.split(env_key, n)
        env_state, obs, pool, out = vec.step(keys, env_state, pool, action, params)
        counts = ~ended & out.valid
        episode = episode.after(out.reward, counts)
        first = out.terminated | out.truncated
        memory = trees.where(first, agent.memory(n), memory)
        return t + 1, env_state, pool, obs, first, memory, episode, ended | first

    def one_round(key: Key) -> Episode:
        init_key, pool_key, step_key = jax.random.split(key, 3)
        env_state, obs = vec.init(init_key, params)
        pool = vec.prepare(pool_key, params)
        memory, episode = agent.memory(n), Episode.start(n)
        start = (jnp.int32(0), env_state, pool, obs, jnp.ones(n, bool), memory, episode, jnp.zeros(n, bool))
        running = functools.partial(one_step, step_key)
        if not host:
            return jax.lax.while_loop(lambda c: (c[0] < max_steps) & ~jnp.all(c[-1]), running, start)[-2]
        last = jax.lax.while_loop(lambda c: (c[0] < max_steps) & ~everyone(jnp.all(c[-1])), running, start)
        return last[-2]._replace(length=last[-2].length + host.release(last[1]))  # else it were left out, being of no use

    episode = jax.lax.map(one_round, jax.random.split(key, rounds))
    return Evaluation(episode.ret.reshape(-1)[:episodes], episode.length.reshape(-1)[:episodes])
