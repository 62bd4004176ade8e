"""Driver of any LeRobot robot, by what all of them have: features, connect, get_observation, send_action, disconnect.

What LeRobot leaves open stands in the config: units, ranges, speeds. Setpoints begin at the measured pose and follow
the actions no faster than the speeds allow. Without fresh commands or readings, disarmed or stopped, it rests:
positions are held where they are, velocities are zero. **LeRobot has no verb that cuts the torque**: a stop here is a
robot that holds still. What `disconnect` does is up to the robot; many go limp.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from robots.basic import BasicDriver
from robots.cameras.decode import metres, shrink, shrink_depth, to_counts
from robots.driver import Applied, Clip, Health, LinkLost, Mode, RobotSpec, StaleState, Stop, expiry
from robots.lerobot.bus import Bus, Wish, make_robot
from robots.lerobot.options import LeRobotOptions, signal_name
from robots.lerobot.tasks import Centre
from robots.monitors import Threshold
from robots.safety import Limits

LOST = 5.0  # s without a reading until the link is given up
TURN = 10.0  # s that an exchange may take in virtual time
DEPTH_UNIT = 0.02  # metres per count of a depth signal
MILLIMETRE, NEAR, FAR = 0.001, 0.05, 5.1  # LeRobot's depth counts, and what is kept of it [m]
CLAMPED = 1e-3  # of a range; where the robot sends what differs by more from what it was told, the mask says so


class LeRobotDriver(BasicDriver):
    """See the module. Signals: each measured number, in SI; `position` [A], what is commanded as measured, and
    `setpoint` [A], as the robot says it was sent, both in [-1, 1] of their ranges; each camera's picture, and its
    depth. For tasks of your own: a subclass with `tasks`."""

    Options = LeRobotOptions
    tasks = {"centre": Centre}
    packages = ("lerobot",)
    thresholds = {"link_age_seconds": Threshold(0.3, math.inf)}

    def __init__(self, options: LeRobotOptions, control_hz: float = 20.0, seed: int = 0) -> None:
        self.options, self._features = options, options.features
        self._commanded = [feature for feature in self._features if feature.speed]
        super().__init__(_spec(options, control_hz))
        low, high, self._speeds = (np.array([getattr(feature, name) for feature in self._commanded])
                                   for name in ("low", "high", "speed"))
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._holds = np.array([feature.rest == "hold" for feature in self._commanded])
        ends = np.sort(np.stack([low, high]) / self._speeds, 0)  # in seconds of full speed, the limit is 1 for all
        self._limits = Limits(*ends, 1 / self.spec.inner_hz, velocity=1.0)
        self._bus = self._make_bus()
        self._told = self._resting = False
        self._clip, self._seen = Clip.NONE, 0
        if ":" in options.type:
            self.packages = ()  # a robot of one's own

    def open(self, timeout: float) -> None:
        """See BasicDriver. Nothing is sent before the robot is armed."""
        self._told, self._resting, self._clip, self._seen = False, False, Clip.NONE, 0
        self._bus = self._make_bus()
        self._bus.open(timeout)

    def measure(self) -> dict[str, np.ndarray]:
        """See the class."""
        reading, captured = self._bus.reading, self._bus.time
        if captured != self._seen:
            self._seen = captured
            self._pictures = {signal_name(name): _picture(name, reading[name], self.options.image_size)
                              for name in self.options.cameras}
        values = {feature.signal: np.array([feature.to_si(float(reading[feature.name]))], np.float32)
                  for feature in self._features if feature.measured}
        measured, sent = self._measured(), self._bus.sent
        setpoint = measured if sent is None else np.array([sent[1].get(f.name, sent[0][f.name])
                                                           for f in self._commanded])
        return values | self._pictures | {"position": self._to_action(measured), "setpoint": self._to_action(setpoint)}

    def drive(self, action: np.ndarray | None) -> None:
        """One step of the setpoint towards the action, or rest."""
        if action is None or self._age() > self.spec.command_ttl:
            self._rest()
        else:
            self._resting = False
            self._follow(self._middle + self._half * action)
        self._bus.turn(TURN)
        if self._age() > LOST:
            raise LinkLost(f"no reading for {self._age():.1f} s: {self._bus.error or 'the robot hangs'}")

    def close(self) -> None:
        """As the robot's own disconnect does it."""
        self._bus.close()

    def command(self, action: np.ndarray) -> Applied:
        """A value per commanded number, [A] in [-1, 1] from its low to its high. The mask also holds what the limits,
        and the robot's own clamps, met since the command before."""
        applied = super().command(action)
        met, self._clip = self._clip, Clip.NONE
        return Applied(applied.action, applied.clip | met)

    def tick(self) -> None:
        """Disarms where no reading has come for `damp_after`."""
        super().tick()
        if self._age() > self.spec.damp_after:
            self._interlock.stop(Stop.DAMP)

    def arm(self) -> None:
        """The first setpoint is the measured pose. Raises StaleState."""
        self._require_connection()
        if self._age() > self.spec.command_ttl:
            raise StaleState(f"the newest reading is {self._age():.2f} s old: {self._bus.error or 'is the robot on?'}")
        self._begin()
        self._told = True
        super().arm()

    def standing(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Positions as they are, velocities zero."""
        zero = self._to_action(np.zeros(len(self._commanded)))
        return np.clip(np.where(self._holds, values["position"], zero), -1, 1).astype(np.float32)

    def health(self) -> Health:
        """`link_age`: since the newest reading. Gauges: `bus_errors`, exchanges that failed since it was connected."""
        health = super().health()
        if not self._connected:
            return health
        return replace(health, link_age=self._age(), gauges={"bus_errors": float(self._bus.errors)})

    def keep_pace(self, speed: float) -> None:
        """A robot runs at speed 1. Raises ValueError."""
        if speed != 1:
            raise ValueError(f"speed: {speed:g}: a LeRobot robot runs in real time, at speed 1")
        super().keep_pace(speed)

    def _follow(self, target: np.ndarray) -> None:
        measured = np.where(self._holds, self._measured(), self._limits.setpoint * self._speeds)
        setpoint, clip = self._limits.advance(target / self._speeds, measured / self._speeds)
        self._clip |= clip
        if clip & (Clip.EMPTY | Clip.NOT_FINITE):
            self._interlock.trip(f"no setpoint satisfies the limits ({clip!r})")
        self._note_clamps()
        self._tell(setpoint)

    def _rest(self) -> None:
        """At the setpoint for as long as it is armed; once stopped where it was then, so that nothing is pressed on."""
        stopped = self._interlock.mode != Mode.ARMED
        if stopped and not self._resting:
            self._begin()
        self._resting = stopped
        self._limits.start(np.where(self._holds, self._limits.setpoint, 0.0))
        if self._told:
            self._tell(self._limits.setpoint)

    def _begin(self) -> None:
        """The setpoint is the measured pose, and no velocity; the setpoint before, where nobody knows the pose."""
        measured = np.where(self._holds, self._measured(), 0.0) / self._speeds
        known = np.isfinite(measured).all() and self._age() <= self.spec.command_ttl
        self._limits.start(measured if known else np.where(self._holds, self._limits.setpoint, 0.0))

    def _tell(self, setpoint: np.ndarray) -> None:
        """Also what follows if this driver's owner hangs: positions stay, velocities end."""
        values = setpoint * self._speeds
        wish, then = ({feature.name: float(value) for feature, value in zip(self._commanded, numbers)}
                      for numbers in (values, np.where(self._holds, values, 0.0)))
        self._bus.tell(Wish(wish, time.monotonic() + self.spec.command_ttl, then))

    def _note_clamps(self) -> None:
        """A robot may clamp what it is told, as LeRobot's `max_relative_target` does."""
        if self._bus.sent is not None:
            told, sent = self._bus.sent
            if any(abs(sent.get(f.name, told[f.name]) - told[f.name]) > abs(f.high - f.low) * CLAMPED
                   for f in self._commanded):
                self._clip |= Clip.RELATIVE_STEP

    def _measured(self) -> np.ndarray:
        return np.array([float(self._bus.reading.get(feature.name, 0.0)) for feature in self._commanded])

    def _to_action(self, values: np.ndarray) -> np.ndarray:
        return ((values - self._middle) / self._half).astype(np.float32)

    def _age(self) -> float:
        return (time.monotonic_ns() - self._bus.time) * 1e-9 if self._speed else 0.0

    def _make_bus(self) -> Bus:
        return Bus(self._make_robot, 1 / self.spec.inner_hz, paced=bool(self._speed))

    def _make_robot(self) -> Any:
        """Raises LinkLost where the robot has not what the config says, or takes more."""
        robot = make_robot(self.options.type, self.options.config)
        takes, wanted = set(robot.action_features), {feature.name for feature in self._commanded}
        observes = dict(robot.observation_features)
        needed = {feature.name for feature in self._features if feature.measured} | set(self.options.cameras)
        small = {name for name in self.options.cameras if min((observes.get(name) or [9999] * 2)[:2])
                 < self.options.image_size}
        for names, text in ((needed - set(observes), "not observed by it"), (wanted - takes, "not taken by it"),
                            (takes - wanted, "taken by it, but without a speed in `units`"),
                            (small, "smaller than image_size")):
            if names:
                raise LinkLost(f"{self.options.type}: {', '.join(sorted(names))}: {text}; it observes "
                               f"{', '.join(sorted(observes))}, and takes {', '.join(sorted(takes))}")
        return robot


def _picture(name: str, picture: np.ndarray, side: int) -> np.ndarray:
    """RGB uint8 [H, W, 3] as uint8 [side, side, 3]; depth in millimetres, uint16 [H, W] or [H, W, 1], as the uint8
    counts [side, side, 1] of signals."""
    if not name.endswith("_depth"):
        return shrink(np.asarray(picture, np.uint8), (side, side))
    depth = metres(np.asarray(picture).reshape(picture.shape[:2]), MILLIMETRE, NEAR, FAR)
    return to_counts(shrink_depth(depth, (side, side)), DEPTH_UNIT)


def _spec(options: LeRobotOptions, control_hz: float) -> RobotSpec:
    commanded = sum(feature.speed > 0 for feature in options.features)
    number = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    vector = spaces.Box(-np.inf, np.inf, (commanded,), np.float32)
    signals: dict[str, spaces.Space] = {f.signal: number for f in options.features if f.measured}
    units = {f.signal: f.si for f in options.features if f.measured}
    for name in options.cameras:
        depth = name.endswith("_depth")
        shape = (options.image_size, options.image_size, 1 if depth else 3)
        signals[signal_name(name)] = spaces.Box(0, 255, shape, np.uint8)
        units[signal_name(name)] = f"{DEPTH_UNIT:g} m" if depth else ""
    signals |= {"position": vector, "setpoint": vector}
    units |= {"position": "", "setpoint": ""}
    inner_hz = control_hz * max(1, math.floor(options.hz / control_hz))
    return RobotSpec("lerobot", spaces.Dict(signals), units, spaces.Box(-1.0, 1.0, (commanded,), np.float32),
                     control_hz, inner_hz, *expiry(control_hz))
