"""Driver of a Sphero: two motor powers at 2 Hz, and a camera above that sees where the ball is.

As on the robot of DayDreamer the stabilization is off, the powers are small, and the model gets pictures alone: where
the ball is heading shows only in how it moves, and under which powers. It rests when commands expire, when the toy or
the camera is not heard, and while the ball is not seen; when that lasts it is disarmed, until somebody puts it back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from robots.basic import BasicDriver
from robots.driver import Applied, Bound, Clip, Health, RobotSpec, StaleState, Stop
from robots.link import Link
from robots.monitors import Threshold
from robots.sphero import link as links
from robots.sphero.link import BallState, Powers
from robots.sphero.options import SpheroOptions
from robots.sphero.tasks import Navigate
from robots.sphero.tracker import Tracker

INNER_HZ, LOOK_HZ = 20.0, 10.0  # at least: ticks per second, and pictures of a double in this process
SEEN = 0.3  # s for which a ball seen in one picture counts as where it is
FULL = 255
LEAST_TTL = 0.75  # s; a toy at rest is heard four times a second
BURST, BURSTS = 1.0, 3  # s of one random power, and how many of them scatter the ball
FASTEST = 10.0  # arena units per second that a ball is believed to roll
NEVER = 3600.0  # s since a ball was seen that never was
NOT_SEEN = "put it into the arena, and check the colour and the corners in the options"

SphereLink = Link[Powers, BallState]


class Moment(NamedTuple):
    """A picture: when it was taken [ns], where the ball was seen in it or last before, and under which powers it rolled
    then, of the options' `power`."""

    time: int
    picture: np.ndarray
    position: np.ndarray
    powers: np.ndarray


