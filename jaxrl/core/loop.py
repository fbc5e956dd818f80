"""The training loop: one for all agents, pure, with no algorithm in it.

An iteration is U × (T steps × N environments, then learn). What can be done once for an iteration is: keys are split in
bulk, the reset pool is drawn, metrics are summed. Every key of a seed derives from its root key by `fold_in`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.batching import never_alone
from jaxrl.core.means import Mean
from jaxrl.core.types import (
    Agent,
    Clock,
    Env,
    Episode,
    Key,
    Metrics,
    PyTree,
    Rollout,
    TrainState,
    Transition,
    VecEnv,
)
from jaxrl.core.vectorize import vectorize

INIT, TRAIN, EVALUATE, RENDER = range(4)  # what a root key is folded with first
MIN_ITERATION_STEPS = 500

Row = dict[str, jax.Array]


class Moving(NamedTuple):
    """What changes from step to step within an iteration; fields as in TrainState."""

    env: PyTree
    pool: PyTree
    obs: PyTree
    first: jax.Array
    memory: PyTree
    episode: Episode


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """A training program: `init`, `step` and `train` are pure, to `jit` and `vmap`.

    agent, env: what is trained and where. hparams, env_params: defaults of `init` and `train`.
    Compared and hashed by identity, so that a trainer can be a static argument of `jit`. `make_loop` builds one.
    """

    agent: Agent
    env: Env | VecEnv
    vec: VecEnv
    hparams: PyTree
    env_params: PyTree
    rollout_length: int
    num_updates: int
    num_iterations: int

    @property
    def steps_per_update(self) -> int:
        """Environment steps between two calls of `learn`: T × N."""
        return self.rollout_length * self.vec.num_envs

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration: U × T × N."""
        return self.num_updates * self.steps_per_update

    @property
    def total_steps(self) -> int:
        """Environment steps of a whole run of one seed."""
        return self.num_iterations * self.steps_per_iteration

    def init(self, key: Key, hparams: PyTree = None, env_params: PyTree = None, params: PyTree = None) -> TrainState:
        """The state before the first iteration. key: the seed's root; params: pre-trained weights for the agent."""
        root = key if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
        hparams = trees.strong(self.hparams if hparams is None else hparams)
        env_params = trees.strong(self.env_params if env_params is None else env_params)
        return self._init_program(root, hparams, env_params, params)

    def train(self, key: Key, hparams: PyTree = None, env_params: PyTree = None) -> tuple[TrainState, Row]:
        """A whole run: the final state, and metrics {name: [num_iterations]}."""
        state = self.init(key, hparams, env_params)
        return jax.lax.scan(lambda s, _: self.step(s), state, length=self.num_iterations)

    def step(self, state: TrainState) -> tuple[TrainState, Row]:
        """One iteration: the new state and its row of metrics {name: []}."""
        return self._step_program(state)

    # An inner `jit` is traced once, however often the programs around it ask for shapes or nest it.
    @functools.cached_property
    def _init_program(self) -> Callable[..., TrainState]:
        return never_alone(jax.jit(self._init))

    @functools.cached_property
    def _step_program(self) -> Callable[[TrainState], tuple[TrainState, Row]]:
        return never_alone(jax.jit(self._step))

    def _init(self, root: Key, hparams: PyTree, env_params: PyTree, params: PyTree) -> TrainState:
        agent_key, env_key = jax.random.split(stream(root, INIT))
        env_state, obs = self.vec.init(env_key, env_params)
        n = self.vec.num_envs
        state = TrainState(
            key=root,
            iteration=jnp.int32(0),
            hparams=hparams,
            env_params=env_params,
            agent=self.agent.init(agent_key, hparams, params),
            env=env_state,
            obs=obs,
            first=jnp.ones(n, bool),
            memory=self.agent.memory(n),
            episode=Episode(jnp.zeros(n), jnp.zeros(n, jnp.int32)),
        )
        return trees.strong(state)

    def _step(self, state: TrainState) -> tuple[TrainState, Row]:
        pool_key, act_key, env_key, learn_key = jax.random.split(stream(state.key, TRAIN, state.iteration), 4)
        start = state.iteration * self.steps_per_iteration

        def one_update(carry: tuple[PyTree, Moving], xs: tuple) -> tuple[tuple[PyTree, Moving], Metrics]:
            u, act_keys, env_keys, key = xs
            learner, before = carry
            clock = self._clock(start + u * self.steps_per_update)
            clock = clock._replace(env_steps=clock.env_steps + self.steps_per_update)
            moving, steps, episodes = self._rollout(state, learner, before, act_keys, env_keys, clock)
            learner, metrics = self.agent.learn(state.hparams, learner, Rollout(steps, before.memory), clock, key)
            return (learner, moving), {**episodes, **metrics}

        u, t, n = self.num_updates, self.rollout_length, self.vec.num_envs
        keys = (jax.random.split(act_key, (u, t)), jax.random.split(env_key, (u, t, n)), jax.random.split(learn_key, u))
        pool = self.vec.prepare(pool_key, state.env_params)
        moving = Moving(state.env, pool, state.obs, state.first, state.memory, state.episode)
        (learner, m), sums = jax.lax.scan(one_update, (state.agent, moving), (jnp.arange(u), *keys))
        state = TrainState(
            state.key,
            state.iteration + 1,
            state.hparams,
            state.env_params,
            learner,
            m.env,
            m.obs,
            m.first,
            m.memory,
            m.episode,
        )
        return state, _row(_summed(sums), start + self.steps_per_iteration)

    def _rollout(
        self, state: TrainState, learner: PyTree, moving: Moving, act_keys: Key, env_keys: Key, after: Clock
    ) -> tuple[Moving, Transition, Metrics]:
        """T steps of the behaviour policy, ending at clock `after`: Transition [T, N] and the episodes' metrics."""

        def one_step(m: Moving, xs: tuple[jax.Array, Key, Key]) -> tuple[Moving, tuple[Transition, Metrics]]:
            steps_left, act_key, env_keys = xs
            clock = self._clock(after.env_steps - steps_left)
            action, memory, extras = self.agent.act(state.hparams, learner, m.memory, m.obs, m.first, clock, act_key)
            env, obs, pool, out = self.vec.step(env_keys, m.env, m.pool, action, state.env_params)
            valid = jnp.broadcast_to(out.valid, out.reward.shape)
            ended = out.terminated | out.truncated
            episode = Episode(m.episode.ret + jnp.where(valid, out.reward, 0.0), m.episode.length + valid)
            metrics = {
                "episode_return": Mean.of(episode.ret, ended),
                "episode_length": Mean.of(episode.length, ended),
                **{name: Mean.of(x, valid) for name, x in out.metrics.items()},
            }
            transition = Transition(
                m.obs, m.first, action, out.reward, out.terminated, out.truncated, out.obs, extras, valid
            )
            episode = trees.where(ended, jax.tree.map(jnp.zeros_like, episode), episode)
            memory = trees.where(ended, self.agent.memory(self.vec.num_envs), memory)
            return Moving(env, pool, obs, ended, memory, episode), (transition, metrics)

        steps_left = jnp.arange(self.rollout_length, 0, -1) * self.vec.num_envs
        moving, (steps, metrics) = jax.lax.scan(one_step, moving, (steps_left, act_keys, env_keys))
        return moving, steps, _summed(metrics)

    def _clock(self, env_steps: jax.Array) -> Clock:
        return Clock(env_steps, jnp.minimum(env_steps.astype(jnp.float32) / self.total_steps, 1.0))


