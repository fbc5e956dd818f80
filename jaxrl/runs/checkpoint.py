"""Checkpoints: atomic (orbax), verified by a digest, and read back newest first past damaged ones."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxrl.core.errors import InputError
from jaxrl.core.types import PyTree

KEEP = 2  # one to fall back to
ARRAYS, META = "arrays", "meta"
DAMAGE = (OSError, ValueError, LookupError, TypeError)  # as which a damaged file shows


def to_host(tree: PyTree) -> PyTree:
    """A copy as NumPy arrays, typed keys as their raw data: it outlives the donation of the originals' buffers."""
    return jax.device_get(jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree))


def from_host(template: PyTree, tree: PyTree) -> PyTree:
    """A `to_host` copy with the typed keys of `template`."""
    return jax.tree.map(_like, template, jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(tree)))


class Checkpoints:
    """The checkpoints of one run, a directory each, named by iteration; the last `KEEP` are kept."""

    def __init__(self, directory: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every save at INFO and WARNING
        self.directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, iteration: int, state: PyTree, meta: dict[str, Any]) -> None:
        """Write a host state (`to_host`) and `meta` (JSON) under `iteration`, replacing what is there. Atomic."""
        arrays = {name: np.asarray(x) for name, x in _named(state).items()}
        if iteration in self._manager.all_steps():
            self._manager.delete(iteration)
        args = {ARRAYS: ocp.args.StandardSave(arrays), META: ocp.args.JsonSave({**meta, "digest": _digest(arrays)})}
        self._manager.save(iteration, args=ocp.args.Composite(**args), force=True)

    def restore(self, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """The newest intact (state, meta), or None where none was ever written.

        template: arrays or ShapeDtypeStructs of the state's structure, shapes and dtypes. A checkpoint that cannot be
        read is named in a warning and passed over. Raises ValueError where all are damaged or belong to another program.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._read(step, template)
            except DAMAGE as error:
                cause = error
                reason = (str(error).splitlines() or [""])[0][:200]
                warnings.warn(
                    f"checkpoint {self.directory / str(step)} is damaged ({reason}); trying the one before",
                    stacklevel=2,
                )
        if steps:
            raise InputError(f"no checkpoint in {self.directory} can be read") from cause
        return None

    def discard_after(self, iteration: int) -> None:
        """Remove what is newer than `iteration`: damaged checkpoints that a resumed run will write again."""
        for step in self._manager.all_steps():
            if step > iteration:
                self._manager.delete(step)

    def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
        args = {ARRAYS: ocp.args.StandardRestore(), META: ocp.args.JsonRestore()}
        found = self._manager.restore(step, args=ocp.args.Composite(**args))
        arrays, meta = found[ARRAYS], found[META]
        if _digest(arrays) != meta["digest"]:
            raise InputError("its contents do not match their digest")
        return _rebuilt(arrays, template), meta


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _named(tree: PyTree) -> dict[str, Any]:
    """Leaves by path; a path such as `.agent.params['Dense_0']` tells a reader what an array is."""
    return {jax.tree_util.keystr(path).replace("/", "|"): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _rebuilt(arrays: dict[str, np.ndarray], template: PyTree) -> PyTree:
    raw = jax.eval_shape(lambda t: jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, t), template)
    shapes = _named(raw)
    for name, like in shapes.items():
        if name not in arrays:
            raise InputError(f"it holds no {name}")
        if (arrays[name].shape, arrays[name].dtype) != (like.shape, like.dtype):
            raise InputError(f"its {name} is {arrays[name].dtype}{arrays[name].shape}, not {like.dtype}{like.shape}")
    tree = jax.tree.unflatten(jax.tree.structure(raw), [arrays[name] for name in shapes])
    return jax.tree.map(_like, template, tree)


def _like(template: Any, x: np.ndarray) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(x)) if _is_key(template) else x  # of the default kind, as runs make them


def _digest(arrays: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name in sorted(arrays):
        x = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {x.dtype} {x.shape}".encode())
        sha.update(x.tobytes())
    return sha.hexdigest()
