"""Which windows there are: every run of contiguous steps of a stream, and the windows that fit into it.

A window is `burn_in` unscored steps and `length` scored ones of one run. Scored parts may start

- at any step of a run that begins its stream. Where the burn-in would reach before the stream, the window is padded:
  its steps before the stream are to be filled with the first step, which resets the model's state anyway;
- in a run that begins inside a stream (what came before was dropped, or is damaged), late enough that the burn-in and
  the action before it are there.

Windows are numbered in the order in which they became complete, over all streams: the last number is the newest window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from daydreamer.replay.record import Entry


class Run(NamedTuple):
    """Contiguous steps: the first of them, and whether the stream begins with it."""

    first: int
    begins: bool

    def earliest(self, burn_in: int) -> int:
        """The first step that a window's scored part may start at."""
        return self.first if self.begins else self.first + 1 + burn_in


class Window(NamedTuple):
    """The steps `start` to `stop` (exclusive) of a stream; `start` may lie before the stream's first step."""

    stream: bytes
    start: int
    stop: int


class Piece(NamedTuple):
    """The steps `low` to `high` (exclusive) of the chunk at `entry`."""

    entry: Entry
    low: int
    high: int


class Plan(NamedTuple):
    """How to fill a window: `padding` steps to be made up, then `pieces`. `begins`: the first real step is its stream's
    first; if not, `before` is the step that came before the window."""

    padding: int
    begins: bool
    pieces: list[Piece]
    before: Piece | None


def piece(entry: Entry, start: int, stop: int) -> Piece:
    """The part of a chunk that lies within the steps `start` to `stop`."""
    return Piece(entry, max(start, entry.first_step) - entry.first_step, min(stop, entry.end_step) - entry.first_step)


@dataclass
class Track:
    """The chunks of one stream in order, with their first steps and the runs they belong to."""

    entries: list[Entry] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def at(self, step: int) -> int:
        """The place of the last chunk that starts at or before `step`; -1 if there is none."""
        return bisect_right(self.firsts, step) - 1

    @property
    def end(self) -> int:
        """The step after the newest."""
        return self.entries[-1].end_step


class Index:
    """Built from a log's entries, and added to as chunks become durable. Used under its owner's lock."""

    def __init__(self, entries: Iterable[Entry] = ()):
        self.steps = 0
        self._tracks: dict[bytes, Track] = {}
        self._entries: list[Entry] = []
        self._runs: list[Run] = []
        self._totals: dict[tuple[int, int], list[int]] = {}  # (length, burn_in) -> windows up to and with each chunk
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Append the next chunk of its stream. One that goes back, as in a log patched together, is left out."""
        track = self._tracks.setdefault(entry.stream, Track())
        if track.entries and entry.first_step < track.end:
            return
        follows = track.entries and (track.entries[-1].sequence + 1, track.end) == (entry.sequence, entry.first_step)
        run = track.runs[-1] if follows else Run(entry.first_step, entry.sequence == 0)
        track.entries.append(entry)
        track.firsts.append(entry.first_step)
        track.runs.append(run)
        self._entries.append(entry)
        self._runs.append(run)
        self.steps += entry.steps

    def without(self, lost: Entry | None) -> Index:
        """A new index that leaves out one chunk."""
        return Index(e for e in self._entries if e != lost)

    def since(self, oldest: int) -> Index:
        """A new index that leaves out the segments below `oldest`."""
        return Index(e for e in self._entries if e.segment >= oldest)

    def count(self, length: int, burn_in: int) -> int:
        """How many windows there are; their numbers are 0 to count - 1."""
        totals = self._count_up(length, burn_in)
        return totals[-1] if totals else 0

    def window(self, number: int, length: int, burn_in: int) -> Window:
        """The window with this number."""
        totals = self._count_up(length, burn_in)
        place = bisect_right(totals, number)
        nth_in_chunk = number - (totals[place - 1] if place else 0)
        entry, run = self._entries[place], self._runs[place]
        last = max(entry.first_step, run.earliest(burn_in) + length - 1) + nth_in_chunk
        return Window(entry.stream, last + 1 - length - burn_in, last + 1)

    def next_window(self, stream: bytes, scored: int, length: int, burn_in: int) -> Window | None:
        """The first window of a stream whose scored part starts at the step `scored` or later, if there is one yet."""
        track = self._tracks.get(stream)
        while track and scored + length <= track.end:
            place = track.at(scored + length - 1)
            begin = max(scored, track.runs[place].earliest(burn_in)) if place >= 0 else track.firsts[0]
            if begin == scored and scored + length <= track.entries[place].end_step:
                return Window(stream, scored - burn_in, scored + length)
            scored = begin if begin > scored else track.firsts[place + 1]
        return None

    def plan(self, window: Window) -> Plan:
        """Where the steps of a window lie."""
        track = self._tracks[window.stream]
        first, last = max(0, track.at(window.start)), track.at(window.stop - 1)
        run = track.runs[last]
        pieces = [piece(track.entries[place], window.start, window.stop) for place in range(first, last + 1)]
        at_start = run.begins and window.start <= run.first
        before = None if at_start else track.entries[track.at(window.start - 1)]
        return Plan(
            padding=max(0, run.first - window.start),
            begins=at_start,
            pieces=pieces,
            before=before and piece(before, window.start - 1, window.start),
        )

    def end(self, stream: bytes) -> int:
        """The step after the newest of a stream; 0 where there is none."""
        track = self._tracks.get(stream)
        return track.end if track else 0

    def _count_up(self, length: int, burn_in: int) -> list[int]:
        """Cumulative numbers of windows per chunk: a chunk has the windows whose last step lies in it."""
        totals = self._totals.setdefault((length, burn_in), [])
        for place in range(len(totals), len(self._entries)):
            entry, run = self._entries[place], self._runs[place]
            first_end = max(entry.first_step, run.earliest(burn_in) + length - 1)
            totals.append((totals[-1] if totals else 0) + max(0, entry.end_step - first_end))
        return totals
