"""The A1's low-level datagrams: LowCmd (610 bytes) goes to the robot, LowState (771 bytes) comes back, little-endian.

The vendor's library compresses its C structures to these layouts. They were read from packets that it sent to, and took
from, a socket on this machine; a command of its own is kept as a test. Gains and torques are fixed-point numbers of 16
bits: what does not fit is saturated first, because what overflows changes its sign.

GO1_CODEC follows what public code for that robot sends and reads. No packet of a Go1 was seen here, and whether it
disguises the checksum of its states as it does that of commands is not certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robots.legs.packets import (
    MOTORS,
    NO_POSITION,
    NO_SPEED,
    SLOTS,
    BadChecksum,
    BadHeader,
    BadLength,
    NotFinite,
    Packets,
    WireCommand,
    WireState,
    checksum,
    finite_command,
)

SERVO, OFF, OVERHEATED = 0x0A, 0x00, 0x08  # modes of a motor; the robot goes to the last two by itself
TAU_UNIT, KP_UNIT, KD_UNIT = 1 / 256, 1 / 32, 1 / 16  # N m, N m/rad, N m s/rad per count
LOW_LEVEL = 0xFF

_DISGUISE = 0xEDCAB9DE
_UNITS = np.array([[TAU_UNIT], [KP_UNIT], [KD_UNIT]])

_MOTOR_COMMAND = [("mode", "u1"), ("q", "<f4"), ("dq", "<f4"), ("tau", "<i2"), ("kp", "<i2"), ("kd", "<i2"),
                  ("reserve", "<u4", 3)]
_MOTOR_STATE = [("mode", "u1"), ("q", "<f4"), ("dq", "<f4"), ("ddq", "<i2"), ("tau", "<i2"), ("q_raw", "<f4"),
                ("dq_raw", "<f4"), ("ddq_raw", "<i2"), ("temperature", "i1"), ("reserve", "<u4", 2)]
_IMU = [("imu", "<f4", 13), ("imu_temperature", "i1")]  # quaternion 4, gyro 3, accelerometer 3, roll pitch yaw
_END = [("remote", "u1", 40), ("reserve", "<u4"), ("crc", "<u4")]


@dataclass(frozen=True)
class Codec(Packets):
    """One robot's datagrams. `header`: its fields; `begins`: the bytes that every low-level datagram begins with;
    `after_motors`: what a command, and what a state, has between its motors and the remote; `disguised`: the checksum
    is not sent as it is; `bandwidth`: a field of the header, as the vendor fills it."""

    name: str
    header: tuple
    begins: bytes
    after_motors: tuple[tuple, tuple]
    bandwidth: int
    disguised: bool = False

    @cached_property
    def command(self) -> np.dtype:
        """The layout of a LowCmd."""
        return np.dtype([*self.header, ("motors", _MOTOR_COMMAND, SLOTS), *self.after_motors[0], *_END])

    @cached_property
    def state(self) -> np.dtype:
        """The layout of a LowState."""
        return np.dtype([*self.header, *_IMU, ("motors", _MOTOR_STATE, SLOTS), *self.after_motors[1], *_END])

    def encode_command(self, command: WireCommand) -> bytes:
        """A LowCmd; gains and torques beyond what fits are saturated. Raises NotFinite."""
        numbers = finite_command(command)
        record = self._idle.copy()
        motors = record["motors"][:MOTORS]
        motors["q"], motors["dq"] = numbers[:2]
        motors["tau"], motors["kp"], motors["kd"] = _counts(numbers[2:] / _UNITS)
        motors["mode"] = np.where(command.on, SERVO, OFF)
        return self.seal(record)

    def decode_command(self, datagram: bytes) -> WireCommand:
        """What the robot reads in a LowCmd. Raises BadPacket."""
        motors = self._open(datagram, self.command)["motors"][:MOTORS]
        numbers = np.array([motors[name] for name in ("q", "dq", "tau", "kp", "kd")], float)
        if not np.isfinite(numbers).all():
            raise NotFinite("a command has a number that is not finite")
        numbers[2:] *= _UNITS
        return WireCommand(*numbers, motors["mode"] == SERVO)

    def encode_state(self, state: WireState) -> bytes:
        """A LowState, as the robot makes it. Values beyond what fits are saturated."""
        record = self._blank(self.state)
        motors = record["motors"][:MOTORS]
        motors["q"] = motors["q_raw"] = state.q
        motors["dq"] = motors["dq_raw"] = state.dq
        motors["tau"] = _counts(np.asarray(state.tau) / TAU_UNIT)
        motors["mode"] = np.where(state.given_up, OVERHEATED, SERVO)
        motors["temperature"] = np.clip(state.temperature, -128, 127)
        record["imu"][:10] = np.concatenate([state.quaternion, state.gyro, state.acceleration])
        record["foot_force"], record["tick"] = _counts(np.asarray(state.foot_force)), state.tick % 2**32
        record["remote"] = np.frombuffer(state.remote, np.uint8)
        return self.seal(record)

    def decode_state(self, datagram: bytes) -> WireState:
        """What a LowState tells. Raises BadPacket."""
        record = self._open(datagram, self.state)
        motors, imu = record["motors"][:MOTORS], record["imu"][:10].astype(float)
        numbers = np.array([motors[name] for name in ("q", "dq", "tau", "temperature")], float)
        if not (np.isfinite(numbers).all() and np.isfinite(imu).all()):
            raise NotFinite("a state has a number that is not finite")
        q, dq, tau, temperature = numbers
        return WireState(q, dq, tau * TAU_UNIT, imu[:4], imu[4:7], imu[7:], record["foot_force"].astype(float),
                         temperature, int(record["tick"]), record["remote"].tobytes(), motors["mode"] == OVERHEATED)

    def blank_command(self) -> np.ndarray:
        """A LowCmd's record [], to fill and `seal`: every motor on, with nothing wanted of it."""
        record = self._blank(self.command)
        record["motors"]["mode"] = SERVO
        record["motors"]["q"], record["motors"]["dq"] = NO_POSITION, NO_SPEED
        return record

    def seal(self, record: np.ndarray) -> bytes:
        """The datagram of a record, with its checksum."""
        datagram = record.tobytes()
        return datagram[:-4] + self._signature(datagram)

    @cached_property
    def _idle(self) -> np.ndarray:
        return self.blank_command()

    def _blank(self, layout: np.dtype) -> np.ndarray:
        record = np.zeros((), layout)
        record["bandwidth"] = self.bandwidth
        return np.frombuffer(bytearray(self.begins + record.tobytes()[len(self.begins):]), layout).reshape(())

    def _open(self, datagram: bytes, layout: np.dtype) -> np.void:
        if len(datagram) != layout.itemsize:
            raise BadLength(f"{len(datagram)} bytes: the {self.name}'s has {layout.itemsize}")
        if not datagram.startswith(self.begins):
            raise BadHeader(f"it begins with {datagram[:len(self.begins)].hex()}: want {self.begins.hex()}, low level")
        if datagram[-4:] != self._signature(datagram):
            raise BadChecksum(f"its checksum is {datagram[-4:].hex()}, not {self._signature(datagram).hex()}")
        return np.frombuffer(datagram, layout)[0]

    def _signature(self, datagram: bytes) -> bytes:
        """The last four bytes that belong to what is before them."""
        crc = checksum(datagram)
        if not self.disguised:
            return crc.to_bytes(4, "little")
        disguised = (crc ^ _DISGUISE).to_bytes(4, "little")
        return disguised[1:] + disguised[:1]


_A1_HEADER = (("level", "u1"), ("version", "<u2"), ("robot", "<u2"), ("serial", "<u4"), ("bandwidth", "u1"))
_GO1_HEADER = (("head", "u1", 2), ("level", "u1"), ("frame", "u1"), ("serial", "<u4", 2), ("version", "<u4", 2),
               ("bandwidth", "<u2"))
_FEET = (("foot_force", "<i2", 4), ("foot_force_estimate", "<i2", 4), ("tick", "<u4"))

A1_CODEC = Codec("A1", _A1_HEADER, bytes([LOW_LEVEL]), ((("led", "u1", (4, 3)),), _FEET), bandwidth=0xC3)
GO1_CODEC = Codec("Go1", _GO1_HEADER, bytes([0xFE, 0xEF, LOW_LEVEL]),
                  ((("battery", "u1", 4),), (("battery", "u1", 24), *_FEET)), bandwidth=0xC03A, disguised=True)


def _counts(values: np.ndarray) -> np.ndarray:
    """16 bits, as near as they come."""
    return np.minimum(np.maximum(np.rint(values), -32768), 32767).astype(np.int16)
