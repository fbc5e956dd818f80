"""The store under every replay: a ring of rows [rows, N], one row a time step of N environments.

A push writes whole rows with one contiguous update, which XLA does in place; reading gathers, at a cost that depends on
the batch and not on the capacity. A buffer must never pass through `where` or a vmapped `cond`: that would copy it.
Booleans lie eight to a byte.

A transition is known by its slot, int32: row · N + environment. Rows fill from 0 upwards, so that row and time agree: the
row after a row is the next time step of the same environments, unless the ring's write position lies between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.errors import InputError
from jaxrl.core.trees import pytree, shared, static
from jaxrl.core.types import EnvSpec, Key, PyTree, Scalar, Transition
from jaxrl.ops.returns import n_step_return
from jaxrl.replay import frames
from jaxrl.replay.frames import Frames


@pytree
class Bits:
    """Booleans [..., *shape], packed: uint8 [..., ceil(size / 8)]."""

    packed: jax.Array
    shape: tuple[int, ...] = static()

    @staticmethod
    def pack(x: jax.Array, shape: tuple[int, ...]) -> Bits:
        """`x` [..., *shape], of any dtype: what is not 0 is True."""
        flat = x.reshape(*x.shape[: x.ndim - len(shape)], math.prod(shape))
        return Bits(jnp.packbits(flat.astype(bool), axis=-1), shape)

    def unpack(self) -> jax.Array:
        """The booleans [..., *shape]."""
        flat = jnp.unpackbits(self.packed, axis=-1, count=math.prod(self.shape))
        return flat.reshape(*self.packed.shape[:-1], *self.shape).astype(bool)


class Replay(NamedTuple):
    """data: leaves [rows, N, ...], arrays of booleans as `Bits`. position: int32 [], the row to write next.

    filled: int32 [], rows written, at most all of them. frames: of observations that stack some; data then refers to them.
    """

    data: PyTree
    position: jax.Array
    filled: jax.Array
    frames: Frames | tuple[()] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, N)."""
        rows, num_envs = jax.tree.leaves(self.data)[0].shape[:2]
        return rows, num_envs


class Batch(NamedTuple):
    """Transitions of n steps, leaves [B, ...]: the return goes on with discount · V(next_obs).

    ret, discount: as in `n_step_return`. next_obs: what followed the last step that counts, before any reset.
    """

    obs: jax.Array
    action: jax.Array
    ret: jax.Array
    discount: jax.Array
    next_obs: jax.Array
    valid: jax.Array


class Sampler(NamedTuple):
    """How slots are drawn, with batch size and n bound. A slot is drawn only if n steps from it on are stored.

    init: (replay) -> priorities; () where there are none
    insert: (priorities, replay) -> priorities, after a push of one rollout
    sample: (priorities, replay, key) -> (slots int32 [B], their probability over the uniform one, float32 [B])
    update: (priorities, slots [B], priority float32 [B], exponent, when bool []) -> priorities; the same unless `when`
    """

    n_step: int
    init: Callable[[Replay], PyTree]
    insert: Callable[[PyTree, Replay], PyTree]
    sample: Callable[[PyTree, Replay, Key], tuple[jax.Array, jax.Array]]
    update: Callable[[PyTree, jax.Array, jax.Array, Scalar, jax.Array], PyTree]


def init(example: PyTree, capacity: int, num_envs: int, rollout_length: int, n_step: int = 1) -> Replay:
    """An empty buffer for at most `capacity` transitions.

    example: one transition, leaves [...]. Rows come in whole rollouts, so that a push never wraps inside.
    Raises ValueError where not even one rollout fits, or no n steps behind one.
    """
    rows = capacity // (num_envs * rollout_length) * rollout_length
    least = rollout_length if n_step == 1 else rollout_length + n_step
    if rows < least:
        needs = "" if n_step == 1 else f" and n_step = {n_step} rows more"
        raise InputError(
            f"replay_capacity = {capacity} cannot hold one rollout of num_envs × rollout_length = "
            f"{num_envs * rollout_length} transitions{needs}"
        )

    def buffer(x: jax.Array) -> PyTree:
        zeros = jnp.zeros((rows, num_envs, *x.shape), x.dtype)
        return Bits.pack(zeros, x.shape) if x.dtype == bool and x.ndim else zeros

    return Replay(jax.tree.map(buffer, example), jnp.int32(0), jnp.int32(0))


