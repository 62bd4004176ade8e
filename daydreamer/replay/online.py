"""The online draw: which fresh steps still have to be given once."""

from __future__ import annotations

from typing import Any

from daydreamer.replay.index import Index, Window
from daydreamer.replay.record import Entry


class OnlineQueue:
    """Cuts the fresh part of each stream into windows whose scored parts neither overlap nor leave gaps.

    At most `limit` steps of a stream wait; beyond that the oldest are given up and counted in `dropped`. Used under its
    owner's lock.
    """

    def __init__(self, limit: int):
        self.dropped = 0
        self._limit = limit
        self._next: dict[bytes, int] = {}  # stream -> first step that was not yet given

    def add(self, entry: Entry) -> None:
        """A fresh chunk."""
        waiting_from = self._next.setdefault(entry.stream, entry.first_step)
        given_up = entry.end_step - self._limit - waiting_from
        if given_up > 0:
            self._next[entry.stream] += given_up
            self.dropped += given_up

    def take(self, index: Index, most: int, length: int, burn_in: int) -> list[Window]:
        """Up to `most` windows, from the streams where most is waiting first."""
        taken: list[Window] = []
        for stream in sorted(self._next, key=lambda s: self._next[s] - index.end(s)):
            while len(taken) < most and (window := index.next_window(stream, self._next[stream], length, burn_in)):
                self._next[stream] = window.stop
                taken.append(window)
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"next": {stream.hex(): step for stream, step in self._next.items()}, "dropped": self.dropped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._next = {bytes.fromhex(stream): step for stream, step in state["next"].items()}
        self.dropped = state["dropped"]
