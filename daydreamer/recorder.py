"""Steps in, windows out: the replay of a single process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from daydreamer.replay.chunk import BOOKKEEPING, Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.sampler import Sampler
from daydreamer.replay.settings import ReplaySettings

CHUNK = 32  # steps


class Recorder:
    """Cuts the steps of one robot into chunks of a log and samples from it.

    Everything recorded by one recorder, and by those that continue it, is one stream. One thread.
    """

    def __init__(self, folder: Path, schema: Schema, settings: ReplaySettings, seed: int) -> None:
        """Opens the log in `folder`. Raises what `ChunkLog.open` raises."""
        self._log = ChunkLog.open(folder, schema, settings.segment_mib << 20)
        self._settings = settings
        self._sampler = Sampler(self._log, settings, seed)
        self._stream = os.urandom(16)
        self._first_step = 0
        self._pending: list[Mapping[str, Any]] = []

    def add(self, step: Mapping[str, Any]) -> None:
        """Record a step: the schema's columns; bookkeeping that is left out is zero."""
        self._pending.append(step)
        if len(self._pending) == CHUNK:
            self.flush()

    def flush(self) -> None:
        """Make everything recorded durable and ready to be drawn. Raises DiskFull."""
        if not self._pending:
            return
        columns = {c.name: np.stack([np.asarray(step.get(c.name, 0) if c.name in BOOKKEEPING else step[c.name], c.dtype)
                                     for step in self._pending]) for c in self._log.schema.columns}
        sequence = self._log.streams.get(self._stream, 0)
        self._log.append(Chunk(self._stream, sequence, self._first_step, columns))
        self._first_step += len(self._pending)
        self._pending = []
        for entry in self._log.sync():
            self._sampler.add(entry)
        self._log.keep_newest(self._settings.capacity)

    @property
    def steps(self) -> int:
        """Steps that can be drawn."""
        return self._sampler.steps

    def sample(self, keys: list[str]) -> dict[str, np.ndarray]:
        """A batch of the settings' shape: `keys` and `prev_action`, [batch, burn_in + length, ...].

        Raises NotEnough."""
        s = self._settings
        return self._sampler.sample(s.batch, s.length, s.burn_in, keys)

    def state_dict(self) -> dict[str, Any]:
        """Plain values; with the log they continue exactly here. Everything must have been flushed."""
        assert not self._pending, len(self._pending)
        return {"stream": self._stream.hex(), "first_step": self._first_step, "sampler": self._sampler.state_dict(),
                "chunks": self._log.streams.get(self._stream, 0)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse. Where the log has grown since (a crash after the checkpoint), what it has more stays in the
        replay and recording goes on in a stream of its own."""
        self._sampler.load_state_dict(state["sampler"])
        stream = bytes.fromhex(state["stream"])
        if self._log.streams.get(stream, 0) == state["chunks"]:
            self._stream, self._first_step = stream, state["first_step"]

    def close(self) -> None:
        """Let the folder go."""
        self._log.close()
