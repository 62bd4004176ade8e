"""An xArm over xarm-python-sdk: joint velocities that end by themselves, a gripper, and every return code looked at.

Commands are velocities of mode 4 that hold for WATCHDOG seconds: who stops sending them stops the arm, also when this
process is killed. Each is the setpoint's own velocity, corrected by how far the arm is from the setpoint. The tick only
leaves a wish; a thread hands the newest to the SDK, whose calls wait for answers. Reports come 100 times a second and
say how the arm is; their age is the link's. An arm whose reports are old is told to stand, because a correction by an
old angle never ends.

A disarmed arm is in state 4: it holds its place and no program moves it. What the controller itself stops for becomes
the state's `trouble`, which stays until `recover`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.driver import CommandRejected, LinkLost
from robots.protocol import ProtocolDouble
from robots.xarm import sdk
from robots.xarm.codes import error_text
from robots.xarm.gripper import Gripper

log = logging.getLogger(__name__)

REPORT = 0.01  # s between reports
WATCHDOG = 0.15  # s that a velocity holds
GAIN = 5.0  # 1/s, of the correction
OLD = 0.1  # s; an angle that is older corrects nothing
VELOCITY_MODE, RUN, STOP = 4, 0, 4
FIRMWARE = (1, 8, 0)  # the first whose velocities can end by themselves
LOOK_EVERY = 0.5  # s between questions after errors, while nothing else tells of them
WAKING = 0.5  # s after the arm was enabled, or last took a velocity, in which it may say that it is not ready
GIVE_UP = 1.0  # s in which no call succeeds; until then the driver holds, or disarms, for want of states
CONNECTING = 3.0  # s for the gripper's connection, once the arm's is there
RECOVERY = 1.6  # s to wait for the controller's way back; who asked for it waits 2 s
HAS_ERROR, NOT_READY = 1, 9  # codes


class Limits(NamedTuple):
    """What the controller itself watches. `sensitivity` of its collision detection, 0: off, to 5; `self_collision`;
    `fence`: low and high corner [m] of where the tool may be, or None; `tool`: the tool in the flange's frame."""

    sensitivity: int
    self_collision: bool
    fence: tuple[np.ndarray, np.ndarray] | None
    tool: np.ndarray


class Reported(NamedTuple):
    """One report of the controller."""

    time: int
    q: np.ndarray
    effort: np.ndarray
    state: int


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


