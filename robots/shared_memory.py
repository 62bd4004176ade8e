"""Memory that two processes share through a file: words, and mailboxes that hold the newest message.

Each word and each mailbox has one writer. A word is one aligned 64-bit store, which any thread may make at any time
without a lock. A mailbox has two slots that are written in turn, each with its number and a checksum: a reader that
meets a torn slot, on any CPU, sees that it is torn and takes the other one. Nobody ever waits for the other side.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

WORDS = 32
_HEAD = struct.Struct("<QII")  # message number (0: being written), length, checksum
_ATTEMPTS = 10


def folder() -> Path:
    """Where this user's shared files lie, in memory where possible. Raises PermissionError if it is not ours."""
    base = Path("/dev/shm")
    base = base if base.is_dir() and os.access(base, os.W_OK) else Path(tempfile.gettempdir())
    path = base / f"daydreamer-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    info = path.lstat()
    if path.is_symlink() or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise PermissionError(f"{path}: belongs to somebody else or is open to others; remove it")
    return path


class Mailbox:
    """The newest message of at most `size` bytes, in a view of shared memory of `Mailbox.room(size)` bytes."""

    def __init__(self, memory: memoryview, size: int) -> None:
        half = self.room(size) // 2
        self._size, self._slots = size, (memory[:half], memory[half : 2 * half])
        self._number = self.number

    @staticmethod
    def room(size: int) -> int:
        """Bytes of shared memory that messages of at most `size` bytes need."""
        return 2 * ((_HEAD.size + size + 63) // 64 * 64)

    def write(self, message: bytes) -> None:
        """Raises ValueError where the message is too long."""
        if len(message) > self._size:
            raise ValueError(f"message of {len(message)} bytes: the mailbox takes {self._size}")
        self._number += 1
        slot = self._slots[self._number % 2]
        _HEAD.pack_into(slot, 0, 0, 0, 0)
        slot[_HEAD.size : _HEAD.size + len(message)] = message
        _HEAD.pack_into(slot, 0, self._number, len(message), _checksum(self._number, message))

    @property
    def number(self) -> int:
        """That of the newest message, which may still be found torn; 0 before the first."""
        return max(_HEAD.unpack_from(slot)[0] for slot in self._slots)

    def read(self) -> tuple[int, bytes] | None:
        """The number and bytes of the newest message; None until the first is whole. Raises BlockingIOError where each
        attempt met a torn slot, which takes a writer that writes faster than memory can be copied."""
        for _ in range(_ATTEMPTS):
            heads = [(*_HEAD.unpack_from(slot), slot) for slot in self._slots]
            if not any(head[0] for head in heads):
                return None
            for number, length, checksum, slot in sorted(heads, key=lambda head: -head[0]):
                message = bytes(slot[_HEAD.size : _HEAD.size + length]) if number and length <= self._size else b""
                if number and _checksum(number, message) == checksum:
                    return number, message
        if self.number <= 1:
            return None
        raise BlockingIOError("shared memory: only torn messages")


def _checksum(number: int, message: bytes) -> int:
    return zlib.crc32(message, number & 0xFFFFFFFF)


class Region:
    """One shared file: `words`, uint64 [32], and named mailboxes of the given sizes."""

    def __init__(self, path: Path, sizes: Mapping[str, int], create: bool) -> None:
        """Raises FileNotFoundError without a file, ValueError where it is laid out differently."""
        length = WORDS * 8 + sum(Mailbox.room(size) for size in sizes.values())
        name = path.with_suffix(".new") if create else path
        if create:
            name.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(name, flags, 0o600)
        try:
            if create:
                os.ftruncate(descriptor, length)
            elif os.fstat(descriptor).st_size != length:
                raise ValueError(f"{path}: of another layout")
            memory = memoryview(mmap.mmap(descriptor, length))
        finally:
            os.close(descriptor)
        self.words = np.frombuffer(memory, np.uint64, WORDS)
        self.boxes: dict[str, Mailbox] = {}
        start = WORDS * 8
        for key, size in sizes.items():
            self.boxes[key] = Mailbox(memory[start:], size)
            start += Mailbox.room(size)
        if create:
            name.rename(path)


class Packing:
    """Arrays of fixed shapes as bytes. `fields`: name -> (dtype, shape)."""

    def __init__(self, fields: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
        self._fields = dict(fields)
        self._record = np.dtype([(name, dtype, shape) for name, (dtype, shape) in self._fields.items()])
        self._buffer = np.zeros((), self._record)
        self.size = self._record.itemsize

    def pack(self, values: Mapping[str, np.ndarray]) -> bytes:
        """The bytes of these arrays; names beside the fields are left out."""
        for name in self._fields:
            self._buffer[name] = values[name]
        return self._buffer.tobytes()

    def unpack(self, data: bytes) -> dict[str, np.ndarray]:
        """The inverse; arrays are of our own memory."""
        record = np.frombuffer(data, self._record, 1)[0]
        return {name: np.array(record[name]) for name in self._fields}
