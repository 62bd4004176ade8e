"""What is in a log, and whether it is sound: read from the files alone, without the lock, while others write.

A record at the end of the newest segment that is not whole is being written, or was left so by a crash and is cut off
at the next opening: it is reported as `unfinished`, not as damage. Where a chunk is not readable there is a gap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from daydreamer.replay.chunk import Schema
from daydreamer.replay.errors import LogError
from daydreamer.replay.record import Damage, Entry, Layout, Preamble, Scan
from daydreamer.replay.segment import Segment, segment_paths


@dataclass(frozen=True)
class StreamStats:
    """One boot of one robot: readable chunks and steps, episodes begun, and its time from first to last step [s]."""

    stream: bytes
    chunks: int
    steps: int
    episodes: int
    seconds: float


@dataclass(frozen=True)
class LogStats:
    """`inserted`: steps ever appended, those dropped since included; `gaps`: places inside a stream where steps are
    missing; `duplicates`: chunks that are there twice; `corrupt`: what cannot be read; `unfinished`: its bytes."""

    folder: Path
    schema: Schema
    segments: int
    bytes: int
    inserted: int
    streams: tuple[StreamStats, ...]
    gaps: int
    duplicates: int
    corrupt: tuple[Damage, ...]
    unfinished: int

    @property
    def steps(self) -> int:
        """Readable steps."""
        return sum(stream.steps for stream in self.streams)

    @property
    def chunks(self) -> int:
        """Readable chunks."""
        return sum(stream.chunks for stream in self.streams)

    @property
    def episodes(self) -> int:
        """Episodes begun."""
        return sum(stream.episodes for stream in self.streams)

    @property
    def seconds(self) -> float:
        """Robot time recorded [s]."""
        return sum(stream.seconds for stream in self.streams)

    @property
    def sound(self) -> bool:
        """Nothing is damaged, missing or there twice."""
        return not (self.corrupt or self.gaps or self.duplicates)


def stats(folder: Path | str) -> LogStats:
    """What the log in `folder` holds, from its headers and bookkeeping columns. Raises LogError if there is none."""
    return _look(Path(folder), payloads=False)


def verify(folder: Path | str) -> LogStats:
    """As `stats`, with every byte checked against its checksum."""
    return _look(Path(folder), payloads=True)


def columns(folder: Path | str, names: Collection[str]) -> list[dict[str, np.ndarray]]:
    """Those of the named columns that the log in `folder` has, whole, [steps, ...]: one dictionary per stream, in the
    order of their first steps. What cannot be read is left out. Raises LogError if there is no log."""
    with _retention_named(Path(folder)):
        segments, _, layout, scans = _scan(Path(folder), payloads=True)
        found = [column.name for column in layout.schema.columns if column.name in names]
        by_number = {segment.number: segment for segment in segments}
        streams = [[by_number[entry.segment].columns(entry, layout, found, checked=False) for entry in chunks]
                   for chunks in _by_stream(scans).values()]
        return [{name: np.concatenate([part[name] for part in parts]) for name in found} for parts in streams]


def _look(folder: Path, payloads: bool) -> LogStats:
    with _retention_named(folder):
        return _read(folder, payloads)


@contextmanager
def _retention_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise LogError(f"{folder}: retention removed {error.filename} meanwhile: try again") from error


def _scan(folder: Path, payloads: bool) -> tuple[list[Segment], list[Preamble], Layout, list[Scan]]:
    """The segments, the preambles that can be read, and what is in each segment."""
    segments = [Segment(path, number) for number, path in segment_paths(folder)]
    preambles = [segment.preamble() for segment in segments]
    known = [preamble for preamble in preambles if preamble]
    if not known:
        raise LogError(f"{folder}: no chunk log here: give the replay folder of a run")
    layout = Layout(Schema.from_json(known[0].schema))
    scans = [s.scan(p.bytes if p else 0, layout, payloads) for s, p in zip(segments, preambles, strict=True)]
    return segments, known, layout, scans


def _read(folder: Path, payloads: bool) -> LogStats:
    segments, known, layout, scans = _scan(folder, payloads)
    unfinished = segments[-1].size - scans[-1].cut_torn_end(segments[-1].size)
    corrupt = [damage for found in scans for damage in found.damages]
    streams = _by_stream(scans)
    by_number = {segment.number: segment for segment in segments}
    return LogStats(
        folder=folder,
        schema=layout.schema,
        segments=len(segments),
        bytes=sum(segment.size for segment in segments),
        inserted=known[0].inserted + sum(found.steps for found in scans),
        streams=tuple(_stream(chunks, by_number, layout) for chunks in streams.values()),
        gaps=sum(_gaps(chunks) for chunks in streams.values()),
        duplicates=sum(len(chunks) - len({e.sequence for e in chunks}) for chunks in streams.values()),
        corrupt=tuple(corrupt),
        unfinished=max(0, unfinished),
    )


def _by_stream(scans: list[Scan]) -> dict[bytes, list[Entry]]:
    streams: dict[bytes, list[Entry]] = {}
    for entry in (entry for found in scans for entry in found.entries):
        streams.setdefault(entry.stream, []).append(entry)
    return streams


def _stream(chunks: list[Entry], segments: dict[int, Segment], layout: Layout) -> StreamStats:
    columns = [segments[e.segment].columns(e, layout, ["is_first", "time"], checked=False) for e in chunks]
    return StreamStats(
        stream=chunks[0].stream,
        chunks=len(chunks),
        steps=sum(entry.steps for entry in chunks),
        episodes=sum(int(c["is_first"].sum()) for c in columns),
        seconds=float(columns[-1]["time"][-1] - columns[0]["time"][0]) * 1e-9,
    )


def _gaps(chunks: list[Entry]) -> int:
    return sum(later.first_step > earlier.end_step for earlier, later in pairwise(chunks))
