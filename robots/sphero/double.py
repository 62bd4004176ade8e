"""The Sphero's MuJoCo double: a ball in an arena, and the camera above it. See arena.xml for what is modelled.

`Arena` is the physics, the same in this process (`SpheroDouble`) and behind the vendor's protocol.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import mujoco
import numpy as np

from robots.cameras.camera import Frame
from robots.double import Camera, load
from robots.driver import LinkLost
from robots.link import Link
from robots.sphero.link import BallState, Powers

RADIUS, WIDTH = 0.037, 0.8  # of the ball and of the arena inside its walls, m
TRACK = 0.018  # half the way between the wheels of the carriage, m
SPEED = 2.2  # of the shell under an unloaded wheel at full power, m/s
PULL = 0.325  # of both wheels together, N per m/s that they are slower than their power asks for
SCRUB, SWAY = 2.9e-4, 4e-4  # N m s, what turning and swaying inside the shell loses
FULL = 255
PIXELS = 128


class Arena:
    """The ball under its motors' powers. Positions are in arena units, as the overhead camera sees them: 0 to 1 from
    left to right and from top to bottom."""

    def __init__(self) -> None:
        self.model = load(Path(__file__).with_name("arena.xml"))
        self.data = mujoco.MjData(self.model)
        wheels = {"roll": PULL * RADIUS**2, "turn": PULL * TRACK**2, "sway": 0.0}
        losses = {"roll": 0.0, "turn": SCRUB, "sway": SWAY}
        for name, gain in wheels.items():
            motor = self.model.actuator(name)
            motor.gainprm[0], motor.biasprm[2] = gain, -gain - losses[name]

    def put(self, position: np.ndarray, heading: float) -> None:
        """The ball at rest: at a position [2], looking along a heading [rad] from the right to the top."""
        mujoco.mj_resetData(self.model, self.data)
        x, y = (np.asarray(position) - 0.5) * (WIDTH, -WIDTH)
        self.data.qpos[:3] = x, y, RADIUS
        self.data.qpos[3:7] = math.cos(heading / 2), 0, 0, math.sin(heading / 2)
        mujoco.mj_forward(self.model, self.data)

    def put_anywhere(self, random: np.random.Generator) -> None:
        """At rest somewhere, not at a wall."""
        self.put(random.uniform(0.1, 0.9, 2), random.uniform(0, 2 * np.pi))

    def advance(self, powers: Powers, seconds: float) -> None:
        """Physics under powers of the left and the right motor, -255 to 255."""
        left, right = powers
        forwards, turning = (right + left) / 2, (right - left) / 2
        self.data.ctrl[:2] = np.array([forwards / RADIUS, turning / TRACK]) * SPEED / FULL
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))

    @property
    def position(self) -> np.ndarray:
        """[2] in arena units."""
        return self.data.qpos[:2] / (WIDTH, -WIDTH) + 0.5

    @property
    def velocity(self) -> np.ndarray:
        """[2] m/s, to the right and to the bottom."""
        return self.data.qvel[:2] * (1, -1)

    def show(self, visible: bool) -> None:
        """Whether there is a ball to be seen: a fault to play."""
        self.model.geom("shell").rgba[3] = float(visible)

    def camera(self, hz: float) -> Camera:
        """The overhead camera: square pictures, in which the arena's corners are a tenth from the edges."""
        return Camera(self.model, "overhead", hz, (PIXELS, PIXELS), depth=False)


class SpheroDouble(Link[Powers, BallState]):
    """The arena in this process, which advances by `1 / hz` seconds with each exchange and is looked at `camera_hz`
    times a second. The ball starts anew in the `start` place, random or centre, with each `open`. Powers act at once.
    For tests: `arena`."""

    def __init__(self, start: str, hz: float, camera_hz: float, seed: int) -> None:
        self._start, self._period, self._camera_hz = start, 1 / hz, camera_hz
        self._every = max(1, round(hz / camera_hz))
        self.arena = Arena()
        self._camera: Camera | None = None
        self._speed, self._ticks = 0.0, 0  # speed: 0 in virtual time
        self.reseed(seed)

    def open(self, timeout: float) -> BallState:
        """A fresh start, and a first picture."""
        if self._start == "random":
            self.arena.put_anywhere(self._random)
        else:
            self.arena.put(np.array([0.5, 0.5]), 0.0)
        self._powers, self._opened = (0, 0), self._ticks
        self._camera = self.arena.camera(self._camera_hz)
        if self._speed:
            self._camera.keep_pace(self._speed)
        self._look()
        deadline = time.monotonic() + timeout
        while not self._frame.image.any():
            if time.monotonic() > deadline:
                raise LinkLost(f"sphero: the double's camera gave no picture within {timeout:g} s")
            time.sleep(0.01)
            self._look()
        return self._state()

    def exchange(self, command: Powers) -> BallState:
        """One period of physics."""
        self._powers = command
        self.arena.advance(command, self._period)
        self._ticks += 1
        if (self._ticks - self._opened) % self._every == 0:
            self._look()
        return self._state()

    def now(self) -> int:
        """Periods stepped [ns]; it never runs backwards, also over a new start."""
        return round(self._ticks * self._period * 1e9)

    def close(self) -> None:
        """Lets go of the camera's context."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def truth(self) -> dict[str, np.ndarray]:
        """`ball_position` [2] in arena units, `ball_velocity` [2] m/s in the same directions, `arena_width` m."""
        return {"ball_position": self.arena.position, "ball_velocity": self.arena.velocity,
                "arena_width": np.array(WIDTH)}

    def keep_pace(self, speed: float = 1.0) -> None:
        """Render on a thread from the next `open` on."""
        if self._speed and self._camera is not None:
            self._camera.keep_pace(speed)
        self._speed = speed

    def reseed(self, seed: int) -> None:
        """Starting places depend on `seed` alone from now on."""
        self._random = np.random.default_rng(seed)

    def _look(self) -> None:
        image = self._camera.frame(self.arena.data.qpos)["image"]
        self._frame = Frame(image, None, self.now(), self._ticks)

    def _state(self) -> BallState:
        return BallState(self.now(), self._powers, self._frame)
