"""What stands between a command and a motor, small enough to be read by whoever signs for the robot.

Four rooms, none of which has a clock, a thread or an operating system of its own; times are nanoseconds given by the
caller:

- `Gate` admits a command: right shape, finite, inside the action space.
- `Limits` turns a wanted joint position into the next setpoint: one intersection of intervals, every period of the
  inner loop.
- `Watchdog` says how far a command may still be trusted: fresh, then hold, then damp.
- `Interlock` is disarmed, armed or in a latched fault. Any thread may stop it; only an operator clears it.
"""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from robots.driver import Applied, Clip, CommandRejected, FaultLatched, Mode, Stop

ESTOPPED = "emergency stop"  # the fault that an e-stop latches
YIELD = 2.0  # times the velocity limit: faster than that no joint is pushed
CATCH_UP = 0.25  # s


class Gate:
    """Admits commands. What is not finite is replaced by the action before it, so the robot goes on holding it."""

    def __init__(self, space: spaces.Box | spaces.Discrete, noop: int | None = None) -> None:
        self._space = space
        discrete = isinstance(space, spaces.Discrete)
        rest = np.int64(noop or 0) if discrete else np.clip(np.zeros(space.shape), space.low, space.high)
        self._last = self._noop = np.asarray(rest, np.int64 if discrete else np.float32)

    def start(self, action: np.ndarray) -> None:
        """`action` is what the robot holds now, and goes on holding until another one is admitted."""
        self._last = np.clip(np.asarray(action, np.float32), self._space.low, self._space.high)

    def admit(self, action: np.ndarray) -> Applied:
        """Box: float [A] clipped to the space; Discrete: an integer of the space, noop for any other. Raises
        CommandRejected otherwise."""
        applied = self._discrete(action) if isinstance(self._space, spaces.Discrete) else self._continuous(action)
        self._last = applied.action
        return applied

    def _continuous(self, action: np.ndarray) -> Applied:
        try:
            wanted = np.asarray(action, np.float32)
        except (TypeError, ValueError) as error:
            raise CommandRejected(f"action {action!r}: not an array of numbers") from error
        if wanted.shape != self._space.shape:
            raise CommandRejected(f"action of shape {wanted.shape}: the robot takes {self._space.shape}")
        if not np.isfinite(wanted).all():
            return Applied(self._last, Clip.NOT_FINITE)
        inside = np.clip(wanted, self._space.low, self._space.high)
        return Applied(inside, Clip.NONE if np.array_equal(inside, wanted) else Clip.ACTION_SPACE)

    def _discrete(self, action: np.ndarray) -> Applied:
        value = np.asarray(action)
        if value.shape != () or value.dtype.kind not in "iu":
            raise CommandRejected(f"action {action!r}: the robot takes one integer below {self._space.n}")
        if not self._space.contains(np.int64(value)):
            return Applied(self._noop, Clip.ACTION_SPACE)
        return Applied(np.asarray(value, np.int64))


