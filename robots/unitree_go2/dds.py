"""The way to a Go2: LowCmd_ out and LowState_ in, over the vendor's SDK and DDS."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from robots.legs.network import Guard, NetworkLink
from robots.unitree_go2 import guard, sdk
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.wire import GO2_CODEC

DOMAIN = 0  # a robot's
QUEUE = 256  # messages that wait to be looked at


class DdsLink(NetworkLink):
    """See NetworkLink. To the robot behind the network `interface`; `release`: its own controller may be told to lie
    down and end."""

    anatomy = GO2
    packets = GO2_CODEC
    double_module = "robots.unitree_go2.dds_double"

    def __init__(self, interface: str = "", *, release: bool = False, deadman: bool = False,
                 double: Mapping[str, Any] | None = None) -> None:
        super().__init__(deadman=deadman, double=double)
        self._interface, self._release = interface if double is None else sdk.LOOPBACK, release
        self._waiting: deque[bytes] = deque(maxlen=QUEUE)
        self._reader: sdk.Reader | None = None
        self._writer: sdk.Writer | None = None

    def _for_double(self) -> dict[str, Any]:
        return {"domain": sdk.double_domain()}

    def _dial(self, timeout: float) -> None:
        self._domain = DOMAIN if self.double is None else self.double.said["domain"]
        sdk.join(self._domain, self._interface)
        sdk.take_control(self._release, time.monotonic() + timeout)
        self._waiting.clear()
        self._writer = sdk.Writer(sdk.COMMANDS)
        self._reader = sdk.Reader(sdk.STATES, self._waiting.append)

    def _new_guard(self) -> Guard:
        path = os.pathsep.join(filter(None, sys.path))
        return Guard([sys.executable, "-m", guard.__name__, str(self._domain), self._interface, self._damp.hex()],
                     env=os.environ | {"PYTHONPATH": path}, wait=guard.WAIT)

    def _write(self, packet: bytes) -> None:
        self._writer.write(packet)

    def _arrived(self) -> Iterator[bytes]:
        while self._waiting:
            yield self._waiting.popleft()

    def _hang_up(self) -> None:
        for channel in (self._reader, self._writer):
            if channel is not None:
                channel.close()
        self._reader = self._writer = None

    def _far_end(self) -> str:
        return self._interface
