"""The Go2's double behind its protocol, over the vendor's SDK; see robots.legs.network_double.

It tells its state whoever listens. A `mode` is the robot's own controller, which makes it stand and obeys no low-level
command until it is told to end, as the service `motion_switcher` is; `sport` makes it lie down.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from robots.legs.link import LowCommand
from robots.legs.network_double import HZ, LIMP, NetworkDouble
from robots.legs.packets import WireCommand
from robots.protocol import serve
from robots.unitree_go2 import sdk
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.wire import GO2_CODEC

CHECK_MODE, RELEASE_MODE, STAND_DOWN = 1001, 1003, 1005  # the vendor's numbers of calls
VERSION = "1.0.0.1"


class DdsDouble(NetworkDouble):
    """See NetworkDouble; `domain` of DDS, and `mode` as in the module."""

    anatomy = GO2
    packets = GO2_CODEC
    too_hot = 90.0  # chosen: when a Go2 does it is not known, and nothing in its states says so

    def __init__(self, settings: Mapping[str, Any], domain: int, mode: str) -> None:
        super().__init__(settings)
        self._mode = mode
        if mode:
            self._keep(GO2.stand)
        sdk.join(domain, sdk.LOOPBACK)
        self._services = [sdk.serve("motion_switcher", VERSION, {CHECK_MODE: self._check, RELEASE_MODE: self._release})]
        if mode:
            self._services.append(sdk.serve("sport", VERSION, {STAND_DOWN: self._lie_down}))
        self._writer = sdk.Writer(sdk.STATES)
        self._reader = sdk.Reader(sdk.COMMANDS)

    def _heard(self) -> list[bytes]:
        return self._reader.arrived()

    def _obeyed(self) -> None:
        pass

    def _obey(self, told: WireCommand) -> None:
        if not self._mode:
            super()._obey(told)

    def _say(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(packet)

    def _keep(self, angles: Any) -> None:
        self._command = LowCommand(angles, GO2.kp, GO2.kd)

    def _check(self, _: str) -> tuple[int, str]:
        return 0, json.dumps({"form": "0", "name": self._mode})

    def _release(self, _: str) -> tuple[int, str]:
        self._mode, self._command = "", LIMP
        return 0, "{}"

    def _lie_down(self, _: str) -> tuple[int, str]:
        self._keep(GO2.folded)
        return 0, "{}"


def main(settings: Mapping[str, Any]) -> None:
    """Until the parent closes our input."""
    given = dict(settings)
    domain, mode = given.pop("domain"), given.pop("mode", "")
    double = DdsDouble(given, domain, mode)
    serve({"domain": domain}, double.order, double.tick, HZ)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
