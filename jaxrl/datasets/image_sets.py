"""Sets of images with labels: scikit-learn's digits, or a folder of .npz files."""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.errors import InputError, nearest
from jaxrl.datasets.transitions import parted

NAMES = ("digits",)
FRACTION = (0.8, 0.1, 0.1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Images:
    """M images with labels. images: uint8 [M, H, W, C], in 0 … levels. labels: int32 [M], in 0 … num_labels - 1."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    num_labels: int
    levels: int = 255

    def __len__(self) -> int:
        """M, the number of images."""
        return len(self.labels)

    def __repr__(self) -> str:
        height, width, channels = self.images.shape[1:]
        return f"Images({self.name}, {len(self):,} of {height} × {width} × {channels}, {self.num_labels} labels)"

    def take(self, rows: np.ndarray) -> Images:
        """Those of some numbers, in that order."""
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])

    def split(self, seed: int = 0) -> tuple[Images, Images, Images]:
        """Train (80 %), validation and test (10 % each) of every label, drawn by `seed` alone.

        Raises InputError where a label has fewer than 3 images.
        """
        parts: list[list[np.ndarray]] = [[], [], []]
        for label in np.unique(self.labels):
            rows = np.flatnonzero(self.labels == label)
            if len(rows) < len(parts):
                raise InputError(f"{self.name} has {len(rows)} images of label {label}: a split takes 3 or more of each")
            for part, chosen in zip(parts, parted(len(rows), FRACTION, seed), strict=True):
                part.append(rows[chosen])
        train, validation, test = (self.take(np.sort(np.concatenate(part))) for part in parts)
        return train, validation, test


def images(source: str | PathLike[str]) -> Images:
    """A set of images. source: "digits", scikit-learn's 1,797 of 8 × 8 (extra: digits); or a folder of .npz files.

    Of the files, in the order of their names, each has `images`, uint8 [M, H, W, C] or [M, H, W], and `labels`, integers [M]
    from 0 on. Raises InputError, in one line, for any other.
    """
    if str(source) in NAMES:
        return digits()
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"no images {source}: neither a folder nor a name; {nearest(str(source), NAMES)}")
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise InputError(f"{folder} has no .npz files with images and labels")
    found = [_file(path) for path in files]
    shapes = {x.shape[1:]: path for (x, _), path in zip(found, files, strict=True)}
    if len(shapes) > 1:
        raise InputError(f"{folder} has images of different shapes: {' and '.join(str(list(shape)) for shape in shapes)}")
    labels = np.concatenate([y for _, y in found])
    return Images(str(folder), np.concatenate([x for x, _ in found]), labels, int(labels.max()) + 1)


def digits(owner: str = "the set of images 'digits'") -> Images:
    """scikit-learn's handwritten digits. owner: who needs the extra, for the message. Raises InputError without it.

    "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998); a pixel counts the dark ones among 4 × 4 bits.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(f"{owner} needs the extra: pip install 'jaxrl[digits]'") from error
    found = load_digits()
    return Images("digits", found.images[..., None].astype(np.uint8), found.target.astype(np.int32), 10, levels=16)


def _file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [M, H, W, C] and labels [M] of one file."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in ("images", "labels") if name in file}
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    if len(arrays) < 2:
        raise InputError(f"{path} has no arrays called images and labels")
    x, y = arrays["images"], arrays["labels"]
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise InputError(f"{path}: images are {x.dtype}{list(x.shape)}, not uint8 [M, H, W, C] or [M, H, W]")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1] or not y.size or y.min() < 0 or y.max() >= 2**31 - 1:
        raise InputError(
            f"{path}: labels are {y.dtype}{list(y.shape)}, not integers [{len(x)}] from 0 on, one for each image"
        )
    return (x if x.ndim == 4 else x[..., None]), y.astype(np.int32)
