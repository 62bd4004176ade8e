"""How a service belongs to a run: it introduces itself to the coordinator, heartbeats, learns addresses, reports
figures.

A `Node` owns one thread and the two sockets in it. Its service works the same while the coordinator is away: addresses
stay as last heard, figures go on counting, and the node says Hello again when the coordinator is back.

    with Node("learner", "learner", config, context, addresses={"weights": server.address}) as node:
        node.state = "running"
        node.count("learner_checkpoints_total")
        samples = node.address("samples")               # "" until it is known

`state`, `detail`, `schema` and `addresses` may be set by any thread; `count`, `gauge`, `observe` called from any.
`speed` is what the coordinator wants a double's clock to run at, 0 where it said nothing of it.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import zmq

from services.exporter import Exporter
from services.metrics import Metrics
from services.wire import sockets
from services.wire.liveness import ClockOffset
from services.wire.messages import (
    LIMITS,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Order,
    OrderDone,
    Refused,
    Telemetry,
    Welcome,
)
from services.wire.security import Security

if TYPE_CHECKING:
    from services.config import Config

BEAT = 0.5  # seconds between heartbeats, and between reports; a new state is told at once
SILENCE = 3.0  # seconds without an answer after which the node says Hello again
REMEMBERED = 64  # orders
LAST_WORDS = 0.5  # seconds in which the last report may still leave
LISTEN = 0.1  # seconds between looks at what other threads want to send
WELL = ("running", "armed")  # states that need no reason, so that something else may be told

log = logging.getLogger(__name__)


def control_address(config: Config) -> str:
    """Where the coordinator of this config listens."""
    return f"tcp://{config.network.host}:{config.network.port}"


class Node:
    """One service or robot of a run, seen from inside.

    `addresses`: what the service binds, by port name (`PORTS` of services/wire/messages.py). `on_order` (also to be set
    before `start`) is called on the node's thread with each order and must not block; answer with `order_done`.
    `control`: the coordinator's address, where it is not the config's. An order that is repeated is answered again, not
    carried out again. `refused` is set when the coordinator does not accept this node: its `text` names the way out.
    """

    def __init__(self, kind: str, name: str, config: Config, context: zmq.Context,
                 addresses: Mapping[str, str] | None = None, schema: str = "", *, control: str = "",
                 on_order: Callable[[Order], None] | None = None) -> None:
        self.kind, self.name, self.boot = kind, name, os.urandom(16)
        self.state, self.detail, self.schema = "starting", "", schema
        self.addresses, self.speed = dict(addresses or {}), 0.0
        self.metrics = Metrics(kind, name, 1 / config.robot.control_hz)
        self._exporter = Exporter(self.metrics, config, kind, name)
        self.refused: Refused | None = None
        self._run, self._context = config.name, context
        self.on_order = on_order
        self._control = control or control_address(config)
        self._security = Security.load(config.network.keys) if config.network.keys else None
        self._known: dict[str, str] = {}
        self._outgoing: queue.SimpleQueue[OrderDone] = queue.SimpleQueue()
        self._orders: dict[int, OrderDone | None] = {}  # the last ones, with the answer where there is one
        self._clock = ClockOffset()
        self._heard = self._greeted = -math.inf
        self._said: tuple[str, dict[str, str]] | None = None
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"node-{name}", daemon=True)

    def start(self) -> Node:
        """Begin to talk."""
        self._exporter.start()
        self._thread.start()
        return self

    def close(self) -> None:
        """Report once more, with the state as it is now, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._exporter.close()

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.state = "stopped"
        self.close()

    def address(self, port: str) -> str:
        """Where the service of a port is, "" while unknown. It changes when that service moves."""
        return self._known.get(port, "")

    def count(self, name: str, n: float = 1, label: str = "") -> None:
        """Add to a counter or sum of `services/metrics.py`."""
        self.metrics.count(name, n, label)

    def gauge(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""
        self.metrics.gauge(name, value, label)

    def observe(self, name: str, value: float) -> None:
        """Count a value into a histogram."""
        self.metrics.observe(name, value)

    def order_done(self, number: int, ok: bool, detail: str = "") -> None:
        """Answer an order."""
        self._orders[number] = OrderDone(number, ok, detail)
        self._outgoing.put(self._orders[number])

    def _work(self) -> None:
        client = sockets.Client(self._context, self._control, limit=LIMITS["control"], security=self._security)
        publisher: sockets.Publisher | None = None
        published = said = ""
        beat = -math.inf
        try:
            while not self._stop.is_set():
                if (message := client.receive(LISTEN)) is not None:
                    self._on_message(message, client)
                while not self._outgoing.empty():
                    client.send(self._outgoing.get())
                if published != self.address("telemetry"):
                    published = self.address("telemetry")
                    publisher = self._new_publisher(publisher, published)
                if time.monotonic() - beat >= BEAT or said != self.state:
                    beat, said = time.monotonic(), self.state
                    self._report(client, publisher)
            self._report(client, publisher)
        finally:
            client.close(LAST_WORDS)
            if publisher:
                publisher.close(LAST_WORDS)

    def _new_publisher(self, old: sockets.Publisher | None, address: str) -> sockets.Publisher:
        if old:
            old.close()
        return sockets.Publisher(self._context, address, limit=LIMITS["telemetry"], security=self._security)

    def _report(self, client: sockets.Client, publisher: sockets.Publisher | None) -> None:
        now, state = time.monotonic(), self.state
        lost = now - self._heard > SILENCE and now - self._greeted > SILENCE
        if lost and math.isfinite(self._greeted):
            self._complain(client.trouble)
        if lost or self._said != (self.schema, self.addresses):
            self._greet(client)
        detail = self.detail or (self._exporter.trouble if state in WELL else "")
        client.send(Heartbeat(self.name, self.boot, time.monotonic_ns(), state, detail))
        self.metrics.state(state)
        if publisher:
            publisher.send(Telemetry(self.kind, self.name, self.boot, time.monotonic_ns(), self.metrics.values(),
                                     self.metrics.histograms()))

    def _complain(self, trouble: str) -> None:
        """Tell once why the coordinator is not reached, such as keys that it does not accept."""
        if trouble and trouble != self._trouble:
            log.warning("%s: %s", self.name, trouble)
        self._trouble = trouble

    def _greet(self, client: sockets.Client) -> None:
        self._greeted = time.monotonic()
        self._said = self.schema, dict(self.addresses)
        client.send(Hello(self.kind, self.name, self.boot, os.getpid(), self._run, *self._said))

    def _on_message(self, message: object, client: sockets.Client) -> None:
        self._heard = time.monotonic()
        match message:
            case Welcome():
                self.refused = None
                self._learn(message.addresses)
            case HeartbeatReply(known=False):
                self._greet(client)
            case HeartbeatReply():
                self._probe(message, time.monotonic_ns())
                self._learn(message.addresses)
                self.speed = message.speed
            case Order():
                self._obey(message)
            case Refused():
                log.error("%s: refused by the coordinator (%s): %s", self.name, message.code, message.text)
                self.refused = message
            case _:
                log.warning("%s: unexpected %s from the coordinator", self.name, type(message).__name__)

    def _obey(self, order: Order) -> None:
        if order.number in self._orders:
            if (answer := self._orders[order.number]) is not None:
                self._outgoing.put(answer)
            return
        self._orders[order.number] = None
        for number in list(self._orders)[:-REMEMBERED]:
            del self._orders[number]
        if self.on_order:
            self.on_order(order)
        else:
            self.order_done(order.number, False, f"{self.kind} {self.name} takes no orders")

    def _probe(self, reply: HeartbeatReply, now: int) -> None:
        self._clock.add(reply.time, reply.coordinator_time, reply.coordinator_time, now)
        self.observe("control_round_trip_seconds", (now - reply.time) / 1e9)
        if self._clock.offset is not None:
            self.gauge("clock_offset_seconds", self._clock.offset / 1e9)

    def _learn(self, addresses: Mapping[str, str]) -> None:
        """What a coordinator that began anew does not know yet stays as it was. A service that binds every interface is
        where the coordinator is: that host is the one this node can reach."""
        host = self._control.removeprefix("tcp://").rpartition(":")[0]
        self._known = self._known | {port: address.replace("0.0.0.0", host).replace("//*", f"//{host}")
                                     for port, address in addresses.items()}
