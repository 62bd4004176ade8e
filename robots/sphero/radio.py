"""spherov2's way to the air: an adapter over a Bluetooth client in which every call has a limit in time.

The SDK takes adapters from outside, and its own wait for ever: where a toy is gone in the middle of a write, threads of
theirs never end, and the process with them. Here a client that hangs is left behind on a daemon thread, and a write
that fails is remembered and not raised: the SDK's own thread, which writes, would die of it and leave its callers
waiting. The client is bleak's, or one of the same shape that leads to a double.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from robots.driver import LinkLost

log = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT, CALL = 10.0, 1.0  # seconds to connect, and for any other call


class Device(Protocol):
    """What a scan finds."""

    name: str
    address: str


class Client(Protocol):
    """The part of `bleak.BleakClient` that a toy needs; everything runs on one event loop."""

    async def connect(self) -> Any: ...
    async def disconnect(self) -> Any: ...
    async def start_notify(self, characteristic: str, callback: Callable[[Any, bytearray], None]) -> None: ...
    async def write_gatt_char(self, characteristic: str, data: bytes, response: bool) -> None: ...


class Ether:
    """What spherov2 calls an adapter class: it scans, and called with an address makes a connection.

    `find(name, seconds)` gives the device of that name, or None; `client(device, on_loss)` a client that is not yet
    connected and calls `on_loss` when its connection breaks. `radio` is the newest connection.
    """

    def __init__(self, find: Callable[[str, float], Awaitable[Device | None]],
                 client: Callable[[Any, Callable[[Any], None]], Client]) -> None:
        self._find, self._client, self._device = find, client, None
        self.radio: Radio | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bluetooth", daemon=True)
        self._thread.start()

    def scan_toy(self, name: str, timeout: float = 5.0) -> Device | None:
        """The device of that name. Raises LinkLost where there is no way to look for one."""
        self._device = self.run(self._find(name, timeout), timeout + CALL)
        return self._device

    def __call__(self, address: str) -> Radio:
        """A connection to the device that was found last. Raises LinkLost."""
        self.radio = Radio(self)
        self.radio.connect(self._client(self._device, self.radio.on_loss))
        return self.radio

    def run(self, work: Awaitable[T], limit: float = CALL) -> T:
        """The result of a coroutine on the event loop. Raises LinkLost where it fails, or takes longer."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit)
        except Exception as error:  # what bleak and its backends raise differs from system to system
            future.cancel()
            late = isinstance(error, TimeoutError) and not str(error)
            why = f"no answer within {limit:g} s" if late else str(error) or type(error).__name__
            raise LinkLost(f"bluetooth: {why}") from error

    def close(self) -> None:
        """End the event loop; what hangs in it is left behind."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL)


class Radio:
    """One connection. `trouble`: why it is of no use any more, empty while it is; `unreadable`: answers that the SDK
    could make nothing of."""

    def __init__(self, ether: Ether) -> None:
        self._ether, self._client = ether, None
        self.trouble, self.unreadable = "", 0

    def connect(self, client: Client) -> None:
        """Raises LinkLost."""
        self._client = client
        self._ether.run(client.connect(), CONNECT)

    def set_callback(self, uuid: str, callback: Callable[[Any, bytearray], None]) -> None:
        """Called with what the toy says on a characteristic. Raises LinkLost."""
        def hear(sender: Any, data: bytearray) -> None:
            try:
                callback(sender, bytearray(data))
            except Exception as error:  # of the SDK's decoder; it must not end the client's thread
                self.unreadable += 1
                log.debug("sphero: an answer of %d bytes was not understood: %r", len(data), error)

        self._ether.run(self._client.start_notify(uuid, hear))

    def write(self, uuid: str, data: bytes) -> None:
        """Never raises: see `trouble`."""
        if not self.trouble:
            try:
                self._ether.run(self._client.write_gatt_char(uuid, bytes(data), True))
            except LinkLost as error:
                self.trouble = str(error)

    def close(self) -> None:
        """Disconnects, as far as that is still possible; never raises."""
        try:
            self._ether.run(self._client.disconnect())
        except LinkLost as error:
            log.debug("sphero: disconnecting: %s", error)

    def on_loss(self, *_: Any) -> None:
        """The client found its connection broken."""
        self.trouble = self.trouble or "bluetooth: the connection broke"


def bluetooth() -> Ether:
    """This computer's Bluetooth. Raises ImportError, which names the extra."""
    try:
        import bleak
    except ModuleNotFoundError as error:
        raise ImportError("a Sphero needs Bluetooth for Python: pip install 'daydreamer[sphero]'") from error

    async def find(name: str, seconds: float) -> Device | None:
        return await bleak.BleakScanner.find_device_by_filter(lambda _, heard: heard.local_name == name, seconds)

    return Ether(find, lambda device, on_loss: bleak.BleakClient(device, disconnected_callback=on_loss,
                                                                 timeout=CONNECT))
