"""Cuts the steps of a robot into chunks: 64 steps or one second, whichever comes first, never across streams."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from daydreamer.replay.chunk import Chunk, Schema

STEPS, SECONDS = 64, 1.0


class Cutter:
    """`now` is in seconds of any one clock. One thread."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._stream = b""
        self._sequence = self._first_step = 0
        self._steps: list[Mapping[str, np.ndarray]] = []
        self._since = 0.0

    def add(self, stream: bytes, step: Mapping[str, np.ndarray], now: float) -> list[Chunk]:
        """Take one step; returns the chunks that are complete by it."""
        complete = []
        if stream != self._stream:
            complete = self.flush()
            self._stream, self._sequence, self._first_step = stream, 0, 0
        if not self._steps:
            self._since = now
        self._steps.append(step)
        return complete + (self.flush() if len(self._steps) >= STEPS else [])

    def due(self, now: float) -> list[Chunk]:
        """The chunk that waited long enough, if there is one."""
        return self.flush() if self._steps and now - self._since >= SECONDS else []

    def flush(self) -> list[Chunk]:
        """What is there, complete or not."""
        if not self._steps:
            return []
        columns = {c.name: np.stack([np.asarray(step[c.name], c.dtype) for step in self._steps])
                   for c in self._schema.columns}
        chunk = Chunk(self._stream, self._sequence, self._first_step, columns)
        self._sequence, self._first_step, self._steps = self._sequence + 1, self._first_step + len(chunk), []
        return [chunk]