class Limits:
    """Where the next setpoint may lie, joint by joint: the intersection of

    - position: `lower` to `upper` [rad]. From outside, the setpoint comes back as fast as the others allow;
    - velocity: `velocity` [rad/s] from the setpoint before, and no faster than `acceleration` can brake before the
      range ends;
    - acceleration: `acceleration` [rad/s²] from the velocity before;
    - relative step: `step` [rad] from the setpoint before;
    - torque: `window` [rad] around the measured position, which bounds the spring term of a position loop at Kp
      times window.

    If the first four contradict one another, the setpoint holds and the mask says EMPTY: the caller latches a fault. If
    the robot was pushed so far that only the torque window is left out, the setpoint yields to it, because less torque
    is always allowed: up to YIELD times as fast as `velocity`, and never farther out of the range. A measured position
    that it cannot come near to within CATCH_UP is no push: EMPTY.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray, period: float, *, velocity: float = np.inf,
                 acceleration: float = np.inf, step: float = np.inf, window: float = np.inf) -> None:
        self._lower, self._upper, self._period = np.asarray(lower, float), np.asarray(upper, float), period
        if not (self._lower <= self._upper).all() or min(period, velocity, acceleration, step, window) <= 0:
            raise ValueError("limits: want lower <= upper and positive period, velocity, acceleration, step and window")
        self._velocity, self._acceleration, self._step, self._window = velocity, acceleration, step, window
        self._accelerates = np.isfinite(acceleration)
        self.start(np.clip(np.zeros_like(self._lower), self._lower, self._upper))

    def start(self, measured: np.ndarray) -> None:
        """The first setpoint is the measured pose, at rest."""
        self.setpoint = np.array(measured, float)
        self._moved = np.zeros_like(self.setpoint)
        self._behind = 0.0  # seconds for which the setpoint could not follow a robot that was pushed

    def advance(self, target: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, Clip]:
        """The next setpoint [rad] towards `target`, and why it is not the target. Called once per period."""
        before = self.setpoint
        reach = min(self._velocity * self._period, self._step)
        low, high = before - reach, before + reach
        if self._accelerates:
            slow, fast = self._inertia(before)
            low, high = np.maximum(low, slow), np.minimum(high, fast)
        inside = np.minimum(np.maximum(target, self._lower), self._upper)
        wanted = np.minimum(np.maximum(inside, low), high)
        setpoint = np.minimum(np.maximum(wanted, measured - self._window), measured + self._window)
        if not self._accelerates and (setpoint == target).all() and (wanted == target).all():
            self.setpoint, self._behind = setpoint, 0.0
            return setpoint, Clip.NONE
        return self._cut(target, measured, setpoint, low, high)

    def _cut(self, target: np.ndarray, measured: np.ndarray, setpoint: np.ndarray, low: np.ndarray,
             high: np.ndarray) -> tuple[np.ndarray, Clip]:
        """The rarer way through `advance`: something is not as it was wanted, or its velocity has to be remembered."""
        before = self.setpoint
        if not (np.isfinite(target).all() and np.isfinite(measured).all()):
            self._moved = np.zeros_like(before)
            return before, Clip.NOT_FINITE
        clip = Clip.NONE if (setpoint == target).all() else self._reasons(target, measured)
        allowed = self._yielding(setpoint)
        self._behind = self._behind + self._period if (allowed != setpoint).any() else 0.0
        if (low > high).any() or self._behind > CATCH_UP:
            self._moved = np.zeros_like(before)
            return before, clip | Clip.EMPTY
        self._moved = np.where((allowed < low) | (allowed > high), 0.0, allowed - before)
        self.setpoint = allowed
        return allowed, clip

    def _yielding(self, setpoint: np.ndarray) -> np.ndarray:
        """As near to `setpoint` as a push may bring it."""
        before, reach = self.setpoint, YIELD * self._velocity * self._period
        low = np.maximum(before - reach, np.minimum(self._lower, before))
        return np.minimum(np.maximum(setpoint, low), np.minimum(before + reach, np.maximum(self._upper, before)))

    def _inertia(self, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The interval that the acceleration leaves, and the end of the range it must still be able to brake before."""
        change = self._acceleration * self._period**2
        slow, fast = before + self._moved - change, before + self._moved + change
        return (np.maximum(slow, before - self._braking(before - self._lower)),
                np.minimum(fast, before + self._braking(self._upper - before)))

    def _braking(self, room: np.ndarray) -> np.ndarray:
        """The longest step that `acceleration` can still stop within `room`: v = a (sqrt(dt² + 2 room/a) - dt)."""
        dt, a = self._period, self._acceleration
        return a * dt * (np.sqrt(dt**2 + 2 * np.maximum(room, 0) / a) - dt)

    def _reasons(self, target: np.ndarray, measured: np.ndarray) -> Clip:
        before, clip = self.setpoint, Clip.NONE
        bounds = [(self._lower, self._upper, Clip.POSITION),
                  (measured - self._window, measured + self._window, Clip.TORQUE),
                  (before - self._step, before + self._step, Clip.RELATIVE_STEP),
                  (before - self._velocity * self._period, before + self._velocity * self._period, Clip.VELOCITY)]
        if self._accelerates:
            bounds.append((*self._inertia(before), Clip.ACCELERATION))
        for low, high, reason in bounds:
            if ((target < low) | (target > high)).any():
                clip |= reason
        return clip


class Trust(enum.IntEnum):
    """How far the last command may still be followed."""

    FRESH = 0
    HOLD = 1
    DAMP = 2


@dataclass
class Watchdog:
    """A command is followed for `ttl` seconds, held until `damp_after` seconds, then the robot damps."""

    ttl: float
    damp_after: float
    _fed: int | None = None

    def feed(self, now: int) -> None:
        """A command came at `now` [ns]."""
        self._fed = now

    def trust(self, now: int) -> Trust:
        """Never fed: DAMP."""
        if self._fed is None:
            return Trust.DAMP
        age = (now - self._fed) * 1e-9
        return Trust.FRESH if age <= self.ttl else Trust.HOLD if age <= self.damp_after else Trust.DAMP


class Interlock:
    """Mode and latched fault. Reading is free of locks; an e-stop that races with `arm` always wins."""

    def __init__(self) -> None:
        self.mode = Mode.DISARMED
        self.fault = ""
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Raises FaultLatched."""
        with self._lock:
            if self.mode == Mode.FAULT:
                raise FaultLatched(f"{self.fault}; look at the robot, then clear the fault")
            self.mode = Mode.ARMED

    def stop(self, level: Stop) -> None:
        """HOLD leaves the mode alone, DAMP disarms, ESTOP latches."""
        if level == Stop.ESTOP:
            self.trip(ESTOPPED)
        elif level == Stop.DAMP:
            with self._lock:
                self.mode = Mode.FAULT if self.mode == Mode.FAULT else Mode.DISARMED

    def trip(self, fault: str) -> None:
        """Latch a fault; the first one is kept, because it names the cause."""
        with self._lock:
            if self.mode != Mode.FAULT:
                self.mode, self.fault = Mode.FAULT, fault

    def clear(self, token: str) -> None:
        """An operator looked: disarmed. Raises FaultLatched where `token` is empty; without a fault nothing changes."""
        with self._lock:
            if self.mode == Mode.FAULT:
                if not token.strip():
                    raise FaultLatched(f"{self.fault}; clearing it needs the name of the operator who looked")
                self.mode, self.fault = Mode.DISARMED, ""
