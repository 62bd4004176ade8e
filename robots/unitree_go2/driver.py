"""Driver of the Unitree Go2, over the vendor's SDK; see robots.legs.driver."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from robots.legs.driver import LegsDriver
from robots.legs.link import LegsLink
from robots.legs.options import WORLD, LegsOptions
from robots.legs.tasks import Run, Walk
from robots.monitors import Threshold
from robots.unitree_go2.anatomy import GO2


@dataclass(frozen=True)
class Go2Options(LegsOptions):
    """Every quadruped's; `address` is the network interface that the robot's cable is in, as enp3s0, or for another
    domain of DDS than a robot's INTERFACE:DOMAIN. `release`: where the robot's own controller moves it when we connect,
    it may lie down and be switched off."""

    release: bool = field(default=False, metadata=WORLD)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.link == "hardware" and not re.fullmatch(r"[\w.-]{1,15}(:\d{1,3})?", self.address):
            raise ValueError(f"address: {self.address!r}: allowed is with link=hardware the network interface that the "
                             "robot's cable is in, as enp3s0, or INTERFACE:DOMAIN")

    @property
    def endpoint(self) -> tuple[str, int]:
        """Network interface and domain of DDS."""
        interface, _, domain = self.address.partition(":")
        return interface, int(domain or 0)


class Go2Walk(Walk):
    """See Walk."""

    anatomy = GO2


class Go2Driver(LegsDriver):
    """See LegsDriver."""

    Options = Go2Options
    anatomy = GO2
    tasks = {"walk": Go2Walk, "run": Run}
    packages = ("unitree-sdk2py-dimos|unitree_sdk2py", "cyclonedds")  # from PyPI, or from the vendor's source
    thresholds = {"temperature_celsius": Threshold(60.0, 75.0),
                  "torque_newton_metres": Threshold(45.0, 57.0),
                  "torque_residual_newton_metres": Threshold(10.0, math.inf),  # a limp motor shows 15 at most
                  "battery_ratio": Threshold(0.2, 0.1)}

    def protocol(self) -> LegsLink:
        """To a double that speaks it, in a process of its own."""
        from robots.unitree_go2.dds import DdsLink

        return DdsLink(double=self.options.world(self._seed), deadman=self.options.deadman == "remote")

    def hardware(self) -> LegsLink:
        """To the robot at `address`."""
        from robots.unitree_go2.dds import DdsLink

        return DdsLink(*self.options.endpoint, release=self.options.release, deadman=self.options.deadman == "remote")
