"""An xArm over xarm-python-sdk: joint velocities that end by themselves, and a gripper.

The tick only leaves a wish; threads hand the newest to the SDK, whose calls wait for answers (robots.xarm.pilot,
robots.xarm.gripper). Reports come 100 times a second and say how the arm is; their age is the link's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.driver import CommandRejected, LinkLost
from robots.protocol import ProtocolDouble
from robots.xarm import sdk
from robots.xarm.gripper import Gripper
from robots.xarm.pilot import Limits, Pilot, Reported

REPORT = 0.01  # s between reports
FIRMWARE = (1, 8, 0)  # the first whose velocities can end by themselves
CONNECTING = 3.0  # s for the gripper's connection, once the arm's is there


class XArmLink(ArmLink):
    """To the control box at `address`, or to a double of its own where that is empty (`double`: its settings)."""

    def __init__(self, anatomy: Anatomy, address: str, limits: Limits, gripper_speed: int = 3000,
                 double: Mapping[str, Any] | None = None, port: int = sdk.PORT) -> None:
        self._anatomy, self._address, self._port, self._limits = anatomy, address, port, limits
        self._gripper_speed = gripper_speed
        self._settings = None if double is None else dict(double)
        self.double: ProtocolDouble | None = None
        self._api: Any = None
        self._pilot: Pilot | None = None
        self._gripper: Gripper | None = None
        self._reports: deque[Reported] = deque(maxlen=4)

    def open(self, timeout: float) -> ArmState:
        """Connects, sets the controller's limits, leaves the arm where it stands."""
        deadline = time.monotonic() + timeout
        try:
            return self._open(lambda: max(0.1, deadline - time.monotonic()))
        except BaseException:
            self.close()
            raise

    def exchange(self, command: ArmCommand | None) -> ArmState:
        """Leaves a wish for the arm and the gripper."""
        if self._api is None or not self._api.connected:
            raise LinkLost(f"xArm at {self._address}: the control box closed the connection")
        self._pilot.wish(command)
        if command is not None and command.gripper is not None:
            self._gripper.wish(command.gripper)
        return self._state()

    def now(self) -> int:
        """Monotonic."""
        return time.monotonic_ns()

    def close(self) -> None:
        """Stops the arm, ends threads, connections and the double."""
        for part in (self._pilot, self._gripper):
            if part is not None:
                part.close()
        if self._api is not None:
            sdk.disconnect(self._api)
        if self.double is not None:
            self.double.stop()
        self._api = self._pilot = self._gripper = self.double = None

    def recover(self) -> None:
        """Cleans errors and enables motors and gripper. Raises CommandRejected while the cause lasts."""
        self._pilot.recover()
        self._gripper.recover()

    def reseed(self, seed: int) -> None:
        """Of the double that the next `open` starts."""
        if self._settings is not None:
            self._settings["seed"] = seed

    def gauges(self) -> dict[str, float]:
        """`call_seconds`: the newest velocity command's way there and back; `calls_failed` so far."""
        if self._pilot is None:
            return {}
        return {"call_seconds": self._pilot.call_seconds, "calls_failed": float(self._pilot.failed)}

    def _open(self, left: Callable[[], float]) -> ArmState:
        sdk.load()
        if self._settings is not None:
            self.double = ProtocolDouble("robots.xarm.controller", self._settings)
            said = self.double.start(left())
            self._address, self._port = said["address"], said["port"]
        api = self._api = sdk.connect(self._address, left(), self._port, report_type="real")
        self._check_model(api)
        self._reports.clear()
        api.register_report_callback(self._on_report, report_cartesian=False)
        self._pilot = Pilot(api, self._anatomy, self._limits, self._newest)
        self._pilot.open()
        self._gripper = Gripper(lambda: sdk.connect(self._address, CONNECTING, self._port, enable_report=False),
                                self._gripper_speed)
        self._gripper.open(left())
        while len(self._reports) < self._reports.maxlen:
            if left() <= 0.1:
                raise LinkLost(f"xArm at {self._address}: no reports on port 30003; is a firewall between?")
            time.sleep(REPORT)
        return self._state()

    def _check_model(self, api: Any) -> None:
        joints, version = self._anatomy.chain.joints, tuple(api.version_number)
        if api.axis != joints:
            raise CommandRejected(f"xArm at {self._address}: it has {api.axis} joints, the config says "
                                  f"{self._anatomy.name}: set robot.options.model")
        if version < FIRMWARE:
            raise CommandRejected(f"xArm at {self._address}: firmware {version}: velocities end by themselves from "
                                  f"{FIRMWARE} on; update the control box")

    def _on_report(self, _: Mapping[str, Any]) -> None:
        """On the SDK's thread."""
        api, joints = self._api, self._anatomy.chain.joints
        self._reports.append(Reported(time.monotonic_ns(), np.array(api.angles[:joints]),
                                      np.array(api.joints_torque[:joints]), api.state))

    def _newest(self) -> Reported | None:
        return self._reports[-1] if self._reports else None

    def _state(self) -> ArmState:
        first, *_, last = list(self._reports)
        periods = max(self._reports.maxlen - 1, round((last.time - first.time) * 1e-9 / REPORT))
        gripper = self._gripper
        return ArmState(last.time, last.q, (last.q - first.q) / (periods * REPORT), last.effort, gripper.opening,
                        gripper.holding, self._pilot.trouble or gripper.trouble)
