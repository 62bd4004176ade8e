"""Driver of the UR5e, and of the UR5 of the CB3 series, with a Robotiq 2F-85; see robots.arms.driver."""

from __future__ import annotations

from dataclasses import dataclass

from robots.arms.anatomy import Anatomy
from robots.arms.driver import ArmDriver
from robots.arms.link import ArmLink
from robots.arms.options import ArmOptions
from robots.ur5e.anatomy import MODELS


@dataclass(frozen=True)
class UR5eOptions(ArmOptions):
    """`model`: ur5e, or ur5 of the CB3 series; the others are every arm's."""

    model: str = "ur5e"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS:
            raise ValueError(f"model: {self.model!r}: allowed is {', '.join(MODELS)}")


class UR5eDriver(ArmDriver):
    """See ArmDriver."""

    Options = UR5eOptions

    @staticmethod
    def anatomy_of(options: UR5eOptions) -> Anatomy:
        """By `model`."""
        return MODELS[options.model]

    def protocol(self) -> ArmLink:
        """ur-rtde to a double that speaks UR's and Robotiq's protocols."""
        from robots.ur5e.link import protocol_link  # the SDK only where it is used

        return protocol_link(self)

    def hardware(self) -> ArmLink:
        """ur-rtde to the controller at `address`."""
        from robots.ur5e.link import hardware_link

        return hardware_link(self)
