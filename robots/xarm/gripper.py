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

from robots.driver import LinkLost
from robots.xarm import sdk
from robots.xarm.codes import raised_text

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
        self._api: Any = None
        self._ready, self._closing, self._begins = (threading.Event() for _ in range(3))
        self._begins.set()
        self._thread = threading.Thread(target=self._run, name="xarm gripper", daemon=True)

    def open(self, timeout: float) -> None:
        """Enabled and measured. Raises LinkLost, which says why it is not."""
        self._answered = time.monotonic()
        self._thread.start()
        if not self._ready.wait(timeout):
            raise LinkLost(self.trouble or f"xArm: the gripper did not answer within {timeout:g} s; check its cable")
        self.trouble = ""

    def wish(self, opening: float) -> None:
        """Go there; the newest wish counts."""
        self._wish = opening

    def recover(self) -> None:
        """An operator cleared a fault: enable it anew, and do not go on with what it was told before."""
        self.trouble = ""
        self._begins.set()

    def close(self) -> None:
        """End the thread and its connection."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(3)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._begins.is_set():
                    self._begin()
                self._tell()
                self._ask()
                self._answered = time.monotonic()
                self._ready.set()
            except Exception as error:  # the SDK raises where an answer is odd
                self._failed(raised_text(error))
            self._closing.wait(PAUSE)
        if self._api is not None:
            sdk.disconnect(self._api)

    def _begin(self) -> None:
        """Over a connection that is there, enabled, and told nothing yet."""
        if self._api is None or not self._api.connected:
            self._api = self._connect()
        api, self._wish, self._told = self._api, None, None
        sdk.check("clean_gripper_error", api.clean_gripper_error())
        sdk.check("set_gripper_mode", api.set_gripper_mode(0))
        sdk.check("set_gripper_enable", api.set_gripper_enable(True))
        sdk.check("set_gripper_speed", api.set_gripper_speed(self._speed))
        self._begins.clear()

    def _failed(self, why: str) -> None:
        """It is tried again, and for a while nobody hears of it."""
        if not self.trouble and time.monotonic() - self._answered > GIVE_UP:
            log.error("%s", why)
            self.trouble = why

    def _tell(self) -> None:
        wish = self._wish
        if wish is not None and wish != self._told:
            sdk.check("set_gripper_position", self._api.set_gripper_position(round(wish * OPEN), wait_motion=False))
            self._told, self._told_at = wish, time.monotonic()

    def _ask(self) -> None:
        code, position = self._api.get_gripper_position()
        sdk.check("get_gripper_position", code if position is not None else code or 4)
        before, self.opening = self.opening, min(1.0, max(0.0, position / OPEN))
        rests = abs(self.opening - before) < STILL and time.monotonic() - self._told_at > SETTLE
        if self._told is not None and rests:
            self.holding = self.opening - self._told > STUCK
        elif self.opening - before > STILL:
            self.holding = False
