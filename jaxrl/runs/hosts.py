"""One large member over several hosts: its environments are parted among all their devices, its parameters lie on each.

Every host runs the same program, calls `start` before anything is computed, and then makes the same calls in the same order:
`programs`' two, `train`, `collect` and `spread` wait for all (docs/howto/hosts.md shows a whole program). What one host does
alone (evaluate, print, write) works on what `collect` gave. To save while training, run parts of it:

    init, run = hosts.programs(trainer, iterations=100)
    state = init(jax.random.key(0))
    for done in range(100, trainer.num_iterations + 1, 100):
        state, metrics = run(state)
        whole = checkpoint.to_host(hosts.collect(state))
        if hosts.is_first():
            checkpoint.Checkpoints(directory).save(done, whole, {"metrics": ...})

To go on, every host reads the same checkpoint with `Checkpoints.restore`, and `hosts.spread(trainer, whole)` is the state.

`num_envs` must be a multiple of the devices of all hosts together. XLA parts each step of the loop by where its arrays lie,
and adds gradients, metrics and statistics over the devices, so numbers are those of a single process but for the order of
sums. What is drawn from a rollout or a replay is gathered from all hosts, and each device takes its share of it.

This is for one member too large for a host. Many members need none of it: each host trains seeds of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Row, Trainer
from jaxrl.core.trees import ENVS
from jaxrl.core.types import Key, PyTree, State, TrainState
from jaxrl.runs import checkpoint


def start(coordinator: str, count: int, index: int) -> None:
    """Join this process with the others; returns when all have come. To be called before anything is computed.

    coordinator: HOST:PORT of process 0. count: processes. index: which one this is, from 0 on. Raises ValueError where that
    is impossible, or JAX has begun to compute.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"coordinator = {coordinator!r} must be HOST:PORT of process 0")
    if count < 1 or not 0 <= index < count:
        raise InputError(f"index = {index} is out of range: must be from 0 to count - 1, with count = {count} at least 1")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except RuntimeError as error:
        raise InputError(f"hosts cannot start: {error}") from error


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def mesh() -> Mesh:
    """The devices of all hosts in a row."""
    return Mesh(np.array(jax.devices()), (ENVS,))


def shardings(trainer: Trainer, over: Mesh) -> TrainState:
    """Where the leaves of a TrainState lie: what has an axis of environments is parted along it, the rest is everywhere.

    Raises ValueError where the environments cannot be parted evenly.
    """
    num_envs, devices = trainer.vec.num_envs, over.size
    if num_envs % devices:
        below = num_envs - num_envs % devices
        nearest = f"{below} or {below + devices}" if below else str(devices)
        raise InputError(f"num_envs = {num_envs} cannot be parted among {devices} devices; nearest: {nearest}")

    def at(*axes: str | None) -> NamedSharding:
        return NamedSharding(over, PartitionSpec(*axes))

    def of_agent(x: Any) -> PyTree:
        return State(jax.tree.map(lambda _: at(), x.learner), of_rows(x.experience)) if isinstance(x, State) else at()

    def of_rows(experience: PyTree) -> PyTree:
        return jax.tree.map(lambda x: at(None, ENVS) if x.shape[1:2] == (num_envs,) else at(), experience)

    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0))
    envs = jax.tree.map(
        lambda x: at(ENVS) if x.shape[:1] == (num_envs,) else at(),
        {"env": state.env, "obs": state.obs, "first": state.first, "memory": state.memory, "episode": state.episode},
    )
    agent = jax.tree.map(of_agent, state.agent, is_leaf=lambda x: isinstance(x, State))
    return jax.tree.map(lambda _: at(), state)._replace(agent=agent, **envs)


def programs(
    trainer: Trainer, iterations: int | None = None
) -> tuple[Callable[[Key], TrainState], Callable[[TrainState], tuple[TrainState, Row]]]:
    """(key -> state, state -> (state after so many iterations, metrics {name: [iterations]})), both over all hosts.

    The key is the same on every host. iterations: by default a whole run. Raises ValueError as `shardings` does.
    """
    over, length = mesh(), trainer.num_iterations if iterations is None else iterations
    where, everywhere = shardings(trainer, over), NamedSharding(over, PartitionSpec())

    def many(state: TrainState) -> tuple[TrainState, Row]:
        return jax.lax.scan(lambda s, _: trainer.step(s), state, length=length)

    begin = jax.jit(trainer.init, out_shardings=where)
    go_on = jax.jit(many, in_shardings=(where,), out_shardings=(where, everywhere), donate_argnums=0)

    def init(key: Key) -> TrainState:
        with jax.set_mesh(over):
            return begin(np.asarray(jax.random.key_data(key)))  # on the host: the same everywhere, and of no device

    def run(state: TrainState) -> tuple[TrainState, Row]:
        with jax.set_mesh(over):
            return go_on(state)

    return init, run


def train(trainer: Trainer, key: Key) -> tuple[TrainState, Row]:
    """A whole run over all hosts: the final state, its environments parted, and metrics {name: [num_iterations]}.

    Raises ValueError as `shardings` does.
    """
    init, run = programs(trainer)
    return run(init(key))


def collect(state: TrainState) -> TrainState:
    """A parted state as a whole one in this host's memory; of a device's it takes what the largest leaf does."""
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh(), PartitionSpec()))
    return checkpoint.from_host(state, jax.tree.map(lambda x: checkpoint.to_host(whole(x)), state))


def spread(trainer: Trainer, state: TrainState) -> TrainState:
    """A whole state, the same on every host, parted among them. Raises ValueError as `shardings` does."""

    def parted(where: NamedSharding, x: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    return checkpoint.from_host(state, jax.tree.map(parted, shardings(trainer, mesh()), checkpoint.to_host(state)))
