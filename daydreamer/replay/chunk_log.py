"""The durable home of experience: an append-only log of chunks in a folder, used by the replay and as a robot's spool.

    folder/lock               held by the one process that writes
    folder/00000000.chunks    segments, numbered in the order of their birth; the bytes are described in `record.py`
    folder/00000001.chunks

An open log always starts a new segment, so every file but the one being written is immutable. Opening reads headers
only, except in the newest segment, whose end may be torn: it is checked in full and cut after the last whole chunk.
Damage that was on disk before is set aside and counted, and what follows it stays readable.

Durable means: a chunk is in `streams` once `sync` has returned, and from then on survives any crash. Who appends
decides when to sync (group commit).

Threads: one thread appends, syncs, drops and closes. Any other may use `entries`, `streams`, `read` and `columns` at
the same time without a lock: what they see is replaced whole, never changed, except that lists grow at their end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from daydreamer.replay import files
from daydreamer.replay.chunk import Chunk, Schema, SchemaError
from daydreamer.replay.errors import DiskFull, LogCorrupt, LogDropped, OutOfOrder
from daydreamer.replay.record import Damage, Entry, Layout, Preamble, Scan, encode_record, record_bytes
from daydreamer.replay.segment import Segment, segment_paths

SEGMENT_BYTES = 256 << 20
STREAM_BYTES = 16
MOST_STEPS = 1 << 62
log = logging.getLogger(__name__)


class ChunkLog:
    """See the module's docstring. `entries`: the chunks, oldest first, those not yet synced included; `inserted`: steps
    ever appended; `corrupt`: places that turned out unreadable, when the log was opened or later."""

    def __init__(self, folder: Path, schema: Schema, segment_bytes: int, lock: files.FolderLock):
        """Use `ChunkLog.open`."""
        self.folder = folder
        self.schema = schema
        self.entries: list[Entry] = []
        self.corrupt: list[Damage] = []
        self.inserted = 0
        self._segment_bytes = segment_bytes
        self._lock = lock
        self._layout = Layout(schema)
        self._names = [c.name for c in schema.columns]
        self._segments: dict[int, Segment] = {}
        self._active: Segment | None = None
        self._durable: dict[bytes, int] = {}  # chunks per stream on disk
        self._next: dict[bytes, int] = {}  # chunks per stream appended
        self._ends: dict[bytes, int] = {}  # the step after the last of each stream
        self._unsynced: list[Entry] = []
        self._unreported: list[Entry] = []  # durable, not yet returned by `sync`

    @classmethod
    def open(cls, folder: Path | str, schema: Schema, segment_bytes: int = SEGMENT_BYTES, *,
             patience: float = 0.0) -> ChunkLog:
        """Open a log, or begin one where there is none. `patience`: seconds a former writer gets to let go of it.

        Raises LogLocked, SchemaError (the log holds other columns), LogCorrupt (another format version), DiskFull.
        """
        folder = Path(folder)
        with files.full_disk_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files.sync_folder(folder.parent)
            lock = files.FolderLock(folder, patience)
        try:
            opened = cls(folder, schema, segment_bytes, lock)
            opened._recover()
        except BaseException:
            lock.release()
            raise
        return opened

    @property
    def streams(self) -> dict[bytes, int]:
        """stream -> number of its chunks that are durable, those dropped by retention included."""
        return dict(self._durable)

    @property
    def steps(self) -> int:
        """Steps that can be read."""
        return sum(segment.steps for segment in list(self._segments.values()))

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(segment.size for segment in list(self._segments.values()))

    @property
    def oldest(self) -> int:
        """Chunks of segments with a lower number have been dropped."""
        return min(self._segments, default=0)

    def append(self, chunk: Chunk) -> Entry:
        """Write the next chunk of its stream; durable after `sync`.

        Raises SchemaError and OutOfOrder: nothing has changed. DiskFull: the chunk is not in the log, nor, where a full
        segment had to be synced first, anything appended since the last sync.
        """
        steps = self.schema.check(chunk.columns)
        self._check_place(chunk)
        with files.full_disk_named(self.folder):
            active = self._room_for(record_bytes(steps, self._layout))
            record = encode_record(chunk, self._layout, active.synced)
            offset = active.append(record)
        entry = Entry.of_record(record, active.number, offset)
        active.count(entry)
        self._unsynced.append(entry)
        self.entries.append(entry)
        self._next[chunk.stream] = chunk.sequence + 1
        self._ends[chunk.stream] = entry.end_step
        self.inserted += steps
        return entry

    def sync(self) -> list[Entry]:
        """Make everything appended durable; returns the chunks that became so since the last call, in order.

        Raises DiskFull (or OSError, where the disk fails): then everything appended since the last sync is undone.
        """
        self._sync()
        reported, self._unreported = self._unreported, []
        return reported

    def read(self, entry: Entry) -> Chunk:
        """The chunk at `entry`; its columns are read-only views of the file. Raises LogCorrupt, LogDropped."""
        return Chunk(entry.stream, entry.sequence, entry.first_step, self.columns(entry))

    def columns(self, entry: Entry, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The named columns [steps, ...] of the chunk at `entry` (None: all). Raises LogCorrupt, LogDropped."""
        segment = self._segments.get(entry.segment)
        if segment is None:
            raise LogDropped(f"{self.folder}: segment {entry.segment} was removed by retention", entry)
        try:
            return segment.columns(entry, self._layout, self._names if names is None else names)
        except LogCorrupt:
            damage = Damage(entry.segment, entry.offset, entry.end, "wrong checksum", entry)
            if damage not in self.corrupt:
                self.corrupt.append(damage)
            raise

    def drop_before(self, acknowledged: Mapping[bytes, int]) -> int:
        """Remove the oldest segments while each of their chunks lies below its stream's number in `acknowledged`.

        Whole segments only, never the newest. Returns the steps removed.
        """
        return self._drop_while(lambda s: all(seq < acknowledged.get(stream, 0) for stream, seq in s.last.items()))

    def keep_newest(self, steps: int) -> int:
        """Remove the oldest segments while at least `steps` steps remain. Whole segments only, never the newest.

        Returns the steps removed.
        """
        return self._drop_while(lambda oldest: self.steps - oldest.steps >= steps)

    def close(self) -> None:
        """Sync and let the folder go; views stay valid. Closing twice changes nothing. Raises as `sync` does."""
        try:
            self._sync()
        finally:
            self._seal()
            self._lock.release()

    def __enter__(self) -> ChunkLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_place(self, chunk: Chunk) -> None:
        """Raises OutOfOrder if the chunk is not its stream's next, SchemaError if its numbers make no sense."""
        stream, end = chunk.stream.hex(), self._ends.get(chunk.stream, 0)
        if len(chunk.stream) != STREAM_BYTES:
            raise SchemaError(f"stream {stream}: must be named by {STREAM_BYTES} bytes")
        if chunk.sequence != (following := self._next.get(chunk.stream, 0)):
            raise OutOfOrder(f"stream {stream}: got chunk {chunk.sequence}, the next one is {following}")
        if not end <= chunk.first_step < MOST_STEPS:
            raise SchemaError(f"stream {stream}: chunk {chunk.sequence} starts at step {chunk.first_step}, "
                              f"the next one is {end}")

    def _room_for(self, size: int) -> Segment:
        """The segment to append to: the active one while it has room, else a new one."""
        active = self._active
        if active is not None and active.last and active.size + size > self._segment_bytes:
            self._sync()
            self._seal()
        if self._active is None:
            number = max(self._segments, default=-1) + 1
            preamble = Preamble(self.schema.to_json(), self._durable, self.inserted)
            self._active = Segment.create(self.folder, number, preamble)
            self._segments = {**self._segments, number: self._active}
        return self._active

    def _sync(self) -> None:
        if self._active is None or not self._unsynced:
            return
        try:
            with files.full_disk_named(self.folder):
                self._active.sync()
        except (DiskFull, OSError):
            self._undo_unsynced()
            raise
        self._durable = dict(self._next)
        self._unreported += self._unsynced
        self._unsynced = []

    def _undo_unsynced(self) -> None:
        """After a failed sync nobody knows what reached the disk: cut it off, and never write to that segment again."""
        assert self._active is not None
        undone, self._unsynced = self._unsynced, []
        self.entries = self.entries[:len(self.entries) - len(undone)]
        self.inserted -= sum(entry.steps for entry in undone)
        self._count_on()
        self._active.discount(undone)
        self._active.cut(self._active.synced)
        self._seal()

    def _count_on(self) -> None:
        """Streams continue after what is durable."""
        self._next = dict(self._durable)
        self._ends = {entry.stream: entry.end_step for entry in self.entries}

    def _seal(self) -> None:
        if self._active is not None:
            self._active.seal()
            self._active = None

    def _drop_while(self, droppable: Callable[[Segment], bool]) -> int:
        """Oldest first, so that a crash between two removals leaves a log without holes."""
        dropped = 0
        while len(self._segments) > 1 and droppable(oldest := self._segments[self.oldest]):
            self._segments = {n: s for n, s in self._segments.items() if n != oldest.number}
            self.entries = [e for e in self.entries if e.segment > oldest.number]
            oldest.seal()
            oldest.path.unlink()
            dropped += oldest.steps
        if dropped:
            files.sync_folder(self.folder)
        return dropped

    def _recover(self) -> None:
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        paths = segment_paths(self.folder)
        for number, path in paths:
            self._load(Segment(path, number), newest=path == paths[-1][1])
        self._count_on()
        for damage in self.corrupt:
            log.warning("%s: segment %d, bytes %d to %d set aside: %s", self.folder, *damage[:4])

    def _load(self, segment: Segment, newest: bool) -> None:
        preamble = segment.preamble()
        if preamble is not None:
            self._compare(Schema.from_json(preamble.schema))
            self.inserted = max(self.inserted, preamble.inserted)
            self._raise_watermarks(preamble.streams)
        found = segment.scan(preamble.bytes if preamble else 0, self._layout, payloads=newest)
        if newest:
            self._cut_torn_end(segment, found)
        for entry in found.entries:
            segment.count(entry)
        self._raise_watermarks({e.stream: e.sequence + 1 for e in sorted(found.known, key=lambda e: e.sequence)})
        self.inserted += found.steps
        self.entries += found.entries
        self.corrupt += found.damages
        self._segments[segment.number] = segment

    def _cut_torn_end(self, segment: Segment, found: Scan) -> None:
        end = found.cut_torn_end(segment.size)
        if end != segment.size:
            log.warning("%s: %d bytes of an unfinished write cut off", segment.path, max(0, segment.size - end))
            with files.full_disk_named(self.folder):
                segment.cut(end)

    def _raise_watermarks(self, streams: Mapping[bytes, int]) -> None:
        for stream, chunks in streams.items():
            self._durable[stream] = max(chunks, self._durable.get(stream, 0))

    def _compare(self, stored: Schema) -> None:
        """Raises SchemaError that names the first column in which the log and the wanted schema differ."""
        if difference := stored.difference(self.schema):
            raise SchemaError(f"{self.folder}: {difference}: use another run folder for another robot")


def stored_schema(folder: Path) -> Schema | None:
    """The columns of the log in `folder`; None where there is none yet, or nothing of it can be read."""
    for number, path in reversed(segment_paths(folder)):
        if (preamble := Segment(path, number).preamble()) is not None:
            return Schema.from_json(preamble.schema)
    return None