class SpheroDriver(BasicDriver):
    """See the module. Signals: `image` of the arena from above; `ball_position` in it, -1 while the ball is lost;
    `ball_velocities` between the pictures in `image` that follow one another, newest first, 0 where the ball was not
    seen anew, and no such signal where there is but one picture; `ball_lost`; `motor_powers` as the toy confirmed them,
    of full power; `powers_before`: those of the moments of these pictures, of the options' `power`; `goal`. `link`
    opens the way to a toy; without it the options say which."""

    Options = SpheroOptions
    tasks = {"navigate": Navigate}
    packages = ("spherov2", "bleak")
    thresholds = {"link_age_seconds": Threshold(1.5, math.inf)}

    def __init__(self, options: SpheroOptions = SpheroOptions(), control_hz: float = 2.0, seed: int = 0,
                 link: Callable[[], SphereLink] | None = None) -> None:
        super().__init__(_spec(control_hz, options.frames, options.pixels))
        self.options = options
        self._make_link = link or self._link_of_options
        self.link: SphereLink | None = None
        self._tracker = Tracker(options.corners, options.colour, options.pixels)
        self._goal = np.asarray(options.goal, np.float32)
        if options.link != "direct":
            super().keep_pace(1.0)
        if options.model == "sprk":
            self.thresholds = self.thresholds | {"battery_volts": Threshold(7.0, 6.5)}
        self.reseed(seed)

    def open(self, timeout: float) -> None:
        """The toy and its camera; see the links. Raises LinkLost, CameraLost."""
        if self.link is None:
            self.link = self._make_link()
        if self._speed:
            self.link.keep_pace(self._speed)
        self._frame, self._seen, self._position = -1, None, np.zeros(2, np.float32)
        self._commands, self._burst = 0, None
        self._moments: deque[Moment] = deque()  # the newest last
        self._look(self.link.open(timeout))

    def measure(self) -> dict[str, np.ndarray]:
        """See the class."""
        lost = self._unseen() > SEEN
        return self._lately() | {
            "ball_position": np.full(2, -1, np.float32) if lost else self._position,
            "ball_lost": np.array([lost], np.float32), "goal": self._goal,
            "motor_powers": np.asarray(self._state.powers, np.float32) / FULL}

    def drive(self, action: np.ndarray | None) -> None:
        """Powers of the left and the right motor; nothing where nobody can tell what they do."""
        if action is None or self._unheard() > self.spec.command_ttl:
            powers = (0, 0)
        else:
            left, right = np.round(action * self.options.power).astype(int)
            powers = int(left), int(right)
        self._look(self.link.exchange(powers))

    def close(self) -> None:
        """The toy at rest, as far as it answers."""
        self.link.close()

    def command(self, action: np.ndarray) -> Applied:
        """Powers of the left and the right motor, [2] in [-1, 1] of the options' `power`. While the ball is scattered,
        random ones are applied, and the mask says BUSY."""
        applied = super().command(action)
        if applied.clip & Clip.DISARMED:
            return applied
        if (other := self._scatter()) is not None:
            applied = Applied(super().command(other).action, applied.clip | Clip.BUSY)
        stale = self._unheard() > self.spec.command_ttl
        return Applied(applied.action, applied.clip | Clip.STALE) if stale else applied

    def tick(self) -> None:
        """Disarms where the toy, the camera or the ball has been away for too long."""
        super().tick()
        if self._unheard() > self.spec.damp_after:
            self._interlock.stop(Stop.DAMP)

    def arm(self) -> None:
        """Raises StaleState where the toy is not heard or the ball not seen."""
        self._require_connection()
        if self._unheard() > self.spec.command_ttl:
            raise StaleState(self._away())
        super().arm()

    def health(self) -> Health:
        """`link_age`: since the toy was heard and the ball was seen, both. Gauges: those of the link,
        `ball_unseen_seconds`, and of a double `position_error_metres`, how far from the truth the ball is seen."""
        health = super().health()
        if not self._connected:
            return health
        return replace(health, link_age=self._unheard(), gauges=self._gauges(), busy=self._burst is not None)

    def limits(self, values: Mapping[str, np.ndarray]) -> tuple[Bound, ...]:
        """Of the motors, and of the arena; see Driver."""
        left, right = np.round(FULL * values["motor_powers"]).astype(int)
        beyond = max(abs(left), abs(right)) > self.options.power
        lost, (x, y) = bool(values["ball_lost"]), values["ball_position"]
        return (
            Bound("power", f"at most {self.options.power} of {FULL}; the toy confirms {left} left, {right} right",
                  "more than that" if beyond else "", "end every other program that is connected to it"),
            Bound("arena", "walls hold the ball, nothing of ours" if lost else f"walls hold the ball, at {x:.2f}, "
                  f"{y:.2f} of it now", "the ball is not seen" if lost else "", NOT_SEEN))

    def keep_pace(self, speed: float) -> None:
        """Only a double in this process runs at another speed than one. Raises ValueError."""
        if self.options.link != "direct" and speed != 1:
            raise ValueError(f"speed: {speed:g}: a Sphero behind its own protocol runs in real time, at speed 1")
        super().keep_pace(speed)
        if self.link is not None:
            self.link.keep_pace(speed)

    def reseed(self, seed: int) -> None:
        """Starting places of a double, and how the ball is scattered."""
        self._seed, self._random = seed, np.random.default_rng(seed)
        if self.link is not None:
            self.link.reseed(seed)

    def _link_of_options(self) -> SphereLink:
        if self.options.link == "hardware":
            return links.hardware(self.options)
        if self.options.link == "protocol":
            return links.protocol(self.options, self._seed)
        from robots.sphero.double import SpheroDouble  # mujoco only where there is no robot

        camera_hz = max(LOOK_HZ, 2 * self.spec.control_hz)
        return SpheroDouble(self.options.start, self.spec.inner_hz, camera_hz, self._seed)

    def _look(self, state: BallState) -> None:
        """Take a state in; look for the ball where its picture is new."""
        self._state, frame = state, state.frame
        if frame.sequence == self._frame:
            return
        self._frame = frame.sequence
        position = self._tracker.find(frame.image)
        if position is not None:
            self._position, self._seen = position, frame.time
        powers = np.asarray(state.powers, np.float32) / self.options.power
        self._moments.append(Moment(frame.time, self._tracker.picture(frame.image), self._position, powers.clip(-1, 1)))

    def _lately(self) -> dict[str, np.ndarray]:
        """The newest picture and those before it, each half a period older, as far back as there are any; how the ball
        moved from each to the next one, and the powers when each was taken."""
        newest, apart = self._moments[-1].time, 0.5e9 / self.spec.control_hz
        ages = [apart * step for step in range(self.options.frames)]
        while len(self._moments) > 1 and self._moments[1].time <= newest - ages[-1]:
            self._moments.popleft()
        oldest, backwards = self._moments[0], [*reversed(self._moments)]
        shown = [next((moment for moment in backwards if moment.time <= newest - age), oldest) for age in ages]
        velocities = [_velocity(before, after) for after, before in zip(shown, shown[1:])]
        return {"image": np.concatenate([moment.picture for moment in shown], -1),
                "powers_before": np.concatenate([moment.powers for moment in shown]),
                **({"ball_velocities": np.concatenate(velocities)} if velocities else {})}

    def _unseen(self) -> float:
        """Seconds since a picture showed the ball; where none ever did, more than anybody waits."""
        return NEVER if self._seen is None else (self.link.now() - self._seen) * 1e-9

    def _unheard(self) -> float:
        """Seconds since the toy was heard and the ball seen."""
        return max(self._unseen(), (self.link.now() - self._state.time) * 1e-9)

    def _away(self) -> str:
        if self._unseen() > self.spec.command_ttl:
            return f"the ball is not seen; {NOT_SEEN}"
        return f"the toy was not heard for {self._unheard():.1f} s; is it charged and near?"

    def _gauges(self) -> dict[str, float]:
        gauges = {"ball_unseen_seconds": min(self._unseen(), NEVER)} | self.link.gauges()
        truth = self.link.truth()
        if truth and self._unseen() <= SEEN:
            off = float(np.linalg.norm(self._position - truth["ball_position"]))
            gauges["position_error_metres"] = off * float(truth["arena_width"])
        return gauges

    def _scatter(self) -> np.ndarray | None:
        """The action of a random burst, while it is time for one; counts the commands."""
        if not self.options.scatter_every:
            return None
        length = max(1, round(BURST * self.spec.control_hz))
        into = self._commands % (self.options.scatter_every + BURSTS * length) - self.options.scatter_every
        self._commands += 1
        if into < 0:
            self._burst = None
        elif into % length == 0:
            self._burst = self._random.choice([-1.0, 1.0], 2).astype(np.float32)
        return self._burst


