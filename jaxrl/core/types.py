"""Every shape that passes between environments, agents and the loop, once.

Axes: T = steps of a rollout, N = parallel environments, U = updates of an iteration. Arrays are float32, int32 or bool
unless said otherwise. "PyTree" is any tree of arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.core.means import Mean
from jaxrl.core.spaces import Space

PyTree = Any
Scalar = jax.Array | float  # a number, traced or not
Metrics = dict[str, Mean]  # what `learn` reports, by name
Key = jax.Array
Split = Literal["train", "validation", "test"]  # which of an environment's levels: to learn from, to choose by, to judge by


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of a grid world, row by row, for pictures.

    A discrete observation is a cell's number; where it is none, the state has the cell as `pos`, (row, column).

    moves: (down, right) of each action, drawn as an arrow. tiles: one letter a cell; "" for none. S(tart), G(oal), H(ole),
    C(liff), W(all) and F(loor), also ".", are drawn as such.
    """

    rows: int
    columns: int
    moves: tuple[tuple[int, int], ...]
    tiles: str = ""


@dataclasses.dataclass(frozen=True)
class Stack:
    """That an observation is the last `size` frames, joined along its last axis, oldest first.

    blank: in an episode's first observation all but the newest are zeros; else they are the same as the newest.
    """

    size: int
    blank: bool = False


@dataclasses.dataclass(frozen=True)
class Scores:
    """Mean returns that others reached: of a uniformly random policy and of a person."""

    random: float
    human: float

    def normalized(self, value: float) -> float:
        """The human-normalised score of a mean return: 0 at the random policy's, 1 at the person's."""
        return (value - self.random) / (self.human - self.random)


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What is static about an environment.

    storage_dtype: a narrower dtype that holds observations exactly (say "bool"), for replay; None keeps their own.
    render: (state, params) -> uint8 [H, W, 3] frame, run on the host; None leaves drawing to `show.drawings`.
    grid: of a grid world; None of anything else.
    stack: how observations follow from frames, of which replay then stores each once; None where they do not.
    scores: what returns are compared with; None where nothing is known.
    splits: (params, split) -> parameters of the same shapes under which episodes are drawn from that split's levels alone;
        "train" are those that training sees. None where an environment has no levels to tell apart.
    eval_episodes: the least number of an evaluation's episodes, where they are short and differ much; 0: as many as usual.
    """

    id: str
    observation_space: Space
    action_space: Space
    storage_dtype: str | None = None
    render: Callable[[PyTree, PyTree], Any] | None = None
    grid: Grid | None = None
    stack: Stack | None = None
    scores: Scores | None = None
    splits: Callable[[PyTree, Split], PyTree] | None = None
    eval_episodes: int = 0

    def __str__(self) -> str:
        return f"{self.id}: observations {self.observation_space}, actions {self.action_space}"


class EnvStep(NamedTuple):
    """What one step of one environment yields, before any reset.

    terminated and truncated may both be true. metrics: scalars the loop averages over steps (regret, optimal action …).
    valid: False for a row that a host simulator spends on resetting, which follows only a row that ended its episode.
    cut: that the episode was truncated because simulators were started anew: its return is not that of a whole one.
    """

    obs: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    metrics: dict[str, jax.Array] = {}
    valid: jax.Array | bool = True
    cut: jax.Array | bool = False


class Reset(Protocol):
    """Draws the start of an episode."""

    def __call__(self, key: Key, params: PyTree, /) -> tuple[PyTree, PyTree]:
        """(state, obs): the environment's state, any tree of arrays, and the first observation."""


class Step(Protocol):
    """Takes one step, without any reset."""

    def __call__(self, key: Key, state: PyTree, action: PyTree, params: PyTree, /) -> tuple[PyTree, EnvStep]:
        """(state, EnvStep): the state has the shapes and dtypes it came with. action: within its space's bounds."""


