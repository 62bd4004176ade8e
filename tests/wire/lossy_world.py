"""A robot and a replay that talk through a network that drops, doubles, reorders and delays; either side may crash.

Time is virtual and chance is seeded. What survives a crash is what a disk keeps: the robot's spool, and of the replay's
log everything that was synced and maybe some of what was not. The world checks the promise at every acknowledgement.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict

import numpy as np

from services.wire.delivery import Append, Open, Receiver, Reply, Send, Sender, Stored, Stuck
from services.wire.messages import ChunkSent, OpenStream

EMPTY: dict[str, np.ndarray] = {}


class World:
    """`drop`, `double`: probabilities per message; `delay`: its longest way [s]; `room`: the log takes chunks."""

    def __init__(self, seed: int, drop: float = 0.0, double: float = 0.0, delay: float = 0.02) -> None:
        self.rng = random.Random(seed)
        self.drop, self.double, self.delay = drop, double, delay
        self.parted = False
        self.reorder = self.room = True
        self.now = 0.0
        self.under_way: list[tuple[float, int, str, object]] = []  # arrival, tie-break, destination, (peer, message)
        self.posted = 0
        self.spool: dict[bytes, range] = {}
        self.log: dict[bytes, list[int]] = defaultdict(list)
        self.durable: dict[bytes, int] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.stuck: list[Stuck] = []
        self.boots = self.connections = self.chunks_sent = 0
        self.receiver = Receiver(self.durable)
        self.boot_robot()

    def boot_robot(self) -> None:
        """Start the robot, after a crash too: a new stream, an empty memory, the spool as it was."""
        self.boots += 1
        self.stream = self.boots.to_bytes(16, "big")
        self.sender = Sender(window_chunks=5, window_bytes=45)
        self.reconnect()
        for stream, sequences in self.spool.items():
            for sequence in sequences:
                self.on_robot(self.sender.announce(stream, sequence, 10, self.now))
        self.spool[self.stream] = range(0)

    def boot_replay(self) -> None:
        """Start the replay after a crash: of what was not synced, the log kept some."""
        for stream, chunks in self.log.items():
            del chunks[self.rng.randint(self.durable.get(stream, 0), len(chunks)):]
        self.durable = {stream: len(chunks) for stream, chunks in self.log.items()}
        self.receiver = Receiver(self.durable)

    def reconnect(self) -> None:
        """From now on the replay sees the robot as another peer."""
        self.connections += 1
        self.peer = b"%d" % self.connections

    def record(self) -> None:
        """The robot spools one chunk."""
        sequences = self.spool[self.stream]
        self.spool[self.stream] = range(sequences.start, sequences.stop + 1)
        self.on_robot(self.sender.announce(self.stream, sequences.stop, 10, self.now))

    def sync(self) -> None:
        """The log's group fsync, and the acknowledgements that follow it."""
        self.durable = {stream: len(chunks) for stream, chunks in self.log.items()}
        self.on_replay(self.receiver.synced(self.durable))

    def run(self, seconds: float) -> None:
        """Let messages arrive, timers fire and syncs happen for a while."""
        end = self.now + seconds
        next_sync = self.now
        while True:
            arrival = self.under_way[0][0] if self.under_way else end
            self.now = max(self.now, min(arrival, self.sender.wakeup, next_sync))
            if self.now >= end:
                self.now = end
                return
            if self.under_way and arrival <= self.now:
                self.arrive()
            elif self.sender.wakeup <= self.now:
                self.on_robot(self.sender.poll(self.now))
            else:
                self.sync()
                next_sync = self.now + 0.05

    def arrive(self) -> None:
        _, _, destination, (peer, message) = heapq.heappop(self.under_way)
        if destination == "replay":
            self.on_replay(self.receiver.on_message(peer, message))
        elif peer == self.peer:
            self.on_robot(self.sender.on_message(message, self.now))

    def post(self, destination: str, peer: bytes, message: object) -> None:
        for _ in range(1 + (self.rng.random() < self.double)):
            if not self.parted and self.rng.random() >= self.drop:
                self.posted += 1
                arrival = self.now + self.delay * (self.rng.random() if self.reorder else 1)
                heapq.heappush(self.under_way, (arrival, self.posted, destination, (peer, message)))

    def on_robot(self, effects: list) -> None:
        for effect in effects:
            match effect:
                case Open(stream):
                    self.post("replay", self.peer, OpenStream("robot", stream, "[]"))
                case Send(stream, sequence):
                    assert sequence in self.spool[stream], "what is sent is still in the spool"
                    self.chunks_sent += 1
                    self.post("replay", self.peer, ChunkSent(stream, sequence, sequence, EMPTY))
                case Stored(stream, durable):
                    assert durable <= self.durable[stream], "acknowledged before it was on disk"
                    assert durable > self.acknowledged.get(stream, 0) or self.boots > 1, "acknowledged twice"
                    self.acknowledged[stream] = durable
                    self.spool[stream] = range(durable, self.spool[stream].stop)
                case Stuck():
                    self.stuck.append(effect)

    def on_replay(self, effects: list) -> None:
        for effect in effects:
            match effect:
                case Reply(peer, message):
                    self.post("robot", peer, message)
                case Append(_, chunk) if self.room:
                    self.log[chunk.stream].append(chunk.sequence)
                case Append():
                    self.on_replay(self.receiver.append_failed(effect, "disk_full", "no room"))

    def check(self) -> None:
        """The promise: in the log each chunk is once and in order, and what was acknowledged is there."""
        for stream, chunks in self.log.items():
            assert chunks == list(range(len(chunks)))
            assert self.acknowledged.get(stream, 0) <= len(chunks)

    def heal(self, seconds: float = 40) -> None:
        """No more faults, and order as in one TCP connection: everything must arrive in time."""
        self.drop, self.double, self.delay = 0.0, 0.0, 0.02
        self.parted, self.reorder, self.room = False, False, True
        end = self.now + seconds
        while self.sender.unacknowledged and self.now < end:
            self.run(0.5)
        self.check()
        assert self.sender.unacknowledged == 0 and not self.stuck
        assert all(len(self.log[stream]) == sequences.stop for stream, sequences in self.spool.items())
