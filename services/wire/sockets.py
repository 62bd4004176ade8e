"""Sockets that speak messages: a Server binds, Clients connect, a Publisher and a Subscriber carry lossy telemetry.

Nothing blocks but `receive` and `wait`, and those no longer than asked. Queues are short and named, a message is
bounded over all its frames, bad frames are counted and answered, connections come back by themselves. Liveness is not a
socket's business: libzmq's own heartbeats abort a slow receiver.

One bound is not ours to set: libzmq gathers all frames of a message before it gives any, so who may connect can make
it gather many. That is why strangers may not connect: loopback alone, or keys.

A socket belongs to one thread; only `Wakeup.set` may be called from another. What was sent is not copied when it is
large: its arrays must not change afterwards.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from services.wire import codec
from services.wire.errors import TooLarge, WireError
from services.wire.messages import Refused
from services.wire.monitor import Link
from services.wire.ports import bind, check_loopback, configured, host_of
from services.wire.security import Security
from services.wire.wakeup import Wakeup

__all__ = ["Client", "Publisher", "Received", "Server", "Subscriber", "Wakeup", "wait"]

log = logging.getLogger(__name__)

QUEUE = 64  # messages per peer and direction; delivery's window is shorter
_VIEW_FROM = 8192  # bytes: smaller frames are copied out, so that they do not pin libzmq's receive buffer


@dataclass(frozen=True)
class Received:
    """A message and who sent it. `peer` addresses the answer; `user` is the authenticated name, empty without keys."""

    peer: bytes
    user: str
    message: Any


class _Socket:
    """What all of them share. `refused` counts bad messages by kind of WireError."""

    _head = 0  # frames before the envelope

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused: Counter[str] = Counter()
        self.socket: zmq.Socket

    def close(self, linger_s: float = 0.0) -> None:
        """Close; what is still queued may leave for `linger_s` seconds while the context lives."""
        self.socket.close(linger=int(linger_s * 1000))

    def _send(self, message: Any, *prefix: bytes) -> bool:
        frames = codec.encode(message)
        if (total := sum(map(len, frames))) > self.limit:
            raise TooLarge(f"{type(message).__name__} of {total} bytes: this port takes {self.limit}")
        try:
            self.socket.send_multipart([*prefix, *frames], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def _next(self, timeout_s: float) -> tuple[list[zmq.Frame], Any] | None:
        """The next good message within `timeout_s`, with its frames."""
        deadline = time.monotonic() + timeout_s
        while True:
            if (frames := self._take()) is not None:
                try:
                    return frames, self._decode(frames)
                except WireError as error:
                    self._refuse(error, frames)
            left = deadline - time.monotonic()
            if left <= 0 or frames is None and not wait([self], left):
                return None

    def _take(self) -> list[zmq.Frame] | None:
        """The frames of the next message, if there is one; of one with too many, enough for the codec to refuse it."""
        try:
            frames = [self.socket.recv(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return None
        while self.socket.rcvmore:
            frame = self.socket.recv(copy=False)
            if len(frames) < codec.MAX_FRAMES + 2:
                frames.append(frame)
        return frames

    def _decode(self, frames: list[zmq.Frame]) -> Any:
        ours = frames[self._head:]
        return codec.decode([f.buffer if len(f) >= _VIEW_FROM else f.bytes for f in ours], self.limit)

    def _refuse(self, error: WireError, frames: list[zmq.Frame]) -> None:
        self.refused[type(error).__name__] += 1
        log.debug("refused a message: %s", error)


class _Bound(_Socket):
    """A socket that services bind. `address` is the real one, with the port that was free where 0 was asked for."""

    def __init__(self, kind: int, context: zmq.Context, address: str, limit: int, security: Security | None,
                 bind_seconds: float, queue: int) -> None:
        super().__init__(limit)
        check_loopback(address, security)
        # libzmq asks one gate per context about keys, so a guarded socket has a context of its own.
        self._own = zmq.Context() if security else None
        self.socket = configured((self._own or context).socket(kind), limit, queue)
        self._gate = None
        try:
            self._gate = security.guard(self.socket) if security else None
            self.address = bind(self.socket, address, bind_seconds)
        except BaseException:
            self.close()
            raise
        self._guarded = security is not None

    def close(self, linger_s: float = 0.0) -> None:
        super().close(linger_s)
        if self._gate:
            self._gate.stop()
        if self._own:
            self._own.term()

    def _user(self, frame: zmq.Frame) -> str:
        return frame.get("User-Id") if self._guarded else ""


class Server(_Bound):
    """Answers many clients (ROUTER). Raises PortInUse after `bind_seconds`, NotLoopback, SecurityError."""

    _head = 1  # the peer

    def __init__(self, context: zmq.Context, address: str, limit: int = codec.MAX_MESSAGE,
                 security: Security | None = None, bind_seconds: float = 5.0, queue: int = QUEUE) -> None:
        super().__init__(zmq.ROUTER, context, address, limit, security, bind_seconds, queue)
        # No ROUTER_HANDOVER: clients let the server name them, and with it a stranger could take over a peer's replies.
        self.socket.router_mandatory = True

    def receive(self, timeout_s: float = 0.0) -> Received | None:
        """The next good message within `timeout_s`, or None. Bad ones are counted and answered with Refused."""
        if (got := self._next(timeout_s)) is None:
            return None
        (peer, envelope, *_), message = got
        return Received(peer.bytes, self._user(envelope), message)

    def send(self, peer: bytes, message: Any) -> bool:
        """Queue a message for a peer; False where it is gone or its queue is full. Its arrays must not change."""
        return self._send(message, peer)

    def _refuse(self, error: WireError, frames: list[zmq.Frame]) -> None:
        super()._refuse(error, frames)
        self.send(frames[0].bytes, Refused(error.code, str(error)))


class Subscriber(_Bound):
    """Hears every Publisher that connects (SUB). What it cannot take in time is lost."""

    def __init__(self, context: zmq.Context, address: str, limit: int = codec.MAX_MESSAGE,
                 security: Security | None = None, bind_seconds: float = 5.0, queue: int = 1000) -> None:
        super().__init__(zmq.SUB, context, address, limit, security, bind_seconds, queue)
        self.socket.subscribe(b"")

    def receive(self, timeout_s: float = 0.0) -> Received | None:
        """The next good message within `timeout_s`, or None; `peer` is empty."""
        if (got := self._next(timeout_s)) is None:
            return None
        (envelope, *_), message = got
        return Received(b"", self._user(envelope), message)


class _Connecting(_Socket):
    """A socket that connects to a service, and again after every loss. `address` may be changed by `connect_to`."""

    def __init__(self, kind: int, context: zmq.Context, address: str, limit: int, security: Security | None,
                 queue: int) -> None:
        super().__init__(limit)
        self.address = address
        self._make = lambda: self._new(kind, context, limit, security, queue)
        self._keys = security.name if security else ""
        self._open()

    @property
    def connected(self) -> bool:
        """Whether the connection, handshake included, stands as far as is known now."""
        self.attend()
        return self.link.up

    @property
    def trouble(self) -> str:
        """Why there is no connection, in a sentence that names the way out; empty while there is one."""
        self.attend()
        return self.link.trouble

    def wait_connected(self, timeout_s: float) -> None:
        """Return once connected. Raises Unreachable with the likely cause after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self.connected:
            if (left := deadline - time.monotonic()) <= 0:
                raise self.link.unreachable()
            self.link.wait(left)

    def connect_to(self, address: str) -> None:
        """Talk to the service at `address` from now on; what was queued for the old one is dropped."""
        if address != self.address:
            self.close()
            self.address = address
            self._open()

    def attend(self) -> float:
        """Follow the connection's events, as `wait`, `send`, `receive` do; seconds until this must be called again."""
        if self.link.update() <= 0:
            self.close()
            self._open(self.link)
        return self.link.update()

    def close(self, linger_s: float = 0.0) -> None:
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.link.monitor.close(linger=0)
        super().close(linger_s)

    def _open(self, before: Link | None = None) -> None:
        host_of(self.address)
        self.socket = self._make()
        self.link = Link(self.socket, self.address, self._keys, before.trouble if before else "")
        self.socket.connect(self.address)

    @staticmethod
    def _new(kind: int, context: zmq.Context, limit: int, security: Security | None, queue: int) -> zmq.Socket:
        socket = configured(context.socket(kind), limit, queue)
        socket.immediate = True  # queue for connections that stand, not for a service that may never come
        socket.reconnect_ivl, socket.reconnect_ivl_max = 100, 1000
        if security:
            security.identify(socket)
        return socket


