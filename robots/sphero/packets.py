"""The packets that a Sphero's Bluetooth carries, in the two versions that there are, as the toy reads and answers them.

Both are written from the makers' public descriptions of their API ("Sphero API 1.20", "General API"). A request is a
device and a command on it; its answer bears the same sequence number. Bytes come in pieces of at most 20: `requests`
takes whole packets off the front of a buffer and leaves what is not yet complete. What is no packet is skipped.
"""

from __future__ import annotations

from typing import NamedTuple

PIECE = 20  # bytes that one Bluetooth write or notification carries


class Request(NamedTuple):
    """One command to the toy. `target` and `source`: processors of version 2, None where the packet names none."""

    device: int
    command: int
    sequence: int
    data: bytes
    target: int | None = None
    source: int | None = None


class V1:
    """SPRK+ and its elders: FF FF, device, command, sequence, length of what follows, data, checksum."""

    COMMANDS = "22bb746f-2ba1-7554-2d6f-726568705327"
    ANSWERS = "22bb746f-2ba6-7554-2d6f-726568705327"
    UNLOCK = ("22bb746f-2bbd-7554-2d6f-726568705327", b"011i3")
    WAKE = ("22bb746f-2bbf-7554-2d6f-726568705327", b"\x01")
    UNKNOWN, INVALID = 4, 7  # errors of an answer; 0: done

    @staticmethod
    def requests(buffer: bytearray) -> list[Request]:
        """Every whole packet whose checksum is right."""
        found = []
        while (start := buffer.find(b"\xff\xff")) >= 0:
            del buffer[:start]
            if len(buffer) < 6 or len(buffer) < 6 + buffer[5]:
                return found
            packet = bytes(buffer[: 6 + buffer[5]])
            if len(packet) < 7 or packet[-1] != checksum(packet[2:-1]):
                del buffer[0]
                continue
            del buffer[: len(packet)]
            found.append(Request(packet[2], packet[3], packet[4], packet[6:-1]))
        del buffer[: len(buffer) - buffer.endswith(b"\xff")]
        return found

    @staticmethod
    def answer(request: Request, error: int = 0, data: bytes = b"") -> bytes:
        """What the toy says to a request."""
        body = bytes([error, request.sequence, len(data) + 1]) + data
        return b"\xff\xff" + body + bytes([checksum(body)])


class V2:
    """BOLT, Mini: between 8D and D8, and with these two and AB escaped: flags, target and source where the flags say
    so, device, command, sequence, data, checksum."""

    COMMANDS = ANSWERS = "00010002-574f-4f20-5370-6865726f2121"
    UNLOCK = ("00020005-574f-4f20-5370-6865726f2121", b"usetheforce...band")
    WAKE = None  # it is a command
    UNKNOWN, INVALID = 2, 7
    START, END, ESCAPE = 0x8D, 0xD8, 0xAB
    ANSWER, HAS_TARGET, HAS_SOURCE = 1, 16, 32

    @classmethod
    def requests(cls, buffer: bytearray) -> list[Request]:
        """Every whole packet whose checksum is right."""
        found = []
        while (end := buffer.find(cls.END)) >= 0:
            start = buffer.rfind(cls.START, 0, end)
            packet = _unescaped(bytes(buffer[start + 1:end])) if start >= 0 else b""
            del buffer[: end + 1]
            if len(packet) >= 5 and packet[-1] == checksum(packet[:-1]):
                found += cls._request(packet[:-1])
        return found

    @classmethod
    def _request(cls, packet: bytes) -> list[Request]:
        processors = [bool(packet[0] & flag) for flag in (cls.HAS_TARGET, cls.HAS_SOURCE)]
        head, rest = packet[1: 1 + sum(processors)], packet[1 + sum(processors):]
        if len(rest) < 3 or packet[0] & cls.ANSWER:
            return []
        named = iter(head)
        target, source = (next(named) if there else None for there in processors)
        return [Request(rest[0], rest[1], rest[2], rest[3:], target, source)]

    @classmethod
    def answer(cls, request: Request, error: int = 0, data: bytes = b"") -> bytes:
        """What the toy says to a request: from its target to its source."""
        flags, head = cls.ANSWER, b""
        for flag, processor in ((cls.HAS_TARGET, request.source), (cls.HAS_SOURCE, request.target)):
            if processor is not None:
                flags, head = flags | flag, head + bytes([processor])
        body = bytes([flags]) + head + bytes([request.device, request.command, request.sequence, error]) + data
        body += bytes([checksum(body)])
        special = (cls.START, cls.END, cls.ESCAPE)
        escaped = b"".join(bytes([cls.ESCAPE, b & 0x77]) if b in special else bytes([b]) for b in body)
        return bytes([cls.START]) + escaped + bytes([cls.END])


def checksum(data: bytes) -> int:
    """Of everything between the start of a packet and the checksum."""
    return ~sum(data) & 0xFF


def _unescaped(data: bytes) -> bytes:
    """Empty where an escape stands for nothing."""
    out, escaped = bytearray(), False
    for byte in data:
        if escaped and byte not in (0x05, 0x50, 0x23):
            return b""
        if byte == V2.ESCAPE and not escaped:
            escaped = True
            continue
        out.append(byte | 0x88 if escaped else byte)
        escaped = False
    return b"" if escaped else bytes(out)
