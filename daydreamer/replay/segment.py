"""One segment file of a chunk log, open for appending or sealed.

One thread writes; any thread reads. A reader's map covers the file as it was when mapped and is renewed when an entry
lies beyond it, so views stay valid while the file grows, is sealed, or is removed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daydreamer.replay import files, record
from daydreamer.replay.errors import LogCorrupt, LogDropped
from daydreamer.replay.record import Entry, Layout, Preamble, Scan


def segment_paths(folder: Path) -> list[tuple[int, Path]]:
    """The segments of a log, oldest first, with their numbers."""
    return sorted((int(path.stem), path) for path in folder.glob("*.chunks") if path.stem.isdecimal())


class Segment:
    """`steps` and `last` (stream -> its highest sequence) say what is in it; `size` is where the next record goes."""

    def __init__(self, path: Path, number: int):
        self.path = path
        self.number = number
        self.steps = 0
        self.last: dict[bytes, int] = {}
        self.size = path.stat().st_size
        self.synced = self.size
        self._fd = -1
        self._data = memoryview(b"")
        self._whole: set[int] = set()  # offsets of records whose payload was checked

    @classmethod
    def create(cls, folder: Path, number: int, preamble: Preamble) -> Segment:
        """A new segment, open for appending. Raises OSError, and then nothing is left behind."""
        path = folder / f"{number:08d}.chunks"
        fd = files.create(path, record.encode_preamble(preamble))
        segment = cls(path, number)
        segment._fd = fd
        return segment

    def preamble(self) -> Preamble | None:
        """None where it is damaged. Raises LogCorrupt for another format version."""
        try:
            return record.decode_preamble(self._map(self.size))
        except LogCorrupt as error:
            raise LogCorrupt(f"{self.path}: {error}") from error

    def scan(self, start: int, layout: Layout, payloads: bool) -> Scan:
        """All chunks from the byte `start` on; see `record.scan`."""
        return record.scan(self._map(self.size)[:self.size], self.number, start, layout, payloads)

    def count(self, entry: Entry) -> None:
        """Take note of a chunk that is in this segment."""
        self.steps += entry.steps
        self.last[entry.stream] = entry.sequence

    def discount(self, entries: list[Entry]) -> None:
        """Take back `count` of the newest entries."""
        for entry in reversed(entries):
            self.steps -= entry.steps
            self.last[entry.stream] = entry.sequence - 1

    def columns(
        self, entry: Entry, layout: Layout, names: Sequence[str], checked: bool = True
    ) -> dict[str, np.ndarray]:
        """Read-only views of the named columns; `checked`: the first read of an entry verifies its checksum.

        Raises LogCorrupt, LogDropped.
        """
        try:
            data = self._map(entry.payload.stop)
        except FileNotFoundError as error:
            raise LogDropped(f"{self.path}: removed by retention", entry) from error
        if checked and entry.offset not in self._whole:
            if len(data) < entry.payload.stop or not record.whole(data, entry):
                raise LogCorrupt(f"{self.path}: chunk {entry.sequence} at byte {entry.offset}: wrong checksum", entry)
            self._whole.add(entry.offset)
        return record.decode_columns(data, entry, layout, names)

    def append(self, data: bytearray) -> int:
        """Write a record and return its offset. Raises OSError, and then the segment is as before."""
        try:
            files.write_at(self._fd, data, self.size)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        offset, self.size = self.size, self.size + len(data)
        return offset

    def sync(self) -> None:
        """Bring everything appended to disk. Raises OSError."""
        if self.synced < self.size:
            os.fdatasync(self._fd)
            self.synced = self.size

    def cut(self, size: int) -> None:
        """Forget everything from the byte `size` on, durably; a missing end is filled with zeros."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.size = self.synced = size

    def seal(self) -> None:
        """Nothing is appended any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _map(self, size: int) -> memoryview:
        """At least the first `size` bytes of the file, or all of it."""
        data = self._data  # another reader may replace it meanwhile, with a shorter one too
        if len(data) < size:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size:
                    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._data = data
        return data
