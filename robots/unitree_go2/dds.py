"""The way to a Go2: LowCmd_ out and LowState_ in, over the vendor's SDK and DDS."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from robots.legs.network import Guard, NetworkLink
from robots.unitree_go2 import guard, sdk
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.wire import GO2_CODEC


class DdsLink(NetworkLink):
    """See NetworkLink. To the robot behind the network `interface`, in this `domain` of DDS; `release`: its own
    controller may be told to lie down and end."""

    anatomy = GO2
    packets = GO2_CODEC
    double_module = "robots.unitree_go2.dds_double"

    def __init__(self, interface: str = sdk.LOOPBACK, domain: int = 0, *, release: bool = False, deadman: bool = False,
                 double: Mapping[str, Any] | None = None) -> None:
        super().__init__(deadman=deadman, double=double)
        self._interface, self._domain, self._release = interface, domain, release
        self._reader: sdk.Reader | None = None
        self._writer: sdk.Writer | None = None

    def _for_double(self) -> dict[str, Any]:
        return {"domain": sdk.double_domain()}

    def _dial(self, timeout: float) -> None:
        if self.double is not None:
            self._domain = self.double.said["domain"]
        sdk.join(self._domain, self._interface)
        sdk.take_control(self._release, time.monotonic() + timeout)
        self._writer, self._reader = sdk.Writer(sdk.COMMANDS), sdk.Reader(sdk.STATES)

    def _new_guard(self) -> Guard:
        path = os.pathsep.join(filter(None, sys.path))
        return Guard([sys.executable, "-m", guard.__name__, str(self._domain), self._interface, self._damp.hex()],
                     env=os.environ | {"PYTHONPATH": path}, wait=guard.WAIT)

    def _write(self, packet: bytes) -> None:
        self._writer.write(packet)

    def _arrived(self) -> list[bytes]:
        return self._reader.arrived()

    def _hang_up(self) -> None:
        self._reader = self._writer = None

    def _far_end(self) -> str:
        return f"{self._interface} (domain {self._domain})"
