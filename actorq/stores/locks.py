"""The lock of a file's owner, which ends with its process, and the disks where it cannot be had."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.platform != "win32":
    import fcntl
else:
    import msvcrt

_NETWORKED = {
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "smb2", "smb3", "smbfs",
}  # fmt: skip
_NETWORKED_FUSE = ("ceph", "gcsfuse", "gluster", "rclone", "s3fs", "sshfs", "davfs", "gvfsd", "nfs")


class OwnerLock:
    """An exclusive lock on the file ``<path>.lock``, held until it is let go or the process ends.

    It belongs to this object: another one of the same process does not get it either. Its file is
    never deleted, or two could hold it at once.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = f"{path}.lock"
        self._file: int | None = None
        self.elsewhere: bool = False
        """Whether somebody else had it when it was last asked for."""

    @property
    def held(self) -> bool:
        """Whether it is held here."""
        return self._file is not None

    @property
    def number(self) -> int:
        """What tells its file from another one of that name; 0 if it is not held."""
        return 0 if self._file is None else os.fstat(self._file).st_ino & _NUMBER_MAX

    def take(self) -> bool:
        """Take it if it is free; return whether it is held now. Where there are none, it is not."""
        if self._file is None:
            self.elsewhere = False
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o644)
                _HELD.add(self)
                _lock(self._file)
                if not self._is_there(self._file):
                    raise FileNotFoundError(self._path)
            except OSError as error:
                self.elsewhere = error.errno in _TAKEN
                self.free()
        return self.held

    def free(self) -> None:
        """Let it go, if it is held."""
        if self._file is not None:
            _HELD.discard(self)
            os.close(self._file)
            self._file = None

    def _is_there(self, file: int) -> bool:
        """Say whether others would ask for the same lock: its file may have been deleted."""
        return os.path.samestat(os.fstat(file), Path(self._path).stat())


_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NUMBER_MAX = 2**63 - 1  # which is all that SQLite can keep
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_HELD: set[OwnerLock] = set()


def _forked() -> None:
    """In a child that was forked: close what would keep a lock for longer than its owner lives."""
    for lock in list(_HELD):
        lock.free()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _lock(file: int) -> None:
    if TYPE_CHECKING or sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)


def networked(file: Path) -> str | None:
    """Return what is wrong with the file system of a file, in words, or None."""
    kind = network_file_system(file)
    if kind is None:
        return None
    return (
        f"{file} is on a network file system ({kind}): its locks and the order of its writes "
        "cannot be relied on; keep it on a disk of this machine"
    )


def network_file_system(path: str | Path, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the kind of the network file system that a path is on, or None.

    There, locks may lie and writes may come out of order, so that a database is lost sooner or
    later. (None also where the system does not say what is mounted.)
    """
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, what = before.split(), after.split()
        if len(fields) > 4 and what:
            point = fields[4].replace("\\040", " ").rstrip("/")
            # The last one of several at one place hides the others.
            if len(point) >= len(best) and (real == point or real.startswith(f"{point}/")):
                best, kind = point, what[0]
    if kind in _NETWORKED or (
        kind.startswith("fuse.") and any(name in kind for name in _NETWORKED_FUSE)
    ):
        return kind
    return None
