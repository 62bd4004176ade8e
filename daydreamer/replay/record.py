"""The bytes of a segment, as pure functions over buffers: what a chunk looks like on disk, and how to find it again.

    segment   preamble, record, record, ...         each starts at a multiple of 64 bytes; integers are little-endian
    preamble  magic 8 | version u32 | json bytes u32 | crc u32 | json: what is known at the birth of the segment
    record    header 64 | the columns in schema order, each at a multiple of 8 | zeros up to a multiple of 64
    header    magic 4 | stream 16 | sequence u64 | first step u64 | steps u32 | payload bytes u64 | synced u64
              | payload crc u32 | header crc u32

`synced` is how far the segment was known to be on disk when the record was written. It tells a torn write (damage at
or after the last known `synced`: never acknowledged, cut off) from damage at rest (before it: set aside, and what
follows stays).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.errors import LogCorrupt

VERSION = 1
ALIGN = 64
HEADER_BYTES = 64
_SEGMENT_MAGIC = b"DDSEGMNT"
_RECORD_MAGIC = b"DDCH"
_PREAMBLE = struct.Struct("<8sII")
_HEADER = struct.Struct("<4s16sQQIQQI")
_CRC = struct.Struct("<I")
_COLUMN_ALIGN = 8  # the largest item of any dtype in DTYPES


class Entry(NamedTuple):
    """Where one chunk lies: its place in its stream, its segment, its header's offset, its payload's length and crc."""

    stream: bytes
    sequence: int
    first_step: int
    steps: int
    segment: int
    offset: int
    length: int
    crc: int

    @classmethod
    def of_record(cls, record: bytes | bytearray, segment: int, offset: int) -> Entry:
        """From the record's own header."""
        _, stream, sequence, first, steps, length, _, crc = _HEADER.unpack_from(record)
        return cls(stream, sequence, first, steps, segment, offset, length, crc)

    @property
    def end_step(self) -> int:
        """The step after the chunk's last."""
        return self.first_step + self.steps

    @property
    def payload(self) -> slice:
        """The bytes of the columns within the segment."""
        return slice(self.offset + HEADER_BYTES, self.offset + HEADER_BYTES + self.length)

    @property
    def end(self) -> int:
        """Where the next record starts."""
        return aligned(self.offset + HEADER_BYTES + self.length)


class Damage(NamedTuple):
    """Bytes of a segment that hold no readable chunk. `entry`: which chunk it was, if its header can still be read."""

    segment: int
    offset: int
    end: int
    reason: str
    entry: Entry | None = None


@dataclass(frozen=True)
class Preamble:
    """What a segment knows at its birth: the schema, how many chunks and steps came before, so that both survive when
    earlier segments are dropped. `streams`: stream -> number of chunks; `bytes`: its own length."""

    schema: str
    streams: dict[bytes, int] = field(default_factory=dict)
    inserted: int = 0
    bytes: int = 0


@dataclass
class Scan:
    """What a segment holds: readable chunks, damaged places, and how far it claims to have been on disk."""

    entries: list[Entry] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    synced: int = 0

    @property
    def known(self) -> list[Entry]:
        """The readable chunks, and the damaged ones of which the header can be read."""
        return self.entries + [damage.entry for damage in self.damages if damage.entry]

    @property
    def steps(self) -> int:
        """Steps of the known chunks."""
        return sum(entry.steps for entry in self.known)

    def cut_torn_end(self, size: int) -> int:
        """Leave out what a crash left half-written at the end of a segment of `size` bytes; returns where that starts.

        Damage below the last known `synced` was on disk before and stays. The end may lie beyond `size`, where only the
        zeros after the last payload are missing.
        """
        torn = [d.offset for d in self.damages if d.offset >= self.synced]
        end = min(torn) if torn else max((found.end for found in self.entries + self.damages), default=size)
        self.entries = [e for e in self.entries if e.offset < end]
        self.damages = [d for d in self.damages if d.offset < end]
        return end


class Layout:
    """Where each column lies in a payload: a function of the schema and the number of steps."""

    def __init__(self, schema: Schema):
        self.schema = schema
        self._names = [c.name for c in schema.columns]
        self._dtypes = [np.dtype(c.dtype) for c in schema.columns]
        self._known: dict[int, tuple[dict[str, tuple[int, np.dtype, tuple[int, ...]]], int]] = {}

    def of(self, steps: int) -> dict[str, tuple[int, np.dtype, tuple[int, ...]]]:
        """name -> (offset in the payload, dtype, shape with the step axis)."""
        return self._find(steps)[0]

    def size(self, steps: int) -> int:
        """Bytes of a payload."""
        return self._find(steps)[1]

    def _find(self, steps: int) -> tuple[dict[str, tuple[int, np.dtype, tuple[int, ...]]], int]:
        if steps not in self._known:
            places, at = {}, 0
            for column, dtype in zip(self.schema.columns, self._dtypes, strict=True):
                places[column.name] = (at, dtype, (steps, *column.shape))
                at = aligned(at + column.step_bytes * steps, _COLUMN_ALIGN)
            self._known[steps] = places, at
        return self._known[steps]


