"""Driver of the UR5e, and of the UR5 of the CB3 series, with a Robotiq 2F-85; see robots.arms.driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from robots.arms.anatomy import Anatomy
from robots.arms.driver import ArmDriver
from robots.arms.link import ArmLink
from robots.arms.options import WORLD, ArmOptions
from robots.monitors import Threshold
from robots.protocol import ProtocolDouble
from robots.ur5e.anatomy import MODELS


@dataclass(frozen=True)
class UR5eOptions(ArmOptions):
    """`model`: ur5e, or ur5 of the CB3 series; `fingers`: robotiq (a 2F-85 on the controller) or none;
    `activate_gripper`: one that is not active may be activated, which moves its fingers. The others are every arm's."""

    model: str = "ur5e"
    fingers: str = "robotiq"
    activate_gripper: bool = field(default=False, metadata=WORLD)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, good, allowed in (
            ("model", self.model in MODELS, ", ".join(MODELS)),
            ("fingers", self.fingers in ("robotiq", "none"), "robotiq, none"),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")


class UR5eDriver(ArmDriver):
    """See ArmDriver."""

    Options = UR5eOptions
    packages = ("ur-rtde",)
    thresholds = ArmDriver.thresholds | {"temperature_celsius": Threshold(60.0, 75.0)}  # of the hottest joint

    @staticmethod
    def anatomy_of(options: UR5eOptions) -> Anatomy:
        """By `model`."""
        return MODELS[options.model]

    def protocol(self) -> ArmLink:
        """ur-rtde to a double that speaks UR's and Robotiq's protocols, in a process of its own."""
        from robots.arms.double import Surroundings

        world = replace(Surroundings.of(self.options, self._control_hz), camera_hz=0.0)
        return self._link(double=ProtocolDouble("robots.ur5e.controller", {
            "model": self.options.model, "world": asdict(world), "seed": self._seed,
            "gripper": self.options.fingers != "none", "camera": self.options.camera != "off"}))

    def hardware(self) -> ArmLink:
        """ur-rtde to the controller at `address`."""
        return self._link(address=self.options.address)

    def _link(self, **far_end: Any) -> ArmLink:
        from robots.ur5e.link import RtdeLink

        return RtdeLink(1 / self.inner_hz, gripper=self.options.fingers != "none",
                        activate=self.options.activate_gripper, **far_end)