class Pilot:
    """The thread that talks to the arm. `newest`: the last report."""

    def __init__(self, api: Any, anatomy: Anatomy, limits: Limits, newest: Callable[[], Reported | None]) -> None:
        self._api, self._anatomy, self._limits, self._newest = api, anatomy, limits, newest
        self.trouble, self.call_seconds, self.failed = "", 0.0, 0
        self._wish: ArmCommand | None = None
        self._stands = self._wakes = self._closing = False
        self._ready = self._looked = self._succeeded = 0.0
        self._come = threading.Event()
        self._recovery: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name="xarm pilot", daemon=True)

    def open(self) -> None:
        """The arm stands and its controller's limits are set. Raises CommandRejected."""
        self._look()
        self._stand()
        if not self.trouble:
            self._set_limits()
        self._succeeded = time.monotonic()
        self._thread.start()

    def wish(self, command: ArmCommand | None) -> None:
        """The newest counts."""
        self._wish = command
        self._come.set()

    def close(self) -> None:
        """The arm stands."""
        self._closing = True
        self.wish(None)
        if self._thread.is_alive():
            self._thread.join(3)

    def recover(self) -> None:
        """See XArmLink. Does not wait for longer than who asked."""
        self._wish, self._recovery = None, Future()
        self._come.set()
        try:
            self._recovery.result(RECOVERY)
        except TimeoutError as late:
            raise CommandRejected("xArm: it has not come back yet; clear the fault again in some seconds") from late

    def _run(self) -> None:
        while not self._closing:
            self._come.wait(LOOK_EVERY)
            self._come.clear()
            if self._recovery is not None:
                self._answer_recovery()
            self._try(self._wish)
        if not self._stands:
            self._try(None)

    def _try(self, wish: ArmCommand | None) -> None:
        """What fails is tried again with the next wish, for a while; the SDK also raises where an answer is odd."""
        try:
            self._obey(wish)
            self._succeeded = time.monotonic()
        except Exception as error:
            self.failed += 1
            if time.monotonic() - self._succeeded > GIVE_UP:
                self._give_up(str(error))

    def _answer_recovery(self) -> None:
        recovery, self._recovery = self._recovery, None
        try:
            self._recover()
        except Exception as error:
            self._give_up(str(error))
            recovery.set_exception(CommandRejected(str(error)))
        else:
            recovery.set_result(None)

    def _recover(self) -> None:
        api = self._api
        for call in (api.clean_error, api.clean_warn):
            code = call()
            sdk.check(call.__name__, 0 if code == HAS_ERROR else code)  # whether it is gone is asked below
        sdk.check("motion_enable", api.motion_enable(True))
        self.trouble, self._succeeded = "", time.monotonic()
        self._look()
        if self.trouble:
            raise CommandRejected(self.trouble)
        self._stand()
        self._set_limits()

    def _obey(self, wish: ArmCommand | None) -> None:
        """Raises CommandRejected where a call fails."""
        if wish is None or self.trouble:
            if not self._stands:
                self._stand()
            elif time.monotonic() - self._looked > LOOK_EVERY:
                self._look()
            return
        if not self._wakes:
            self._wake()
        before = time.monotonic()
        speeds = velocity(wish, self._newest(), time.monotonic_ns(), self._anatomy.velocity)
        code = self._api.vc_set_joint_velocity(speeds.tolist(), duration=WATCHDOG)
        self.call_seconds = time.monotonic() - before
        if code == HAS_ERROR:
            self._look()
        elif code == NOT_READY:
            self._wait_for_arm()
            return
        sdk.check("vc_set_joint_velocity", code)
        self._ready = time.monotonic()

    def _wait_for_arm(self) -> None:
        """It is not ready: for a moment after waking, or because of an error, or somebody else stopped it."""
        if time.monotonic() - self._ready > WAKING:
            self._look()
            self._give_up("xArm: somebody else stopped it or took it; look, then clear the fault")

    def _wake(self) -> None:
        """Ready for velocities; the state comes after the mode, which takes it away."""
        api, self._stands = self._api, False
        sdk.check("motion_enable", api.motion_enable(True))
        sdk.check("set_mode", api.set_mode(VELOCITY_MODE))
        sdk.check("set_state", api.set_state(RUN))
        self._wakes, self._ready = True, time.monotonic()

    def _stand(self) -> None:
        self._wakes = False
        sdk.check("set_state", self._api.set_state(STOP))
        self._stands = True

    def _give_up(self, why: str) -> None:
        if not self.trouble:
            log.error("%s", why)
            self.trouble = why

    def _look(self) -> None:
        """Asks for the controller's error."""
        self._looked = time.monotonic()
        code, (error, _) = self._api.get_err_warn_code()
        sdk.check("get_err_warn_code", code)
        if error:
            self._give_up(error_text(error))

    def _set_limits(self) -> None:
        """The SDK ends the first with a state that lets the arm move: it stands again at the end. A fence that somebody
        drew in the vendor's program stays where we have none."""
        api, limits = self._api, self._limits
        sdk.check("set_collision_sensitivity", api.set_collision_sensitivity(limits.sensitivity))
        sdk.check("set_self_collision_detection", api.set_self_collision_detection(limits.self_collision))
        if limits.fence is not None:
            millimetres = limits.tool[:3, 3] * 1000
            sdk.check("set_tcp_offset", api.set_tcp_offset([*millimetres, 0, 0, 0], wait=False))
            low, high = (np.round(corner * 1000) for corner in limits.fence)
            corners = [value for pair in zip(high, low) for value in pair]
            sdk.check("set_reduced_tcp_boundary", api.set_reduced_tcp_boundary(corners))
            sdk.check("set_fence_mode", api.set_fence_mode(True))
        self._stand()


def velocity(wish: ArmCommand, seen: Reported | None, now: int, fastest: float) -> np.ndarray:
    """rad/s [J], never more than `fastest`: zero where the newest report is missing, old or no number."""
    if seen is None or not 0 <= now - seen.time <= OLD * 1e9:
        return np.zeros_like(wish.dq)
    wanted = wish.dq + GAIN * (wish.q - seen.q)
    return np.clip(wanted, -fastest, fastest) if np.isfinite(wanted).all() else np.zeros_like(wish.dq)
