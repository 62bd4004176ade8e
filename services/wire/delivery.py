"""Experience arrives exactly once: the robot's side (`Sender`) and the replay's side (`Receiver`), without any I/O.

Chunks have the key (stream, sequence), contiguous from 0. The robot keeps every chunk in its spool until the replay
says that it is on disk. Whatever goes wrong (silence, a reconnect, a gap, a restart of either side), the Sender asks
where the replay stands (`OpenStream`) and goes on from there. The Receiver takes each chunk once and in order, drops
what it has, and acknowledges what its log made durable, nothing else.

Both take messages and the time, and return effects: what their owner is to do, in that order. `now` is seconds of any
monotonic clock. An object belongs to one thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.wire.messages import ChunkRefused, ChunkSent, ChunkStored, OpenStream, Refused, StreamOpened

PASSING = ("gap", "unknown_stream", "disk_full", "internal")  # refusals after which the same chunk may be taken


@dataclass(frozen=True)
class Open:
    """Send OpenStream for this stream."""

    stream: bytes


@dataclass(frozen=True)
class Send:
    """Read this chunk from the spool and send it."""

    stream: bytes
    sequence: int


@dataclass(frozen=True)
class Stored:
    """The replay has all chunks of `stream` below `durable` on disk: the spool may let go of them."""

    stream: bytes
    durable: int


@dataclass(frozen=True)
class Stuck:
    """The replay will not take this chunk: the stream rests in the spool until `Sender.reopen`. Tell the operator."""

    stream: bytes
    sequence: int
    code: str
    text: str


@dataclass(frozen=True)
class Append:
    """Append this chunk to the log; where that fails, call `Receiver.append_failed` with this effect."""

    peer: bytes
    chunk: ChunkSent


@dataclass(frozen=True)
class Reply:
    """Send `message` to `peer`."""

    peer: bytes
    message: Any


@dataclass
class _Outbox:
    """The chunks of one stream that the replay may not have: sizes [bytes] of `base`, `base + 1`, ..."""

    base: int
    sizes: deque[int] = field(default_factory=deque)
    sent: int = 0  # of `sizes`, how many are in flight
    sent_bytes: int = 0

    @property
    def end(self) -> int:
        return self.base + len(self.sizes)

    def advance(self, durable: int) -> bool:
        """Forget what is durable; whether that was anything."""
        gone = min(durable, self.end) - self.base
        for _ in range(gone):
            size = self.sizes.popleft()
            if self.sent:
                self.sent, self.sent_bytes = self.sent - 1, self.sent_bytes - size
        self.base += max(gone, 0)
        return gone > 0

    def rewind(self) -> None:
        self.sent = self.sent_bytes = 0


class Sender:
    """Brings the chunks in the spool to the replay, one stream at a time, older boots first.

    At most `window_chunks` chunks or `window_bytes` are in flight, one chunk at least. After `patience` seconds without
    an answer the stream is opened again, then less and less often, until there is progress.
    """

    def __init__(self, window_chunks: int = 32, window_bytes: int = 16 << 20, patience: float = 1.0) -> None:
        self.stuck: dict[bytes, Stuck] = {}
        self._window_chunks = window_chunks
        self._window_bytes = window_bytes
        self._patience = patience
        self._outboxes: dict[bytes, _Outbox] = {}  # in the order of announcement
        self._current: bytes | None = None
        self._opened = False
        self._asked_at = -math.inf
        self._failures = 0

    @property
    def unacknowledged(self) -> int:
        """Chunks in the spool that the replay has not acknowledged."""
        return sum(len(outbox.sizes) for outbox in self._outboxes.values())

    def announce(self, stream: bytes, sequence: int, size: int, now: float) -> list[Any]:
        """A chunk of `size` bytes is durable in the spool. A stream's first one may have any sequence, since what the
        replay had before a restart may be gone from the spool; the others must follow one another (else ValueError)."""
        outbox = self._outboxes.setdefault(stream, _Outbox(sequence))
        if sequence != outbox.end:
            raise ValueError(f"stream {stream.hex()}: chunk {sequence} announced, want {outbox.end}")
        outbox.sizes.append(size)
        return self._go_on(now)

    def reopen(self, now: float) -> list[Any]:
        """After a reconnect, or when an operator mended what was stuck: ask where the replay stands, retry all."""
        self.stuck.clear()
        self._current, self._failures = None, 0
        return self._go_on(now)

    def poll(self, now: float) -> list[Any]:
        """Call when `wakeup` has come."""
        if now < self.wakeup:
            return []
        self._failures += 1
        return self._open(now)

    @property
    def wakeup(self) -> float:
        """When `poll` wants to be called; infinite while nothing is waited for."""
        if self._current is None or self._opened and not self._outboxes[self._current].sent:
            return math.inf
        return self._asked_at + self._patience * 2 ** min(self._failures, 3)

    def on_message(self, message: Any, now: float) -> list[Any]:
        """The replay's StreamOpened, ChunkStored, ChunkRefused or Refused; anything else changes nothing."""
        if isinstance(message, Refused):
            return self._on_refusal(self._current, message, now)
        if self._current is None or getattr(message, "stream", None) != self._current:
            return []
        if isinstance(message, StreamOpened):
            return self._on_opened(message, now)
        if isinstance(message, ChunkStored):
            return self._on_durable(message.durable, now) + self._go_on(now)
        if isinstance(message, ChunkRefused):
            return self._on_refusal(message.stream, message, now)
        return []

    def _on_opened(self, message: StreamOpened, now: float) -> list[Any]:
        outbox = self._outboxes[self._current]
        if self._opened:
            return self._on_durable(message.durable, now) + self._go_on(now)
        if message.durable < outbox.base and self._failures >= 3:  # before that it may be an answer long under way
            lost = (f"the replay has {message.durable} chunks of this stream on disk, but acknowledged {outbox.base}; "
                    "restore its folder, or start a new run")
            return self._set_aside(outbox.base, "lost", lost) + self._go_on(now)
        self._opened, self._asked_at = True, now
        return self._on_durable(message.durable, now) + self._go_on(now)

    def _on_durable(self, durable: int, now: float) -> list[Any]:
        outbox = self._outboxes[self._current]
        if not outbox.advance(durable):
            return []
        self._asked_at, self._failures = now, 0
        return [Stored(self._current, outbox.base)]

    def _on_refusal(self, stream: bytes | None, message: Refused | ChunkRefused, now: float) -> list[Any]:
        if stream is None:
            return []
        if message.code in PASSING:
            return self._on_setback(message.code, now)
        sequence = getattr(message, "sequence", self._outboxes[stream].base)
        return self._set_aside(sequence, message.code, message.text) + self._go_on(now)

    def _on_setback(self, code: str, now: float) -> list[Any]:
        """Ask again at once where that helps and was not just done, else when `wakeup` comes. The other refusals of the
        same window change nothing."""
        if not self._opened:
            return []
        self._outboxes[self._current].rewind()
        self._opened = False
        if code in ("gap", "unknown_stream") and not self._failures:
            self._failures = 1
            return self._open(now)
        return []

    def _set_aside(self, sequence: int, code: str, text: str) -> list[Any]:
        stuck = Stuck(self._current, sequence, code, text)
        self.stuck[self._current] = stuck
        self._current = None
        return [stuck]

    def _go_on(self, now: float) -> list[Any]:
        """Open the next stream with something to send, or send what the window allows."""
        if self._current is None or not self._outboxes[self._current].sizes:
            following = next((s for s, o in self._outboxes.items() if o.sizes and s not in self.stuck), None)
            if following is None or following == self._current:
                return []
            self._current, self._failures = following, 0
            return self._open(now)
        return self._fill_window(now) if self._opened else []

    def _open(self, now: float) -> list[Any]:
        self._outboxes[self._current].rewind()
        self._opened, self._asked_at = False, now
        return [Open(self._current)]

    def _fill_window(self, now: float) -> list[Any]:
        outbox, effects = self._outboxes[self._current], []
        while outbox.sent < min(len(outbox.sizes), self._window_chunks):
            size = outbox.sizes[outbox.sent]
            if outbox.sent and outbox.sent_bytes + size > self._window_bytes:
                break
            if not outbox.sent:
                self._asked_at = now
            effects.append(Send(self._current, outbox.base + outbox.sent))
            outbox.sent, outbox.sent_bytes = outbox.sent + 1, outbox.sent_bytes + size
        return effects


