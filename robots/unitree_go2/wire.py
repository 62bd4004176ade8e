"""The Go2's low-level messages, LowCmd_ and LowState_ of the vendor's IDL, as the bytes that DDS carries.

A DDS message is CDR: four bytes that say so, then the fields, each number at a multiple of its size. The checksum is
taken over the C structure instead, which begins every motor at a multiple of four; of the two only the first motor's
mode lies at different places. So a message is a C structure here, and that mode is moved on the way out and in.

The SDK makes and reads the same bytes field by field in Python, which takes 0.5 ms for a command and 2 ms for a state
where this takes 0.1 ms, and a period has 2 ms. Tests hold ours to the SDK's bytes and checksums.
"""

from __future__ import annotations

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

ON, OFF = 0x01, 0x00  # modes of a motor
BEGINS = bytes([0xFE, 0xEF, 0xFF])  # head and low level
ENCODING = bytes([0, 1, 0, 0])  # CDR, little-endian
ENCODINGS = (b"\0\1", b"\0\7")  # the same in the newer numbering, too; the last two bytes are options
HOTTEST = 255  # °C that fit

_HEADER = [("begins", "u1", 3), ("frame", "u1"), ("serial", "<u4", 2), ("version", "<u4", 2), ("bandwidth", "<u2"),
           ("pad", "u1", 2)]
_MOTOR_COMMAND = [("mode", "u1"), ("pad", "u1", 3), ("q", "<f4"), ("dq", "<f4"), ("tau", "<f4"), ("kp", "<f4"),
                  ("kd", "<f4"), ("reserve", "<u4", 3)]
_MOTOR_STATE = [("mode", "u1"), ("pad", "u1", 3), ("q", "<f4"), ("dq", "<f4"), ("ddq", "<f4"), ("tau", "<f4"),
                ("raw", "<f4", 3), ("temperature", "u1"), ("pad2", "u1", 3), ("lost", "<u4"), ("reserve", "<u4", 2)]
_BATTERY = [("version", "u1", 2), ("status", "u1"), ("charge", "u1"), ("current", "<i4"), ("cycle", "<u2"),
            ("temperatures", "u1", 4), ("cells", "<u2", 15)]


class Message:
    """The two forms of one message: the C structure `layout`, and the bytes on their way. `gap`: where the structure
    pads before its first motor, from and to, and where the bytes pad after that motor's mode, up to."""

    def __init__(self, fields: list, gap: tuple[int, int]) -> None:
        self.layout = np.dtype(fields)
        self._end, self._first = gap
        self._spare = -(self._end + 1) % 4
        self.size = len(ENCODING) + self._end + 1 + self._spare + self.layout.itemsize - (self._first + 4)

    def blank(self) -> np.ndarray:
        """A low-level record [], to fill and `seal`."""
        record = np.zeros((), self.layout)
        record["begins"] = np.frombuffer(BEGINS, np.uint8)
        return record

    def seal(self, record: np.ndarray) -> bytes:
        """The bytes of a record, with its checksum."""
        whole = record.tobytes()
        whole = whole[:-4] + checksum(whole).to_bytes(4, "little")
        mode = whole[self._first:self._first + 1]
        return ENCODING + whole[:self._end] + mode + bytes(self._spare) + whole[self._first + 4:]

    def open(self, packet: bytes) -> np.void:
        """The record in these bytes. Raises BadPacket."""
        if len(packet) != self.size:
            raise BadLength(f"{len(packet)} bytes: the Go2's has {self.size}")
        if packet[:2] not in ENCODINGS:
            raise BadHeader(f"it is encoded as {packet[:2].hex()}: want 0001, CDR")
        body, end = packet[len(ENCODING):], self._end
        whole = (body[:end] + bytes(self._first - end) + body[end:end + 1] + bytes(3) + body[end + 1 + self._spare:])
        if not whole.startswith(BEGINS):
            raise BadHeader(f"it begins with {whole[:len(BEGINS)].hex()}: want {BEGINS.hex()}, low level")
        if whole[-4:] != (want := checksum(whole).to_bytes(4, "little")):
            raise BadChecksum(f"its checksum is {whole[-4:].hex()}, not {want.hex()}")
        return np.frombuffer(whole, self.layout)[0]


