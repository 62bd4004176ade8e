"""The settings of an arm: those of the world around its double, and those of the arm itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from robots.link import KINDS

WORLD = {"resume": True}  # the world may change around a robot that learns; what its actions mean may not
ACTIONS = ("joints", "tool", "moves")


@dataclass(frozen=True)
class ArmOptions:
    """Which arm: `link`: direct, protocol or hardware; `address`: host of the hardware. The double's world: `objects`
    in its bins where it has some, `noise` and `latency` [s] of what it measures, `return_after` [s]: when somebody puts
    an object back that lies outside the bins, 0: nobody does. A run that is resumed may find these changed.

    What the arm is: `actions`: joints (a velocity for each), tool (a velocity of the tool, which points down) or moves
    (DayDreamer's discrete steps and grasps); `gripper`: whether joints and tool have one number more, for the gripper;
    `bins`: whether they stand on the table; below hovering the tool then stays inside the one it is over;
    `camera`: off or front (signals `image` and `depth`, 64x64, from across the table), on hardware the RealSense with
    `camera_serial` (empty: the only one), whose picture loses `camera_crop` at its top, bottom, left and right, as
    shares; `target_every` [s]: how often the signal `target` is drawn anew, 0: there is none; `reset_after` [s] without
    a grasp moves put the arm back over the middle of its bin, 0: never; `touch` [N] come suddenly at the tool end a
    move.
    """

    link: str = field(default="direct", metadata=WORLD)
    address: str = field(default="", metadata=WORLD)
    objects: int = field(default=3, metadata=WORLD)
    noise: float = field(default=0.0, metadata=WORLD)
    latency: float = field(default=0.0, metadata=WORLD)
    return_after: float = field(default=5.0, metadata=WORLD)
    actions: str = "tool"
    gripper: bool = True
    bins: bool = True
    camera: str = "off"
    camera_serial: str = ""
    camera_crop: Sequence[float] = (0.0, 0.0, 0.125, 0.125)
    target_every: float = 0.0
    reset_after: float = 60.0
    touch: float = 50.0

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("link", self.link in KINDS, ", ".join(KINDS)),
            ("address", self.link != "hardware" or self.address, "the robot's host or address with link: hardware"),
            ("objects", 0 <= self.objects <= 10, "0 to 10"),
            ("noise", 0 <= self.noise <= 100, "0 to 100"),
            ("latency", 0 <= self.latency <= 0.1, "0 to 0.1 s"),
            ("return_after", self.return_after == 0 or self.return_after >= 1, "0 (never), or at least 1 s"),
            ("actions", self.actions in ACTIONS, ", ".join(ACTIONS)),
            ("bins", self.bins or self.actions != "moves", "true with actions: moves"),
            ("bins", not self.bins or self.actions != "joints", "false with actions: joints, which do not see walls"),
            ("camera", self.camera in ("off", "front"), "off, front"),
            ("camera_crop", len(self.camera_crop) == 4 and all(0 <= share < 0.5 for share in self.camera_crop),
             "four shares from 0 to below 0.5"),
            ("target_every", self.target_every == 0 or self.target_every >= 0.5, "0 (none), or at least 0.5 s"),
            ("reset_after", self.reset_after == 0 or self.reset_after >= 5, "0 (never), or at least 5 s"),
            ("touch", 10 <= self.touch <= 200, "10 to 200 N"),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")