def aligned(n: int, to: int = ALIGN) -> int:
    """The first multiple of `to` that is not below `n`."""
    return -(-n // to) * to


def encode_preamble(preamble: Preamble) -> bytes:
    """The first bytes of a segment file."""
    streams = {stream.hex(): chunks for stream, chunks in preamble.streams.items()}
    text = json.dumps({"schema": preamble.schema, "streams": streams, "inserted": preamble.inserted}).encode()
    head = _PREAMBLE.pack(_SEGMENT_MAGIC, VERSION, len(text))
    data = head + _CRC.pack(zlib.crc32(head + text)) + text
    return data.ljust(aligned(len(data)), b"\0")


def decode_preamble(data: memoryview) -> Preamble | None:
    """The inverse of `encode_preamble`; None where it is damaged. Raises LogCorrupt for another format version."""
    start = _PREAMBLE.size + _CRC.size
    if len(data) < start:
        return None
    magic, version, length = _PREAMBLE.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _PREAMBLE.size)
    text = bytes(data[start:start + length])
    if magic != _SEGMENT_MAGIC or zlib.crc32(bytes(data[:_PREAMBLE.size]) + text) != crc:
        return None
    if version != VERSION:
        raise LogCorrupt(f"format version {version}, this program reads {VERSION}: use the program that wrote it")
    known = json.loads(text)
    streams = {bytes.fromhex(stream): chunks for stream, chunks in known["streams"].items()}
    return Preamble(known["schema"], streams, known["inserted"], aligned(start + length))


def record_bytes(steps: int, layout: Layout) -> int:
    """What a chunk takes in a segment."""
    return aligned(HEADER_BYTES + layout.size(steps))


def encode_record(chunk: Chunk, layout: Layout, synced: int) -> bytearray:
    """The record of a chunk whose columns were checked against the layout's schema."""
    steps = len(chunk)
    length = layout.size(steps)
    record = bytearray(record_bytes(steps, layout))
    for name, (at, dtype, shape) in layout.of(steps).items():
        np.ndarray(shape, dtype, record, HEADER_BYTES + at)[...] = chunk.columns[name]
    crc = zlib.crc32(memoryview(record)[HEADER_BYTES:HEADER_BYTES + length])
    place = chunk.stream, chunk.sequence, chunk.first_step
    _HEADER.pack_into(record, 0, _RECORD_MAGIC, *place, steps, length, synced, crc)
    _CRC.pack_into(record, _HEADER.size, zlib.crc32(record[:_HEADER.size]))
    return record


def decode_columns(data: memoryview, entry: Entry, layout: Layout, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read-only views [steps, ...] of the named columns of the chunk at `entry`."""
    places, start = layout.of(entry.steps), entry.offset + HEADER_BYTES
    return {n: np.ndarray(places[n][2], places[n][1], data, start + places[n][0]) for n in names}


def whole(data: memoryview, entry: Entry) -> bool:
    """Whether the payload is what was written."""
    return zlib.crc32(data[entry.payload]) == entry.crc


def scan(data: memoryview, segment: int, start: int, layout: Layout, payloads: bool) -> Scan:
    """Find every chunk from `start` on; `payloads`: check their contents too, not only that they are there."""
    found, at = Scan(), start
    while at < len(data):
        header = _decode_header(data, segment, at, layout)
        if header is None or header[0].payload.stop > len(data):
            end = _next_header(data, segment, at + ALIGN, layout)
            reason = "no record header" if header is None else "cut short"
            found.damages.append(Damage(segment, at, end, reason))
            at = end
            continue
        entry, synced = header
        if payloads and not whole(data, entry):
            found.damages.append(Damage(segment, at, entry.end, "wrong checksum", entry))
        else:
            found.entries.append(entry)
        found.synced = max(found.synced, synced)
        at = entry.end
    return found


def _decode_header(data: memoryview, segment: int, at: int, layout: Layout) -> tuple[Entry, int] | None:
    """The entry and its `synced`, or None where there is no sound header."""
    if at + HEADER_BYTES > len(data):
        return None
    magic, stream, sequence, first, steps, length, synced, crc = _HEADER.unpack_from(data, at)
    if magic != _RECORD_MAGIC or zlib.crc32(data[at:at + _HEADER.size]) != _CRC.unpack_from(data, at + _HEADER.size)[0]:
        return None
    if length != layout.size(steps):
        return None
    return Entry(stream, sequence, first, steps, segment, at, length, crc), synced


def _next_header(data: memoryview, segment: int, start: int, layout: Layout) -> int:
    """Where the next sound header is at or after `start`, or the end of the data."""
    blocks = max(0, len(data) - start) // ALIGN
    words = np.frombuffer(data, "<u4", blocks * (ALIGN // 4), min(start, len(data))).reshape(blocks, ALIGN // 4)
    for block in np.flatnonzero(words[:, 0] == int.from_bytes(_RECORD_MAGIC, "little")):
        at = start + int(block) * ALIGN
        if _decode_header(data, segment, at, layout) is not None:
            return at
    return len(data)
