"""The settings of a quadruped: the way to it, the world around its double, and the robot itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robots.link import KINDS

WORLD = {"resume": True}  # the world may change around a robot that learns; what its actions mean may not


@dataclass(frozen=True)
class LegsOptions:
    """What the double's world is like: `pose` it starts in; `noise`, `latency`, `payload`, `friction`, `turn_every`,
    `push_every`, `push` [N] and `lift_after` as in the double. A run that is resumed may find these changed.

    The way to it, which may change too: `link`, see robots/link.py; `address` of the hardware, see the robot;
    `deadman`: off, or remote, with which it moves only while R1 of its remote is held; `contact_force`: what a standing
    foot feels at least, in newton of a double or counts of the robot's sensors.

    What the robot is: `camera`: off or chase (signals `image` and `depth`, 64x64, from behind the robot); `filter_hz`:
    cutoff of the filter, 0: none; `actions`: the whole range of the joints, or nominal, a smaller one around standing.
    """

    pose: str = field(default="back", metadata=WORLD)
    noise: float = field(default=0.0, metadata=WORLD)
    latency: float = field(default=0.0, metadata=WORLD)
    payload: float = field(default=0.0, metadata=WORLD)
    friction: float = field(default=0.8, metadata=WORLD)
    turn_every: float = field(default=0.0, metadata=WORLD)
    push_every: float = field(default=0.0, metadata=WORLD)
    push: float = field(default=100.0, metadata=WORLD)
    lift_after: float = field(default=0.0, metadata=WORLD)
    link: str = field(default="direct", metadata=WORLD)
    address: str = field(default="", metadata=WORLD)
    deadman: str = field(default="off", metadata=WORLD)
    contact_force: float = field(default=20.0, metadata=WORLD)  # DayDreamer's threshold
    camera: str = "off"
    filter_hz: float = 1.5
    actions: str = "range"

    def __post_init__(self) -> None:
        poses, reaches = ("back", "belly", "stand", "side", "random"), ("range", "nominal")
        for name, good, allowed in (
            ("pose", self.pose in poses, ", ".join(poses)),
            ("link", self.link in KINDS, ", ".join(KINDS)),
            ("deadman", self.deadman in ("off", "remote") and (self.link, self.deadman) != ("direct", "remote"),
             "off, or remote where link is not direct"),
            ("contact_force", 0 < self.contact_force <= 1000, "above 0, to 1000"),
            ("camera", self.camera == "off" or (self.camera, self.link) == ("chase", "direct"),
             "off, or chase where link=direct"),
            ("noise", 0 <= self.noise <= 100, "0 to 100"),
            ("latency", 0 <= self.latency <= 0.1, "0 to 0.1 s"),
            ("payload", 0 <= self.payload <= 10, "0 to 10 kg"),
            ("friction", 0 < self.friction <= 5, "above 0, to 5"),
            ("turn_every", self.turn_every == 0 or self.turn_every >= 1, "0 (never), or at least 1 s"),
            ("push_every", self.push_every == 0 or self.push_every >= 1, "0 (never), or at least 1 s"),
            ("push", 0 <= self.push <= 1000, "0 to 1000 N"),
            ("lift_after", self.lift_after == 0 or 0.1 <= self.lift_after <= 10, "0 (never), or 0.1 to 10 s"),
            ("filter_hz", self.filter_hz >= 0, "0 Hz (no filter) or more"),
            ("actions", self.actions in reaches, ", ".join(reaches)),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")

    def world(self, seed: int) -> dict[str, Any]:
        """Arguments of LegsDouble."""
        return {"pose": self.pose, "noise": self.noise, "latency": self.latency, "payload": self.payload,
                "friction": self.friction, "seed": seed, "turn_every": self.turn_every,
                "push_every": self.push_every, "force": self.push, "lift_after": self.lift_after}
