"""The compiled programs of one trainer in one layout: start, chunk and evaluation. Any members of that layout share them.

A chunk runs n ≤ CHUNK iterations in one call; n is traced, so that one compiled program serves every length.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import checks, trees
from jaxrl.core.evaluation import Evaluation, evaluate
from jaxrl.core.loop import EVALUATE, Row, Trainer, stream
from jaxrl.core.types import Key, PyTree, Split, TrainState
from jaxrl.devices.layout import Layout

CHUNK = 512  # iterations of the metrics buffer: what bounds the driver's memory
LARGE_STATE = 2**26  # bytes of a member's state that are not held twice
EVAL_EPISODES, FINAL_EPISODES = 32, 64  # of a greedy evaluation in training, and after it


class Arguments(NamedTuple):
    """What tells members apart, leaves [padded, ...]: root keys, hyper-parameters, environment parameters.

    params: what the agent's begin as, as `Trainer.init` takes them; None for drawn ones.
    """

    keys: Key
    hparams: PyTree
    env_params: PyTree
    params: PyTree = None


def make_chunk(trainer: Trainer) -> Callable[[TrainState, jax.Array], tuple[TrainState, Row]]:
    """(state, n ≤ CHUNK) -> (state after n iterations, metrics {name: [CHUNK]}, of which the first n are written)."""

    def chunk(state: TrainState, n: jax.Array) -> tuple[TrainState, Row]:
        row = jax.eval_shape(trainer.step, state)[1]
        buffer = jax.tree.map(lambda x: jnp.zeros((CHUNK, *x.shape), x.dtype), row)

        def one(i: jax.Array, carry: tuple) -> tuple:
            state, row = trainer.step(carry[0])
            return state, jax.tree.map(lambda b, x: b.at[i].set(x), carry[1], row)

        return jax.lax.fori_loop(0, n, one, (state, buffer))

    return chunk


class Programs:
    """compile_s: seconds spent on compiling so far, with the first call of `start`."""

    def __init__(self, trainer: Trainer, layout: Layout) -> None:
        self.trainer, self.layout = trainer, layout
        self.compile_s, self._started = 0.0, False
        self._evaluators: dict[int, Any] = {}
        self._levels: dict[Split, Any] = {}

        def start(arguments: Arguments) -> TrainState:
            return trainer.init(*arguments)

        self._start = layout.map(start)

    def start(self, arguments: Arguments) -> PyTree:
        """The states before the first iteration, leaves [padded, ...]."""
        begin = time.perf_counter()
        state = jax.block_until_ready(self._start(arguments))
        if not self._started:
            self.compile_s, self._started = self.compile_s + time.perf_counter() - begin, True
        return state

    @functools.cached_property
    def chunk(self) -> Any:
        """`make_chunk` of all members, compiled; the state's buffers are given to the result.

        Not those of a single small state: one that is given stays where it lay, one that is not moves to where the loop has
        its other arrays. (Measured on CPU: PPO and DQN of one seed take 1.1 to 1.3 times as long with given buffers.)
        """
        donate = self.layout.form != "single" or trees.nbytes(self._state) >= LARGE_STATE
        return self._compiled(self.layout.map(make_chunk(self.trainer), in_place=True, donate=donate))

    def peak_bytes(self) -> int:
        """Bytes on all devices together that a chunk holds at its peak, by the compiled program's own analysis."""
        found = self.chunk.memory_analysis()
        held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        return self.layout.devices * (held + found.temp_size_in_bytes)

    def evaluate(self, state: PyTree, episodes: int, done: int, split: Split | None = None) -> Evaluation:
        """A greedy evaluation of every member after `done` iterations, on the host: fields [padded, episodes].

        split: of an environment with levels; None: on the parameters as they are. Raises ValueError where it has none.
        """
        return jax.device_get(self.evaluator(episodes, split)(state, np.int32(done)))

    def evaluator(self, episodes: int, split: Split | None = None) -> Any:
        """(states, done) -> Evaluation, compiled: one program for every split, which differ in parameters alone.

        Of no fewer episodes than the environment asks for.
        """
        episodes = max(episodes, self.trainer.env.spec.eval_episodes)
        if episodes not in self._evaluators:

            def evaluation(s: TrainState, done: jax.Array) -> Evaluation:
                return evaluate(self.trainer, s, stream(s.key, EVALUATE, done), episodes)

            self._evaluators[episodes] = self._compiled(self.layout.map(evaluation))
        program = self._evaluators[episodes]
        if split is None:
            return program
        elsewhere = self._of_levels(split)
        return lambda state, done: program(state._replace(env_params=elsewhere(state.env_params)), done)

    def _of_levels(self, split: Split) -> Any:
        """Every member's environment parameters -> those of the split's levels, compiled."""
        if split not in self._levels:

            def levels(params: PyTree) -> PyTree:
                return checks.levels(self.trainer.env.spec, params, split)

            begin, params = time.perf_counter(), self.layout.abstract(self._state.env_params)
            self._levels[split] = self.layout.map(levels).lower(params).compile()
            self.compile_s += time.perf_counter() - begin
        return self._levels[split]

    @functools.cached_property
    def _state(self) -> TrainState:
        """Shapes and dtypes of a member's state."""
        return jax.eval_shape(self.trainer.init, jax.eval_shape(jax.random.key, 0))

    def _compiled(self, program: Any) -> Any:
        """A program of (states [padded, ...], int32)."""
        begin = time.perf_counter()
        compiled = program.lower(self.layout.abstract(self._state), np.int32(0)).compile()
        self.compile_s += time.perf_counter() - begin
        return compiled
