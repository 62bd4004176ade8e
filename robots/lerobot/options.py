"""What LeRobot does not say of its robots, and a config has to: units, ranges, speeds, and what rest means."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESUME = {"resume": True}  # where the robot is connected may change; what its numbers mean may not
TURN = math.pi / 180
PLACE = re.compile("(^|_)(port|ip|host|address|serial)")  # in names of fields of LeRobot's configs
# unit in a config -> (unit of the signal, factor)
UNITS = {"degrees": ("rad", TURN), "radians": ("rad", 1.0), "metres": ("m", 1.0), "millimetres": ("m", 1e-3),
         "degrees_per_second": ("rad/s", TURN), "radians_per_second": ("rad/s", 1.0),
         "metres_per_second": ("m/s", 1.0), "percent": ("", 0.01), "gripper": ("", 1.0), "raw": ("", 1.0)}


@dataclass(frozen=True)
class Feature:
    """One number of a robot. `unit`: one of UNITS; `low` and `high`: the range that is used, in LeRobot's own unit (a
    gripper's: closed and open, in this order, and it becomes 0 to 1).

    With a `speed` it is commanded: -1 to 1 is low to high, and the setpoint goes at most so far per second, in
    LeRobot's unit. `rest`: "hold" where it is, as positions do, or "zero", as velocities must. `measured`: whether the
    robot observes it too; what is held must be.
    """

    name: str
    unit: str
    low: float = 0.0
    high: float = 0.0
    speed: float = 0.0
    rest: str = "hold"
    measured: bool = True

    def __post_init__(self) -> None:
        least, most = sorted((self.low, self.high))
        ranged = self.speed > 0 or self.unit == "gripper"
        rests = self.rest == "hold" and self.measured or self.rest == "zero" and least <= 0 <= most
        for name, good, allowed in (
            ("unit", self.unit in UNITS, ", ".join(UNITS)),
            ("low", -math.inf < least and (self.low <= self.high or self.unit == "gripper"), "a number up to `high`"),
            ("high", most < math.inf and not (ranged and least == most), "a number that is not `low`"),
            ("speed", 0 <= self.speed < math.inf, "0 (only measured), or how far it may go in a second"),
            ("rest", self.rest in ("hold", "zero") and (rests or not self.speed),
             "hold, where it is measured, or zero, where that is between low and high"),
            ("measured", self.measured or self.speed, "true, where there is no speed"),
        ):
            if not good:
                raise ValueError(f"units: {self.name}: {name}: {getattr(self, name)!r}: allowed is {allowed}")

    @property
    def signal(self) -> str:
        """The name of its signal."""
        return signal_name(self.name)

    @property
    def si(self) -> str:
        """The unit of its signal."""
        return UNITS[self.unit][0]

    def to_si(self, value: float) -> float:
        """LeRobot's number as the signal's."""
        if self.unit == "gripper":
            return (value - self.low) / (self.high - self.low)
        return value * UNITS[self.unit][1]


@dataclass(frozen=True)
class LeRobotOptions:
    """`type`: LeRobot's name of the robot, or `module:Class` of one of your own; `config`: the fields of its config
    class; `units`: for every number that is measured or commanded what `Feature` says, by LeRobot's name; `cameras`:
    the pictures that become signals, by LeRobot's name (depth ends in `_depth`), `image_size` pixels wide and high;
    `hz`: how often the robot is asked and told, at most."""

    type: str
    units: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict, metadata=RESUME)
    cameras: Sequence = ()
    image_size: int = 64
    hz: float = field(default=50.0, metadata=RESUME)

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("type", bool(self.type), "LeRobot's name of a robot, or module:Class"),
            ("cameras", all(isinstance(camera, str) for camera in self.cameras), "names of LeRobot's cameras"),
            ("image_size", 8 <= self.image_size <= 1024, "8 to 1024 pixels"),
            ("hz", 1 <= self.hz <= 1000, "1 to 1000 Hz"),
            ("units", any(feature.speed for feature in self.features), "at least one number with a speed"),
            ("units", len(set(self.signals)) == len(self.signals), "names that stay different with _ for ."),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")

    @property
    def address(self) -> str:
        """Names the robot on this computer: by where its config says that it is, else by all that it says."""
        places = {key: value for key, value in self.config.items() if PLACE.search(key)} or dict(self.config)
        return f"{self.type} {json.dumps(places, sort_keys=True, default=str)}"

    @property
    def features(self) -> list[Feature]:
        """Every number, in the order of the config. Raises ValueError, which names it."""
        features = []
        for name, fields in self.units.items():
            try:
                features.append(Feature(name, **fields))
            except TypeError as error:
                raise ValueError(f"units: {name}: {fields!r}: allowed is a mapping of unit, low, high, speed, rest "
                                 f"({error})") from error
        return features

    @property
    def signals(self) -> list[str]:
        """The names of all signals."""
        measured = [feature.signal for feature in self.features if feature.measured]
        return [*measured, *map(signal_name, self.cameras), "position", "setpoint"]


def signal_name(name: str) -> str:
    """LeRobot's name of a feature as that of a signal: `elbow.pos` is `elbow_pos`."""
    return name.replace(".", "_")