def push(replay: Replay, steps: PyTree) -> Replay:
    """Write a rollout, leaves [T, N, ...], over the oldest rows. Raises InputError for leaves of other shapes."""
    rows = replay.shape[0]
    length = jax.tree.leaves(steps)[0].shape[0]

    def write(buffer: jax.Array | Bits, x: jax.Array) -> PyTree:
        if isinstance(buffer, Bits):
            return Bits(write(buffer.packed, Bits.pack(x, buffer.shape).packed), buffer.shape)
        if x.shape[1:] != buffer.shape[1:]:
            raise InputError(f"push to the replay gives rows of shape {x.shape[1:]}, expected {buffer.shape[1:]}")
        return jax.lax.dynamic_update_slice_in_dim(buffer, x.astype(buffer.dtype), replay.position, 0)

    data = jax.tree.map(write, replay.data, steps, is_leaf=lambda x: isinstance(x, Bits))
    return replay._replace(
        data=data, position=(replay.position + length) % rows, filled=jnp.minimum(replay.filled + length, rows)
    )


def take(buffers: PyTree, slots: jax.Array) -> PyTree:
    """The entries of `slots` [...] in some of a replay's buffers: leaves [..., ...], booleans unpacked."""

    def pick(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])[slots]

    def read(buffer: jax.Array | Bits) -> jax.Array:
        return Bits(pick(buffer.packed), buffer.shape).unpack() if isinstance(buffer, Bits) else pick(buffer)

    return shared(jax.tree.map(read, buffers, is_leaf=lambda x: isinstance(x, Bits)))


def init_transitions(spec: EnvSpec, example: Any, *sizes: int) -> Replay:
    """An empty buffer of transitions like `example`; where observations stack frames, each frame is stored once.

    sizes: as `init` has them. Booleans are stored whole: eight to a byte, stacks are as small.
    """
    if spec.stack is None or example.obs.dtype == bool:
        return init(example, *sizes)
    replay = init(example._replace(obs=frames.EXAMPLE, next_obs=()), *sizes)
    return replay._replace(frames=frames.init(example.obs, spec.stack, *replay.shape))


def push_transitions(replay: Replay, steps: Any) -> Replay:
    """As `push`, of a rollout (`Transition`) into a buffer of `init_transitions`; `first` where its example has it."""
    first = () if isinstance(replay.data.first, tuple) else steps.first
    if not isinstance(replay.frames, Frames):
        return push(replay, steps._replace(first=first))
    written, reference = frames.push(replay.frames, steps)
    return push(replay._replace(frames=written), steps._replace(first=first, obs=reference, next_obs=()))


def read(replay: Replay, slots: jax.Array) -> PyTree:
    """The entries of `slots` [...], leaves [..., ...]; a transition that has lost its frames is not valid."""
    entries = take(replay.data, slots)
    if not isinstance(replay.frames, Frames):
        return entries
    env, at = slots % replay.shape[1], entries.obs
    valid = entries.valid & frames.stored(replay.frames, at, env)
    flat = jax.tree.map(jnp.ravel, (at, frames.a_step_later(replay.frames, at)))
    obs, next_obs = (frames.read(replay.frames, x, env.ravel()) for x in flat)
    obs, next_obs = (x.reshape(*slots.shape, *x.shape[1:]) for x in (obs, next_obs))
    return entries._replace(obs=obs, next_obs=next_obs, valid=valid)


def read_n_step(replay: Replay, slots: jax.Array, gamma: Scalar, n_step: int) -> Batch:
    """The n-step transitions that begin at `slots` [B], cut where an episode ends. replay.data: `Transition`."""
    rows, num_envs = replay.shape
    data: Transition = replay.data
    ahead = (slots[:, None] + num_envs * jnp.arange(n_step, dtype=jnp.int32)[None, :]) % (rows * num_envs)  # [B, n]
    reward, terminated, truncated = take((data.reward, data.terminated, data.truncated), ahead)
    n = jax.vmap(n_step_return, (0, None, 0, 0))(reward, gamma, terminated, truncated)
    obs, action, valid = take((data.obs, data.action, data.valid), slots)
    last = (slots + n.last * num_envs) % (rows * num_envs)
    if not isinstance(replay.frames, Frames):
        return Batch(obs, action, n.ret, n.discount, take(data.next_obs, last), valid)
    env, after = slots % num_envs, frames.a_step_later(replay.frames, take(data.obs, last))
    valid = valid & frames.stored(replay.frames, obs, env)
    obs, next_obs = (frames.read(replay.frames, at, env) for at in (obs, after))
    return Batch(obs, action, n.ret, n.discount, next_obs, valid)
