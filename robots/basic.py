"""The short way to a driver: four small methods for the robot, all rules of the contract from here.

For robots that take their actions as they are and rest when told nothing: a cart, a ball, an arm whose controller has
its own position loop. One that needs an inner loop of its own with filters and limits is a `SetpointDriver`, as the
A1's is.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from robots.clock import Clock
from robots.driver import Applied, Clip, Driver, Health, Mode, NotConnected, RobotError, RobotSpec, Signals, Stop
from robots.safety import Gate, Interlock, Trust, Watchdog


class BasicDriver(Driver):
    """Subclasses have `Options` and `tasks`, call `super().__init__(spec)`, and implement `measure` and `drive`."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self._gate, self._interlock = Gate(spec.action_space, spec.noop), Interlock()
        self._watchdog = Watchdog(spec.command_ttl, spec.damp_after)
        self._connected, self._action, self._ticks = False, None, 0
        self._clock: Clock | None = None  # once the owner keeps pace with it

    def open(self, timeout: float) -> None:
        """Make the connection within `timeout` seconds, or raise LinkLost. A double starts anew."""

    @abstractmethod
    def measure(self) -> dict[str, np.ndarray]:
        """The newest value of every signal of the spec."""

    @abstractmethod
    def drive(self, action: np.ndarray | None) -> None:
        """Called every inner period, without blocking longer than that: follow `action`; with None come to rest."""

    def close(self) -> None:
        """Close the connection of a robot at rest."""

    def connect(self, timeout: float = 10.0) -> None:
        """See Driver."""
        if not self._connected:
            self._interlock.stop(Stop.DAMP)
            self._action = None
            self.open(timeout)
            self._connected = True
            self._take(self.measure())

    def disconnect(self) -> None:
        """Rest, then close, whatever fails before."""
        if self._connected:
            self.stop(Stop.DAMP)
            self._connected = False
            try:
                try:
                    self.drive(None)
                finally:
                    self.close()
            except BaseException as error:
                self._interlock.trip(f"nobody knows whether the robot rests: {error or type(error).__name__}")
                if not isinstance(error, RobotError):
                    raise

    def read(self) -> Signals:
        """See Driver."""
        self._require_connection()
        return self._signals

    def command(self, action: np.ndarray) -> Applied:
        """See Driver."""
        self._require_connection()
        applied = self._gate.admit(action)
        if self._interlock.mode != Mode.ARMED:
            return Applied(applied.action, applied.clip | Clip.DISARMED)
        if not applied.clip & Clip.NOT_FINITE:
            self._action = applied.action
        self._watchdog.feed(self._now())
        return applied

    def tick(self) -> None:
        """Drives by the newest action while it is fresh and the robot is armed; measures."""
        self._require_connection()
        self._ticks += 1
        trust = self._watchdog.trust(self._now())
        if trust == Trust.DAMP:
            self._interlock.stop(Stop.DAMP)
        follows = self._interlock.mode == Mode.ARMED and trust == Trust.FRESH
        self.drive(self._action if follows else None)
        self._take(self.measure())

    def arm(self) -> None:
        """At rest until the first command."""
        self._require_connection()
        self._action = None
        self._watchdog.feed(self._now())
        self._interlock.arm()

    def stop(self, level: Stop) -> None:
        """At rest with the next tick; HOLD until the next command, and for as long as it is said again."""
        self._action = None
        if level == Stop.HOLD:
            self._watchdog.feed(self._now())
        self._interlock.stop(level)

    def clear_fault(self, token: str) -> None:
        """See Driver."""
        self._interlock.clear(token)

    def health(self) -> Health:
        """Mode, fault and ticks; subclasses may add gauges."""
        return Health(self._interlock.mode, self._interlock.fault, ticks=self._ticks)

    def keep_pace(self, speed: float) -> None:
        """Commands then age by the clock on the wall, `speed` times as fast, not by ticks."""
        if self._clock is None:
            self._clock = Clock(speed)
        else:
            self._clock.run_at(speed)

    @property
    def _speed(self) -> float:
        """Of the robot's clock; 0 in virtual time."""
        return 0.0 if self._clock is None else self._clock.speed

    def _now(self) -> int:
        return round(self._ticks * 1e9 / self.spec.inner_hz) if self._clock is None else self._clock.now()

    def _take(self, values: dict[str, np.ndarray]) -> None:
        odd = [name for name, value in values.items() if not np.isfinite(value).all()]
        if odd:
            self._interlock.trip(f"{', '.join(odd)}: not finite; check the sensors")
        self._signals = Signals(values, self._now(), self._ticks)

    def _require_connection(self) -> None:
        if not self._connected:
            raise NotConnected(f"{self.spec.name}: connect first")
