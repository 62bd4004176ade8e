"""An xArm in a process of its own: `python -m robots.xarm.controller SETTINGS` answers as its control box does.

The private protocol comes on a control port of ours, because the vendor's, 502, is for root, and the stream of reports
on the vendor's 30003. The SDK cannot be told of other ports for reports, so each double takes a loopback address of its
own; the link says which control port to use (robots.xarm.sdk). Physics is that of the direct double, in real time.

Settings: `model`: xarm6 or xarm7; `world` (see robots.arms.double.Surroundings) and its `seed`; `camera`: whether there
is one, whose address it says then (see robots.cameras.double).

Orders: `stall` (nothing is answered or reported for `seconds`; what was sent is answered then), `disconnect` (every
connection ends, and no new one is welcome for `seconds`), `corrupt` (for `seconds` replies are of another function and
reports of another size), `error` (the controller stops with `code`), `estop` (the button is pressed), `release` (it is
turned back), `sdk` (the next `count` replies are such that the SDK returns `code`: 1, 2, 3, 9 or 10), `freeze` (the
camera shows nothing new for `seconds`).
There is no order for packet loss: TCP repeats what is lost, and what is left of it is a stall.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robots.arms.double import ArmDouble, Surroundings
from robots.ports import Ports, address
from robots.protocol import serve
from robots.xarm import wire
from robots.xarm.anatomy import MODELS
from robots.xarm.machine import HZ, Machine

if TYPE_CHECKING:
    from robots.cameras.double import RenderedRealSense

CONTROL, REPORTS = 50502, 30003
SILENCE = -1
STATUS = {1: wire.ERROR, 2: wire.WARNING, 3: SILENCE, 9: wire.NOT_READY, 10: wire.INVALID}


class Controller:
    """The machine behind its ports on `host`."""

    def __init__(self, host: str, machine: Machine, camera: RenderedRealSense | None = None) -> None:
        self._machine, self._camera = machine, camera
        self._ports = Ports(host, {CONTROL: lambda: Client(self), REPORTS: Reader})
        self._silent_until = self._closed_until = self._corrupt_until = 0.0
        self._played: list[int] = []  # statuses of the next replies

    def tick(self) -> None:
        """A cycle of the control box."""
        moved, now = self._machine.cycle(), self._machine.seconds
        if moved and self._camera is not None:
            self._camera.show(self._machine.arm.data)
        if now < self._silent_until:
            return
        self._ports.poll()
        if now < self._closed_until:
            self._ports.drop_all()
        if moved:
            self._publish()

    def order(self, order: Mapping[str, Any]) -> None:
        """See the module."""
        fault, now = order["fault"], self._machine.seconds
        if fault == "stall":
            self._silent_until = now + order["seconds"]
        elif fault == "disconnect":
            self._ports.drop_all()
            self._closed_until = now + order.get("seconds", 0.0)
        elif fault == "corrupt":
            self._corrupt_until = now + order["seconds"]
        elif fault == "error":
            self._machine.fail(order["code"])
        elif fault == "estop":
            self._machine.fail(1)
        elif fault == "release":
            self._machine.release_button()
        elif fault == "freeze":
            self._camera.freeze(order["seconds"])
        elif fault == "sdk":
            self._played = [STATUS[order["code"]]] * order.get("count", 1)
        else:
            raise ValueError(f"an xArm's double knows no order {fault}")

    def answer(self, request: wire.Request) -> bytes:
        """A reply, or what a fault makes of it."""
        status, data = self._machine.answer(request)
        if self._played:
            played = self._played.pop(0)
            if played == SILENCE:
                return b""
            status |= played
        if self._machine.seconds < self._corrupt_until:
            request = request._replace(function=request.function ^ 0x55)
        return wire.pack_reply(request, status, data)

    def _publish(self) -> None:
        report = wire.pack_report(self._machine.report())
        if self._machine.seconds < self._corrupt_until:
            report = report[::-1]
        for client, _ in self._ports.clients(Reader):
            self._ports.send(client, report)


class Client:
    """Who asks and commands."""

    greeting = b""

    def __init__(self, controller: Controller) -> None:
        self._controller, self._pending = controller, b""

    def feed(self, data: bytes) -> bytes:
        """Answers to each complete request."""
        requests, self._pending = wire.take_requests(self._pending + data)
        return b"".join(map(self._controller.answer, requests))


class Reader:
    """Who only listens to reports."""

    greeting = b""

    def feed(self, data: bytes) -> bytes:
        """Says nothing to what it is told."""
        return b""


def main(settings: Mapping[str, Any]) -> None:
    """Serve until the parent lets go."""
    anatomy, host = MODELS[settings["model"]], address()
    arm = ArmDouble(anatomy, anatomy.inner_hz, Surroundings(**settings.get("world", {})), settings.get("seed", 0))
    camera = arm.realsense() if settings.get("camera") else None
    controller = Controller(host, Machine(arm, anatomy), camera)
    serve({"address": host, "port": CONTROL, "camera": camera and camera.address}, controller.order, controller.tick,
          HZ)
    if camera is not None:
        camera.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
