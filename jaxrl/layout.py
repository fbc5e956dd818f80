"""How members (seeds, and later configurations) lie over devices: `vmap` within a device, `shard_map` over devices.

A member's numbers on CPU do not depend on the vmap width nor on its neighbours, bit for bit. The un-vmapped program, used
for a single member, is faster but rounds differently; so a run records its layout, and resumes with the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxrl import trees
from jaxrl.types import PyTree

AXIS = "members"


@dataclasses.dataclass(frozen=True)
class Layout:
    """members: how many are wanted. devices: over how many they are laid, in equal shares, the last share padded."""

    members: int
    devices: int

    @staticmethod
    def over_all_devices(members: int) -> Layout:
        """One share for each local device, but no device without a member."""
        return Layout(members, min(members, jax.local_device_count()))

    @property
    def form(self) -> str:
        """ "single": one un-vmapped member; "vmap": any number of them."""
        return "single" if self.members == 1 else "vmap"

    @property
    def padded(self) -> int:
        """Members computed: the next multiple of the devices."""
        return -(-self.members // self.devices) * self.devices

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
            mesh = Mesh(np.array(jax.local_devices()[: self.devices]), (AXIS,))
            over, same = PartitionSpec(AXIS), PartitionSpec()
            specs = (over, *[same] * len(shared))
            return jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=over, check_vma=False)(tree, *shared)

        return jax.jit(everywhere, donate_argnums=(0,) if donate else ())
