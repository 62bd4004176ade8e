"""Files that survive: create, write and lock such that a crash or a full disk leaves either the old or the new."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daydreamer.replay.errors import DiskFull, LogLocked

LOOK = 0.02  # seconds between two looks at a lock that is waited for
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn the system's ways of saying "no room" into DiskFull that names `path`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(f"{path}: {error.strerror}: free some space, or lower what is kept") from error


def write_at(fd: int, data: bytes | bytearray, offset: int) -> None:
    """Write all of `data` at `offset`; the system may take it in parts."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def create(path: Path, content: bytes) -> int:
    """A new file that holds `content` durably, under its final name only once it does. Returns the open descriptor."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_at(fd, content, 0)
        os.fsync(fd)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError:
        os.close(fd)
        temporary.unlink(missing_ok=True)
        raise
    return fd


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming and removal of files in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FolderLock:
    """One writer per folder. The system releases it when the holder dies, however it dies."""

    def __init__(self, folder: Path, patience: float = 0.0):
        """Raises LogLocked with the holder's process id, where it holds on for more than `patience` seconds."""
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + patience
        try:
            while not self._taken(wait=time.monotonic() < deadline):
                time.sleep(LOOK)
            os.ftruncate(self._fd, 0)
            write_at(self._fd, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace")
            os.close(self._fd)
            raise LogLocked(f"{folder}: in use by process {holder}: stop it, or choose another folder") from error
        except OSError:
            os.close(self._fd)
            raise

    def _taken(self, wait: bool) -> bool:
        """Take the lock; False where another one holds it and we `wait`, else that is a BlockingIOError."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            return False
        return True

    def release(self) -> None:
        """Let the next one in; releasing twice changes nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
