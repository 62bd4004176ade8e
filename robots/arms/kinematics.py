"""Where the tool of an arm is, and how its joints move it: a chain of hinges about their own z axes.

Velocity inverse kinematics by damped least squares: Wampler 1986, Nakamura and Hanafusa 1986.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DAMPING = 0.02  # rad per metre and radian of error that a step leaves undone near singular poses
_DAMPED = DAMPING**2 * np.eye(6)


class Chain:
    """`origins`: for each joint its fixed frame in the joint before, float64 [J, 4, 4]; it turns about its z. `tool`:
    the tool in the last joint's frame, [4, 4]. Poses are homogeneous, metres."""

    def __init__(self, origins: np.ndarray, tool: np.ndarray) -> None:
        self._origins, self.tool = np.asarray(origins, float), np.asarray(tool, float)
        self.joints = len(self._origins)
        self._known: tuple[bytes, np.ndarray] = b"", np.empty(0)  # the newest angles, and their frames

    def pose(self, q: np.ndarray) -> np.ndarray:
        """The tool in the base's frame [4, 4], at joint angles [J] rad."""
        return self._frames(q)[-1].copy()

    def position(self, q: np.ndarray) -> np.ndarray:
        """Where the tool is in the base's frame [3] m."""
        return self._frames(q)[-1, :3, 3].copy()

    def jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tool's pose [4, 4], and its velocity (3 m/s, then 3 rad/s, in the base's frame) per joint velocity
        [6, J]."""
        frames = self._frames(q)
        (x, y, z), (a, b, c) = (frames[-1, :3, 3] - frames[:-1, :3, 3]).T, frames[:-1, :3, 2].T
        return frames[-1].copy(), np.array([b * z - c * y, c * x - a * z, a * y - b * x, a, b, c])

    def towards(self, q: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, float]:
        """The joint motion [J] rad of one damped step towards a pose of the tool (position [3], rotation [3, 3]), and
        how far away that is now: metres and radians in one norm."""
        pose, jacobian = self.jacobian(q)
        error = difference(pose, position, rotation)
        return damped(jacobian, error), math.sqrt(error @ error)

    def _frames(self, q: np.ndarray) -> np.ndarray:
        """Each joint's frame after its turn, and the tool's: [J + 1, 4, 4]."""
        q = np.asarray(q, float)
        key = q.tobytes()
        if key != self._known[0]:
            self._known = key, self._turned(q)
        return self._known[1]

    def _turned(self, q: np.ndarray) -> np.ndarray:
        sine, cosine = np.sin(q)[:, None], np.cos(q)[:, None]
        frames = np.empty((self.joints + 1, 4, 4))
        frames[:-1], frames[-1] = self._origins, self.tool
        x, y = self._origins[:, :, 0], self._origins[:, :, 1]
        frames[:-1, :, 0], frames[:-1, :, 1] = x * cosine + y * sine, y * cosine - x * sine
        for before, frame in zip(frames[:-1], frames[1:]):
            np.dot(before, frame.copy(), out=frame)
        return frames


def denavit_hartenberg(rows: Sequence[tuple[float, float, float]], tool: np.ndarray) -> Chain:
    """A chain from standard DH rows (a, d, alpha) as UR publishes them; `tool` is in the flange's frame [4, 4]."""
    links = [transform((a, 0, d), (alpha, 0, 0)) for a, d, alpha in rows]
    return Chain(np.stack([np.eye(4), *links[:-1]]), links[-1] @ tool)


def transform(position: Sequence[float], rpy: Sequence[float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """A frame [4, 4] at `position` [3] m, turned by roll, pitch, yaw [rad] about fixed axes, as URDF writes it."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy), np.cos(rpy)
    frame = np.eye(4)
    frame[:3, :3] = [[cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                     [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                     [-sp, cp * sr, cp * cr]]
    frame[:3, 3] = position
    return frame


def difference(pose: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """From a pose [4, 4] to another one (position [3], rotation [3, 3]): 3 m, then 3 rad, in the base's frame."""
    return np.concatenate([position - pose[:3, 3], rotation_vector(rotation @ pose[:3, :3].T)])


def damped(jacobian: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Joint motions [J, ...] that move the tool by `motion` [6, ...], a little less near singular poses."""
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPED, motion)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [3] rad of a rotation matrix [3, 3], angle 0 to pi."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    twice = np.array([zy - yz, xz - zx, yx - xy])
    sine, cosine = math.sqrt(twice @ twice) / 2, (xx + yy + zz - 1) / 2
    if sine > 1e-9:
        return twice / (2 * sine) * math.atan2(sine, cosine)
    if cosine > 0:
        return twice / 2
    axis = np.sqrt(np.maximum(np.diag(rotation) + 1, 0) / 2)  # half a turn: signs from the largest entry's row
    largest = axis.argmax()
    return np.pi * axis * np.where(rotation[largest] * (np.arange(3) != largest) < 0, -1, 1)
