"""A UR5e in a process of its own: `python -m robots.ur5e.controller SETTINGS` answers on the ports of a UR controller.

RTDE on 30004, URScript on 30003, the dashboard on 29999 and a Robotiq gripper on 63352. ur-rtde cannot be told of other
ports, so each double takes a loopback address of its own. Physics is that of the direct double, in real time.

Settings: `model`, the `world` (see robots.arms.double.Surroundings), its `seed`, `gripper` and `camera`: whether there
is one (it says the camera's address, see robots.cameras.double), and `unlock_after` [s] a protective stop.

Orders: `stall` (the network carries nothing for `seconds`; what was sent arrives later, as TCP promises), `disconnect`
(every connection ends; new ones are welcome), `corrupt` (the next `packages` of RTDE data to each client are garbled:
noise in frames of the right size), `clock` (the timestamp jumps by `seconds`), `protective_stop`, `estop` (the button
is pressed), `release` (the button is turned back), `power` (somebody at the pendant powers on and releases the
brakes), `local` and `remote` (somebody switches the pendant), `deactivate` (the gripper has lost its power once),
`freeze` (the camera shows nothing new for `seconds`), `anew` (arm, world, power and safety are as at the start). There
is no order for packet loss: TCP repeats what is lost, and what is left of it is a stall.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from robots.arms.double import ArmDouble, Surroundings
from robots.ports import Ports, address
from robots.protocol import serve
from robots.ur5e import robotiq
from robots.ur5e.anatomy import MODELS
from robots.ur5e.fingers import Fingers, FingersServer
from robots.ur5e.machine import HZ, UNLOCK_AFTER, Machine
from robots.ur5e.rtde import Session, Version
from robots.ur5e.sdk import DASHBOARD, RTDE, SCRIPT, STREAM_HZ
from robots.ur5e.status import EMERGENCY_STOP, NORMAL, PROTECTIVE_STOP, ROBOT_MODES

if TYPE_CHECKING:
    from robots.cameras.double import RenderedRealSense

VERSIONS = {"ur5e": (5, 12, 0, 1101319), "ur5": (3, 15, 8, 106339)}  # of PolyScope; the second knows no remote control
SAFETY = {NORMAL: "NORMAL", PROTECTIVE_STOP: "PROTECTIVE_STOP", EMERGENCY_STOP: "ROBOT_EMERGENCY_STOP"}
TOO_SOON = ("Cannot unlock protective stop until 5s after occurrence. "
            "Always inspect cause of protective stop before unlocking")


class Controller:
    """The machine behind its ports on `host`."""

    def __init__(self, host: str, robot: Machine, version: Version, gripper: bool,
                 camera: RenderedRealSense | None) -> None:
        self._robot, self._fingers, self._camera = robot, Fingers(robot), camera
        services = {RTDE: lambda: Stream(Session(version, robot.write)), SCRIPT: lambda: Scripts(robot),
                    DASHBOARD: lambda: Dashboard(robot, version)}
        if gripper:
            services[robotiq.PORT] = lambda: FingersServer(self._fingers)
        self._ports = Ports(host, services)
        self._silent_until, self._garbled, self._cycles = 0.0, 0, 0
        self._random = np.random.default_rng(0)

    def tick(self) -> None:
        """A cycle of the controller: what came is answered, and who reads is sent the newest state."""
        self._robot.cycle()
        self._fingers.tick()
        self._cycles += 1
        if self._robot.seconds >= self._silent_until:
            self._ports.poll()
            self._publish()
        if self._camera is not None:
            self._camera.show(self._robot.arm.data)

    def order(self, order: Mapping[str, Any]) -> None:
        """See the module."""
        robot = self._robot
        {
            "stall": lambda: setattr(self, "_silent_until", robot.seconds + order["seconds"]),
            "disconnect": self._ports.drop_all,
            "corrupt": lambda: setattr(self, "_garbled", order.get("packages", 1)),
            "clock": lambda: setattr(robot, "clock_offset", robot.clock_offset + order["seconds"]),
            "protective_stop": lambda: robot.protective_stop("ordered"),
            "estop": robot.emergency_stop,
            "release": robot.release_button,
            "power": lambda: (robot.power_on(), robot.release_brakes()),
            "local": lambda: setattr(robot, "remote", False),
            "remote": lambda: setattr(robot, "remote", True),
            "deactivate": self._fingers.deactivate,
            "freeze": lambda: self._camera.freeze(order["seconds"]),
            "anew": lambda: (robot.begin(), self._fingers.begin()),
        }[order["fault"]]()

    def _publish(self) -> None:
        values, sent = None, False
        for client, stream in self._ports.clients(Stream):
            if stream.session.started and self._cycles % max(1, round(HZ / stream.session.hz)) == 0:
                values = values or self._robot.values()
                self._ports.send(client, self._spoilt(stream.session.package(values)))
                sent = True
        self._garbled -= bool(sent and self._garbled)

    def _spoilt(self, package: bytes) -> bytes:
        return package[:4] + self._random.bytes(len(package) - 4) if self._garbled else package


class Stream:
    """An RTDE client."""

    greeting = b""

    def __init__(self, session: Session) -> None:
        self.session, self.feed = session, session.feed


class Scripts:
    """A client that uploads programs. The lines of one are collected until its last `end`."""

    greeting = b""

    def __init__(self, robot: Machine) -> None:
        self._robot, self._text = robot, b""

    def feed(self, data: bytes) -> bytes:
        """Starts a program that is complete; the port answers nothing."""
        self._text += data
        if b"\nend\n" in self._text:
            self._text = b""
            self._robot.load()
        return b""


class Dashboard:
    """A client of the dashboard server: a line, a line in answer."""

    greeting = b"Connected: Universal Robots Dashboard Server\n"

    def __init__(self, robot: Machine, version: Version) -> None:
        self._robot, self._version, self._pending = robot, version, b""

    def feed(self, data: bytes) -> bytes:
        """An answer to each complete line."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        return b"".join(f"{self._answer(line.decode('ascii').strip())}\n".encode() for line in lines)

    def _answer(self, line: str) -> str:
        robot = self._robot
        questions = {
            "polyscopeversion": lambda: "URSoftware {}.{}.{}.{} (Mar 22 2022)".format(*self._version),
            "get robot model": lambda: "UR5",
            "robotmode": lambda: f"Robotmode: {ROBOT_MODES[robot.robot_mode]}",
            "safetystatus": lambda: f"Safetystatus: {SAFETY[robot.safety_mode]}",
            "running": lambda: f"Program running: {str(robot.program_runs).lower()}",
            "unlock protective stop": lambda: "Protective stop releasing" if robot.unlock() else TOO_SOON,
            "close safety popup": lambda: "closing safety popup",
            "stop": lambda: robot.stop_program("stopped at the dashboard") or "Stopped",
            "power on": lambda: robot.power_on() or "Powering on",
            "brake release": lambda: robot.release_brakes() or "Brake releasing",
        }
        if self._version[0] >= 5:
            questions |= {"get serial number": lambda: "20225500001",
                          "is in remote control": lambda: str(robot.remote).lower()}
        return questions.get(line.lower(), lambda: f"could not understand: '{line}'")()


def main(settings: Mapping[str, Any]) -> None:
    """Serve until the parent lets go."""
    anatomy, host = MODELS[settings["model"]], address()
    arm = ArmDouble(anatomy, STREAM_HZ, Surroundings(**settings["world"]))
    robot = Machine(arm, STREAM_HZ, (anatomy.lower, anatomy.upper), settings.get("unlock_after", UNLOCK_AFTER),
                    settings["seed"])
    camera = arm.realsense() if settings["camera"] else None
    controller = Controller(host, robot, VERSIONS[settings["model"]], settings["gripper"], camera)
    serve({"address": host, "camera": camera and camera.address}, controller.order, controller.tick, HZ)
    if camera is not None:
        camera.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
