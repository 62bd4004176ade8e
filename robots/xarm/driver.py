"""Driver of UFACTORY's xArm 6 and xArm 7 with the vendor's gripper; see robots.arms.driver."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.driver import ArmDriver
from robots.arms.link import ArmLink
from robots.arms.options import WORLD, ArmOptions
from robots.monitors import Threshold
from robots.xarm.anatomy import MODELS


@dataclass(frozen=True)
class XArmOptions(ArmOptions):
    """`model`: xarm6 or xarm7. What the controller itself watches over: `sensitivity` of its collision detection, 0
    (off) to 5; `self_collision`; `fence` [m]: how far beyond the workspace the tool may be before the controller stops
    with an error, 0: its fence stays as the vendor's program has it. `gripper_speed`: motor, r/min. The others are
    every arm's."""

    model: str = "xarm6"
    sensitivity: int = field(default=3, metadata=WORLD)
    self_collision: bool = field(default=True, metadata=WORLD)
    fence: float = field(default=0.0, metadata=WORLD)
    gripper_speed: int = 3000
    touch: float = 35.0  # the lighter arm's own steps feel like 26 N at most, and what it presses on like 60 or more

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, good, allowed in (
            ("model", self.model in MODELS, ", ".join(MODELS)),
            ("sensitivity", 0 <= self.sensitivity <= 5, "0 (off) to 5"),
            ("fence", self.fence == 0 or 0.02 <= self.fence <= 0.5, "0 (none), or 0.02 to 0.5 m"),
            ("gripper_speed", 500 <= self.gripper_speed <= 5000, "500 to 5000 r/min"),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")


class XArmDriver(ArmDriver):
    """See ArmDriver."""

    Options = XArmOptions
    packages = ("xarm-python-sdk",)
    thresholds = ArmDriver.thresholds | {"call_seconds": Threshold(0.05, math.inf)}  # velocities end after 0.15 s

    @staticmethod
    def anatomy_of(options: XArmOptions) -> Anatomy:
        """By `model`."""
        return MODELS[options.model]

    def protocol(self) -> ArmLink:
        """The vendor's SDK to a control box in a process of its own."""
        from robots.arms.double import Surroundings

        world = replace(Surroundings.of(self.options, self._control_hz), camera_hz=0.0)
        return self._link("", {"model": self.options.model, "world": asdict(world), "seed": self._seed,
                               "camera": self.options.camera != "off"})

    def hardware(self) -> ArmLink:
        """The vendor's SDK to the control box at `address`."""
        return self._link(self.options.address, None)

    def _link(self, address: str, double: dict | None) -> ArmLink:
        from robots.xarm.link import XArmLink
        from robots.xarm.pilot import Limits

        options, (low, high) = self.options, self.anatomy.workspace
        margin = np.full(3, options.fence)
        limits = Limits(options.sensitivity, options.self_collision, (low - margin, high + margin)
                        if options.fence else None, self.anatomy.chain.tool)
        return XArmLink(self.anatomy, address, limits, options.gripper_speed, double)
