"""The replay: takes every robot's experience, says when it is on disk, and hands it out to learners.

Two threads. `run` owns the experience socket and the log: it appends what arrives, syncs a group of chunks at a time,
at the latest `sync_seconds` after the first of them, and only then acknowledges. Inserting is never throttled.
`sampling` answers learners (see `Sampling`).

The first stream ever opened fixes the log's columns; a robot with others is refused and nothing is changed. When the
disk is full nothing is acknowledged, robots keep what they have in their spools and send it again, and it goes on by
itself once there is room. All that is counted over restarts is derived from the log.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from contextlib import closing

import zmq

from daydreamer.replay.chunk import Chunk, Schema, SchemaError
from daydreamer.replay.chunk_log import ChunkLog, stored_schema
from daydreamer.replay.errors import DiskFull
from daydreamer.replay.limiter import Limiter
from daydreamer.replay.sampler import Sampler
from services.config import Config
from services.crew import Crew
from services.node import Node
from services.replay.sampling import Sampling
from services.run_folder import HANDOVER, RunFolder
from services.tempo import Demand
from services.wire import sockets
from services.wire.delivery import Append, Receiver, Reply
from services.wire.messages import LIMITS, ChunkSent, OpenStream, Refused
from services.wire.security import Security, may_speak_as
from services.wire.sockets import Received

IDLE = 0.1  # seconds between looks at whether it is time to end
REPORT = 0.5  # seconds between two settings of the gauges

log = logging.getLogger(__name__)


class ReplayService:
    """`folder` is the run's. `control`: the coordinator's address, where it is not the config's."""

    def __init__(self, config: Config, folder: RunFolder, *, control: str = "") -> None:
        self._config, self._folder, self._control = config, folder, control
        self._log: ChunkLog | None = None
        self._sync_at = math.inf
        self._bad = self._durable_steps = 0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`, then sync. Raises SocketError, LogLocked, LogCorrupt, OSError."""
        network = self._config.network
        security = Security.load(network.keys) if network.keys else None
        wanted = network.addresses()
        bounds = self._config.learner.train_ratio, self._config.replay.prefill
        limiter, self._demand = Limiter(*bounds), Demand(*bounds, self._config.robot.control_hz)
        with (zmq.Context() as context,
              closing(sockets.Server(context, wanted["experience"], LIMITS["experience"], security)) as self._server,
              closing(sockets.Server(context, wanted["samples"], LIMITS["samples"], security)) as samples,
              Node("replay", "replay", self._config, context,
                   {"experience": self._server.address, "samples": samples.address},
                   control=self._control) as self._node,
              Crew(stop) as crew):
            for port, server in {"experience": self._server, "samples": samples}.items():
                self._node.metrics.follow("bad_frames_total", server.refused.total, port)
            self._sampling = Sampling(samples, limiter, self._demand, self._node)
            crew.start("sampling", lambda: self._sampling.work(crew))
            try:
                if (schema := stored_schema(self._folder.replay)) is not None:
                    self._open(schema)
                self._node.state = "running"
                self._serve(crew)
            finally:
                self._close()

    def _open(self, schema: Schema) -> None:
        """Open the log, or begin it with these columns."""
        replay = self._config.replay
        self._log = ChunkLog.open(self._folder.replay, schema, replay.segment_mib << 20, patience=HANDOVER)
        self._receiver = Receiver(self._log.streams)
        self._sampler = Sampler(self._log, replay, self._config.seed)
        self._sampling.draw_from(self._log, self._sampler)
        self._node.schema = schema.digest
        self._durable_steps = self._log.inserted
        self._report()
        log.info("%s: %d steps of %d streams", self._folder.replay, self._log.steps, len(self._log.streams))

    def _serve(self, crew: Crew) -> None:
        report = 0.0
        while not crew.ended:
            received = self._server.receive(max(0.0, min(IDLE, self._sync_at - time.monotonic())))
            if received is not None:
                self._hear(received)
            if (now := time.monotonic()) >= self._sync_at:
                self._sync()
            if now >= report:
                self._report()
                report = now + REPORT

        if self._log is not None:
            self._sync()

    def _close(self) -> None:
        if self._log is None:
            return
        try:
            self._log.close()
        except DiskFull as error:  # what was not synced was not acknowledged either
            log.error("%s", error)

    def _hear(self, received: Received) -> None:
        match received.message:
            case OpenStream() as message:
                if refusal := self._admit(received.user, message):
                    self._server.send(received.peer, refusal)
                    return
            case ChunkSent() if self._log is not None:
                pass
            case ChunkSent():
                self._server.send(received.peer, Refused("unknown_stream", "open the stream first"))
                return
            case message:
                wrong = f"the experience port takes OpenStream and ChunkSent, not {type(message).__name__}"
                self._server.send(received.peer, Refused("malformed", wrong))
                return
        self._do(self._receiver.on_message(received.peer, received.message))

    def _admit(self, user: str, message: OpenStream) -> Refused | None:
        """Why this robot may not send this stream, if so. Opens the log where there was none."""
        if not may_speak_as(user, message.robot):
            return Refused("identity", f"the key of {user} may not speak as {message.robot}")
        try:
            schema = Schema.from_json(message.schema)
            if self._log is None:
                self._open(schema)
            if different := self._log.schema.difference(schema):
                return Refused("schema", f"{different}; give this robot a run of its own with --name, or start it with "
                                         "the config of this run")
        except SchemaError as error:
            return Refused("schema", str(error))
        except DiskFull as error:
            self._disk_full(error)
            return Refused("disk_full", str(error))
        return None

    def _do(self, effects: Iterable[Append | Reply]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self._server.send(effect.peer, effect.message)
            else:
                self._append(effect)

    def _append(self, effect: Append) -> None:
        chunk = effect.chunk
        try:
            self._log.append(Chunk(chunk.stream, chunk.sequence, chunk.first_step, chunk.arrays))
            self._sync_at = min(self._sync_at, time.monotonic() + self._config.replay.sync_seconds)
        except SchemaError as error:
            self._bad += 1
            log.error("refused chunk %d of stream %s: %s", chunk.sequence, chunk.stream.hex(), error)
            self._do(self._receiver.append_failed(effect, "schema", str(error)))
        except DiskFull as error:
            self._do(self._receiver.append_failed(effect, "disk_full", str(error)))
            self._disk_full(error)

    def _sync(self) -> None:
        """Bring what was appended to disk, acknowledge it, and let it be sampled."""
        self._sync_at = math.inf
        begun = time.perf_counter()
        try:
            durable = self._log.sync()
        except DiskFull as error:
            self._disk_full(error)
            return
        self._node.observe("replay_sync_seconds", time.perf_counter() - begun)
        self._node.state, self._node.detail = "running", ""
        self._durable_steps = self._log.inserted
        for entry in durable:
            self._sampler.add(entry)
        self._do(self._receiver.synced(self._log.streams))
        self._log.keep_newest(self._config.replay.capacity)

    def _disk_full(self, error: DiskFull) -> None:
        """The log may have undone what was not synced yet: whoever sends has to ask anew where it stands."""
        log.error("%s; acknowledging nothing until there is room", error)
        self._node.state, self._node.detail = "fault", str(error)
        if self._log is not None:
            self._count_duplicates()
            self._receiver = Receiver(self._log.streams)

    def _count_duplicates(self) -> None:
        self._node.count("replay_duplicates_dropped_total", self._receiver.duplicates)
        self._receiver.duplicates = 0

    def _report(self) -> None:
        inserted = self._durable_steps
        self._node.gauge("replay_wanted_steps_per_second", self._demand.wanted(inserted, time.monotonic()))
        if (lead := self._demand.lead(inserted)) is not None:
            self._node.gauge("replay_lead_steps", lead)
        if self._log is None:
            return
        self._count_duplicates()
        self._node.gauge("replay_steps", self._log.steps)
        self._node.gauge("replay_inserted_steps", self._log.inserted)
        self._node.gauge("replay_acknowledged_steps", self._durable_steps)
        self._node.gauge("replay_acknowledged_chunks", sum(self._log.streams.values()))
        self._node.gauge("replay_corrupt_chunks", len(self._log.corrupt) + self._bad)
