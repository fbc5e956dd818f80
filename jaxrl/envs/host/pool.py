"""Simulators on the host: pools of them, started, stepped and checked. `vec_env.py` gives them to the compiled loop.

Each member of a run (a seed of a configuration) has a pool of N simulators of its own. One call steps the pools of all
members: their actions are sent first and their results collected then, so that members whose simulators run in threads or
processes do not wait for each other. A member's numbers do not depend on who else is trained.

The state that the loop carries is only a handle; the simulators are on the host, and cannot be stored. So every
`restart_every` steps a pool is started anew, with seeds that follow from the first ones: running episodes are truncated
there. A state at such a step can be stored, and gone on with in any process, as often as one likes: the simulators start
from the same seeds. Any other state can be stepped once only, by the process that has its simulators.
"""

from __future__ import annotations

import atexit
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxrl.core import checks
from jaxrl.core.errors import InputError
from jaxrl.core.settings import NonNegative, check
from jaxrl.core.types import EnvSpec, EnvStep, PyTree

RESTART_EVERY = 50_000  # steps of each simulator
STORED, IDLE = -1, -2  # instead of a pool's number: of a state that was stored; of one whose steps are zeros


class Received(NamedTuple):
    """What a step of N simulators gave, NumPy arrays [N, ...].

    obs: after resets. next_obs: before them. valid: False in rows that a library spends on resetting.
    """

    obs: PyTree
    next_obs: PyTree
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray


class Pool(Protocol):
    """N simulators that are stepped together, and reset themselves where an episode ended. NumPy in and out."""

    def reset(self, seeds: np.ndarray) -> PyTree:
        """Begin new episodes in all of them: obs [N, ...]. seeds: int64 [N], in [0, 2³¹)."""

    def send(self, action: PyTree) -> None:
        """Begin a step with actions [N, ...]."""

    def receive(self) -> Received:
        """Wait for the step to end."""

    def close(self) -> None:
        """Give back what the simulators hold."""


class Filmed(Pool, Protocol):
    """One simulator that can be seen."""

    def frame(self) -> np.ndarray | None:
        """What it shows now, uint8 [H, W, 3]; None where it cannot be drawn here."""


class Handle(NamedTuple):
    """What the loop carries of a pool: its number in this process, its first seeds [N], how often it was stepped; int32."""

    number: Any
    seeds: Any
    steps: Any


@dataclasses.dataclass
class Running:
    """A pool, and where it is."""

    number: int
    pool: Pool
    seeds: np.ndarray
    steps: int


