"""How members (a seed of a configuration each) lie over devices: `vmap` within a device, `shard_map` over devices.

A member's numbers on CPU do not depend on its neighbours, nor, bit for bit, on the vmap width and the devices, as far as
XLA's flags reach (`platform.py`) and `python -m benchmarks run sameness` has been asked. The un-vmapped program, used for a
single member, is faster but rounds differently; so a run records its layout, and resumes with the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxrl.core import trees
from jaxrl.core.types import PyTree

AXIS = "members"
BLOCK = 8  # members a CPU device computes at once: what more of them touch falls out of its cache


def _block() -> int:
    return BLOCK if jax.default_backend() == "cpu" else 2**31


@dataclasses.dataclass(frozen=True)
class Layout:
    """members: how many are wanted. devices: over how many they are laid, in equal shares.

    width: how many are computed, a multiple of `devices`, so that several layouts can share a program; what is over the
    members is padding. 0: as few as hold the members, and a single member un-vmapped.

    On CPU a device computes at most BLOCK members at once, block after block within the program. (Measured, 2 cores: with
    32 members of PPO or DQN on CartPole at once a device, a step takes 1.25 times as long as with 8 or 16.)
    """

    members: int
    devices: int
    width: int = 0

    @staticmethod
    def over_all_devices(members: int) -> Layout:
        """Over as many local devices as get two members each on CPU, where one costs as much; the last may get one."""
        least = 2 if jax.default_backend() == "cpu" else 1
        return Layout(members, max(1, min(-(-members // least), jax.local_device_count())))

    @property
    def form(self) -> str:
        """ "single": one un-vmapped member; "vmap": any number of them."""
        return "single" if self.members == 1 and not self.width else "vmap"

    @property
    def padded(self) -> int:
        """Members computed: the width, or as many equal blocks as hold the members on each device."""
        share = -(-self.members // self.devices)
        blocks = -(-share // _block())
        return self.width or -(-share // blocks) * blocks * self.devices

    @property
    def blocks(self) -> int:
        """Parts of a device's share that run one after the other; one where a given width has no parts of fitting size."""
        share = self.padded // self.devices
        most = min(share, _block())
        size = next(size for size in range(most, 0, -1) if share % size == 0)
        return share // size if 2 * size >= most else 1

    @property
    def mesh(self) -> Mesh:
        """The devices in a row."""
        return Mesh(np.array(jax.local_devices()[: self.devices]), (AXIS,))

    @property
    def sharding(self) -> Sharding:
        """Where arrays [padded, ...] lie."""
        if self.devices == 1:
            return SingleDeviceSharding(jax.local_devices()[0])
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def abstract(self, tree: PyTree) -> PyTree:
        """The shapes of one member (arrays or ShapeDtypeStructs) -> those of all computed, where they will lie."""
        where = self.sharding
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.padded, *x.shape), x.dtype, sharding=where), tree)

    def pad(self, tree: PyTree) -> PyTree:
        """Host arrays [members, ...] -> [padded, ...], the last member repeated."""
        index = np.minimum(np.arange(self.padded), self.members - 1)
        return jax.tree.map(lambda x: x[index], tree)

    def unpad(self, tree: PyTree) -> PyTree:
        """[padded, ...] -> [members, ...]."""
        return jax.tree.map(lambda x: x[: self.members], tree)

    def spread(self, fn: Callable[..., PyTree], *, in_place: bool = False) -> Callable[..., PyTree]:
        """`fn(member, *shared)` over members: leaves of its first argument and of its result are [padded, ...].

        in_place: fn gives (the member afterwards, rest), and the former replaces the first argument block by block.
        """

        def share(tree: PyTree, *shared: PyTree) -> PyTree:
            if self.form == "single":
                return jax.tree.map(lambda x: x[None], fn(trees.member(tree, 0), *shared))

            def block(members: PyTree) -> PyTree:
                return jax.vmap(fn, (0, *[None] * len(shared)))(members, *shared)

            return _in_turn(block, tree, self.blocks, in_place)

        def everywhere(tree: PyTree, *shared: PyTree) -> PyTree:
            over, same = PartitionSpec(AXIS), PartitionSpec()
            specs = (over, *[same] * len(shared))
            return jax.shard_map(share, mesh=self.mesh, in_specs=specs, out_specs=over, check_vma=False)(tree, *shared)

        return share if self.devices == 1 else everywhere

    def map(self, fn: Callable[..., PyTree], *, in_place: bool = False, donate: bool = True) -> Any:
        """`spread`, jitted under fn's name; in_place also gives the first argument's buffers to the result, if `donate`."""
        program = functools.update_wrapper(self.spread(fn, in_place=in_place), fn)  # its name is what profiles show
        return jax.jit(program, donate_argnums=(0,) if in_place and donate else ())


def _in_turn(block: Callable[[PyTree], PyTree], tree: PyTree, count: int, in_place: bool) -> PyTree:
    """`block` of `count` equal parts of the leading axis, one after the other."""
    if count == 1:
        return block(tree)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), tree)
    if in_place:
        rest = jax.eval_shape(block, jax.eval_shape(trees.member, parts, 0))[1]
        rest = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), rest)

        def turn(i: jax.Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            found = block(trees.member(carry[0], i))
            return jax.tree.map(lambda whole, x: whole.at[i].set(x), carry, found)

        done = jax.lax.fori_loop(0, count, turn, (parts, rest))
    else:
        done = jax.lax.map(block, parts)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), done)
