"""The one thread that talks to a LeRobot robot, whose calls block for as long as its buses and cameras like.

Of a robot only this is used: its features, `connect`, `get_observation`, `send_action`, `disconnect`.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from robots.driver import LinkLost

log = logging.getLogger(__name__)

PARTING = 5.0  # s that a disconnect may take
Numbers = dict[str, float]


class Wish(NamedTuple):
    """What to send until `until` (monotonic [s]), and from then on, where nobody has wished for anything since."""

    now: Numbers
    until: float
    then: Numbers


class Bus:
    """Newest wish in, newest reading out; used once. Without a pace, `turn` makes one exchange; with one, exchanges go
    on by themselves.

    `reading`: what the robot observed last, at `time` (monotonic [ns]); `sent`: what it was told last, and what it says
    it made of that; `errors`: exchanges that failed, and `error`, why the last one did; empty where it did not.
    """

    def __init__(self, make: Callable[[], Any], period: float, paced: bool) -> None:
        """`make` gives a robot that is not connected, on the thread. `period` [s] between exchanges, at least."""
        self._make, self._period, self._paced = make, period, paced
        self._robot: Any = None
        self._orders: queue.SimpleQueue = queue.SimpleQueue()
        self._closing = False
        self._wish: Wish | None = None
        self.sent: tuple[Numbers, Numbers] | None = None
        self.reading: dict[str, Any] = {}
        self.time, self.errors, self.error = 0, 0, ""

    def open(self, timeout: float) -> None:
        """The robot is connected and was read once. Raises LinkLost."""
        threading.Thread(target=self._serve, name="lerobot", daemon=True).start()
        try:
            self._ask(self._connect, "connect", timeout)
        except LinkLost:
            self._closing = True
            raise
        if self._paced:
            self._orders.put((self._go_on, queue.SimpleQueue()))

    def tell(self, wish: Wish) -> None:
        """Send this from now on, with every exchange."""
        self._wish = wish

    def turn(self, timeout: float) -> None:
        """One exchange now, where they do not go on by themselves. Raises LinkLost."""
        if not self._paced:
            self._ask(self._exchange, "exchange", timeout)

    def close(self) -> None:
        """Send the last wish, and disconnect the robot. Raises LinkLost where that hangs or fails."""
        self._closing = True
        self._ask(self._disconnect, "disconnect", PARTING)

    def _ask(self, what: Callable[[], None], name: str, timeout: float) -> None:
        """Done on the thread, waited for here."""
        answer: queue.SimpleQueue = queue.SimpleQueue()
        self._orders.put((what, answer))
        try:
            error = answer.get(timeout=timeout)
        except queue.Empty:
            raise LinkLost(f"the robot's {name} takes longer than {timeout:g} s") from None
        if error is not None:
            raise LinkLost(f"the robot's {name}: {_words(error)}") from error

    def _serve(self) -> None:
        while True:
            what, answer = self._orders.get()
            try:
                what()
                answer.put(None)
            except Exception as error:
                answer.put(error)
            if self._robot is None:
                return

    def _connect(self) -> None:
        robot = self._make()
        robot.connect()
        self._robot = robot
        try:
            self._exchange()
        except Exception:
            self._disconnect()
            raise
        if self._closing:  # nobody waits any more
            self._disconnect()

    def _go_on(self) -> None:
        while not self._closing:
            start = time.monotonic()
            try:
                self._exchange()
            except Exception as error:  # buses lose a packet now and then; the reading's age shows what lasts
                if not self.error:
                    log.warning("%s", _words(error))
                self.errors, self.error = self.errors + 1, _words(error)
            time.sleep(max(0.0, self._period - (time.monotonic() - start)))

    def _exchange(self) -> None:
        reading = dict(self._robot.get_observation())
        self.reading, self.time = reading, time.monotonic_ns()
        self._send()
        self.error = ""

    def _send(self) -> None:
        if (wish := self._wish) is not None:
            told = wish.now if time.monotonic() < wish.until else wish.then
            self.sent = told, {name: float(value) for name, value in self._robot.send_action(dict(told)).items()}

    def _disconnect(self) -> None:
        try:
            self._send()
        finally:
            robot, self._robot = self._robot, None
            robot.disconnect()


def make_robot(kind: str, config: Mapping[str, Any]) -> Any:
    """A robot that is not connected: LeRobot's, by the name of its type, or `module:Class`, made of its `config_class`
    with these fields. Raises LinkLost where LeRobot is not installed or has no such robot."""
    module, colon, name = kind.partition(":")
    if colon:
        found = getattr(importlib.import_module(module), name)
        return found(found.config_class(**config))
    try:
        import draccus
        import lerobot.robots
        from lerobot.utils.import_utils import register_third_party_plugins
    except ImportError as error:
        raise LinkLost(f"{error}; install LeRobot on the robot's computer: `pip install lerobot`") from error
    register_third_party_plugins()
    _register(lerobot.robots)
    known = lerobot.robots.RobotConfig.get_known_choices()
    if kind not in known:
        raise LinkLost(f"type: {kind}: LeRobot has {', '.join(sorted(known))}")
    return lerobot.robots.make_robot_from_config(draccus.decode(lerobot.robots.RobotConfig, {"type": kind, **config}))


def _register(package: Any) -> None:
    """LeRobot knows its own robots only once their modules were imported; those that lack something stay unknown."""
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            log.info("%s: %s", found.name, error)


def _words(error: Exception) -> str:
    hint = "; it wants to be calibrated: run lerobot-calibrate first" if isinstance(error, EOFError) else ""
    return f"{error}" if isinstance(error, LinkLost) else f"{type(error).__name__}: {error}{hint}"
