"""The controller's side of UR's Real-Time Data Exchange, protocol version 2, as bytes; without sockets and clocks.

A frame is a big-endian u16 with its whole size, a byte with its type, and the payload. A client asks for the version,
names the variables that it wants to read (outputs) and to write (inputs: one recipe per request), and starts the
stream; from then on each side sends data packages of one recipe. Source: UR's RTDE guide, and what ur-rtde sends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

VERSION_REQUEST, CONTROLLER_VERSION, DATA = ord("V"), ord("v"), ord("U")
OUTPUTS, INPUTS, START, PAUSE = ord("O"), ord("I"), ord("S"), ord("P")
LONGEST = 4096  # bytes of a frame that we accept

# type -> struct format of its big-endian value
FORMATS = {"DOUBLE": "d", "INT32": "i", "UINT32": "I", "VECTOR6D": "6d"}
READABLE = {
    "timestamp": "DOUBLE", "actual_q": "VECTOR6D", "actual_qd": "VECTOR6D", "target_moment": "VECTOR6D",
    "joint_temperatures": "VECTOR6D", "speed_scaling": "DOUBLE", "robot_mode": "INT32", "safety_mode": "INT32",
    "runtime_state": "UINT32", "robot_status_bits": "UINT32", "safety_status_bits": "UINT32",
}
WRITABLE = {"external_force_torque": "VECTOR6D"}
for _number in range(48):
    READABLE |= {f"output_int_register_{_number}": "INT32", f"output_double_register_{_number}": "DOUBLE"}
    WRITABLE |= {f"input_int_register_{_number}": "INT32", f"input_double_register_{_number}": "DOUBLE"}

Value = float | int | tuple[float, ...]
Version = tuple[int, int, int, int]  # major, minor, bugfix, build


class Garbled(ValueError):
    """The client sent what is not RTDE: the connection ends."""


class Session:
    """One client. `version`: the controller's own. `write` is called with each package of inputs that the client
    sends."""

    def __init__(self, version: Version, write: Callable[[dict[str, Value]], None]) -> None:
        self._version, self._write = version, write
        self._pending = b""
        self._inputs: list[list[str]] = []
        self._outputs: list[str] = []
        self._format = ""
        self.hz, self.started = 0.0, False

    def feed(self, data: bytes) -> bytes:
        """What the controller answers to these bytes. Raises Garbled."""
        self._pending += data
        answers = []
        while len(self._pending) >= 3:
            size, kind = struct.unpack_from(">HB", self._pending)
            if not 3 <= size <= LONGEST:
                raise Garbled(f"a frame of {size} bytes")
            if len(self._pending) < size:
                break
            payload, self._pending = self._pending[3:size], self._pending[size:]
            answers.append(self._answer(kind, payload))
        return b"".join(answers)

    def package(self, values: Mapping[str, Value]) -> bytes:
        """The newest values of what the client reads."""
        flat: list[Any] = []
        for name in self._outputs:
            value = values[name]
            flat.extend(value if isinstance(value, tuple) else (value,))
        return frame(DATA, b"\x01" + struct.pack(self._format, *flat))

    def _answer(self, kind: int, payload: bytes) -> bytes:
        if kind == DATA:
            return self._take(payload)
        if kind == VERSION_REQUEST:
            return frame(kind, bytes([payload == b"\x00\x02"]))
        if kind == CONTROLLER_VERSION:
            return frame(kind, struct.pack(">4I", *self._version))
        if kind == OUTPUTS:
            return frame(kind, self._set_outputs(payload))
        if kind == INPUTS:
            return frame(kind, self._add_inputs(payload))
        if kind in (START, PAUSE):
            self.started = kind == START and bool(self._format)
            return frame(kind, bytes([self.started or kind == PAUSE]))
        raise Garbled(f"a frame of type {kind}")

    def _set_outputs(self, payload: bytes) -> bytes:
        if len(payload) < 8:
            raise Garbled("outputs without a frequency")
        self.hz, = struct.unpack_from(">d", payload)
        if not 1 <= self.hz <= 500:
            raise Garbled(f"outputs at {self.hz} Hz")
        self._outputs = _names(payload[8:])
        types = [READABLE.get(name, "NOT_FOUND") for name in self._outputs]
        found = "NOT_FOUND" not in types
        self._format = ">" + "".join(FORMATS[kind] for kind in types) if found else ""
        return bytes([found]) + ",".join(types).encode()

    def _add_inputs(self, payload: bytes) -> bytes:
        names = _names(payload)
        types = [WRITABLE.get(name, "NOT_FOUND") for name in names]
        if "NOT_FOUND" in types:
            return b"\x00" + ",".join(types).encode()
        self._inputs.append(names)
        return bytes([len(self._inputs)]) + ",".join(types).encode()

    def _take(self, payload: bytes) -> bytes:
        recipe = payload[0] if payload else 0
        if not 1 <= recipe <= len(self._inputs):
            raise Garbled(f"a package of recipe {recipe}, of {len(self._inputs)}")
        names = self._inputs[recipe - 1]
        formats = [">" + FORMATS[WRITABLE[name]] for name in names]
        if len(payload) != 1 + sum(map(struct.calcsize, formats)):
            raise Garbled(f"a package of recipe {recipe} with {len(payload)} bytes")
        values, offset = {}, 1
        for name, form in zip(names, formats):
            value = struct.unpack_from(form, payload, offset)
            values[name] = value if len(value) > 1 else value[0]
            offset += struct.calcsize(form)
        self._write(values)
        return b""


def frame(kind: int, payload: bytes) -> bytes:
    """A frame with its header."""
    return struct.pack(">HB", 3 + len(payload), kind) + payload


def _names(payload: bytes) -> list[str]:
    try:
        return [name for name in payload.decode("ascii").split(",") if name]
    except UnicodeDecodeError as error:
        raise Garbled("names that are not ASCII") from error
