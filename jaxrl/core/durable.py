"""Files that a power cut does not take: what the system has not been told to sync may be lost, up to half a minute of it.

A file's contents, its name and the removal of another are apart: they may reach the disk in any order unless synced in
between. So: write a draft, sync it, rename it, sync its folder; only then remove what it replaces.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

DRAFT = ".tmp"  # how names of files end that are not whole yet
UNSYNCABLE = (errno.EACCES, errno.EINVAL, errno.ENOTSUP)  # a folder without read permission, or on some network file systems


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write that lies at `path`, whole and synced, once the block ends; nothing changes if it raises."""
    draft = path.with_name(path.name + DRAFT)
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory and the missing ones above it, the names of all of them synced. Nothing where it exists."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_directory(folder.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory, those added and those removed, are on disk. Not those in directories within."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # one may write into a folder that one may not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise
    finally:
        os.close(descriptor)