class Simulators:
    """All pools of one kind in this process.

    spec: what they must give. new: (N) -> Pool. filmed: makes one simulator that can be seen. restart_every: see above;
    0: never. evaluated: `new` of evaluations, where these differ from training, say in that lost lives end no episode.
    Raises InputError where restart_every is no such number.
    """

    def __init__(
        self,
        spec: EnvSpec,
        new: Callable[[int], Pool],
        filmed: Callable[[], Filmed] | None = None,
        restart_every: int = RESTART_EVERY,
        evaluated: Callable[[int], Pool] | None = None,
    ) -> None:
        self.spec, self.new, self.filmed = spec, new, filmed
        self.evaluated = Simulators(spec, evaluated) if evaluated else self
        self.restart_every = check("restart_every", restart_every, Annotated[int, NonNegative])
        self._failure: InputError | None = None
        self._running: dict[int, Running] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # devices call at the same time
        atexit.register(self.close)

    def start(self, seeds: np.ndarray) -> tuple[int, PyTree]:
        """A new pool, a seed for each simulator: its number and obs [N, ...]. Raises InputError where it cannot start."""
        pool, obs = self._started(seeds, 0)
        return self._add(pool, seeds, 0).number, obs

    def step(self, handle: Handle, actions: PyTree, restart_every: int = 0) -> tuple[Handle, PyTree, EnvStep]:
        """Step the pools of M members: handle [M, ...], actions [M, N, ...] -> handle, obs after resets, EnvStep.

        Members that have one pool are copies of each other: it is stepped once. Raises InputError, naming the simulator, for
        what the spec does not allow.
        """
        lanes = [(int(number), i if number == STORED else 0) for i, number in enumerate(handle.number)]
        first = {lane: lanes.index(lane) for lane in lanes}
        pools = {lane: self._at(Handle(*(x[i] for x in handle)), restart_every) for lane, i in first.items()}
        stepped = {lane: running for lane, running in pools.items() if running}
        with checks.explained(f"step of {self.spec.id}", (Exception,)):
            for lane, running in stepped.items():
                running.pool.send(jax.tree.map(lambda x, i=first[lane]: x[i], actions))
            received = {lane: running.pool.receive() for lane, running in stepped.items()}
        rows = dict.fromkeys(lanes, (np.int32(IDLE), self._nothing(handle.seeds.shape[-1])))
        for lane, running in stepped.items():
            rows[lane] = np.int32(running.number), self._stepped(running, received[lane], restart_every)
        which, (obs, out) = jax.tree.map(lambda *x: np.stack(x), *(rows[lane] for lane in lanes))
        return Handle(which, handle.seeds, handle.steps + np.int32(1)), obs, out

    def release(self, numbers: np.ndarray) -> None:
        """Close pools that are stepped no more."""
        with self._lock:
            found = [self._running.pop(int(number), None) for number in np.ravel(numbers)]
        for running in filter(None, found):
            running.pool.close()

    def close(self) -> None:
        """Close all pools."""
        self.release(np.array([*self._running]))

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Within this context an error is kept for `failure`: the program that called us raises one of its own."""
        try:
            yield
        except InputError as error:
            self._failure = error
            raise

    def failure(self) -> InputError | None:
        """What ended the program that called us, once; None where it was nothing of ours."""
        for simulators in (self, self.evaluated):
            found, simulators._failure = simulators._failure, None
            if found:
                return found
        return None

    def _started(self, seeds: np.ndarray, times: int) -> tuple[Pool, PyTree]:
        """A pool and its first obs [N, ...], as it is started for the `times`-th time."""
        if times:
            seeds = np.array([np.random.SeedSequence((int(seed), times)).generate_state(1)[0] >> 1 for seed in seeds])
        with checks.explained(f"start of {self.spec.id}", (Exception,)):
            pool = self.new(len(seeds))
            obs = pool.reset(seeds.astype(np.int64))
        self._check_obs("reset", obs, len(seeds))
        return pool, obs

    def _add(self, pool: Pool, seeds: np.ndarray, steps: int) -> Running:
        with self._lock:
            running = Running(next(self._numbers), pool, np.array(seeds), steps)
            self._running[running.number] = running
            return running

    def _at(self, handle: Handle, restart_every: int) -> Running | None:
        """The pool of a state, started anew where that is what the state says; None of an idle one."""
        number, steps = int(handle.number), int(handle.steps)
        if number == IDLE:
            return None
        known = self._running.get(number)
        same = known is not None and np.array_equal(known.seeds, handle.seeds)
        if known and same and known.steps == steps:
            return known
        if restart_every and steps % restart_every == 0:
            return self._add(self._started(handle.seeds, steps // restart_every)[0], handle.seeds, steps)
        if known is None or not same:
            raise InputError(f"the simulators of this state of {self.spec.id} are gone: it cannot be gone on with")
        raise InputError(
            f"the simulators of {self.spec.id} are at step {known.steps}, the state at step {steps}: a state with "
            "simulators on the host can be stepped once only"
        )

    def _stepped(self, running: Running, r: Any, restart_every: int) -> tuple[PyTree, EnvStep]:
        """obs after resets and the row of one pool that was stepped; it is started anew where that is due."""
        self._check(r, len(r.reward))
        running.steps += 1
        obs, ended = r.obs, r.terminated | r.truncated
        cut: Any = np.zeros_like(ended)
        if restart_every and running.steps % restart_every == 0:
            running.pool.close()
            running.pool, obs = self._started(running.seeds, running.steps // restart_every)
            cut = ~ended
        return obs, EnvStep(r.next_obs, r.reward, r.terminated, r.truncated | cut, {}, r.valid, cut)

    def _nothing(self, width: int) -> tuple[PyTree, EnvStep]:
        like = checks.element(self.spec.observation_space, (width,))
        obs: Any = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        reward: Any = np.zeros(width, np.float32)
        flag: Any = np.zeros(width, bool)
        return obs, EnvStep(obs, reward, flag, flag, {}, flag, flag)

    def _check(self, received: Received, width: int) -> None:
        self._check_obs("step", received.obs, width)
        self._check_obs("step", received.next_obs, width)
        for name, kind in (("reward", np.float32), ("terminated", bool), ("truncated", bool), ("valid", bool)):
            _check_array(f"{self.spec.id}: step gives {name}", getattr(received, name), (width,), kind)

    def _check_obs(self, function: str, obs: PyTree, width: int) -> None:
        expected = checks.element(self.spec.observation_space, (width,))
        structures: list[Any] = [jax.tree.structure(obs), jax.tree.structure(expected)]
        if structures[0] != structures[1]:
            raise InputError(f"{self.spec.id}: {function} gives obs of another structure than its space")
        for (path, x), like in zip(jax.tree_util.tree_leaves_with_path(obs), jax.tree.leaves(expected), strict=True):
            _check_array(f"{self.spec.id}: {function} gives obs{jax.tree_util.keystr(path)}", x, like.shape, like.dtype)


def check_actions(actions: np.ndarray, n: int) -> None:
    """Raises InputError where an action is none of 0 … n - 1, which libraries in C++ do not look at."""
    wrong = actions[(actions < 0) | (actions >= n)]
    if wrong.size:
        raise InputError(f"action {int(wrong[0])} is none of {n}")


def shown(frame: np.ndarray, params: PyTree) -> np.ndarray:
    """`render` of an EnvSpec: the state of a filmed simulator is what it shows."""
    return frame


def _check_array(what: str, x: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != dtype:
        got = f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(f"{what} {got}, expected {np.dtype(dtype)}{list(shape)}")
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        index = int(np.argwhere(~np.isfinite(x))[0][0])
        raise InputError(f"{what} that is not finite, in simulator {index} of {len(x)}")