class Env(NamedTuple):
    """One environment, pure; what people write. params: default parameters, traced, so that a sweep can vary them."""

    spec: EnvSpec
    params: PyTree
    reset: Reset
    step: Step

    def __repr__(self) -> str:
        return f"Env({self.spec})"


class BatchInit(Protocol):
    """Draws the first episodes of N environments."""

    def __call__(self, key: Key, params: PyTree, /) -> tuple[PyTree, PyTree]:
        """(state, obs [N, ...])."""


class Prepare(Protocol):
    """Draws what the resets of one iteration take their starts from."""

    def __call__(self, key: Key, params: PyTree, /) -> PyTree:
        """The pool; () where there is none."""


class BatchStep(Protocol):
    """Takes one step of N environments, and resets those whose episode ended."""

    def __call__(
        self, keys: Key, state: PyTree, pool: PyTree, action: PyTree, params: PyTree, /
    ) -> tuple[PyTree, PyTree, PyTree, EnvStep]:
        """(state, obs after resets [N, ...], pool, EnvStep before resets, leaves [N, ...]). keys [N]; action [N, ...]."""


class Host(NamedTuple):
    """What a VecEnv has beside whose simulators run on the host, outside of the program.

    sized: (num_envs, steps) -> VecEnv, another number of such simulators. steps: environment steps of an iteration; 0: they
        are never started anew, as in an evaluation.
    restart_every: steps of each simulator after which all are started anew, which is at the end of an iteration: only there
        can a state be stored and gone on with. 0: never.
    release: (state) -> 0, int32 [], traced or not: the simulators of a state that is stepped no more are closed. The state
        may have axes of members in front.
    stored: (state) -> state, on the host: without what is true of this process only.
    idle: (state) -> state, on the host: of members that only fill up a program, which step no simulator.
    failure: () -> the error of a simulator that ended a program, for JAX raises one of its own; None where there is none.
    filmed: makes one simulator with `reset`, `send`, `receive` and `frame`; None where it cannot be seen.
    """

    sized: Callable[[int, int], VecEnv]
    restart_every: int
    release: Callable[[PyTree], jax.Array]
    stored: Callable[[PyTree], PyTree]
    idle: Callable[[PyTree], PyTree]
    failure: Callable[[], Exception | None]
    filmed: Callable[[], Any] | None = None


class VecEnv(NamedTuple):
    """N environments; the only thing the loop sees. `vectorize` makes one of an Env; a batched simulator is one.

    host: of simulators that run outside of the program; then num_envs is only what is made by default.
    """

    spec: EnvSpec
    params: PyTree
    num_envs: int
    init: BatchInit
    prepare: Prepare
    step: BatchStep
    host: Host | None = None

    def __repr__(self) -> str:
        return f"VecEnv({self.num_envs} × {self.spec})"


class Transition(NamedTuple):
    """One step of N environments; leading axes [T, N] in a rollout.

    first: obs begins an episode. next_obs: the observation BEFORE auto-reset; bootstrap from it unless `terminated`,
    also when `truncated`. extras: what act() hands to learn(). valid: losses and metrics leave out rows where False.
    """

    obs: PyTree
    first: jax.Array
    action: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: PyTree
    extras: PyTree
    valid: jax.Array


class Rollout(NamedTuple):
    """T steps of N environments, and the agent's memory [N] as it was before step 0."""

    steps: Transition
    memory: PyTree


class Clock(NamedTuple):
    """How far training is.

    env_steps: int32 [], taken so far; for `learn` those of its rollout too. progress: float32 [] in [0, 1], the share of the
    planned total before this step; for `learn` before its rollout, so that the i-th of n updates sees (i - 1) / n.
    """

    env_steps: jax.Array
    progress: jax.Array


AgentState = PyTree  # of an agent that keeps experience a `State`, of any other what it learnt


