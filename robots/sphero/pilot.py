"""Keeps a toy's motors at the newest wish, through spherov2, on a thread of its own.

The SDK's comfortable interface (`SpheroEduAPI`) sends the last power again and again from a thread, whether anybody
still wants it or not, so it is not used: commands go to the toy itself, one at a time, each after the answer to the one
before; the SDK's own queue spaces them as the model wants it. Of several wishes meanwhile the newest is sent. A wish
lives `TTL`; then both motors get zero. While it lives it is said again every `KEEP`, which also shows whether the toy
still answers.

A toy that is lost is looked for again, with more and more patience, until it is given up. When it is back, it begins at
rest. What a lost toy does, nobody can say: one of version 1 is told to stop by itself after `OWN_TIMEOUT` without a
command, where its firmware obeys that also for raw motors; the makers do not promise it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from robots.driver import LinkLost
from robots.sphero.radio import Ether

log = logging.getLogger(__name__)

TTL = 0.5  # s; the driver says its wish again with every tick
KEEP = 0.25  # s
PATIENCE, FIRST_PATIENCE = 0.3, 3.0  # s that an answer may take: at most so much later comes a zero. At first it wakes
DEAF, SILENCE = 1.0, 2.0  # s without an answer after which it is told zero alone, and the connection is given up
FIND = 5.0  # s to look for the toy
FIRST_WAIT, LONGEST_WAIT, GIVE_UP = 0.5, 8.0, 60.0  # s between attempts, and until the toy is lost
OWN_TIMEOUT = 2.0  # s
BATTERY_EVERY = 60.0  # s
AT_REST = (0, 0)
Powers = tuple[int, int]  # of the left and the right motor, -255 to 255


class Pilot:
    """The toy called `name`, of a `model`, through `ether`; its shell is lit in `colour` (as the tracker's). `powers`:
    what it has confirmed; `heard`: when it last did [monotonic ns], 0 before, because what answers but takes no powers
    is of no use; `trouble`: why it is not reached now; `lost`: it has been given up, after `give_up` seconds; `gauges`:
    what else is known of it."""

    def __init__(self, model: str, name: str, ether: Ether, colour: Sequence[float], give_up: float = GIVE_UP) -> None:
        self._kind, self._name, self._ether, self._light = self._prompt(model), name, ether, _light(colour)
        self._give_up = give_up
        self.heard, self.powers, self.trouble, self.lost = 0, AT_REST, "", False
        self.gauges = {"toy_reconnects": 0.0, "toy_unanswered_commands": 0.0}
        self._patience, self._battery_due = FIRST_PATIENCE, 0.0
        self._wish, self._wished = AT_REST, 0.0
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="sphero", daemon=True)
        self._thread.start()

    def wish(self, powers: Powers, moment: float | None = None) -> None:
        """What the motors shall get from now on, for `TTL` since `moment`, when it was wished [monotonic s]; now, where
        that is not said. Never blocks."""
        news = powers != self._wish
        self._wish, self._wished = powers, time.monotonic() if moment is None else moment
        if news:
            self._news.set()

    def close(self) -> None:
        """Zero, if the toy still answers, and disconnect. What the SDK started has ended."""
        self._ending.set()
        self._news.set()
        self._thread.join()

    def _work(self) -> None:
        wait, reached = FIRST_WAIT, time.monotonic()
        while not self._ending.is_set() and not self.lost:
            try:
                self._fly()
            except Exception as error:  # the SDK has no common error, and a lost toy shows in many ways
                self.trouble = self._cause(error)
                log.warning("sphero: %s: %s", self._name, self.trouble)
            if self.heard > reached * 1e9:
                wait, reached = FIRST_WAIT, self.heard * 1e-9
            self.lost = time.monotonic() - reached > self._give_up
            self._ending.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            self.gauges["toy_reconnects"] += not self._ending.is_set()

    def _cause(self, error: Exception) -> str:
        if (radio := self._ether.radio) is not None and radio.trouble:
            return radio.trouble
        return "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__

    def _fly(self) -> None:
        """One connection, to its end. Raises whatever broke it."""
        from spherov2 import scanner

        with self._looking():
            toy = scanner.find_toy(toy_name=self._name, toy_types=[self._kind], adapter=self._ether, timeout=FIND)
        self._patience = FIRST_PATIENCE
        with toy:
            self._prepare(toy)
            self._patience, self.trouble = PATIENCE, ""
            while not (self._follow(toy) and self._ending.is_set()):
                self._read_battery(toy)
                self._await_news()

    @contextlib.contextmanager
    def _looking(self) -> Any:
        from spherov2.scanner import ToyNotFoundError

        try:
            yield
        except ToyNotFoundError as error:
            raise LinkLost(f"no {self._kind.toy_type.display_name} of the name {self._name} is near; is it charged, "
                           "awake and not connected to a phone?") from error

    def _prepare(self, toy: Any) -> None:
        toy.wake()
        toy.set_stabilization(False)
        self._send(toy, AT_REST)
        self._set_own_timeout(toy)
        from spherov2.utils import ToyUtil

        ToyUtil.set_main_led(toy, *self._light, False)

    def _set_own_timeout(self, toy: Any) -> None:
        """The toy's own watchdog, where it has one: `toy_watchdog` in the gauges says so."""
        from spherov2.controls import CommandExecuteError

        self.gauges["toy_watchdog"] = 0.0
        if hasattr(toy, "set_motion_timeout"):
            try:
                toy.set_temporary_options(toy.get_persistent_options()._replace(enable_motion_timeout=True))
                toy.set_motion_timeout(round(OWN_TIMEOUT * 1000))
                self.gauges["toy_watchdog"] = 1.0
            except CommandExecuteError as error:
                log.warning("sphero: %s has no motion timeout: %s", self._name, error)

    def _follow(self, toy: Any) -> bool:
        """Send what is wanted now. Whether that is rest, and the toy confirmed it."""
        powers = self._wanted()
        try:
            self._send(toy, powers)
        except TimeoutError:
            self.gauges["toy_unanswered_commands"] += 1
        if self._ether.radio.trouble or self._silent() > SILENCE:
            raise TimeoutError
        return powers == self.powers == AT_REST

    def _wanted(self) -> Powers:
        fresh = time.monotonic() - self._wished <= TTL and self._silent() <= DEAF
        return self._wish if fresh and not self._ending.is_set() else AT_REST

    def _send(self, toy: Any, powers: Powers) -> None:
        toy.set_raw_motors(*(part for power in powers for part in (_mode(power), abs(power))))
        self.powers, self.heard = powers, time.monotonic_ns()

    def _silent(self) -> float:
        return (time.monotonic_ns() - self.heard) * 1e-9

    def _await_news(self) -> None:
        """Until another wish, the end of this one, or `KEEP`."""
        if self.powers == self._wanted():
            left = KEEP if self.powers == AT_REST else min(KEEP, self._wished + TTL - time.monotonic())
            self._news.wait(max(0.0, left))
        self._news.clear()

    def _read_battery(self, toy: Any) -> None:
        if time.monotonic() >= self._battery_due:
            self._battery_due = time.monotonic() + BATTERY_EVERY
            with contextlib.suppress(TimeoutError):
                old = hasattr(toy, "get_power_state")
                self.gauges["battery_volts"] = toy.get_power_state().voltage if old else toy.get_battery_voltage()

    def _prompt(self, model: str) -> type:
        """The SDK's class of that model, with our patience for answers, and errors in answers raised. Raises
        ImportError, which names the extra."""
        try:
            from spherov2.toy import bolt, mini, sprk2
        except ModuleNotFoundError as error:
            raise ImportError("a Sphero needs spherov2: pip install 'daydreamer[sphero]'") from error
        pilot = self

        class Prompt({"sprk": sprk2.Sprk2, "bolt": bolt.BOLT, "mini": mini.Mini}[model]):
            def _wait_packet(self, key: Any, timeout: float = 0.0, check_error: bool = True) -> Any:
                return super()._wait_packet(key, pilot._patience, check_error)

        return Prompt


def _mode(power: int) -> int:
    """The SDK's raw motor modes, of both packet versions: off, forward, reverse."""
    return 0 if power == 0 else 1 if power > 0 else 2


def _light(colour: Sequence[float]) -> tuple[int, int, int]:
    """Red, green and blue of the middle hue of a tracker's colour, at full strength."""
    low, high = colour[0], colour[3]
    hue = (low + (high - low) % 180 / 2) % 180
    red, green, blue = cv2.cvtColor(np.uint8([[[hue, 255, 255]]]), cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)
