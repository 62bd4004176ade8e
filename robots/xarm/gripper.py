"""UFACTORY's gripper on the arm's tool flange, told and asked by a thread with a connection of its own.

A question goes over the arm's Modbus and takes tens of milliseconds, and the SDK lets one call at a time pass through a
connection: on the arm's own one, velocity commands would wait behind the gripper.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from robots.driver import LinkLost, RobotError
from robots.xarm import sdk

log = logging.getLogger(__name__)

OPEN = 850  # the gripper's own unit of its opening
PAUSE = 0.05  # s between questions
STUCK, STILL = 0.03, 0.004  # of the opening: further from the wish than this, and hardly moving: fingers hold something
SETTLE = 0.3  # s after a wish until its fingers move for sure
GIVE_UP = 1.0  # s without an answer


class Gripper:
    """`connect` makes an XArmAPI for this thread. Read from any thread: `opening` (0 closed to 1 open), `holding`,
    `trouble`."""

    def __init__(self, connect: Callable[[], Any], speed: int) -> None:
        self._connect, self._speed = connect, speed
        self.opening, self.holding, self.trouble = 0.0, False, ""
        self._wish: float | None = None
        self._told: float | None = None
        self._told_at = self._answered = 0.0
        self._ready, self._closing, self._recover = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._run, name="xarm gripper", daemon=True)

    def open(self, timeout: float) -> None:
        """Enabled and measured. Raises LinkLost, which says why it is not."""
        self._thread.start()
        if not self._ready.wait(timeout) or self.trouble:
            raise LinkLost(self.trouble or f"xArm: the gripper did not answer within {timeout:g} s; check its cable")

    def wish(self, opening: float) -> None:
        """Go there; the newest wish counts."""
        self._wish = opening

    def recover(self) -> None:
        """An operator cleared a fault: enable it anew."""
        self.trouble = ""
        self._recover.set()

    def close(self) -> None:
        """End the thread and its connection."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(3)

    def _run(self) -> None:
        api = None
        try:
            api = self._connect()
            self._enable(api)
            self._answered = time.monotonic()
            while not self._closing.is_set():
                self._turn(api)
                self._closing.wait(PAUSE)
        except (RobotError, OSError) as error:
            self.trouble = str(error)
            log.error("the gripper's thread ended: %s", error)
        finally:
            self._ready.set()
            if api is not None:
                sdk.disconnect(api)

    def _enable(self, api: Any) -> None:
        sdk.check("set_gripper_mode", api.set_gripper_mode(0))
        sdk.check("set_gripper_enable", api.set_gripper_enable(True))
        sdk.check("set_gripper_speed", api.set_gripper_speed(self._speed))

    def _turn(self, api: Any) -> None:
        """Tell what is new, ask where the fingers are. What fails is tried again for a while."""
        try:
            if self._recover.is_set():
                self._recover.clear()
                api.clean_gripper_error()
                self._enable(api)
            self._tell(api)
            self._ask(api)
            self._answered = time.monotonic()
            self._ready.set()
        except RobotError as error:
            if time.monotonic() - self._answered > GIVE_UP and not self.trouble:
                self.trouble = str(error)

    def _tell(self, api: Any) -> None:
        wish = self._wish
        if wish is not None and wish != self._told:
            sdk.check("set_gripper_position", api.set_gripper_position(round(wish * OPEN), wait_motion=False))
            self._told, self._told_at = wish, time.monotonic()

    def _ask(self, api: Any) -> None:
        code, position = api.get_gripper_position()
        sdk.check("get_gripper_position", code if position is not None else code or 4)
        before, self.opening = self.opening, min(1.0, max(0.0, position / OPEN))
        rests = abs(self.opening - before) < STILL and time.monotonic() - self._told_at > SETTLE
        if self._told is not None and rests:
            self.holding = self.opening - self._told > STUCK
        elif self.opening - before > STILL:
            self.holding = False
