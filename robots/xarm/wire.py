"""The controller's private protocol in bytes, as xarm-python-sdk 1.18 speaks it: requests, replies and reports.

A request is u16 transaction, u16 protocol, u16 length of what follows, u8 function, payload; its reply the same with a
u8 status before the data. Reports come without being asked for: u32 size, then the state. Integers are big-endian,
floats little-endian, and there are always seven joints, of which an xArm 6 leaves the last at zero. Lengths are
millimetres.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ERROR, WARNING, NOT_READY, INVALID = 0x40, 0x20, 0x10, 0x08  # bits of a reply's status
JOINTS = 7
LONGEST = 1024  # bytes of a request
HEADER = struct.Struct(">HHH")
REPORT = struct.Struct(">IBH")
REPORT_SIZE = REPORT.size + 4 * (JOINTS + 6 + JOINTS)


class Request(NamedTuple):
    """What a client asks for."""

    transaction: int
    protocol: int
    function: int
    payload: bytes = b""


class Report(NamedTuple):
    """What the stream `real` says. `pose`: mm, then roll, pitch, yaw [rad]."""

    state: int
    mode: int
    queued: int  # commands that wait
    joints: tuple[float, ...]  # [7] rad
    pose: tuple[float, ...]  # [6]
    torque: tuple[float, ...]  # [7] N m


def pack_request(request: Request) -> bytes:
    """As a client sends it."""
    head = HEADER.pack(request.transaction, request.protocol, 1 + len(request.payload))
    return head + bytes([request.function]) + request.payload


def take_requests(data: bytes) -> tuple[list[Request], bytes]:
    """The complete requests at the front, and what is left. Raises ValueError on a length that no client sends."""
    found = []
    while len(data) >= HEADER.size:
        transaction, protocol, length = HEADER.unpack_from(data)
        if not 1 <= length <= LONGEST:
            raise ValueError(f"a request of {length} bytes: allowed is 1 to {LONGEST}")
        end = HEADER.size + length
        if len(data) < end:
            break
        found.append(Request(transaction, protocol, data[HEADER.size], data[HEADER.size + 1:end]))
        data = data[end:]
    return found, data


def pack_reply(request: Request, status: int, data: bytes = b"") -> bytes:
    """The answer to a request."""
    head = HEADER.pack(request.transaction, request.protocol, 2 + len(data))
    return head + bytes([request.function, status]) + data


def pack_report(report: Report) -> bytes:
    """One frame of the stream."""
    head = REPORT.pack(REPORT_SIZE, report.state | report.mode << 4, report.queued)
    return head + pack_floats(report.joints) + pack_floats(report.pose) + pack_floats(report.torque)


def unpack_report(data: bytes) -> Report:
    """The opposite of `pack_report`. Raises ValueError where the size is not that of the stream `real`."""
    if len(data) != REPORT_SIZE or REPORT.unpack_from(data)[0] != REPORT_SIZE:
        raise ValueError(f"a report of {len(data)} bytes: wanted {REPORT_SIZE}")
    _, both, queued = REPORT.unpack_from(data)
    values = unpack_floats(data[REPORT.size:])
    return Report(both & 15, both >> 4, queued, values[:7], values[7:13], values[13:])


def pack_floats(values: Sequence[float]) -> bytes:
    """float32, little-endian."""
    return struct.pack(f"<{len(values)}f", *values)


def unpack_floats(data: bytes) -> tuple[float, ...]:
    """The opposite of `pack_floats`; bytes that are no whole number are left out."""
    return struct.unpack_from(f"<{len(data) // 4}f", data)


def seven(values: Sequence[float]) -> tuple[float, ...]:
    """Joints as the wire has them: the ones that an arm lacks are zero."""
    return (*map(float, values), *(0.0,) * (JOINTS - len(values)))
