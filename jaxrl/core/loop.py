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

from jaxrl.core import checks, trees
from jaxrl.core.batching import never_alone
from jaxrl.core.means import Mean
from jaxrl.core.types import Agent, Clock, Env, Episode, Key, Metrics, PyTree, Rollout, TrainState, Transition, VecEnv
from jaxrl.core.vectorize import batch_of

INIT, TRAIN, EVALUATE, RENDER = range(4)  # what a root key is folded with first
MIN_ITERATION_STEPS = 500
EXPERIENCE = ("experience", "replay", "priorities")  # fields of an agent's state with what it has seen, not learnt

Row = dict[str, jax.Array]


class LoopCarry(NamedTuple):
    """What changes from step to step within an iteration; fields as in TrainState. pool: what resets start from."""

    env: PyTree
    pool: PyTree
    obs: PyTree
    first: jax.Array
    memory: PyTree
    episode: Episode


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
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

    @property
    def restart_iterations(self) -> int:
        """Iterations between two states from which training can go on: 1, but with simulators on the host; 0: never."""
        return self.vec.host.restart_every * self.vec.num_envs // self.steps_per_iteration if self.vec.host else 1

    def init(self, key: Key, hparams: PyTree = None, env_params: PyTree = None, params: PyTree = None) -> TrainState:
        """The state before the first iteration. key: the seed's root; params: pre-trained weights for the agent."""
        root = key if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
        hparams = trees.strong(self.hparams if hparams is None else hparams)
        hparams = jax.tree.map(lambda x: x.astype(trees.narrow(x.dtype)), hparams)
        env_params = trees.strong(self.env_params if env_params is None else env_params)
        return self._init_program(root, hparams, env_params, params)

    def train(self, key: Key, hparams: PyTree = None, env_params: PyTree = None) -> tuple[TrainState, Row]:
        """A whole run: the final state, and metrics {name: [num_iterations]}."""
        state = self.init(key, hparams, env_params)
        return jax.lax.scan(lambda s, _: self.step(s), state, length=self.num_iterations)

    def step(self, state: TrainState) -> tuple[TrainState, Row]:
        """One iteration: the new state and its row of metrics {name: []}."""
        return self._step_program(state)

    def check(self) -> TrainState:
        """The shapes of the state (ShapeDtypeStructs); nothing is compiled.

        Raises InputError where the agent or the environment gives anything but what it should, in words.
        """
        state: TrainState = jax.eval_shape(self.init, jax.random.key(0))
        jax.eval_shape(self.step, state)
        jax.eval_shape(self.agent.greedy, state.hparams, state.agent, state.memory, state.obs, state.first, state.key)
        return state

    def __repr__(self) -> str:
        size = f"{self.vec.num_envs} environments × {self.rollout_length} steps × {self.num_updates} updates"
        return f"Trainer({self.env.spec.id}, {self.num_iterations} iterations of {size}, {self.total_steps:,} steps)"

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
            episode=Episode.start(n),
        )
        return trees.strong(state)

    def _step(self, state: TrainState) -> tuple[TrainState, Row]:
        pool_key, act_key, env_key, learn_key = jax.random.split(stream(state.key, TRAIN, state.iteration), 4)
        start = state.iteration * self.steps_per_iteration

        def one_update(
            carry: tuple[PyTree, LoopCarry], xs: tuple[jax.Array, Key, Key, Key]
        ) -> tuple[tuple[PyTree, LoopCarry], tuple[Metrics, jax.Array]]:
            u, act_keys, env_keys, key = xs
            learner, before = carry
            clock = self._clock(start + u * self.steps_per_update)
            clock = clock._replace(env_steps=clock.env_steps + self.steps_per_update)
            after, steps, seen = self._rollout(state, learner, before, act_keys, env_keys, clock)
            learner, learnt = self.agent.learn(state.hparams, learner, Rollout(steps, before.memory), clock, key)
            checks.metric_names("the agent", learnt, seen)
            return (learner, after), ({**seen, **learnt}, _finite(steps))

        u, t, n = self.num_updates, self.rollout_length, self.vec.num_envs
        keys = (jax.random.split(act_key, (u, t)), jax.random.split(env_key, (u, t, n)), jax.random.split(learn_key, u))
        pool = self.vec.prepare(pool_key, state.env_params)
        carry = LoopCarry(state.env, pool, state.obs, state.first, state.memory, state.episode)
        xs = (jnp.arange(u, dtype=jnp.int32), *keys)
        (learner, last), (sums, finite) = jax.lax.scan(one_update, (state.agent, carry), xs)
        finite = finite.all() & trees.finite(_without(learner, EXPERIENCE))
        row = _row(_summed(sums), start + self.steps_per_iteration, finite)
        state = state._replace(iteration=state.iteration + 1, agent=learner)
        return state._replace(**{name: x for name, x in last._asdict().items() if name != "pool"}), row

    def _rollout(
        self, state: TrainState, learner: PyTree, carry: LoopCarry, act_keys: Key, env_keys: Key, after: Clock
    ) -> tuple[LoopCarry, Transition, Metrics]:
        """T steps of the behaviour policy, ending at clock `after`: Transition [T, N] and the episodes' metrics."""

        def one_step(c: LoopCarry, xs: tuple[jax.Array, Key, Key]) -> tuple[LoopCarry, tuple[Transition, Metrics]]:
            steps_left, act_key, env_keys = xs
            clock = self._clock(after.env_steps - steps_left)
            action, memory, extras = self.agent.act(state.hparams, learner, c.memory, c.obs, c.first, clock, act_key)
            env, obs, pool, out = self.vec.step(env_keys, c.env, c.pool, action, state.env_params)
            valid = jnp.broadcast_to(out.valid, out.reward.shape)
            ended = out.terminated | out.truncated
            episode = c.episode.after(out.reward, valid)
            whole = ended & ~jnp.asarray(out.cut)
            metrics = {
                "episode_return": Mean.of(episode.ret, whole),
                "episode_length": Mean.of(episode.length, whole),
                **{name: Mean.of(x, valid) for name, x in out.metrics.items()},
            }
            transition = Transition(
                c.obs, c.first, action, out.reward, out.terminated, out.truncated, out.obs, extras, valid
            )
            episode = trees.where(ended, jax.tree.map(jnp.zeros_like, episode), episode)
            memory = trees.where(ended, self.agent.memory(self.vec.num_envs), memory)
            return LoopCarry(env, pool, obs, ended, memory, episode), (transition, metrics)

        steps_left = jnp.arange(self.rollout_length, 0, -1, dtype=jnp.int32) * self.vec.num_envs
        carry, (steps, metrics) = jax.lax.scan(one_step, carry, (steps_left, act_keys, env_keys))
        return carry, steps, _summed(metrics)

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
    vec = batch_of(env, num_envs, steps_per_iteration)
    agent = checks.checked_agent(agent, vec.spec)
    num_iterations = -(-total_steps // steps_per_iteration)
    return Trainer(agent, env, vec, hparams, env_params, rollout_length, num_updates, num_iterations)


def stream(root: Key, *tags: int | jax.Array) -> Key:
    """The key of one purpose: `root` folded with each tag in turn."""
    for tag in tags:
        root = jax.random.fold_in(root, tag)
    return root


def _summed(metrics: Metrics) -> Metrics:
    """Metrics stacked along a leading axis, added up."""
    return {name: Mean(mean.total.sum(0), mean.count.sum(0)) for name, mean in metrics.items()}


def _finite(steps: Transition) -> jax.Array:
    """Whether what the agent saw and did is finite: observations, actions, and rewards that count. bool []."""
    rewards = jnp.where(steps.valid, steps.reward, 0.0)
    return trees.finite((steps.obs, steps.next_obs, steps.action, rewards))


def _without(tree: PyTree, names: tuple[str, ...]) -> list[jax.Array]:
    """The leaves of a tree that lie in no field or entry of one of these names."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [x for path, x in paths if not any(getattr(k, "name", getattr(k, "key", None)) in names for k in path)]


def _row(sums: Metrics, env_steps: jax.Array, finite: jax.Array) -> Row:
    """Means by name (NaN without a count), `episodes` ended, cumulative `env_steps`, and `diverged`.

    diverged: that anything the agent saw, did or learnt in the iteration is NaN or infinite (`finite` is False), or a metric
    is. An environment whose observations may be infinite has to write it otherwise.
    """
    return {
        "env_steps": env_steps,
        "episodes": sums["episode_return"].count.astype(jnp.int32),
        **{name: mean.value for name, mean in sums.items()},
        "diverged": ~(finite & trees.finite([mean.total for mean in sums.values()])),
    }
