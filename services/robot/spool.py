"""A robot's experience on its way: cut into chunks, kept on its own disk, delivered to the replay until acknowledged.

The control thread hands over steps and never waits. One other thread (`work`) writes a chunk log, syncs it, and moves
what is durable through `delivery.Sender`. A chunk leaves the disk only after the replay said that it has it on its own;
what earlier boots left is delivered first. Where the disk takes nothing, or too much waits for the replay, `trouble`
says so, and the robot rests until there is room: nothing that was handed over is thrown away.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import DiskFull, LogCorrupt
from daydreamer.replay.record import Entry
from services.crew import Crew
from services.link import Link
from services.node import Node
from services.robot.cutter import Cutter
from services.run_folder import HANDOVER
from services.wire import sockets
from services.wire.delivery import Open, Send, Sender, Stored, Stuck
from services.wire.messages import ChunkSent, OpenStream

TICK = 0.02  # seconds between looks at the steps that were handed over
QUEUE = 1024  # steps between the threads; half of them is a sign that the disk does not keep up
AGAIN = 1.0  # seconds between attempts to write to a full disk
REOPEN = 10.0  # seconds between attempts to deliver what the replay refused
SEGMENT = 16 << 20  # bytes; small, because only whole segments can be let go

log = logging.getLogger(__name__)
Step = Mapping[str, np.ndarray]


class Spool:
    """The spool of `robot` in `folder`, at most `limit` bytes. `put` and `finish` belong to the control thread."""

    def __init__(self, folder: Path, schema: Schema, robot: str, node: Node, link: Link, *, limit: int) -> None:
        self._folder, self._schema, self._robot, self._limit = folder, schema, robot, limit
        self._node, self._link = node, link
        self._steps: queue.Queue[tuple[bytes, Step]] = queue.Queue(QUEUE)
        self._cutter = Cutter(schema)
        self._unstored: deque[Chunk] = deque()
        self._entries: dict[tuple[bytes, int], Entry] = {}  # durable here, not yet known to be in the replay
        self._acknowledged: dict[bytes, int] = {}
        self._sender = Sender()
        self._client: sockets.Client | None = None
        self._stream = b""
        self._write_again = self._reopen = 0.0
        self._disk = self._refused = ""
        self._finishing, self._over = threading.Event(), threading.Event()

    def __enter__(self) -> Spool:
        """Raises LogLocked, SchemaError, LogCorrupt, DiskFull."""
        self._log = ChunkLog.open(self._folder, self._schema, min(SEGMENT, max(self._limit // 8, 1)), patience=HANDOVER)
        self._take_stock()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()
        self._log.close()

    @property
    def trouble(self) -> str:
        """Why no step should be collected now; empty: go on."""
        if self._disk or self._refused:
            return self._disk or self._refused
        if self._log.bytes >= self._limit:
            return (f"{self._folder} is full ({self._log.bytes >> 20} MiB; robot.spool_mib is the limit) and the "
                    f"replay acknowledges nothing; is it running?")
        return "the spool does not keep up" if self._steps.qsize() > QUEUE // 2 else ""

    def put(self, stream: bytes, step: Step) -> bool:
        """Hand over a step; False where there is no room for it, which `trouble` announces long before."""
        try:
            self._steps.put_nowait((stream, step))
        except queue.Full:
            return False
        return True

    def finish(self, patience: float) -> bool:
        """No step follows: deliver what is left within `patience` seconds; False where some of it had to stay."""
        self._finishing.set()
        return self._over.wait(patience)

    def work(self, crew: Crew) -> None:
        """The other thread."""
        try:
            while not (crew.ended or self._over.is_set()):
                finishing = self._finishing.is_set()  # before the steps are collected: none is put after it was set
                self._collect(time.monotonic(), finishing)
                self._store(time.monotonic())
                self._deliver(crew)
                if finishing and not (self._unstored or self._sender.unacknowledged):
                    self._over.set()
        finally:
            self._over.set()

    def _take_stock(self) -> None:
        """What earlier boots left; it is sent once there is a connection. Chunks after a damaged one cannot be
        delivered in order: they stay here."""
        for entry in list(self._log.entries):
            try:
                self._announce(entry)
            except ValueError as error:
                log.error("%s: %s; what follows it in this stream stays in the spool", self._folder, error)

    def _announce(self, entry: Entry) -> list[object]:
        effects = self._sender.announce(entry.stream, entry.sequence, entry.length, time.monotonic())
        self._entries[entry.stream, entry.sequence] = entry
        return effects

    def _collect(self, now: float, finishing: bool) -> None:
        while not self._steps.empty():
            self._stream, step = self._steps.get()
            self._unstored += self._cutter.add(self._stream, step, now)
        self._unstored += self._cutter.flush() if finishing else self._cutter.due(now)

    def _store(self, now: float) -> None:
        """Write and sync what is complete, chunk by chunk; on a full disk keep it and try again."""
        if now < self._write_again:
            return
        try:
            while self._unstored:
                self._log.append(self._unstored[0])
                durable = self._log.sync()
                self._unstored.popleft()
                for entry in durable:
                    self._carry_out(self._announce(entry))
            self._disk = ""
        except DiskFull as error:
            if not self._disk:
                log.error("%s; the robot is held until there is room", error)
            self._disk, self._write_again = str(error), now + AGAIN

    def _deliver(self, crew: Crew) -> None:
        if (client := self._link.client()) is not self._client:
            self._client = client
            self._carry_out(self._sender.reopen(time.monotonic()))
        if client is None:
            crew.pause(TICK)
            return
        sockets.wait([client], TICK)
        while (message := client.receive()) is not None:
            self._carry_out(self._sender.on_message(message, time.monotonic()))
        self._carry_out(self._sender.poll(time.monotonic()))
        if self._sender.stuck and time.monotonic() > self._reopen:
            self._refused, self._reopen = "", time.monotonic() + REOPEN
            self._carry_out(self._sender.reopen(time.monotonic()))
        self._node.gauge("robot_unacknowledged_chunks", self._sender.unacknowledged + len(self._unstored))
        self._node.gauge("robot_spool_bytes", self._log.bytes)

    def _carry_out(self, effects: Iterable[object]) -> None:
        for effect in effects:
            match effect:
                case Open(stream):
                    self._link.send(OpenStream(self._robot, stream, self._schema.to_json()))
                case Send(stream, sequence):
                    self._send(self._entries[stream, sequence])
                case Stored(stream, durable):
                    self._let_go(stream, durable)
                case Stuck():
                    self._say_stuck(effect)

    def _send(self, entry: Entry) -> None:
        try:
            chunk = self._log.read(entry)
        except LogCorrupt as error:
            self._refused = f"{error}; set {self._folder} aside to go on without what is in it"
            return
        self._link.send(ChunkSent(chunk.stream, chunk.sequence, chunk.first_step, chunk.columns))

    def _let_go(self, stream: bytes, durable: int) -> None:
        for sequence in range(self._acknowledged.get(stream, 0), durable):
            self._entries.pop((stream, sequence), None)
        self._acknowledged[stream] = durable
        self._log.drop_before(self._acknowledged)

    def _say_stuck(self, stuck: Stuck) -> None:
        """What is refused of the present boot holds the robot; what is left of an earlier one must not."""
        text = f"the replay refuses chunk {stuck.sequence} ({stuck.code}): {stuck.text}"
        log.error("%s: stream %s: %s", self._folder, stuck.stream.hex(), text)
        self._reopen = time.monotonic() + REOPEN
        if stuck.stream == self._stream:
            self._refused = text