class State(NamedTuple):
    """The state of an agent that keeps experience: what it learnt, and the data that it learns from.

    learner: parameters, targets, optimiser's state, counts. Population-based training copies it to another member, and of
    devices that share a member each holds all of it.
    experience: what belongs to the data this member saw: replay, its priorities, steps that wait for their return. It is
    never copied to another member; devices that share a member part the leaves [rows, N, ...] along N.
    """

    learner: PyTree
    experience: PyTree


class AgentInit(Protocol):
    """Makes the state before training."""

    def __call__(self, key: Key, hparams: Any, params: PyTree = None, /) -> AgentState:
        """The state, any tree of arrays. params: pre-trained weights to start from."""


class Memory(Protocol):
    """Makes the recurrent memory with which an episode begins."""

    def __call__(self, num_envs: int, /) -> PyTree:
        """Leaves [N, ...]; () where there is no memory."""


class Act(Protocol):
    """The behaviour policy."""

    def __call__(
        self, hparams: Any, state: Any, memory: PyTree, obs: Any, first: jax.Array, clock: Clock, key: Key, /
    ) -> tuple[PyTree, PyTree, PyTree]:
        """(action [N, ...], memory [N, ...], extras): extras are what `learn` is handed of this step.

        obs [N, ...]; first bool [N]: the observation begins an episode; clock: before the step.
        """


class Greedy(Protocol):
    """The evaluation policy."""

    def __call__(
        self, hparams: Any, state: Any, memory: PyTree, obs: Any, first: jax.Array, key: Key, /
    ) -> tuple[PyTree, PyTree]:
        """(action [N, ...], memory [N, ...]) for obs [N, ...] and first bool [N]."""


class Learn(Protocol):
    """Learns from one rollout."""

    def __call__(self, hparams: Any, state: Any, rollout: Rollout, clock: Clock, key: Key, /) -> tuple[AgentState, Metrics]:
        """(state, metrics): the state has the shapes and dtypes it came with. clock: see `Clock`."""


class Values(Protocol):
    """The action values, to print and draw."""

    def __call__(self, hparams: Any, state: Any, obs: Any, /) -> jax.Array:
        """Q(obs, ·), float32 [N, A], for obs [N, ...]."""


class Parameters(Protocol):
    """The learnt parameters of a state."""

    def __call__(self, state: Any, /) -> PyTree:
        """As `init` takes them."""


class Agent(NamedTuple):
    """A learner: pure functions, batched over N, one key a call. Static choices (Config) are already bound.

    Memory belongs to the loop: what `act` and `greedy` get is the initial one where `first`. Only a pass over several steps
    of a rollout has to reset it itself, where `first` holds. values: None where the agent has none.
    params: None where the agent does not say; then a part of it cannot be loaded or frozen.
    """

    init: AgentInit
    memory: Memory
    act: Act
    greedy: Greedy
    learn: Learn
    values: Values | None = None
    params: Parameters | None = None

    def __repr__(self) -> str:
        return f"Agent({', '.join(name for name, f in self._asdict().items() if f is not None)})"


class Episode(NamedTuple):
    """The running episode of each environment: undiscounted return float32 [N] and length int32 [N] so far."""

    ret: jax.Array
    length: jax.Array

    @staticmethod
    def start(num_envs: int) -> Episode:
        """Before the first step."""
        return Episode(jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, jnp.int32))

    def after(self, reward: jax.Array, counts: jax.Array) -> Episode:
        """One step later, where it counts. reward: float32 [N]; counts: bool [N]."""
        return Episode(self.ret + jnp.where(counts, reward, 0.0), self.length + counts.astype(jnp.int32))


class TrainState(NamedTuple):
    """Everything a resume needs; arrays only."""

    key: Key  # the seed's root key; never used directly, only folded
    iteration: jax.Array  # int32 []
    hparams: PyTree
    env_params: PyTree
    agent: AgentState
    env: PyTree
    obs: PyTree  # [N, ...]
    first: jax.Array  # bool [N]
    memory: PyTree
    episode: Episode
