"""The learner's I/O thread: batches in, weights out, so that the training thread touches no socket.

Up to `prefetch` batches are asked for ahead or wait in memory. A request that stays unanswered is forgotten and asked
again under a new number; an answer to a forgotten one is dropped, so that no batch is trained twice.
"""

from __future__ import annotations

import logging
import queue
import time

import numpy as np

from daydreamer.replay.limiter import Limiter
from services.crew import Crew
from services.learner.weights import Shelf
from services.link import Link
from services.wire import sockets
from services.wire.messages import Refused, SampleReply, SampleRequest, SampleWait, WeightsRequest

IDLE = 0.1  # seconds between looks at whether it is time to end
UNANSWERED = 5.0  # seconds after which a request counts as lost

log = logging.getLogger(__name__)
Batch = dict[str, np.ndarray]


class Feed:
    """`batch`, `length`, `burn_in`: of every request; `replayed`: steps replayed before this start; `columns`: those
    wanted. `inserted` is the replay's count of steps as last heard, `waiting` why it holds batches back, empty while it
    does not.

    What was replayed beyond the limiter's bound, because the train ratio was lowered or the replay began anew, is
    forgiven: the learner goes on at the ratio instead of standing still until the experience has caught up.
    """

    def __init__(self, link: Link, server: sockets.Server, shelf: Shelf, *, batch: int, length: int, burn_in: int,
                 replayed: int, columns: list[str], prefetch: int, limiter: Limiter) -> None:
        self._link, self._server, self._shelf = link, server, shelf
        self._shape, self._columns, self._prefetch = (batch, length, burn_in), columns, prefetch
        self._replayed, self._number, self._limiter = replayed, 0, limiter
        self._asked: dict[int, float] = {}  # number -> when
        self._not_before = 0.0
        self._ready: queue.Queue[Batch] = queue.Queue()
        self._taken = sockets.Wakeup()
        self.inserted, self.waiting = 0, ""

    def take(self, timeout: float) -> Batch | None:
        """The next batch within `timeout` seconds. For the training thread."""
        try:
            batch = self._ready.get(timeout=timeout)
        except queue.Empty:
            return None
        self._taken.set()
        return batch

    def work(self, crew: Crew) -> None:
        """The I/O thread."""
        try:
            while not crew.ended:
                self._taken.clear()
                client = self._link.client()
                if client and not client.connected:
                    self._asked.clear()  # their answers died with the connection
                self._ask(now := time.monotonic())
                patience = min(IDLE, self._not_before - now) if self._not_before > now else IDLE
                sockets.wait([self._server, self._taken, *([client] if client else [])], patience)
                while (received := self._server.receive()) is not None:
                    self._offer(received)
                while client and (message := client.receive()) is not None:
                    self._hear(message, time.monotonic())
        finally:
            self._link.close()
            self._taken.close()

    def _ask(self, now: float) -> None:
        for number in [n for n, when in self._asked.items() if now - when > UNANSWERED]:
            del self._asked[number]
        while now >= self._not_before and len(self._asked) + self._ready.qsize() < self._prefetch:
            batch, length, burn_in = self._shape
            replayed = self._replayed + len(self._asked) * batch * length
            if not self._link.send(SampleRequest(self._number, batch, length, burn_in, replayed, self._columns)):
                self._not_before = now + IDLE
                return
            self._asked[self._number] = now
            self._number += 1

    def _hear(self, message: object, now: float) -> None:
        match message:
            case SampleReply() if self._asked.pop(message.number, None) is not None:
                self.inserted, self.waiting = message.inserted, ""
                self._replayed += self._shape[0] * self._shape[1]
                self._ready.put(message.arrays)
            case SampleWait() if self._asked.pop(message.number, None) is not None:
                self.inserted, self.waiting = message.inserted, message.why
                self._not_before = now + message.seconds
                if message.why == "ratio":
                    self._replayed = min(self._replayed, self._bound(message.inserted))
            case Refused():
                log.error("replay refuses samples (%s): %s", message.code, message.text)
                self._asked.clear()
                self._not_before = now + UNANSWERED

    def _bound(self, inserted: int) -> int:
        """The most that the limiter ever lets be replayed of so many steps."""
        return int(self._limiter.train_ratio * inserted + self._limiter.tolerance * self._shape[0] * self._shape[1])

    def _offer(self, received: sockets.Received) -> None:
        if isinstance(received.message, WeightsRequest):
            self._server.send(received.peer, self._shelf.answer(received.message))
        else:
            self._server.send(received.peer, Refused("malformed", "the weights port takes WeightsRequest, not "
                                                                  f"{type(received.message).__name__}"))
