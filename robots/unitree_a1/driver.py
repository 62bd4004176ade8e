"""Driver of the Unitree A1: twelve joint angles follow the actions through filter, interpolation and limits.

A command is a joint position per motor, mapped from [-1, 1] to the angles that actions reach, low-passed at the
policy's rate and interpolated to it over one control period, as on the robot DayDreamer trained. Every inner period
(1 ms on the double in this process, 2 ms over the network) the limits choose the next setpoint from that line and from
the measured angles. Disarmed or faulted the motors damp.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

import numpy as np
from gymnasium import spaces

from robots.driver import (
    Applied,
    Clip,
    CommandRejected,
    Driver,
    Health,
    Mode,
    NotConnected,
    RobotError,
    RobotSpec,
    Signals,
    StaleState,
    Stop,
)
from robots.monitors import Threshold
from robots.safety import Gate, Interlock, Limits, Trust, Watchdog
from robots.unitree_a1 import anatomy
from robots.unitree_a1.estimator import VelocityEstimator, up
from robots.unitree_a1.filter import LowPass
from robots.unitree_a1.link import INNER_HZ, A1Link, LowCommand, LowState
from robots.unitree_a1.links import make_link
from robots.unitree_a1.options import A1Options
from robots.unitree_a1.tasks import Run, Walk

log = logging.getLogger(__name__)

ESTIMATE_EVERY = 0.01  # s between updates of the velocity estimate
TORQUE_TRIP = 42.0  # N m
TILT_TO_PARK = 0.9  # rad; beyond it folding the legs would not lay the robot down
FOLD_SECONDS, SINK_SECONDS = 2.0, 0.3
STALE = 0.1  # s without a new state

# name -> (shape, unit)
SIGNALS = {
    "joint_angles": (12, "rad"), "joint_velocities": (12, "rad/s"), "torques": (12, "N m"), "setpoint": (12, "rad"),
    "filter_ahead": (24, "rad"), "tilt": (2, "rad"), "tilt_rates": (2, "rad/s"), "up": (3, ""),
    "angular_velocity": (3, "rad/s"), "acceleration": (3, "m/s^2"), "foot_contacts": (4, ""),
    "base_velocity": (3, "m/s"),
}


class A1Driver(Driver):
    """See the module. `link` is None until it is needed first."""

    Options = A1Options
    tasks = {"walk": Walk, "run": Run}
    thresholds = {"temperature_celsius": Threshold(50.0, 60.0),  # at 60 the robot switches the motor off by itself
                  "torque_newton_metres": Threshold(38.0, TORQUE_TRIP)}

    def __init__(self, options: A1Options = A1Options(), control_hz: float = 20.0, seed: int = 0) -> None:
        self.options, self.spec, self._seed = options, _spec(options, control_hz), seed
        self.link: A1Link | None = None
        inner_hz = self.spec.inner_hz
        self._reach = anatomy.REACHES[options.actions]
        self._gate = Gate(self.spec.action_space)
        self._limits = Limits(anatomy.LOWER, anatomy.UPPER, 1 / inner_hz, velocity=anatomy.SPEED, window=anatomy.WINDOW)
        self._filter = LowPass(options.filter_hz, control_hz)
        self._estimator = VelocityEstimator(options.contact_force)
        self._estimate_every = round(ESTIMATE_EVERY * inner_hz)
        self._interlock = Interlock()
        self._commands, self._states = (Watchdog(self.spec.command_ttl, self.spec.damp_after) for _ in range(2))
        self._line_ticks = round(inner_hz / control_hz)
        self._connected = self._hold_wanted = False
        self._ticks = self._sequence = 0
        self._speed, self._clip = 0.0, Clip.NONE

    def connect(self, timeout: float = 10.0) -> None:
        """Opens the link and comes up disarmed. A latched fault stays latched."""
        if self._connected:
            return
        if self.link is None:
            self.link = make_link(self.options, self.spec.control_hz, self._seed)
        if self._speed:
            self.link.keep_pace(self._speed)
        self._interlock.stop(Stop.DAMP)
        self._estimator.reset()
        self._felt = np.zeros(3)
        self._see(self.link.open(timeout))
        self._up = up(self._state.quaternion)
        self._follow_pose()
        self._settle()
        self._connected = True

    def disconnect(self) -> None:
        """Folds the legs to lie on the belly where that is safe, then damps and closes the link."""
        if not self._connected:
            return
        try:
            self._park()
            self._interlock.stop(Stop.DAMP)
            self._advance_for(SINK_SECONDS, self._damping, lambda: True)
        except RobotError as error:
            log.warning("parking ended early: %s", error)
        self._interlock.stop(Stop.DAMP)
        self._connected = False
        self.link.close()

    def read(self) -> Signals:
        """The newest state and what is estimated from it; see SIGNALS for names, sizes and units."""
        self._require_connection()
        state, vertical = self._state, self._up
        roll, pitch = math.atan2(vertical[1], vertical[2]), -math.asin(max(-1.0, min(1.0, vertical[0])))
        values = {
            "joint_angles": state.q, "joint_velocities": state.dq, "torques": state.tau,
            "setpoint": self._limits.setpoint, "filter_ahead": self._filter.ahead(self._limits.setpoint).ravel(),
            "tilt": np.array([roll, pitch]), "tilt_rates": state.gyro[:2], "up": vertical,
            "angular_velocity": state.gyro, "acceleration": state.acceleration,
            "foot_contacts": state.foot_force > self.options.contact_force, "base_velocity": self._estimator.velocity,
        }
        values = {name: np.asarray(value, np.float32) for name, value in values.items()}
        return Signals(values | self.link.extras(), state.time, self._sequence)

    def command(self, action: np.ndarray) -> Applied:
        """A joint position per motor, [12] in [-1, 1] over what actions reach; filtered, it is there after one period.

        The mask also holds what the limits met since the command before.
        """
        self._require_connection()
        if self._interlock.mode != Mode.ARMED:
            return _with(Gate(self.spec.action_space).admit(action), Clip.DISARMED)
        self._obey_hold()
        if self._trust() != Trust.FRESH:
            self._settle()
        applied = self._gate.admit(action)
        self._commands.feed(self.link.now())
        self._draw_line(self._filter(anatomy.to_angles(applied.action, self._reach)))
        met, self._clip = self._clip, Clip.NONE
        return _with(applied, met)

    def tick(self) -> None:
        """One inner period: choose the setpoint, exchange it for a state."""
        self._require_connection()
        if self._interlock.mode != Mode.ARMED:
            return self._advance(self._damping())
        self._obey_hold()
        trust = self._trust()
        if trust == Trust.DAMP:
            log.warning("no command, or no state, for %.1f s: damped and disarmed", self.spec.damp_after)
            self._interlock.stop(Stop.DAMP)
            return self._advance(self._damping())
        if trust == Trust.HOLD and self._line_left:
            self._draw_line(self._limits.setpoint, ticks=0)
        if trust == Trust.HOLD:
            self._clip |= Clip.STALE
        self._advance(self._following(self._next_on_line()))

    def arm(self) -> None:
        """The motors take the measured pose. Raises StaleState where that is older than 0.1 s, CommandRejected where
        nobody holds the deadman's button."""
        self._require_connection()
        if not self._state.held:
            raise CommandRejected("unitree_a1: hold R1 of the remote while it is to move (deadman: remote)")
        if self._link_age() > STALE:
            raise StaleState(f"the newest state is {self._link_age():.2f} s old; is the robot on?")
        self._follow_pose()
        self._settle()
        self._commands.feed(self.link.now())
        self._hold_wanted, self._clip = False, Clip.NONE
        self._interlock.arm()

    def stop(self, level: Stop) -> None:
        """HOLD keeps the present setpoint until the next command; DAMP and ESTOP act at once, whoever else is dead."""
        self._hold_wanted = True
        self._interlock.stop(level)
        if level != Stop.HOLD and (link := self.link) is not None:
            link.halt()

    def clear_fault(self, token: str) -> None:
        """Ends disarmed; an empty token raises FaultLatched."""
        self._interlock.clear(token)

    def health(self) -> Health:
        """See `_gauges` for what else there is."""
        return Health(self._interlock.mode, self._interlock.fault, self._link_age() if self._connected else 0.0,
                      self._ticks, gauges=self._gauges() if self._connected else {})

    def standing(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action whose angles are the present setpoint's."""
        action = anatomy.to_action(values["setpoint"], self._reach)
        return np.clip(action, -1, 1).astype(np.float32)

    def keep_pace(self, speed: float) -> None:
        """Renders on a thread and parks in real time. Only a double in this process has another speed than 1."""
        if speed != 1 and self.options.link != "direct":
            raise ValueError(f"speed: {speed:g}: link={self.options.link} runs in real time, at 1")
        self._speed = speed
        if self.link is not None:
            self.link.keep_pace(speed)

    def reseed(self, seed: int) -> None:
        """Noise and random poses of the double."""
        self._seed = seed
        if self.link is not None:
            self.link.reseed(seed)

    def _gauges(self) -> dict[str, float]:
        """`tilt_radians` from upright, `torque_newton_metres` of the hardest working motor, `temperature_celsius` of
        the hottest (a double's is always that of a room), what the link counts, and on a double in this process
        `velocity_error_metres_per_second`: how far the estimated base velocity is from the true one."""
        gauges = {"tilt_radians": math.acos(max(-1.0, min(1.0, float(self._up[2])))),
                  "torque_newton_metres": float(np.abs(self._state.tau).max()),
                  "temperature_celsius": self._state.temperature}
        if (truth := self.link.truth().get("base_velocity")) is not None:
            gauges["velocity_error_metres_per_second"] = float(np.linalg.norm(self._estimator.velocity - truth))
        return gauges | self.link.gauges()

    def _advance(self, command: LowCommand) -> None:
        before = self._state.time
        self._see(self.link.exchange(command))
        self._ticks += 1
        if self._state.time != before:
            self._sequence = self._ticks

    def _see(self, state: LowState) -> None:
        """Take a state in and check it; every few milliseconds also the estimates, and the checks that need no more."""
        self._state = state
        self._states.feed(state.time)
        if np.abs(state.tau).max() > TORQUE_TRIP:
            self._interlock.trip(f"a motor passed {TORQUE_TRIP:g} N m")
        if state.fault:
            self._interlock.trip(state.fault)
        elif not state.held:
            self._interlock.stop(Stop.DAMP)
        self._felt += state.acceleration
        if self._ticks % self._estimate_every == 0:
            felt, self._felt = self._felt / self._estimate_every, np.zeros(3)
            self._up = up(state.quaternion)
            if self._is_finite(state, felt):
                self._estimator.update(self._estimate_every / self.spec.inner_hz, state.q, state.dq, self._up,
                                       state.gyro, felt, state.foot_force)

    def _is_finite(self, state: LowState, felt: np.ndarray) -> bool:
        """Anything else is a fault, and an estimate made of it would never be finite again."""
        finite = math.isfinite(sum(float(value.sum()) for value in (*state[1:8], felt)))
        if not finite:
            self._interlock.trip("the robot's state is not finite; check its sensors")
        return finite

    def _trust(self) -> Trust:
        """As far as both the commands and the robot's own states are fresh."""
        now = self.link.now()
        return max(self._commands.trust(now), self._states.trust(now))

    def _following(self, target: np.ndarray) -> LowCommand:
        setpoint, clip = self._limits.advance(target, self._state.q)
        self._clip |= clip
        if clip & (Clip.EMPTY | Clip.NOT_FINITE):
            self._interlock.trip(f"no setpoint satisfies the limits ({clip!r})")
        return LowCommand(setpoint, anatomy.KP, anatomy.KD)

    def _damping(self) -> LowCommand:
        """Follows the pose, so that the setpoint of a damped robot is where it is."""
        self._follow_pose()
        return LowCommand(self._limits.setpoint, _LIMP, anatomy.DAMPING_KD)

    def _follow_pose(self) -> None:
        """No motor is ever sent what is not finite, not even with a gain of zero."""
        if math.isfinite(self._state.q.sum()):
            self._limits.start(self._state.q)

    def _settle(self) -> None:
        """Nothing of the motion before is left: what comes next begins at the present setpoint, at rest."""
        here = self._limits.setpoint
        self._filter.start(here)
        self._gate.start(anatomy.to_action(here, self._reach))
        self._draw_line(here, ticks=0)

    def _obey_hold(self) -> None:
        if self._hold_wanted:
            self._hold_wanted = False
            self._commands.feed(self.link.now())
            self._settle()

    def _draw_line(self, end: np.ndarray, ticks: int | None = None) -> None:
        """From the present setpoint to `end` within a control period, or at once with `ticks=0`."""
        self._line_end, self._line_left = end, self._line_ticks if ticks is None else ticks
        self._line_step = (end - self._limits.setpoint) / max(1, self._line_left)

    def _next_on_line(self) -> np.ndarray:
        if not self._line_left:
            return self._line_end
        self._line_left -= 1
        return self._line_end - self._line_left * self._line_step

    def _can_park(self) -> bool:
        upright = float(self._up[2]) > math.cos(TILT_TO_PARK)
        return self._interlock.mode == Mode.ARMED and upright and self._link_age() <= STALE

    def _park(self) -> None:
        """Does nothing where it is not safe to fold the legs."""
        self._draw_line(anatomy.FOLDED, ticks=round(FOLD_SECONDS * self.spec.inner_hz))
        self._advance_for(FOLD_SECONDS, lambda: self._following(self._next_on_line()), self._can_park)

    def _advance_for(self, seconds: float, choose: Callable[[], LowCommand], safe: Callable[[], bool]) -> None:
        """Advance at the owner's pace, as long as it is safe."""
        start, hz = time.monotonic(), self.spec.inner_hz
        for tick in range(round(seconds * hz)):
            if not safe():
                return
            self._advance(choose())
            ahead = tick / hz / self._speed - (time.monotonic() - start) if self._speed else 0.0
            if ahead > 0.002:
                time.sleep(ahead)

    def _link_age(self) -> float:
        return (self.link.now() - self._state.time) * 1e-9

    def _require_connection(self) -> None:
        if not self._connected:
            raise NotConnected("unitree_a1: connect first")


_LIMP = np.zeros(12)


def _spec(options: A1Options, control_hz: float) -> RobotSpec:
    if not 1 <= control_hz <= 200:
        raise ValueError(f"control_hz: {control_hz:g}: allowed is 1 to 200")
    signals: dict[str, spaces.Space] = {name: spaces.Box(-np.inf, np.inf, (size,), np.float32)
                                        for name, (size, _) in SIGNALS.items()}
    units = {name: unit for name, (_, unit) in SIGNALS.items()}
    if options.camera == "chase":
        signals["image"] = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        signals["depth"] = spaces.Box(0, 255, (64, 64, 1), np.uint8)
        units |= {"image": "", "depth": "0.02 m"}
    signals["disturbances"], units["disturbances"] = spaces.Box(0, np.inf, (3,), np.float32), ""
    action = spaces.Box(-1.0, 1.0, (12,), np.float32)
    ttl = max(0.2, 2.5 / control_hz)
    return RobotSpec("unitree_a1", spaces.Dict(signals), units, action, control_hz, INNER_HZ[options.link], ttl,
                     max(1.0, 2 * ttl))


def _with(applied: Applied, clip: Clip) -> Applied:
    return Applied(applied.action, applied.clip | clip) if clip else applied
