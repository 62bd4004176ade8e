"""The coordinator: who is here, where everything is, which robots may move, and how the run is going.

It is needed to begin, not to go on: robots and services work the same while it is away, and say Hello when it is back.
What it knows is either told again (members, figures of the present boots) or kept in `coordinator.json` (figures of
former boots, the course of the reward, who is paused). One thread owns both sockets.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import zmq

from services import tempo
from services.config import AUTO
from services.coordinator.arming import Arming, Condition
from services.coordinator.ledger import Ledger
from services.coordinator.overview import overview
from services.coordinator.relay import Relay
from services.coordinator.roster import Roster
from services.coordinator.status import Status
from services.exporter import Exporter
from services.metrics import Metrics
from services.run_folder import RunFolder, write_atomic
from services.wire import sockets
from services.wire.liveness import Life
from services.wire.messages import (
    LIMITS,
    Answer,
    Ask,
    Heartbeat,
    HeartbeatReply,
    Hello,
    OrderDone,
    Refused,
    Telemetry,
    Welcome,
)
from services.wire.security import Security
from services.wire.sockets import Received

if TYPE_CHECKING:
    from services.config import Config

TICK = 0.05  # seconds between looks at what is due
EVERY_SECOND, SAVE, SUMMARISE = 1.0, 5.0, 15.0  # seconds between notes, writes of coordinator.json and of summary.json
ORDERS = ("pause", "resume", "stop", "estop", "clear_fault")

log = logging.getLogger(__name__)


class CoordinatorService:
    """The coordinator of the run in `folder`. `addresses`: where it is bound, by port name, once `ready` is set."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._stopping = False
        self._roster = Roster(config.name)
        self._relay = Relay(first_number=secrets.randbits(48))
        self._arming = Arming()
        self._metrics = Metrics("coordinator", "coordinator")
        self._due: dict[str, float] = {}
        self.addresses: dict[str, str] = {}
        self.ready = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`, then write the summary. Raises SocketError when a port cannot be bound."""
        network = self._config.network
        security = Security.load(network.keys) if network.keys else None
        wanted = network.addresses()
        self._ledger = Ledger.load(self._folder.path / "coordinator.json", time.time(), time.monotonic())
        with (zmq.Context() as context,
              closing(sockets.Server(context, wanted["control"], LIMITS["control"], security)) as control,
              closing(sockets.Subscriber(context, wanted["telemetry"], LIMITS["telemetry"], security)) as telemetry,
              closing(Exporter(self._metrics, self._config, "coordinator", "coordinator")) as exporter):
            for port, socket in {"control": control, "telemetry": telemetry}.items():
                self._metrics.follow("bad_frames_total", socket.refused.total, port)
            exporter.start()
            self._control = control
            self.addresses = {"control": control.address, "telemetry": telemetry.address}
            self.ready.set()
            while not stop.is_set():
                sockets.wait([control, telemetry], TICK)
                self._receive(telemetry)
                self._tend(time.monotonic())
            self._save(ended=True)
            self._summarise()

    def status(self) -> Status:
        """The run at this moment."""
        return overview(self._roster, self._ledger, self._stopping, os.getpid(), time.monotonic())

    def _receive(self, telemetry: sockets.Subscriber) -> None:
        while (received := self._control.receive()) is not None:
            self._on_message(received, time.monotonic())
        while (received := telemetry.receive()) is not None:
            if isinstance(received.message, Telemetry):
                self._ledger.take(received.message)

    def _tend(self, now: float) -> None:
        """What is due without anybody asking."""
        self._arm(now)
        for robot, order in self._relay.due(now):
            self._control.send(self._roster.members[robot].peer, order)
        for asker, answer in self._relay.finished(now):
            self._control.send(asker, answer)
        self._every(EVERY_SECOND, "note", lambda: self._note(now), now)
        self._every(SAVE, "save", lambda: self._save(ended=False), now)
        self._every(SUMMARISE, "summarise", self._summarise, now)

    def _note(self, now: float) -> None:
        self._ledger.tick(now)
        here = [name for name, member in self._roster.members.items() if member.state != "stopped"]
        lives = Counter(self._roster.alive(name, now) for name in here)
        for life in Life:
            self._metrics.gauge("coordinator_members", lives[life], life)
        self._metrics.state("stopping" if self._stopping else "running")

    def _every(self, seconds: float, what: str, action: Callable[[], None], now: float) -> None:
        if now >= self._due.setdefault(what, now + seconds):
            self._due[what] = now + seconds
            action()

    def _on_message(self, received: Received, now: float) -> None:
        peer, user = received.peer, received.user
        match received.message:
            case Hello() as hello:
                self._on_hello(hello, peer, user, now)
            case Heartbeat() as beat:
                known = self._roster.heartbeat(beat, peer, user, now)
                if known and beat.state == "fault" and beat.name not in self._ledger.paused:
                    self._pause([beat.name], "a fault")
                addresses, speed = (self._addresses(), self._speed(now)) if known else ({}, 0.0)
                self._control.send(peer, HeartbeatReply(beat.time, time.monotonic_ns(), known, addresses, speed))
            case OrderDone() as done:
                self._on_done(self._roster.by_peer(peer), done)
            case Ask() as ask:
                self._on_ask(ask, peer, user, now)
            case other:
                self._control.send(peer, Refused("malformed", f"the control port takes no {type(other).__name__}"))

    def _on_hello(self, hello: Hello, peer: bytes, user: str, now: float) -> None:
        if refused := self._roster.hello(hello, peer, user, now):
            log.warning("refused %s %s: %s", hello.kind, hello.name, refused.text)
            self._control.send(peer, refused)
            return
        log.info("%s %s is here, process %d", hello.kind, hello.name, hello.pid)
        self._control.send(peer, Welcome(self._config.name, self._addresses()))
        if hello.kind == "robot" and hello.name in self._ledger.paused:
            self._relay.order("pause", [hello.name], now, self._ledger.paused[hello.name])

    def _addresses(self) -> dict[str, str]:
        return self._roster.addresses() | self.addresses

    def _speed(self, now: float) -> float:
        """Of the doubles' clocks, where it is ours to say; all but still while there is no replay to collect for."""
        if self._config.robot.speed != AUTO:
            return 0.0
        live = [name for name in self._roster.members if self._roster.alive(name, now) == "alive"]
        replay = any(name in live for name in self._roster.of_kind("replay"))
        wanted = self._ledger.totals.gauge("replay", "replay_wanted_steps_per_second") if replay else None
        collecting = sum(name in live and self._roster.members[name].state == "armed"
                         for name in self._roster.of_kind("robot"))
        return tempo.shared(wanted or 0.0, collecting, self._config.robot.control_hz)

    def _on_done(self, robot: str, done: OrderDone) -> None:
        if (order := self._relay.on_done(robot, done)) is None:
            return
        log.info("%s: %s %s %s", robot, order.order, "done" if done.ok else "not done:", done.detail)

    def _on_ask(self, ask: Ask, peer: bytes, user: str, now: float) -> None:
        if user in self._roster.of_kind("robot"):
            self._control.send(peer, Refused("identity", f"the key of robot {user} may not ask; use an operator's key"))
        elif ask.command == "status":
            self._control.send(peer, Answer(True, self.status().to_json()))
        elif ask.command not in ORDERS:
            self._control.send(peer, Answer(False, f"{ask.command!r}: ask for status, {', '.join(ORDERS)}"))
        elif ask.robot and ask.robot not in self._roster.of_kind("robot"):
            names = ", ".join(self._roster.of_kind("robot")) or "none yet"
            self._control.send(peer, Answer(False, f"{ask.robot}: no such robot; there are {names}"))
        elif ask.command == "clear_fault" and not ask.token:
            self._control.send(peer, Answer(False, "clear_fault: say who looked at the robot (--token NAME)"))
        else:
            robots = [ask.robot] if ask.robot else self._roster.of_kind("robot")
            self._intend(ask, robots)
            if ask.command == "clear_fault":
                self._relay.order("pause", robots, now, ask.token)
            self._relay.order(ask.command, robots, now, ask.token, peer)

    def _intend(self, ask: Ask, robots: list[str]) -> None:
        """Remember what an operator wants, so that it also holds for a robot that starts anew.

        Who cleared a fault has looked at the robot, and lets it move with `resume`, not by the way.
        """
        if ask.command in ("pause", "estop", "clear_fault"):
            self._pause(robots, ask.token or "an operator")
        elif ask.command == "resume":
            self._ledger.paused = {name: who for name, who in self._ledger.paused.items() if name not in robots}
            self._due["save"] = 0.0
            for name in robots:
                self._arming.anew(name)
        elif ask.command == "stop" and not ask.robot:
            self._stopping = True

    def _pause(self, robots: list[str], who: str) -> None:
        """Arm these robots no more until `resume`, also after their faults are cleared; on the disk with the next look
        at what is due."""
        self._ledger.paused |= dict.fromkeys(robots, who)
        self._due["save"] = 0.0

    def _arm(self, now: float) -> None:
        for name in self._roster.of_kind("robot"):
            member = self._roster.members[name]
            spool_bytes = self._ledger.totals.value("robot", "robot_spool_bytes", name)
            replay = any(self._roster.alive(service, now) == "alive" for service in self._roster.of_kind("replay"))
            condition = Condition(
                state=member.state, detail=member.detail, heartbeat_age=now - member.heard,
                paused=name in self._ledger.paused, stopping=self._stopping,
                storable=replay or spool_bytes < self._config.robot.spool_mib << 20)
            if self._arming.wanted(name, condition, now):
                self._relay.order("arm", [name], now)

    def _save(self, ended: bool) -> None:
        path = self._folder.path / "coordinator.json"
        self._write(lambda: self._ledger.save(path, time.time(), time.monotonic(), ended))

    def _summarise(self) -> None:
        self._ledger.tick(time.monotonic())
        content = json.dumps(self._ledger.summary(time.monotonic()), indent=1)
        self._write(lambda: write_atomic(self._folder.summary, content + "\n"))

    def _write(self, write: Callable[[], None]) -> None:
        """A disk that takes nothing costs the file, not the coordinator."""
        try:
            write()
        except OSError as error:
            log.error("could not write into %s: %s", self._folder.path, error)
