"""Bluetooth's stand-in on loopback: a client of bleak's shape, and the frames that it and a double exchange.

A frame is a characteristic (16 bytes), a length (2 bytes, big endian) and that many bytes. Towards the toy it is a
write, from the toy a notification. Like a radio's, its connection may break at any time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from robots.sphero.radio import Device, Ether

HEAD = 18
HOST = "127.0.0.1"


def air(port: int) -> Ether:
    """The way to the double that listens there, whatever its toy's name."""
    async def find(name: str, seconds: float) -> Device:
        return SimpleNamespace(name=name, address=f"{HOST}:{port}")

    return Ether(find, lambda device, on_loss: LoopbackClient(port, on_loss))


def framed(characteristic: str, data: bytes) -> bytes:
    """One write or notification."""
    return uuid.UUID(characteristic).bytes + len(data).to_bytes(2, "big") + data


def opened(head: bytes) -> tuple[str, int]:
    """Characteristic and length of what follows a frame's first `HEAD` bytes."""
    return str(uuid.UUID(bytes=head[:16])), int.from_bytes(head[16:], "big")


class LoopbackClient:
    """See `radio.Client`."""

    def __init__(self, port: int, on_loss: Callable[[Any], None]) -> None:
        self._port, self._on_loss = port, on_loss
        self._callbacks: dict[str, Callable[[Any, bytearray], None]] = {}

    async def connect(self) -> None:
        """Raises OSError."""
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._listening = asyncio.ensure_future(self._listen())

    async def disconnect(self) -> None:
        """The double sees it as a broken connection, as a toy does."""
        self._listening.cancel()
        self._writer.close()

    async def start_notify(self, characteristic: str, callback: Callable[[Any, bytearray], None]) -> None:
        """What the toy says there goes to `callback`."""
        self._callbacks[characteristic] = callback

    async def write_gatt_char(self, characteristic: str, data: bytes, response: bool) -> None:
        """Raises OSError."""
        self._writer.write(framed(characteristic, data))
        await self._writer.drain()

    async def _listen(self) -> None:
        try:
            while True:
                characteristic, size = opened(await self._reader.readexactly(HEAD))
                data = await self._reader.readexactly(size)
                if callback := self._callbacks.get(characteristic):
                    callback(None, bytearray(data))
        except (asyncio.IncompleteReadError, OSError):
            self._on_loss(self)