@dataclass
class _Inbox:
    durable: int
    appended: int
    peer: bytes


class Receiver:
    """Takes every chunk of every stream once and in order. `durable`: chunks on disk by stream, as the log counts them.

    Do what `on_message` returned before calling it again. Whether a peer may speak for a robot, and whether the schema
    fits, is to be checked before an OpenStream is given here.
    """

    def __init__(self, durable: Mapping[bytes, int]) -> None:
        self.duplicates = 0
        self._durable = dict(durable)
        self._inboxes: dict[bytes, _Inbox] = {}

    def on_message(self, peer: bytes, message: Any) -> list[Append | Reply]:
        """OpenStream or ChunkSent; anything else changes nothing."""
        if isinstance(message, OpenStream):
            return self._on_open(peer, message.stream)
        if isinstance(message, ChunkSent):
            return self._on_chunk(peer, message)
        return []

    def append_failed(self, effect: Append, code: str, text: str) -> list[Reply]:
        """The log did not take the chunk of `effect`: nothing changed, and its sender is told."""
        chunk = effect.chunk
        self._inboxes[chunk.stream].appended = chunk.sequence
        return [_refused(effect.peer, chunk, chunk.sequence, code, text)]

    def synced(self, durable: Mapping[bytes, int]) -> list[Reply]:
        """The log has `durable` chunks of each stream on disk: acknowledge what is new to the stream's latest peer."""
        replies = []
        for stream, inbox in self._inboxes.items():
            if (count := durable.get(stream, 0)) > inbox.durable:
                inbox.durable = self._durable[stream] = count
                replies.append(Reply(inbox.peer, ChunkStored(stream, count)))
        return replies

    def _on_open(self, peer: bytes, stream: bytes) -> list[Reply]:
        durable = self._durable.setdefault(stream, 0)
        inbox = self._inboxes.setdefault(stream, _Inbox(durable, durable, peer))
        inbox.peer = peer
        return [Reply(peer, StreamOpened(stream, inbox.durable))]

    def _on_chunk(self, peer: bytes, chunk: ChunkSent) -> list[Append | Reply]:
        inbox = self._inboxes.get(chunk.stream)
        if inbox is None or inbox.peer != peer:
            return [_refused(peer, chunk, 0, "unknown_stream", "open the stream first")]
        if chunk.sequence < inbox.appended:
            self.duplicates += 1
            return [Reply(peer, ChunkStored(chunk.stream, inbox.durable))] if chunk.sequence < inbox.durable else []
        if chunk.sequence > inbox.appended:
            return [_refused(peer, chunk, inbox.appended, "gap", f"want chunk {inbox.appended} first")]
        inbox.appended += 1
        return [Append(peer, chunk)]


def _refused(peer: bytes, chunk: ChunkSent, expected: int, code: str, text: str) -> Reply:
    return Reply(peer, ChunkRefused(chunk.stream, chunk.sequence, expected, code, text))
