"""How members (a seed of a configuration each) lie over devices: `vmap` within a device, `shard_map` over devices.

A member's numbers on CPU do not depend on the vmap width, the devices nor its neighbours, bit for bit. The un-vmapped
program, used for a single member, is faster but rounds differently; so a run records its layout, and resumes with the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxrl import trees
from jaxrl.types import PyTree

AXIS = "members"


def never_alone(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`fn`, whose `vmap` of width one is computed at width two and cut.

    XLA drops a batch axis of size one and then picks other matrix products, which round differently: without this a
    member alone would differ from the same member among others. Un-vmapped, `fn` is itself. Not differentiable in
    reverse.
    """
    wrapped = jax.custom_batching.custom_vmap(fn)

    @wrapped.def_vmap
    def rule(axis_size: int, in_batched: list[PyTree], *args: PyTree) -> tuple[PyTree, PyTree]:
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
        if axis_size == 1:
            args = jax.tree.map(lambda x, batched: x[np.array([0, 0])] if batched else x, args, tuple(in_batched))
        out = jax.vmap(fn, axes)(*args)
        if axis_size == 1:
            out = jax.tree.map(lambda x: x[:1], out)
        return out, jax.tree.map(lambda _: True, out)

    return wrapped


@dataclasses.dataclass(frozen=True)
class Layout:
    """members: how many are wanted. devices: over how many they are laid, in equal shares.

    width: how many are computed, a multiple of `devices`, so that several layouts can share a program; what is over the
    members is padding. 0: as few as hold the members, and a single member un-vmapped.
    """

    members: int
    devices: int
    width: int = 0

    @staticmethod
    def over_all_devices(members: int) -> Layout:
        """One share for each local device; at least two members each on CPU, for a width of one is computed as two there."""
        least = 2 if jax.default_backend() == "cpu" else 1
        return Layout(members, max(1, min(-(-members // least), jax.local_device_count())))

    @property
    def form(self) -> str:
        """ "single": one un-vmapped member; "vmap": any number of them."""
        return "single" if self.members == 1 and not self.width else "vmap"

    @property
    def padded(self) -> int:
        """Members computed: the width, or the next multiple of the devices."""
        return self.width or -(-self.members // self.devices) * self.devices

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

    def map(self, fn: Callable[..., PyTree], *, donate: bool = False) -> Any:
        """`fn(member, *shared)`, jitted over members: leaves of its first argument and of its result are [padded, ...].

        donate: give the first argument's buffers to the result.
        """

        def share(tree: PyTree, *shared: PyTree) -> PyTree:
            if self.form == "single":
                return jax.tree.map(lambda x: x[None], fn(trees.member(tree, 0), *shared))
            return jax.vmap(fn, (0, *[None] * len(shared)))(tree, *shared)

        def everywhere(tree: PyTree, *shared: PyTree) -> PyTree:
            if self.devices == 1:
                return share(tree, *shared)
            over, same = PartitionSpec(AXIS), PartitionSpec()
            specs = (over, *[same] * len(shared))
            return jax.shard_map(share, mesh=self.mesh, in_specs=specs, out_specs=over, check_vma=False)(tree, *shared)

        return jax.jit(everywhere, donate_argnums=(0,) if donate else ())
