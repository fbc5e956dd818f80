"""What a power cut would leave of a directory, at any moment of the code under test: a model of a disk that forgets.

POSIX promises of a file what it held at its last `fsync`, and of a directory the names that it had at its own. All later
changes of names may be on disk or not, each for itself.
"""

import functools
import os
import weakref
from pathlib import Path

OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "ftruncate", "write")
# Of the names that changed since a directory was synced, which ones are as they are now: none, all, only those that were
# removed (the removal of the old came before the new), only those that were added.
CUTS = ("none", "all", "removals", "additions")


class ForgetfulDisk:
    """Watches `root` while operations of the system go through `os`; everything in it at first is synced.

    at_cut: called with a new directory that holds what is left, for each of CUTS before every operation and after the last.
    """

    def __init__(self, root, patch, scratch, at_cut):
        self.root, self.scratch, self.at_cut, self.number, self.inside = root, scratch, at_cut, 0, False
        self.contents, self.names = {}, {}  # by inode: bytes; {name: path's inode}
        self.held = []  # descriptors of what was synced: the system gives the number of an inode that is held to no other
        weakref.finalize(self, lambda held: [*map(os.close, held)], self.held)
        for path in (root, *root.rglob("*")):
            self._sync(path)
        for operation in OPERATIONS:
            patch.setattr(os, operation, self._watched(getattr(os, operation)))

    def _watched(self, operation):
        @functools.wraps(operation)
        def call(*args, **kwargs):
            if self.inside:
                return operation(*args, **kwargs)
            self.cut()
            result = operation(*args, **kwargs)
            if operation.__name__ == "fsync":
                self.inside = True
                self._sync(Path(os.readlink(f"/proc/self/fd/{args[0]}")))
                self.inside = False
            return result

        return call

    def _sync(self, path):
        inode = path.stat().st_ino
        if inode not in self.contents and inode not in self.names:
            self.held.append(os.open(path, os.O_RDONLY))
        if path.is_dir():
            self.names[inode] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self.contents[inode] = path.read_bytes()

    def cut(self):
        """Call `at_cut` with what each of CUTS would leave now."""
        self.inside = True
        for kind in CUTS:
            self.number += 1
            left = self.scratch / str(self.number)
            self._lay(self.root, self.root.stat().st_ino, left, kind)
            self.at_cut(left, kind)
        self.inside = False

    def _lay(self, path, inode, to, kind):
        """path: where the inode is now, or None. Directories that were never synced have lost their names."""
        if inode not in self.names and not (path and path.is_dir()):
            to.write_bytes(self.contents.get(inode, b""))
            return
        to.mkdir()
        synced = self.names.get(inode, {})
        now = {each.name: each.stat().st_ino for each in path.iterdir()} if path and path.is_dir() else {}
        left = {
            "none": synced,
            "all": now,
            "removals": {n: i for n, i in synced.items() if n in now},
            "additions": synced | now,
        }
        for name, child in left[kind].items():
            self._lay(path / name if path and now.get(name) == child else None, child, to / name, kind)
