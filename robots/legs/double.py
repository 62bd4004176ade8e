"""A quadruped's MuJoCo double: what answers at the far end of the link when no robot is there.

Physics and motor loop run at 1 kHz. Each motor follows tau = Kp (q - angle) - Kd velocity within its torque, and drives
no faster than its speed. The state it sends is measured: with the noise and delay asked for, never the simulator's
truth.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from robots.double import Camera, Delay, load
from robots.legs.anatomy import LEGS, Anatomy
from robots.legs.link import LegsLink, LowCommand, LowState

PERIOD = 1_000_000  # ns
POSES = ("back", "belly", "stand", "side", "random")
# Standard deviations at noise 1: encoders, gyro and accelerometer of the robot's class, and its coarse foot sensors.
NOISE = {"q": 0.002, "dq": 0.05, "quaternion": 0.002, "gyro": 0.02, "acceleration": 0.1, "foot_force": 2.0}
PUSH_SECONDS = 0.2
_TILTED = math.cos(math.radians(30))
_SETTLED = np.array([1.0, 0.0, 0.0, 0.0])
_ON_BACK = np.array([0.0, 1.0, 0.0, 0.0])
_ON_SIDE = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])


class LegsDouble(LegsLink):
    """Starts in `pose`. `noise` scales the measurement noise, `latency` [s] delays the state, `payload` [kg] rides on
    the trunk, `friction` is that of the feet. Every `turn_every` seconds somebody lays it on its back, every
    `push_every` seconds somebody pushes its trunk with `force` [N], level, from a random side, and when it has been
    tilted by more than 30 degrees for `lift_after` seconds, somebody puts it back into its pose; 0: nobody does. For
    tests and evaluation only: `push`, `set_pose`, `true_velocity`, `data`."""

    def __init__(self, anatomy: Anatomy, pose: str = "back", noise: float = 0.0, latency: float = 0.0,
                 payload: float = 0.0, friction: float = 0.8, camera_hz: float = 0.0, seed: int = 0, *,
                 turn_every: float = 0.0, push_every: float = 0.0, force: float = 100.0,
                 lift_after: float = 0.0) -> None:
        self.anatomy = anatomy
        self._pose, self._noise, self._latency, self._camera_hz = pose, noise, latency, camera_hz
        self._turn_every, self._push_every, self._force = _ticks(turn_every), _ticks(push_every), force
        self._lift_after = _ticks(lift_after)
        self.reseed(seed)
        self.model = load(anatomy.model)
        self.data = mujoco.MjData(self.model)
        self._trunk = self.model.body("trunk").id
        self.model.body_mass[self._trunk] += payload
        for leg in LEGS:
            self.model.geom(f"{leg}_foot").friction[0] = friction
        mujoco.mj_setConst(self.model, self.data)
        # Views of the simulation's own memory: looking them up costs as much as reading them.
        self._angles, self._velocities = self.data.qpos[7:], self.data.qvel[6:]
        self._motion = self.data.qvel
        self._torques, self._sensors = self.data.ctrl, self.data.sensordata
        self._camera: Camera | None = None
        self._speed = 0.0  # 0: virtual time
        self._ticks = 0

    def reseed(self, seed: int) -> None:
        """Noise, random poses and the sides of pushes depend on `seed` alone from now on."""
        self._random = np.random.default_rng(seed)

    def open(self, timeout: float = 0.0) -> LowState:
        """A fresh start in the pose."""
        mujoco.mj_resetData(self.model, self.data)
        self._opened, self._pushed_until = self._ticks, -1
        self._turned = self._pushed = self._lifted = self._tilted = 0
        self.set_pose(self._pose)
        self._delay = Delay(_ticks(self._latency))
        if self._camera_hz and self._camera is None:
            self._camera = Camera(self.model, "chase", self._camera_hz)
            if self._speed:
                self._camera.keep_pace(self._speed)
        return self._state()

    def exchange(self, command: LowCommand) -> LowState:
        """One millisecond of physics under the command."""
        if not math.isfinite(self._motion.sum()):
            return self._state()  # physics broke down, until the next `open`: a fault for the driver to find
        q, dq, torque = self._angles, self._velocities, self._torques
        wanted = command.kp * (command.q - q) - command.kd * dq
        most, speed = self.anatomy.torque, self.anatomy.speed
        np.minimum(wanted, most * (dq < speed), out=torque)
        np.maximum(torque, -most * (dq > -speed), out=torque)
        mujoco.mj_step(self.model, self.data)
        self._ticks += 1
        if self._ticks == self._pushed_until:
            self.data.xfrc_applied[self._trunk] = 0
        self._disturb(self._ticks - self._opened)
        return self._state()

    def now(self) -> int:
        """Milliseconds stepped, in nanoseconds; it never runs backwards, also over a new start."""
        return self._ticks * PERIOD

    def close(self) -> None:
        """Lets go of the camera's context; the physics rests."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def keep_pace(self, speed: float = 1.0) -> None:
        """Render on a thread from the next `open` on."""
        if self._speed and self._camera is not None:
            self._camera.keep_pace(speed)
        self._speed = speed

    def extras(self) -> dict[str, np.ndarray]:
        """`disturbances`: how often it was turned, pushed and lifted since it was opened; the camera's `image` and
        `depth`."""
        done = {"disturbances": np.array([self._turned, self._pushed, self._lifted], np.float32)}
        return done if self._camera is None else done | self._camera.frame(self.data.qpos)

    def set_pose(self, pose: str) -> None:
        """Put the robot down in one of POSES, at rest and just above the floor."""
        qpos, angles = self.data.qpos, self.anatomy.folded
        qpos[3:7] = {"back": _ON_BACK, "side": _ON_SIDE}.get(pose, _SETTLED)
        if pose == "stand":
            angles = self.anatomy.stand
        elif pose == "random":
            turn = self._random.normal(size=4)
            qpos[3:7] = turn / np.linalg.norm(turn)
            angles = self.anatomy.to_angles(self._random.uniform(-1, 1, 12))
        qpos[:3], qpos[7:], self.data.qvel[:] = (0, 0, 1), angles, 0
        mujoco.mj_forward(self.model, self.data)
        qpos[2] -= self._clearance() - 0.002
        mujoco.mj_forward(self.model, self.data)

    def push(self, force: np.ndarray, seconds: float) -> None:
        """A force [3] N, in the world frame, on the trunk for a while from now."""
        self.data.xfrc_applied[self._trunk, :3] = force
        self._pushed_until = self._ticks + max(1, _ticks(seconds))

    def truth(self) -> dict[str, np.ndarray]:
        """`base_velocity`: see `true_velocity`."""
        return {"base_velocity": self.true_velocity()}

    def true_velocity(self) -> np.ndarray:
        """The trunk's velocity [3] m/s in the body frame: the truth that the estimator is held to."""
        out = np.zeros(6)
        mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_XBODY, self._trunk, out, 1)
        return out[3:]

    def _disturb(self, ticks: int) -> None:
        """What whoever stands beside it does at this tick since it was opened."""
        if self._turn_every and ticks % self._turn_every == 0:
            self.set_pose("back")
            self._turned += 1
        if self._push_every and ticks % self._push_every == 0:
            side = self._random.uniform(0, 2 * np.pi)
            self.push(self._force * np.array([np.cos(side), np.sin(side), 0.0]), PUSH_SECONDS)
            self._pushed += 1
        if self._lift_after:
            self._tilted = self._tilted + 1 if self.data.xmat[self._trunk, 8] < _TILTED else 0
            if self._tilted == self._lift_after:
                self.set_pose(self._pose)
                self._lifted += 1

    def _clearance(self) -> float:
        """Metres between the floor and the lowest point of the robot."""
        floor = self.model.geom("floor").id
        return min(mujoco.mj_geomDistance(self.model, self.data, floor, geom, 10.0, None)
                   for geom in range(self.model.ngeom) if geom != floor)

    def _state(self) -> LowState:
        imu = self._sensors.copy()
        state = LowState(self._ticks * PERIOD, self._angles.copy(), self._velocities.copy(), self._torques.copy(),
                         imu[:4], imu[4:7], imu[7:10], imu[10:14])
        if self._noise:
            state = state._replace(**{name: self._noisy(getattr(state, name), std) for name, std in NOISE.items()})
        return self._delay(state) if self._latency else state

    def _noisy(self, value: np.ndarray, deviation: float) -> np.ndarray:
        return value + self._random.normal(0, self._noise * deviation, value.shape)


def _ticks(seconds: float) -> int:
    return round(seconds * 1e9 / PERIOD)