class Client(_Connecting):
    """Talks to one service (DEALER)."""

    def __init__(self, context: zmq.Context, address: str, limit: int = codec.MAX_MESSAGE,
                 security: Security | None = None, queue: int = QUEUE) -> None:
        super().__init__(zmq.DEALER, context, address, limit, security, queue)

    def send(self, message: Any) -> bool:
        """Queue a message; False where there is no connection or the queue is full. Its arrays must not change."""
        self.attend()
        return self._send(message)

    def receive(self, timeout_s: float = 0.0) -> Any | None:
        """The next good message within `timeout_s`, or None. Bad ones are counted."""
        self.attend()
        got = self._next(timeout_s)
        return got[1] if got else None


class Publisher(_Connecting):
    """Sends to the one Subscriber that binds `address` (PUB)."""

    def __init__(self, context: zmq.Context, address: str, limit: int = codec.MAX_MESSAGE,
                 security: Security | None = None, queue: int = QUEUE) -> None:
        super().__init__(zmq.PUB, context, address, limit, security, queue)

    def send(self, message: Any) -> bool:
        """Send, or lose it where nobody listens or the queue is full; False where that is known."""
        return self.connected and self._send(message)


def wait(entries: Sequence[Any], timeout_s: float) -> list[Any]:
    """Those of `entries` that have something to receive, as soon as one has, else [] after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    connecting = [entry for entry in entries if isinstance(entry, _Connecting)]
    while True:
        patience = min((entry.attend() for entry in connecting), default=math.inf)
        left = max(0.0, deadline - time.monotonic())
        poller = zmq.Poller()
        for entry in entries:
            poller.register(entry.socket, zmq.POLLIN)
        for entry in connecting:
            poller.register(entry.link.monitor, zmq.POLLIN)
        events = dict(poller.poll(math.ceil(min(left, patience) * 1000)))
        ready = [entry for entry in entries if entry.socket in events]
        if ready or time.monotonic() >= deadline:
            return ready
