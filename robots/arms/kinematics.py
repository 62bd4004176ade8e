"""Where the tool of an arm is, and how its joints move it: a chain of hinges about their own z axes.

Velocity inverse kinematics by damped least squares: Wampler 1986, Nakamura and Hanafusa 1986.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DAMPING = 0.02  # rad per metre and radian of error that a step leaves undone near singular poses


class Chain:
    """`origins`: for each joint its fixed frame in the joint before, float64 [J, 4, 4]; it turns about its z. `tool`:
    the tool in the last joint's frame, [4, 4]. Poses are homogeneous, metres."""

    def __init__(self, origins: np.ndarray, tool: np.ndarray) -> None:
        self._origins, self.tool = np.asarray(origins, float), np.asarray(tool, float)
        self.joints = len(self._origins)

    def pose(self, q: np.ndarray) -> np.ndarray:
        """The tool in the base's frame [4, 4], at joint angles [J] rad."""
        return self._frames(q)[-1]

    def position(self, q: np.ndarray) -> np.ndarray:
        """Where the tool is in the base's frame [3] m."""
        return self._frames(q)[-1, :3, 3]

    def jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tool's pose [4, 4], and its velocity (3 m/s, then 3 rad/s, in the base's frame) per joint velocity
        [6, J]."""
        frames = self._frames(q)
        axes, centres, end = frames[:-1, :3, 2], frames[:-1, :3, 3], frames[-1]
        return end, np.concatenate([np.cross(axes, end[:3, 3] - centres), axes], 1).T

    def towards(self, q: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, float]:
        """The joint motion [J] rad of one damped step towards a pose of the tool (position [3], rotation [3, 3]), and
        how far away that is now: metres and radians in one norm."""
        pose, jacobian = self.jacobian(q)
        error = np.concatenate([position - pose[:3, 3], rotation_vector(rotation @ pose[:3, :3].T)])
        square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        return jacobian.T @ np.linalg.solve(square, error), float(np.linalg.norm(error))

    def _frames(self, q: np.ndarray) -> np.ndarray:
        """Each joint's frame after its turn, and the tool's: [J + 1, 4, 4]."""
        frames, frame = np.empty((self.joints + 1, 4, 4)), np.eye(4)
        for joint, (origin, angle) in enumerate(zip(self._origins, q)):
            frame = frames[joint] = frame @ origin @ _turn(angle)
        frames[-1] = frame @ self.tool
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


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [3] rad of a rotation matrix [3, 3], angle 0 to pi."""
    odd = rotation - rotation.T
    twice = np.array([odd[2, 1], odd[0, 2], odd[1, 0]])
    sine, cosine = np.linalg.norm(twice) / 2, (np.trace(rotation) - 1) / 2
    if sine > 1e-9:
        return twice / (2 * sine) * np.arctan2(sine, cosine)
    if cosine > 0:
        return twice / 2
    axis = np.sqrt(np.maximum(np.diag(rotation) + 1, 0) / 2)  # half a turn: signs from the largest entry's row
    largest = axis.argmax()
    return np.pi * axis * np.where(rotation[largest] * (np.arange(3) != largest) < 0, -1, 1)


def _turn(angle: float) -> np.ndarray:
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
