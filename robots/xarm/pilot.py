"""The thread that talks to an xArm: it hands on wishes, looks at every return code, and asks after errors.

Commands are velocities of mode 4 that hold for WATCHDOG seconds: who stops sending them stops the arm, also when this
process is killed. Each is the setpoint's own velocity, corrected by how far the arm is from the setpoint. An arm whose
reports are old is told to stand, because a correction by an old angle never ends.

A disarmed arm is in state 4: it holds its place and no program moves it. What the controller itself stops for is
`trouble`, which stays until `recover`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.link import ArmCommand
from robots.driver import CommandRejected
from robots.xarm import sdk
from robots.xarm.codes import error_text, raised_text

log = logging.getLogger(__name__)

WATCHDOG = 0.15  # s that a velocity holds
GAIN = 5.0  # 1/s, of the correction
OLD = 0.1  # s; an angle that is older corrects nothing
VELOCITY_MODE, RUN, STOP = 4, 0, 4
LOOK_EVERY = 0.5  # s between questions after errors, while nothing else tells of them
WAKING = 0.5  # s after the arm was enabled, or last took a velocity, in which it may say that it is not ready
GIVE_UP = 1.0  # s in which no call succeeds; until then the driver holds, or disarms, for want of states
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


class Pilot:
    """`newest`: the last report. Read from any thread: `trouble`, `call_seconds`, `failed`."""

    def __init__(self, api: Any, anatomy: Anatomy, limits: Limits, newest: Callable[[], Reported | None]) -> None:
        self._api, self._anatomy, self._limits, self._newest = api, anatomy, limits, newest
        self.trouble, self.call_seconds, self.failed = "", 0.0, 0
        self._wish: ArmCommand | None = None
        self._stands = self._awake = self._closing = False
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
                self._give_up(raised_text(error))

    def _answer_recovery(self) -> None:
        recovery, self._recovery = self._recovery, None
        try:
            self._recover()
        except Exception as error:
            self._give_up(raised_text(error))
            recovery.set_exception(CommandRejected(raised_text(error)))
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
        if not self._awake:
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
        self._awake, self._ready = True, time.monotonic()

    def _stand(self) -> None:
        self._awake = False
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
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is told below
        wanted = wish.dq + GAIN * (wish.q - seen.q)
    return np.clip(wanted, -fastest, fastest) if np.isfinite(wanted).all() else np.zeros_like(wish.dq)
