"""Driver of a quadruped, whatever its make: twelve joint angles follow the actions through filter, interpolation and
limits.

A command is a joint position per motor, mapped from [-1, 1] to the angles that actions reach, low-passed at the
policy's rate and interpolated to it over one control period, as on the robot DayDreamer trained. Every inner period
(1 ms on the double in this process, 2 ms over the network) the limits choose the next setpoint from that line and from
the measured angles. Disarmed or faulted the motors damp.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from robots.driver import Bound, Clip, CommandRejected, Health, RobotSpec, Stop, expiry
from robots.legs.anatomy import JOINTS, Anatomy, Reach
from robots.legs.estimator import VelocityEstimator, up
from robots.legs.filter import LowPass
from robots.legs.link import INNER_HZ, LegsLink, LowCommand, LowState
from robots.legs.options import LegsOptions
from robots.safety import Limits
from robots.setpoints import SetpointDriver, signals_of

ESTIMATE_EVERY = 0.01  # s between updates of the velocity estimate and of the torque residual
RESIDUAL_SECONDS = 0.25  # for which a motor does not do what it is told, to show
TILT_TO_PARK = 0.9  # rad; beyond it folding the legs would not lay the robot down
FOLD_SECONDS, SINK_SECONDS = 2.0, 0.3
STRAY = 0.05  # rad that a joint which rests on its stop may be beyond its range

# name -> (shape, unit)
SIGNALS = {
    "joint_angles": (12, "rad"), "joint_velocities": (12, "rad/s"), "torques": (12, "N m"), "setpoint": (12, "rad"),
    "filter_ahead": (24, "rad"), "tilt": (2, "rad"), "tilt_rates": (2, "rad/s"), "up": (3, ""),
    "angular_velocity": (3, "rad/s"), "acceleration": (3, "m/s^2"), "foot_contacts": (4, ""),
    "base_velocity": (3, "m/s"),
}


class LegsDriver(SetpointDriver):
    """See the module. A quadruped is a subclass that has `anatomy`, `Options`, `tasks`, `protocol` and `hardware`. An
    action is a joint position per motor, [12] in [-1, 1] over what actions reach; filtered, it is there after one
    period."""

    link: LegsLink | None
    Options = LegsOptions
    anatomy: ClassVar[Anatomy]

    def __init__(self, options: LegsOptions | None = None, control_hz: float = 20.0, seed: int = 0) -> None:
        options = options or self.Options()
        super().__init__(options, _spec(self.anatomy.name, options, control_hz))
        self._seed, inner_hz, body = seed, self.spec.inner_hz, self.anatomy
        self._limits = Limits(body.lower, body.upper, 1 / inner_hz, velocity=body.speed, window=body.window)
        self._filter = LowPass(options.filter_hz, control_hz)
        self._estimator = VelocityEstimator(body, options.contact_force)
        self._estimate_every = round(ESTIMATE_EVERY * inner_hz)
        self._line_ticks = round(inner_hz / control_hz)

    @abstractmethod
    def protocol(self) -> LegsLink:
        """The vendor's protocol to a double in a process of its own."""

    @abstractmethod
    def hardware(self) -> LegsLink:
        """The vendor's protocol to `options.address`."""

    def direct(self) -> LegsLink:
        """A double in this process."""
        from robots.legs.double import LegsDouble  # mujoco only where there is no robot

        camera_hz = self.spec.control_hz if self.options.camera == "chase" else 0.0
        return LegsDouble(self.anatomy, **self.options.world(self._seed), camera_hz=camera_hz)

    def _open_way(self) -> LegsLink:
        return {"direct": self.direct, "protocol": self.protocol, "hardware": self.hardware}[self.options.link]()

    def _begin(self, state: LowState) -> None:
        self._estimator.reset()
        self._felt: list[np.ndarray] = []  # accelerations since the last estimate
        self._told, self._residual, self._compared = LowCommand(state.q, _LIMP, _LIMP), np.zeros(12), state.time
        self._up = up(state.quaternion)
        self._see(state)

    def _values(self) -> dict[str, np.ndarray]:
        """See SIGNALS for names, sizes and units."""
        state, vertical = self._state, self._up
        roll, pitch = math.atan2(vertical[1], vertical[2]), -math.asin(max(-1.0, min(1.0, vertical[0])))
        return {
            "joint_angles": state.q, "joint_velocities": state.dq, "torques": state.tau,
            "setpoint": self._limits.setpoint, "filter_ahead": self._filter.ahead(self._limits.setpoint).ravel(),
            "tilt": np.array([roll, pitch]), "tilt_rates": state.gyro[:2], "up": vertical,
            "angular_velocity": state.gyro, "acceleration": state.acceleration,
            "foot_contacts": state.foot_force > self.options.contact_force, "base_velocity": self._estimator.velocity,
        }

    def arm(self) -> None:
        """See SetpointDriver. Raises CommandRejected where nobody holds the deadman's button."""
        self._require_connection()
        if not self._state.held:
            raise CommandRejected(f"{self.spec.name}: hold R1 of the remote while it is to move (deadman: remote)")
        super().arm()

    def stop(self, level: Stop) -> None:
        """HOLD keeps the present setpoint until the next command; DAMP and ESTOP act at once, whoever else is dead."""
        super().stop(level)
        if level != Stop.HOLD and (link := self.link) is not None:
            link.halt()

    def health(self) -> Health:
        """See `_gauges` for what else there is."""
        return Health(self._interlock.mode, self._interlock.fault, self._link_age() if self._connected else 0.0,
                      self._ticks, gauges=self._gauges() if self._connected else {})

    def standing(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action whose angles are the present setpoint's."""
        action = self._to_action(values["setpoint"])
        return np.clip(action, -1, 1).astype(np.float32)

    def limits(self, values: Mapping[str, np.ndarray]) -> tuple[Bound, ...]:
        """Of the joints; see Driver."""
        body, q = self.anatomy, values["joint_angles"]
        ranges, reach = (_told(ends) for ends in ((body.lower, body.upper), body.reaches[self.options.actions]))
        every = zip(JOINTS, q, body.lower, body.upper, strict=True)
        stray = [f"{joint} is at {at:.2f}" for joint, at, low, high in every
                 if not low - STRAY <= at <= high + STRAY]
        trips = " or ".join(f"{trip:g}" for trip in sorted(set(body.trip)))
        return (
            Bound("joint range", f"{ranges} rad", ", ".join(stray), "its zero is off: switch the robot off, fold its "
                  "legs as its manual shows, and switch it on again"),
            Bound("actions", f"reach {reach} rad"),
            Bound("joint speed", f"at most {body.speed:g} rad/s"),
            Bound("torque", f"setpoints stay within {body.window:g} rad of the measured angles, "
                  f"{trips} N m of a motor is a fault; now {np.abs(values['torques']).max():.1f}"))

    def reseed(self, seed: int) -> None:
        """Noise and random poses of the double."""
        self._seed = seed
        if self.link is not None:
            self.link.reseed(seed)

    def _gauges(self) -> dict[str, float]:
        """`tilt_radians` from upright, `torque_newton_metres` of the hardest working motor,
        `torque_residual_newton_metres` of the one that lately bore least what it was told (it is limp, blocked, or at
        its limit), `temperature_celsius` of the hottest (a double's is always that of a room), what the link counts,
        and on a double in this process `velocity_error_metres_per_second`: how far the estimated base velocity is from
        the true one."""
        gauges = {"tilt_radians": math.acos(max(-1.0, min(1.0, float(self._up[2])))),
                  "torque_newton_metres": float(np.abs(self._state.tau).max()),
                  "torque_residual_newton_metres": float(np.abs(self._residual).max()),
                  "temperature_celsius": self._state.temperature}
        if (truth := self.link.truth().get("base_velocity")) is not None:
            gauges["velocity_error_metres_per_second"] = float(np.linalg.norm(self._estimator.velocity - truth))
        return gauges | self.link.gauges()

    def _see(self, state: LowState) -> None:
        """Take a state in and check it; every few milliseconds also the estimates, and the checks that need no more."""
        self._state = state
        self._states.feed(state.time)
        if (strained := np.abs(state.tau) > self.anatomy.trip).any():
            joint = int(np.argmax(strained))
            self._interlock.trip(f"{JOINTS[joint]}: the motor passed {self.anatomy.trip[joint]:g} N m")
        if state.fault:
            self._interlock.trip(state.fault)
        elif not state.held:
            self._interlock.stop(Stop.DAMP)
        self._felt.append(state.acceleration)
        if len(self._felt) == self._estimate_every:
            felt, self._felt = np.mean(self._felt, 0), []
            self._up = up(state.quaternion)
            if self._is_finite(state, felt):
                seconds = self._estimate_every / self.spec.inner_hz
                self._estimator.update(seconds, state.q, state.dq, self._up, state.gyro, felt, state.foot_force)
                self._compare(seconds)

    def _compare(self, seconds: float) -> None:
        """What the motors bear with what their position loops would have them bear; an old state says nothing of it."""
        state, told, most = self._state, self._told, self.anatomy.torque
        if state.time == self._compared:
            return
        self._compared = state.time
        wanted = np.clip(told.kp * (told.q - state.q) - told.kd * state.dq, -most, most)
        self._residual += (1 - math.exp(-seconds / RESIDUAL_SECONDS)) * (state.tau - wanted - self._residual)

    def _advance(self, order: LowCommand) -> None:
        self._told = order
        super()._advance(order)

    def _is_finite(self, state: LowState, felt: np.ndarray) -> bool:
        """Anything else is a fault, and an estimate made of it would never be finite again."""
        finite = math.isfinite(sum(float(value.sum()) for value in (*state[1:8], felt)))
        if not finite:
            self._interlock.trip("the robot's state is not finite; check its sensors")
        return finite

    def _take(self, action: np.ndarray) -> Clip:
        self._draw_line(self._filter(self.anatomy.to_angles(action, self.options.actions)))
        return Clip.NONE

    def _wanted(self) -> np.ndarray:
        """The next point on the line."""
        if not self._line_left:
            return self._line_end
        self._line_left -= 1
        return self._line_end - self._line_left * self._line_step

    def _order(self, setpoint: np.ndarray, before: np.ndarray) -> LowCommand:
        return LowCommand(setpoint, self.anatomy.kp, self.anatomy.kd)

    def _stand(self) -> None:
        """Damps. It follows the pose, so that the setpoint of a damped robot is where it is."""
        self._follow_pose()
        self._advance(LowCommand(self._limits.setpoint, _LIMP, self.anatomy.damping))

    def _follow_pose(self) -> None:
        """No motor is ever sent what is not finite, not even with a gain of zero."""
        if math.isfinite(self._state.q.sum()):
            self._limits.start(self._state.q)

    def _start(self) -> None:
        self._follow_pose()
        self._settle()

    def _settle(self) -> None:
        here = self._limits.setpoint
        self._filter.start(here)
        self._gate.start(self._to_action(here))
        self._draw_line(here, ticks=0)

    def _hold(self) -> None:
        """Where the line had come to when the command expired."""
        if self._line_left:
            self._draw_line(self._limits.setpoint, ticks=0)

    def _draw_line(self, end: np.ndarray, ticks: int | None = None) -> None:
        """From the present setpoint to `end` within a control period, or at once with `ticks=0`."""
        self._line_end, self._line_left = end, self._line_ticks if ticks is None else ticks
        self._line_step = (end - self._limits.setpoint) / max(1, self._line_left)

    def _to_action(self, angles: np.ndarray) -> np.ndarray:
        return self.anatomy.to_action(angles, self.options.actions)

    def _can_park(self) -> bool:
        return super()._can_park() and float(self._up[2]) > math.cos(TILT_TO_PARK)

    def _park(self) -> None:
        """Folds the legs to lie on the belly."""
        self._draw_line(self.anatomy.folded, ticks=round(FOLD_SECONDS * self.spec.inner_hz))
        for _ in self._periods(FOLD_SECONDS):
            if not self._can_park():
                return
            self._follow(self._wanted())

    def _sink(self) -> None:
        for _ in self._periods(SINK_SECONDS):
            self._stand()


_LIMP = np.zeros(12)


def _spec(name: str, options: LegsOptions, control_hz: float) -> RobotSpec:
    if not 1 <= control_hz <= 200:
        raise ValueError(f"control_hz: {control_hz:g}: allowed is 1 to 200")
    signals, units = signals_of(SIGNALS, camera=options.camera == "chase")
    signals["disturbances"], units["disturbances"] = spaces.Box(0, np.inf, (3,), np.float32), ""
    action = spaces.Box(-1.0, 1.0, (12,), np.float32)
    return RobotSpec(name, spaces.Dict(signals), units, action, control_hz, INNER_HZ[options.link],
                     *expiry(control_hz))


def _told(ends: Reach) -> str:
    """From where to where hips, thighs and calves may go; front and rear apart where they differ."""
    legs = np.stack(ends, 1).reshape(4, 3, 2)
    told = []
    for joint, front, rear in zip(("hips", "thighs", "calves"), legs[0], legs[2], strict=True):
        if (front == rear).all():
            told.append(f"{joint} {front[0]:.2f} to {front[1]:.2f}")
        else:
            told += [f"{where} {joint} {low:.2f} to {high:.2f}"
                     for where, (low, high) in (("front", front), ("rear", rear))]
    return ", ".join(told)
