"""Driver of the Unitree A1, over its low-level UDP protocol; see robots.legs.driver."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robots.legs.driver import LegsDriver
from robots.legs.link import LegsLink
from robots.legs.options import LegsOptions
from robots.legs.tasks import Run, Walk
from robots.monitors import Threshold
from robots.unitree_a1.anatomy import A1

PORT = 8007  # where an A1 takes low-level commands


@dataclass(frozen=True)
class A1Options(LegsOptions):
    """Every quadruped's; `address` is HOST or HOST:PORT."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.link == "hardware" and not _is_address(self.address):
            raise ValueError(f"address: {self.address!r}: allowed is with link=hardware HOST or HOST:PORT, as "
                             "192.168.123.10")

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the hardware."""
        host, _, port = self.address.partition(":")
        return host, int(port or PORT)


class A1Walk(Walk):
    """See Walk."""

    anatomy = A1


class A1Driver(LegsDriver):
    """See LegsDriver."""

    Options = A1Options
    anatomy = A1
    tasks = {"walk": A1Walk, "run": Run}
    thresholds = {"temperature_celsius": Threshold(50.0, 60.0),  # at 60 the robot switches the motor off by itself
                  "torque_newton_metres": Threshold(38.0, 42.0),
                  "torque_residual_newton_metres": Threshold(10.0, math.inf)}  # a limp motor shows 16 at most

    def protocol(self) -> LegsLink:
        """To a double that speaks it, in a process of its own."""
        from robots.unitree_a1.udp import UdpLink

        return UdpLink(double=self.options.world(self._seed), deadman=self.options.deadman == "remote")

    def hardware(self) -> LegsLink:
        """To the robot at `address`."""
        from robots.unitree_a1.udp import CLIENT_PORT, UdpLink

        return UdpLink(*self.options.endpoint, local_port=CLIENT_PORT, deadman=self.options.deadman == "remote")


def _is_address(address: str) -> bool:
    host, colon, port = address.partition(":")
    return bool(host.strip()) and (not colon or port.isdecimal() and 0 < int(port) < 65536)