def _velocity(before: Moment, after: Moment) -> np.ndarray:
    """Arena units per second [2]."""
    seconds = max(1e-9 * (after.time - before.time), 1e-3)
    return np.clip((after.position - before.position) / seconds, -FASTEST, FASTEST).astype(np.float32)


def _spec(control_hz: float, frames: int, pixels: int) -> RobotSpec:
    if not 0.5 <= control_hz <= 20:
        raise ValueError(f"control_hz: {control_hz:g}: allowed is 0.5 to 20; a toy takes 8 to 16 commands a second")
    between = spaces.Box(-FASTEST, FASTEST, (2 * frames - 2,), np.float32)
    signals = spaces.Dict({
        "image": spaces.Box(0, 255, (pixels, pixels, 3 * frames), np.uint8),
        "ball_position": spaces.Box(-1, 1, (2,), np.float32), "ball_lost": spaces.Box(0, 1, (1,), np.float32),
        "goal": spaces.Box(0, 1, (2,), np.float32),
        "motor_powers": spaces.Box(-1, 1, (2,), np.float32),
        "powers_before": spaces.Box(-1, 1, (2 * frames,), np.float32),
        **({"ball_velocities": between} if frames > 1 else {})})
    units = dict.fromkeys(signals, "")
    ttl = max(LEAST_TTL, 2.5 / control_hz)
    inner_hz = control_hz * max(1, round(INNER_HZ / control_hz))
    action = spaces.Box(-1.0, 1.0, (2,), np.float32)
    return RobotSpec("sphero", signals, units, action, control_hz, inner_hz, ttl, 2 * ttl)
