"""What Unitree's quadrupeds are told and tell over a network, however their packets are laid out.

A packet is taken whole or not at all; `BadPacket` says what is wrong with it.
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from robots.driver import RobotError

MOTORS, SLOTS = 12, 20  # the legs', and what a packet has room for
NO_POSITION, NO_SPEED = 2.146e9, 16000.0  # a wanted angle and speed that mean: none

_BYTE_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FLOAT32 = 3.4e38  # and more overflows it


class BadPacket(RobotError):
    """A packet, or what should become one, is not what the robot's protocol says."""


class BadLength(BadPacket):
    """Too long or too short."""


class BadHeader(BadPacket):
    """Not a low-level packet of this robot."""


class BadChecksum(BadPacket):
    """Changed on its way."""


class NotFinite(BadPacket):
    """An angle, a speed, a gain or a reading of the IMU is not a finite number."""


class WireCommand(NamedTuple):
    """What the legs' motors are told, [12] each: tau + kp (q - angle) + kd (dq - velocity); SI, radians. `on`: motors
    that are not off."""

    q: np.ndarray
    dq: np.ndarray
    tau: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    on: np.ndarray = np.ones(MOTORS, bool)


class WireState(NamedTuple):
    """What a robot tells. The unit of `tick` is not certain: microseconds in a vendor's header, milliseconds in code
    that uses it. `foot_force` is in counts of the sensor, about newtons, with an offset that drifts. `given_up`: motors
    that the robot switched off by itself. `charge` of the battery, 0 to 1, is nan where the robot does not tell it."""

    q: np.ndarray  # [12] rad
    dq: np.ndarray  # [12] rad/s
    tau: np.ndarray  # [12] N m, estimated
    quaternion: np.ndarray  # [4] wxyz
    gyro: np.ndarray  # [3] rad/s
    acceleration: np.ndarray  # [3] m/s²
    foot_force: np.ndarray  # [4]
    temperature: np.ndarray  # [12] °C
    tick: int
    remote: bytes  # 40, see remote.py
    given_up: np.ndarray = np.zeros(MOTORS, bool)
    charge: float = math.nan


class Packets(ABC):
    """A robot's packets, and back. What is sent is made of finite numbers, and what does not fit is saturated."""

    @abstractmethod
    def encode_command(self, command: WireCommand) -> bytes:
        """Raises NotFinite."""

    @abstractmethod
    def decode_command(self, packet: bytes) -> WireCommand:
        """As the robot does it. Raises BadPacket."""

    @abstractmethod
    def encode_state(self, state: WireState) -> bytes:
        """As the robot does it."""

    @abstractmethod
    def decode_state(self, packet: bytes) -> WireState:
        """Raises BadPacket."""

    def damp(self, damping: np.ndarray) -> bytes:
        """The command of no position gain, and of these gains on speed [12]."""
        still = np.zeros(MOTORS)
        return self.encode_command(WireCommand(np.full(MOTORS, NO_POSITION), still, still, still, damping))


def finite_command(command: WireCommand) -> np.ndarray:
    """Its numbers [5, 12]. Raises NotFinite."""
    numbers = np.array(command[:5], float)
    if not (np.abs(numbers) < _FLOAT32).all():
        raise NotFinite("a command has a number that is not finite")
    return numbers


def checksum(packet: bytes) -> int:
    """CRC-32/MPEG-2 over the whole 32-bit words before the last four bytes, each word's highest bit first.

    zlib's CRC is the same polynomial with the bits of every byte, and of the result, the other way round.
    """
    words = np.frombuffer(packet, "<u4", (len(packet) - 4) // 4)
    mirrored = zlib.crc32(words.byteswap().tobytes().translate(_BYTE_MIRROR)) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_BYTE_MIRROR), "big")
