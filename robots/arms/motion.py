"""How actions become motion: what the joints' setpoints are told, period by period.

Each kind of action is one `Motion`. It knows no safety: limits and fence come behind it (robots.arms.driver).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
from gymnasium import spaces

from robots.arms.anatomy import Anatomy, Box
from robots.arms.kinematics import damped, difference
from robots.arms.link import ArmState
from robots.driver import Clip

GENTLE = 0.8  # of an arm's acceleration is used by its own motions, so that limits only meet what is odd
TOOL_SPEED, TOOL_ACCELERATION = 0.3, 1.5  # m/s, m/s²
GRIPPER_SPEED = 1.2  # openings per second
REACHED = 1e-4  # m
EDGE = 0.001  # m that a place may be beyond a bin's edge and still be over it
LEVEL = 0.02  # m below hovering that still counts as hovering
MARGIN = 0.003  # m that wanted places of the tool keep from the workspace's faces


class Motion(ABC):
    """Started at a standing setpoint; then `step` is called every `period` [s]. `busy`: a motion of its own is under
    way, and commands are ignored. `opening`: what the gripper is told, 0 to 1; None: as it is."""

    space: spaces.Box | spaces.Discrete
    noop: int | None = None
    busy = False

    def __init__(self, anatomy: Anatomy, period: float) -> None:
        self._anatomy, self._period = anatomy, period
        self.opening: float | None = None

    @abstractmethod
    def start(self, setpoint: np.ndarray, state: ArmState) -> None:
        """Stand at this setpoint [J] until the first command."""

    @abstractmethod
    def command(self, action: np.ndarray, setpoint: np.ndarray, state: ArmState) -> Clip:
        """What is wanted from now on, and whether it was cut."""

    @abstractmethod
    def rest(self) -> None:
        """Come to rest, without a way back."""

    @abstractmethod
    def step(self, setpoint: np.ndarray, state: ArmState) -> np.ndarray:
        """Where the joints should be after the next period [J] rad."""


class Joints(Motion):
    """A velocity for each joint, as a share of the fastest; the last number moves the gripper."""

    def __init__(self, anatomy: Anatomy, period: float, gripper: bool) -> None:
        super().__init__(anatomy, period)
        self._count = anatomy.chain.joints
        self.space = spaces.Box(-1.0, 1.0, (self._count + gripper,), np.float32)
        self._fingers = Fingers(period) if gripper else None

    def start(self, setpoint: np.ndarray, state: ArmState) -> None:
        """See Motion."""
        self._velocity, self._wanted = np.zeros(self._count), np.zeros(self._count)
        self.opening = None
        if self._fingers:
            self._fingers.start(state.gripper)

    def command(self, action: np.ndarray, setpoint: np.ndarray, state: ArmState) -> Clip:
        """See Motion."""
        self._wanted = self._anatomy.velocity * np.asarray(action[:self._count], float)
        if self._fingers:
            self._fingers.command(float(action[-1]))
        return Clip.NONE

    def rest(self) -> None:
        """See Motion."""
        self._wanted = np.zeros(self._count)
        if self._fingers:
            self._fingers.command(0.0)

    def step(self, setpoint: np.ndarray, state: ArmState) -> np.ndarray:
        """See Motion."""
        change = GENTLE * self._anatomy.acceleration * self._period
        self._velocity += np.clip(self._wanted - self._velocity, -change, change)
        if self._fingers:
            self.opening = self._fingers.step()
        return setpoint + self._velocity * self._period


class Fingers:
    """The gripper's wanted opening, moved by a velocity."""

    def __init__(self, period: float) -> None:
        self._most = GRIPPER_SPEED * period

    def start(self, opening: float) -> None:
        """Where it is."""
        self._opening, self._speed, self._touched = opening, 0.0, False

    def command(self, speed: float) -> None:
        """A share of the fastest, positive opens."""
        self._speed, self._touched = speed, self._touched or speed != 0

    def step(self) -> float | None:
        """After the next period; None as long as nobody asked for anything."""
        self._opening = min(max(self._opening + self._speed * self._most, 0.0), 1.0)
        return self._opening if self._touched else None


