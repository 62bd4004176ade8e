"""An xArm's control box without its ports: modes, states, errors, limits, and the arm and gripper that they move.

Only what this project's link asks for is played: joint velocities (mode 4), no other motion.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.kinematics import transform
from robots.arms.link import ArmCommand, ArmLink
from robots.double import load
from robots.xarm import wire
from robots.xarm.anatomy import TOOL
from robots.xarm.codes import EMERGENCY_STOPS

HZ = 500.0  # cycles: how often requests are looked at
VELOCITY_MODE = 4
MOVING, READY, PAUSED, STOPPED, CHANGED = 1, 2, 3, 4, 5  # states; CHANGED: the mode is new, nobody has set a state
FASTEST = np.pi  # rad/s of a joint
ACCELERATION = 20.0  # rad/s², the most that the vendor allows
COLLISION, JOINT_END, TOO_FAST, OUTSIDE = 31, 23, 24, 35  # errors
OPEN = 850  # the gripper's own unit of its opening
VERSIONS = {"xarm6": "6,6,XI130600A01,AC1306,v2.3.0", "xarm7": "7,7,XS130600A01,AC1306,v2.3.0"}
BAUD = 11  # index of 2 Mbit/s
POSITION, TARGET = 0x0702, 0x0700  # registers of the gripper
FLANGE = np.linalg.inv(TOOL)


class Machine:
    """`arm` advances by one of the anatomy's inner periods in every so manieth `cycle` of 2 ms."""

    def __init__(self, arm: ArmLink, anatomy: Anatomy) -> None:
        self.arm, self._anatomy = arm, anatomy
        self._offset = np.eye(4)  # of the tool's centre in the flange's frame
        self._every, self._cycles = round(HZ / anatomy.inner_hz), 0
        self._low, self._high = load(anatomy.model).jnt_range.T
        self.state, self.mode, self.error, self.warning = STOPPED, 0, 0, 0
        self.button = self.enabled = False  # the emergency stop is pressed; the motors have power
        self._box, self._fenced = (0,) * 6, False
        self._wish: float | None = None
        self._seen = arm.open(10.0)
        self._target = self._speed = np.zeros(anatomy.chain.joints)
        self._setpoint, self._until = self._seen.q.copy(), np.inf

    @property
    def seconds(self) -> float:
        """Since it was switched on."""
        return self._cycles / HZ

    def cycle(self) -> bool:
        """2 ms pass; whether the arm moved on."""
        self._cycles += 1
        if self._cycles % self._every:
            return False
        self._move(1 / self._anatomy.inner_hz)
        return True

    def fail(self, error: int) -> None:
        """An error stops the arm until a client cleans it; an emergency stop also takes the motors' power."""
        self.error, self.state = error, STOPPED
        if error in EMERGENCY_STOPS:
            self.button, self.enabled = True, False

    def release_button(self) -> None:
        """The emergency stop is turned back; its error stays until a client cleans it."""
        self.button = False

    def answer(self, request: wire.Request) -> tuple[int, bytes]:
        """A status and the data. What this double does not play is invalid, as are payloads that it cannot read."""
        handler = self._handlers.get(request.function)
        if handler is None:
            return wire.INVALID | self._status(), b""
        try:
            data = handler(self, request.payload)
        except (struct.error, IndexError, ValueError):
            return wire.INVALID | self._status(), b""
        return self._status(), data

    def report(self) -> wire.Report:
        """The newest state, as the stream `real` has it."""
        pose = self._anatomy.chain.pose(self._seen.q) @ FLANGE @ self._offset
        return wire.Report(self.state, self.mode, 0, wire.seven(self._seen.q), (*pose[:3, 3] * 1000, *_rpy(pose)),
                           wire.seven(self._seen.effort))

    def _status(self) -> int:
        return (wire.ERROR * (self.error != 0) | wire.WARNING * (self.warning != 0)
                | wire.NOT_READY * (self.state >= STOPPED))

    def _move(self, period: float) -> None:
        """One inner period of the arm."""
        before = self._setpoint
        goes = self.state <= READY and self.seconds < self._until
        change = ACCELERATION * period
        self._speed = self._speed + np.clip((self._target if goes else 0) - self._speed, -change, change)
        if not self.enabled:
            self._speed = np.zeros_like(before)
        self._setpoint = before + self._speed * period
        command = ArmCommand(self._setpoint, self._speed, self._wish) if self.enabled else None
        self._seen = self.arm.exchange(command)
        if not self.enabled:
            self._setpoint = self._seen.q.copy()
        if self.state <= READY:
            self.state = MOVING if self._speed.any() else READY
            self._guard()

    def _guard(self) -> None:
        q = self._setpoint
        if ((q < self._low) | (q > self._high)).any():
            self._setpoint = np.clip(q, self._low, self._high)
            self._speed = np.zeros_like(q)
            self.fail(JOINT_END)
        elif self._seen.trouble:
            self.fail(COLLISION)
        elif self._fenced and self._is_outside(np.array(self.report().pose[:3])):
            self.fail(OUTSIDE)

    def _is_outside(self, place: np.ndarray) -> bool:
        """Of the box: high and low of x, y and z [mm]."""
        return bool(((place > self._box[0::2]) | (place < self._box[1::2])).any())

    def _enable(self, payload: bytes) -> bytes:
        if payload[1] and not self.button:
            self.enabled = True
        elif not payload[1]:
            self.enabled, self.state = False, STOPPED
        return b""

    def _set_state(self, payload: bytes) -> bytes:
        if payload[0] == 0 and self.enabled and not self.error:
            self.state, self._until = READY, 0.0
        elif payload[0] == PAUSED:
            self.state = PAUSED
        elif payload[0] in (4, 6):
            self.state = STOPPED
        return b""

    def _set_mode(self, payload: bytes) -> bytes:
        if payload[0] != self.mode and self.state < STOPPED:
            self.state = CHANGED
        self.mode = payload[0]
        return b""

    def _clean_error(self, payload: bytes) -> bytes:
        if not self.button:
            self.error = 0
            self.arm.recover()
        return b""

    def _clean_warning(self, payload: bytes) -> bytes:
        self.warning = 0
        return b""

    def _velocity(self, payload: bytes) -> bytes:
        """Seven speeds, a byte that asks for synchrony, and the seconds for which they hold, 0: for ever."""
        speeds = np.array(wire.unpack_floats(payload[:28])[:len(self._target)])
        seconds, = wire.unpack_floats(payload[29:33]) or (0.0,)
        if self.mode != VELOCITY_MODE or len(speeds) < len(self._target) or not np.isfinite(speeds).all():
            raise ValueError("not in velocity mode, or no velocities")
        if self.state <= READY and np.abs(speeds).max() > FASTEST + 1e-6:
            self.fail(TOO_FAST)
        elif self.state <= READY:
            self._target, self._until = speeds, self.seconds + seconds if seconds > 0 else np.inf
        return b""

    def _limit_box(self, payload: bytes) -> bytes:
        self._box = struct.unpack("<6i", payload)
        return b""

    def _set_fence(self, payload: bytes) -> bytes:
        self._fenced = bool(payload[0])
        return b""

    def _set_offset(self, payload: bytes) -> bytes:
        x, y, z, *rpy = wire.unpack_floats(payload[:24])
        self._offset = transform((x / 1000, y / 1000, z / 1000), rpy)
        return b""

    def _modbus(self, payload: bytes) -> bytes:
        """Host, unit, function, register, count: Modbus RTU to the gripper without its checksum."""
        host, unit, function, register, count = struct.unpack_from(">BBBHH", payload)
        head = bytes([host, unit, function])
        if function == 0x03:
            return head + bytes([2 * count]) + self._read_gripper(register, count)
        if function != 0x10:
            raise ValueError(f"Modbus function {function}")
        if register == TARGET:
            self._wish = float(np.clip(struct.unpack_from(">i", payload, 8)[0] / OPEN, 0, 1))
        return head + payload[3:7]

    def _read_gripper(self, register: int, count: int) -> bytes:
        if register == POSITION and count == 2:
            return struct.pack(">i", round(self._seen.gripper * OPEN))
        return bytes(2 * count)  # no fault, and nothing else that is asked for

    _handlers: dict[int, Callable[[Machine, bytes], bytes]] = {
        1: lambda self, _: VERSIONS[self._anatomy.name].encode().ljust(40, b"\0"),
        11: _enable, 12: _set_state, 13: lambda self, _: bytes([self.state]), 14: lambda self, _: bytes(2),
        15: lambda self, _: bytes([self.error, self.warning]), 16: _clean_error, 17: _clean_warning, 19: _set_mode,
        35: _set_offset, 37: lambda self, _: b"",
        42: lambda self, _: wire.pack_floats(wire.seven(self._seen.q)),
        52: _limit_box, 59: _set_fence, 77: lambda self, _: b"", 81: _velocity, 124: _modbus,
        128: lambda self, _: struct.pack(">i", BAUD),
        253: lambda self, _: b"", 254: lambda self, _: b"",  # feedback: understood, never sent
    }


def _rpy(pose: np.ndarray) -> tuple[float, float, float]:
    """Roll, pitch, yaw [rad] of a frame [4, 4]."""
    return (float(np.arctan2(pose[2, 1], pose[2, 2])), float(-np.arcsin(np.clip(pose[2, 0], -1, 1))),
            float(np.arctan2(pose[1, 0], pose[0, 0])))
