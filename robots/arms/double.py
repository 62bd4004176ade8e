"""An arm's MuJoCo double: what answers at the far end of the link when no robot is there.

Each joint follows its setpoint with a servo of its own, within its torque and no faster than the vendor allows; the
gripper closes with a bounded force. What it measures has the noise and delay asked for. Where a joint meets more than
its motors explain, as in a collision, or is too fast, the controller stops by itself until somebody recovers it, as the
robot's does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.arms.options import ArmOptions
from robots.arms.world import LAG, OBJECT, STROKE, scene
from robots.double import Camera, Delay

if TYPE_CHECKING:
    from robots.cameras.double import RenderedRealSense

SPEED = 3.14  # rad/s, the limit of both vendors' joints
TOO_FAST = 1.2  # times that stops the controller
COLLISION = 0.7  # of a joint's effort, met and not explained, is a collision
FINGERS = 0.15  # m/s that the opening changes
HELD, STILL = 0.03, 0.005  # of the opening: short of what was wanted; m/s of a finger that has stopped
HOLDING_AFTER = 0.1  # s
# Standard deviations at noise 1: joint encoders behind a gear, and torques that are estimated from currents.
NOISE = {"q": 0.0002, "dq": 0.01, "effort": 0.5}


@dataclass(frozen=True)
class Surroundings:
    """What a double's world is like; see `ArmOptions`. `camera_hz`: at most so many pictures a second, 0: none."""

    objects: int = 3
    bins: bool = True
    noise: float = 0.0
    latency: float = 0.0
    return_after: float = 5.0
    camera_hz: float = 0.0

    @classmethod
    def of(cls, options: ArmOptions, control_hz: float) -> Surroundings:
        """Those that the options ask for."""
        return cls(options.objects if options.bins else 0, options.bins, options.noise, options.latency,
                   options.return_after, control_hz if options.camera == "front" else 0.0)