class Glide:
    """A place of the tool that moves smoothly: no faster than TOOL_SPEED, and TOOL_ACCELERATION brings it to rest
    before the faces of a box. From outside it comes back."""

    def __init__(self, place: np.ndarray, period: float) -> None:
        self.place, self.velocity, self._period = np.array(place, float), np.zeros(3), period

    def advance(self, wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """One period at a wanted velocity [3] m/s, within `low` to `high` [3] m; if they are one place, towards it."""
        change = TOOL_ACCELERATION * self._period
        wanted = np.minimum(np.maximum(wanted, -self._towards(self.place - low)), self._towards(high - self.place))
        self.velocity += np.minimum(np.maximum(wanted - self.velocity, -change), change)
        self.place = self.place + self.velocity * self._period

    def resting_place(self) -> np.ndarray:
        """Where it stands when it brakes from now on [3] m."""
        return self.place + self.velocity * np.abs(self.velocity) / (2 * TOOL_ACCELERATION)

    def stop(self, place: np.ndarray) -> None:
        """Stand at once, at `place`."""
        self.place, self.velocity = np.array(place, float), np.zeros(3)

    def _towards(self, room: np.ndarray) -> np.ndarray:
        """The fastest velocity [3] that can still stop within `room` [3] m; negative room has to be left."""
        braked = np.sqrt(self._period**2 + 2 * np.abs(room) / TOOL_ACCELERATION) - self._period
        return np.sign(room) * np.minimum(TOOL_ACCELERATION * braked, TOOL_SPEED)


class Tool(Motion):
    """A velocity of the tool [3], which keeps pointing down; the last number moves the gripper. With `bins`, it stays
    inside the one it is over as long as it does not hover."""

    def __init__(self, anatomy: Anatomy, period: float, gripper: bool, bins: bool) -> None:
        super().__init__(anatomy, period)
        self.space = spaces.Box(-1.0, 1.0, (3 + gripper,), np.float32)
        self._fingers, self._bins = Fingers(period) if gripper else None, anatomy.bins if bins else ()
        self._low, self._high = anatomy.workspace[0] + MARGIN, anatomy.workspace[1] - MARGIN
        self._down = anatomy.chain.pose(anatomy.home)[:3, :3]

    def start(self, setpoint: np.ndarray, state: ArmState) -> None:
        """See Motion."""
        self._glide, self._wanted = Glide(self._anatomy.chain.position(setpoint), self._period), np.zeros(3)
        self.opening = None
        if self._fingers:
            self._fingers.start(state.gripper)

    def command(self, action: np.ndarray, setpoint: np.ndarray, state: ArmState) -> Clip:
        """See Motion. WORKSPACE: the tool is at a face of the workspace and told to go farther."""
        self._wanted = TOOL_SPEED * np.asarray(action[:3], float)
        if self._fingers:
            self._fingers.command(float(action[-1]))
        place, (low, high) = self._glide.place, self._room()
        beyond = np.where(self._wanted > 0, place > high - REACHED, place < low + REACHED)
        return Clip.WORKSPACE if (beyond & (self._wanted != 0)).any() else Clip.NONE

    def rest(self) -> None:
        """See Motion."""
        self._wanted = np.zeros(3)
        if self._fingers:
            self._fingers.command(0.0)

    def step(self, setpoint: np.ndarray, state: ArmState) -> np.ndarray:
        """See Motion."""
        self._glide.advance(self._wanted, *self._room())
        if self._fingers:
            self.opening = self._fingers.step()
        return follow(self._anatomy, setpoint, self._glide, self._down, self._period)

    def _room(self) -> Box:
        """Low and high corner of where the tool may go from here."""
        low, high, place = self._low, self._high, self._glide.place
        if not self._bins:
            return low, high
        lowest_hover, below = self._anatomy.hover - LEVEL, over(place, self._bins)
        if place[2] >= lowest_hover:
            return (low if below is not None else np.array([*low[:2], lowest_hover])), high
        if below is None:
            return np.array([*place[:2], self._anatomy.hover]), np.array([*place[:2], high[2]])
        return np.array([*below[0], low[2]]), np.array([*below[1], high[2]])


def over(place: np.ndarray, bins: Iterable[Box]) -> Box | None:
    """The bin that the tool is over."""
    return next((bin for bin in bins if ((bin[0] - EDGE <= place[:2]) & (place[:2] <= bin[1] + EDGE)).all()), None)


def follow(anatomy: Anatomy, setpoint: np.ndarray, glide: Glide, down: np.ndarray, period: float) -> np.ndarray:
    """Joint angles [J] after one period on the way to where the tool glides, turned as `down`.

    They move as the glide does; from where they are off it, they come back no faster than they can brake again. All
    joints are slowed alike, so that the tool stays on its line.
    """
    pose, jacobian = anatomy.chain.jacobian(setpoint)
    motion = np.zeros((6, 2))
    motion[:3, 0], motion[:, 1] = glide.velocity * period, difference(pose, glide.place, down)
    along, whole = damped(jacobian, motion).T
    back = whole - along
    off, braking = np.abs(back).max(), GENTLE * anatomy.acceleration
    if off > 0:
        back *= min(1.0, braking * period * (math.sqrt(period**2 + 2 * off / braking) - period) / off)
    step = along + back
    return setpoint + step * min(1.0, GENTLE * anatomy.velocity * period / max(np.abs(step).max(), 1e-12))