def make_loop(
    env: Env | VecEnv,
    agent: Agent,
    hparams: PyTree,
    env_params: PyTree,
    *,
    total_steps: int,
    num_envs: int,
    rollout_length: int,
    updates_per_iteration: int = 0,
) -> Trainer:
    """The program that trains `agent` in `env` for `total_steps`, rounded up to whole iterations.

    updates_per_iteration: U; 0 takes the smallest U whose iteration holds `MIN_ITERATION_STEPS` environment steps.
    """
    steps_per_update = num_envs * rollout_length
    num_updates = updates_per_iteration or -(-MIN_ITERATION_STEPS // steps_per_update)
    steps_per_iteration = num_updates * steps_per_update
    vec = env if isinstance(env, VecEnv) else vectorize(env, num_envs, steps_per_iteration)
    num_iterations = -(-total_steps // steps_per_iteration)
    return Trainer(agent, env, vec, hparams, env_params, rollout_length, num_updates, num_iterations)


def stream(root: Key, *tags: int | jax.Array) -> Key:
    """The key of one purpose: `root` folded with each tag in turn."""
    for tag in tags:
        root = jax.random.fold_in(root, tag)
    return root


def _summed(metrics: Metrics) -> Metrics:
    """Metrics stacked along a leading axis, added up."""
    return jax.tree.map(lambda x: x.sum(0), metrics)


def _row(sums: Metrics, env_steps: jax.Array) -> Row:
    """Means by name (NaN without a count), `episodes` ended, cumulative `env_steps`, and `diverged`."""
    finite = jnp.all(jnp.stack([jnp.isfinite(m.total) for m in sums.values()]))
    return {
        "env_steps": env_steps,
        "episodes": sums["episode_return"].count.astype(jnp.int32),
        **{name: mean.value for name, mean in sums.items()},
        "diverged": ~finite,
    }