class ArmDouble(ArmLink):
    """Starts at home, gripper open, objects spread over the bins. It advances by one period of `hz` at each exchange.
    For tests and evaluation only: `truth`, `protective_stop`, `model`, `data`."""

    def __init__(self, anatomy: Anatomy, hz: float, surroundings: Surroundings = Surroundings(), seed: int = 0) -> None:
        self.anatomy, self._hz, self._world = anatomy, hz, surroundings
        self.reseed(seed)
        self.model = scene(anatomy, surroundings.objects, surroundings.bins, 1 / hz)
        self.data = data = mujoco.MjData(self.model)
        self._steps = round(1 / hz / self.model.opt.timestep)
        joints = anatomy.chain.joints
        # Views of the simulation's own memory: looking them up costs as much as reading them.
        self._q, self._dq, self._effort = data.qpos[:joints], data.qvel[:joints], data.qfrc_actuator[:joints]
        self._met, self._motion = data.qfrc_constraint[:joints], data.qvel
        self._wanted, self._fingers = data.ctrl[:joints], data.ctrl[joints:joints + 2]
        self._opening, self._opens = data.qpos[joints:joints + 2], data.qvel[joints:joints + 2]
        self._objects = data.qpos[joints + 2:].reshape(-1, 7)
        self._tool = self.model.site("tool").id
        self._window, self._most = SPEED * LAG, COLLISION * anatomy.effort
        self._camera: Camera | None = None
        self._speed, self._ticks = 0.0, 0  # speed: 0 in virtual time

    def reseed(self, seed: int) -> None:
        """Noise and where objects lie depend on `seed` alone from now on."""
        self._random = np.random.default_rng(seed)

    def open(self, timeout: float = 0.0) -> ArmState:
        """A fresh start."""
        mujoco.mj_resetData(self.model, self.data)
        self._q[:] = self._wanted[:] = self.anatomy.home
        self._opening[:] = self._fingers[:] = STROKE / 2
        self._grip, self._trouble, self._braked = 1.0, "", None
        self._still, self._returned = 0, 0
        self._outside = np.zeros(len(self._objects), int)
        self._lies, self._moved = [-1] * len(self._objects), 0
        for number in range(len(self._objects)):
            self._put(number)
        mujoco.mj_forward(self.model, self.data)
        self._delay = Delay(round(self._world.latency * self._hz))
        if self._world.camera_hz and self._camera is None:
            self._camera = Camera(self.model, "front", self._world.camera_hz)
            if self._speed:
                self._camera.keep_pace(self._speed)
        return self._state()

    def exchange(self, command: ArmCommand | None) -> ArmState:
        """One period of physics under the command; None, or after a stop of its own: it brakes and stands."""
        if not math.isfinite(self._motion.sum()):
            return self._state()  # physics broke down, until the next `open`: a fault for the driver to find
        if command is None or self._trouble:
            self._braked = goal = self._q.copy() if self._braked is None else self._braked
        else:
            self._braked, goal = None, command.q + LAG * command.dq
            self._grip = self._grip if command.gripper is None else command.gripper
        np.minimum(np.maximum(goal, self._q - self._window), self._q + self._window, out=self._wanted)
        half, most = self._grip * STROKE / 2, FINGERS / 2 / self._hz
        self._fingers += min(max(half - self._fingers[0], -most), most)
        mujoco.mj_step(self.model, self.data, self._steps)
        self._ticks += 1
        self._feel()
        self._tidy()
        return self._state()

    def now(self) -> int:
        """Periods stepped, in nanoseconds; it never runs backwards, also over a new start."""
        return round(self._ticks * 1e9 / self._hz)

    def close(self) -> None:
        """Lets go of the camera's context; the physics rests."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def recover(self) -> None:
        """The controller takes commands again."""
        self._trouble = ""

    def protective_stop(self, why: str = "asked for") -> None:
        """The controller stops by itself."""
        self._trouble = f"protective stop: {why}; look what the arm touches, then clear the fault"

    def keep_pace(self, speed: float = 1.0) -> None:
        """Render on a thread from the next `open` on."""
        if self._speed and self._camera is not None:
            self._camera.keep_pace(speed)
        self._speed = speed

    def extras(self) -> dict[str, np.ndarray]:
        """The camera's `image` and `depth`."""
        return {} if self._camera is None else self._camera.frame(self.data.qpos)

    def realsense(self) -> RenderedRealSense:
        """The front camera for the process of a protocol double; to be shown the `data` after every exchange."""
        from robots.cameras.double import RenderedRealSense

        return RenderedRealSense(self.model, "front")

    def truth(self) -> dict[str, np.ndarray]:
        """`objects`: where they are [N, 3] m; `tool_position` [3] m; `returned`: how many objects somebody put back;
        `moved`: how many went from one bin to the other."""
        return {"objects": self._objects[:, :3].copy(), "tool_position": self.data.site_xpos[self._tool].copy(),
                "returned": np.array(self._returned), "moved": np.array(self._moved)}

    def gauges(self) -> dict[str, float]:
        """What the arm brought about, as nobody measures it: `objects_moved` from one bin to the other."""
        return {"objects_moved": float(self._moved)} if len(self._objects) else {}

    def _feel(self) -> None:
        """What the controller concludes from the last period: whether it holds something, whether it hit something."""
        short = (self._opening[0] + self._opening[1]) / STROKE - self._grip > HELD
        self._still = self._still + 1 if short and abs(self._opens[0]) < STILL else 0
        if self._trouble:
            return
        over, fast = np.abs(self._met) - self._most, np.abs(self._dq)
        if over.max() > 0:
            joint = int(over.argmax())
            torque = abs(self._met[joint])
            self.protective_stop(f"joint {joint + 1} met {torque:.0f} N m that its load does not explain")
        elif fast.max() > TOO_FAST * SPEED:
            self.protective_stop(f"joint {int(fast.argmax()) + 1} moved at {fast.max():.1f} rad/s")

    def _tidy(self) -> None:
        """Every second: objects that now lie in another bin were moved, and somebody puts one back that has lain
        outside the bins for a while."""
        if self._ticks % round(self._hz) or not len(self._objects):
            return
        for number, place in enumerate(self._objects[:, :3]):
            if (bin := self._bin(place)) >= 0:
                self._moved += 0 <= self._lies[number] != bin
                self._lies[number] = bin
        if not self._world.return_after:
            return
        self._outside = np.where([self._bin(place) == -2 for place in self._objects[:, :3]], self._outside + 1, 0)
        for number in np.flatnonzero(self._outside >= self._world.return_after):
            self._put(int(number))
            self._returned += 1

    def _bin(self, place: np.ndarray) -> int:
        """Number of the bin that it lies in; -1 where it does not lie, -2 where it lies in none."""
        if place[2] >= self.anatomy.table + 2 * OBJECT:
            return -1
        return next((number for number, (low, high) in enumerate(self.anatomy.bins)
                     if (low - 0.06 < place[:2]).all() and (place[:2] < high + 0.06).all()), -2)

    def _put(self, number: int) -> None:
        """Drop an object at a random place of one of the bins, apart from the others and from the tool."""
        others = [place[:2] for index, place in enumerate(self._objects) if index != number and place[2] > -10]
        for _ in range(50):
            low, high = self.anatomy.bins[self._random.integers(2)]
            place = self._random.uniform(low, high)
            if all(np.abs(place - other).max() > 3 * OBJECT for other in others):
                break
        angle = self._random.uniform(0, np.pi)
        self._objects[number, :3] = *place, self.anatomy.table + OBJECT + 0.002
        self._objects[number, 3:] = math.cos(angle / 2), 0, 0, math.sin(angle / 2)
        start = len(self._q) + 2 + 6 * number
        self.data.qvel[start:start + 6] = 0
        self._outside[number], self._lies[number] = 0, -1

    def _state(self) -> ArmState:
        opening = float(min(max((self._opening[0] + self._opening[1]) / STROKE, 0.0), 1.0))
        state = ArmState(self.now(), self._q.copy(), self._dq.copy(), self._effort.copy(), opening,
                         self._still >= HOLDING_AFTER * self._hz, self._trouble)
        if self._world.noise:
            state = state._replace(**{name: self._noisy(getattr(state, name), std) for name, std in NOISE.items()})
        return self._delay(state) if self._world.latency else state

    def _noisy(self, value: np.ndarray, deviation: float) -> np.ndarray:
        return value + self._random.normal(0, self._world.noise * deviation, value.shape)