COMMAND = Message([*_HEADER, ("motors", _MOTOR_COMMAND, SLOTS), ("battery", "u1", 4), ("remote", "u1", 40),
                   ("led", "u1", 12), ("fan", "u1", 2), ("gpio", "u1"), ("pad2", "u1"), ("reserve", "<u4"),
                   ("crc", "<u4")], gap=(22, 24))
STATE = Message([*_HEADER, ("imu", "<f4", 13), ("imu_temperature", "u1"), ("pad2", "u1", 3),
                 ("motors", _MOTOR_STATE, SLOTS), ("battery", _BATTERY), ("foot_force", "<i2", 4),
                 ("foot_force_estimate", "<i2", 4), ("tick", "<u4"), ("remote", "u1", 40), ("flags", "u1"),
                 ("pad3", "u1", 3), ("adc", "<f4"), ("temperatures", "u1", 2), ("pad4", "u1", 2), ("volts", "<f4"),
                 ("amperes", "<f4"), ("fans", "<u2", 4), ("reserve", "<u4"), ("crc", "<u4")], gap=(77, 80))


class Go2Codec(Packets):
    """See the module. Temperatures below 0 °C read as 0."""

    def __init__(self) -> None:
        self._idle = COMMAND.blank()
        motors = self._idle["motors"]
        motors["mode"], motors["q"], motors["dq"] = ON, NO_POSITION, NO_SPEED

    def encode_command(self, command: WireCommand) -> bytes:
        """A LowCmd_."""
        numbers, record = finite_command(command), self._idle.copy()
        motors = record["motors"][:MOTORS]
        motors["q"], motors["dq"], motors["tau"], motors["kp"], motors["kd"] = numbers
        motors["mode"] = np.where(command.on, ON, OFF)
        return COMMAND.seal(record)

    def decode_command(self, packet: bytes) -> WireCommand:
        """What the robot reads in a LowCmd_."""
        motors = COMMAND.open(packet)["motors"][:MOTORS]
        numbers = np.array([motors[name] for name in ("q", "dq", "tau", "kp", "kd")], float)
        if not np.isfinite(numbers).all():
            raise NotFinite("a command has a number that is not finite")
        return WireCommand(*numbers, motors["mode"] == ON)

    def encode_state(self, state: WireState) -> bytes:
        """A LowState_, as the robot makes it. `given_up` is not in it."""
        record = STATE.blank()
        motors = record["motors"][:MOTORS]
        motors["q"], motors["dq"], motors["tau"], motors["mode"] = state.q, state.dq, state.tau, ON
        motors["temperature"] = np.clip(state.temperature, 0, HOTTEST)
        record["imu"][:10] = np.concatenate([state.quaternion, state.gyro, state.acceleration])
        record["foot_force"] = np.clip(np.rint(state.foot_force), -32768, 32767)
        record["tick"], record["remote"] = state.tick % 2**32, np.frombuffer(state.remote, np.uint8)
        record["battery"]["charge"] = round(100 * np.nan_to_num(state.charge))
        return STATE.seal(record)

    def decode_state(self, packet: bytes) -> WireState:
        """What a LowState_ tells. A motor that the robot switched off cannot be told from it."""
        record = STATE.open(packet)
        motors, imu = record["motors"][:MOTORS], record["imu"][:10].astype(float)
        numbers = np.array([motors[name] for name in ("q", "dq", "tau", "temperature")], float)
        if not (np.isfinite(numbers).all() and np.isfinite(imu).all()):
            raise NotFinite("a state has a number that is not finite")
        q, dq, tau, temperature = numbers
        return WireState(q, dq, tau, imu[:4], imu[4:7], imu[7:], record["foot_force"].astype(float), temperature,
                         int(record["tick"]), record["remote"].tobytes(),
                         charge=min(1.0, float(record["battery"]["charge"]) / 100))


GO2_CODEC = Go2Codec()

