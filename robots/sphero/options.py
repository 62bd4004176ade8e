"""The settings of a Sphero: the world it rolls in, and what its actions and its goal are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from robots.link import KINDS

WORLD = {"resume": True}  # the world may change around a robot that learns; what its actions and goal mean may not
CORNERS = [0.1, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9]  # as the double's camera sees them
BLUE = [100, 120, 60, 130, 255, 255]


@dataclass(frozen=True)
class SpheroOptions:
    """What may change: `link` (direct, protocol, hardware); `address`: the toy's name, as SK-1234, for hardware;
    `model`: sprk, bolt or mini; `camera`: the overhead camera, a number or what OpenCV opens (a file, a stream's URL);
    `corners`: where the arena's corners are in its picture, and `colour`: that of the ball, both as in the tracker;
    `start`: where a double's ball lies at first, random or centre.

    What may not: `power`: the motors' power at full action, of 255; `goal`: x and y in arena units; `frames`: pictures
    that an image holds along its channels, newest first and half a control period apart, so that a model without memory
    sees how the ball moves; `pixels`: height and width of each; `scatter_every`: after that many commands the driver
    rolls about at random for some seconds, for a new starting place; 0: never.
    """

    link: str = field(default="direct", metadata=WORLD)
    address: str = field(default="", metadata=WORLD)
    model: str = field(default="sprk", metadata=WORLD)
    camera: str = field(default="0", metadata=WORLD)
    corners: Sequence = field(default_factory=lambda: list(CORNERS), metadata=WORLD)
    colour: Sequence = field(default_factory=lambda: list(BLUE), metadata=WORLD)
    start: str = field(default="random", metadata=WORLD)
    power: int = 70
    goal: Sequence = field(default_factory=lambda: [0.825, 0.165])
    frames: int = 1
    pixels: int = 64
    scatter_every: int = 0

    def __post_init__(self) -> None:
        models = ("sprk", "bolt", "mini")
        for name, good, allowed in (
            ("link", self.link in KINDS, ", ".join(KINDS)),
            ("address", self.link != "hardware" or self.address, "the toy's name, as SK-1234, where link is hardware"),
            ("model", self.model in models, ", ".join(models)),
            ("camera", self.camera, "the overhead camera's number, file or URL"),
            ("corners", _numbers(self.corners, 8) and _convex(self.corners),
             "x and y of four corners from 0 to 1, clockwise from the upper left"),
            ("colour", _numbers(self.colour, 6) and _is_colour(self.colour),
             "hue 0 to 180, saturation and value 0 to 255, from and to"),
            ("start", self.start in ("random", "centre"), "random, centre"),
            ("power", 1 <= self.power <= 255, "1 to 255"),
            ("goal", _numbers(self.goal, 2) and 0 <= min(self.goal) <= max(self.goal) <= 1, "x and y from 0 to 1"),
            ("frames", 1 <= self.frames <= 8, "1 to 8"),
            ("pixels", self.pixels in (16, 32, 64, 128), "16, 32, 64, 128"),
            ("scatter_every", self.scatter_every == 0 or self.scatter_every >= 10, "0 (never), or 10 commands or more"),
        ):
            if not good:
                raise ValueError(f"{name}: {getattr(self, name)!r}: allowed is {allowed}")


def _numbers(values: Sequence, count: int) -> bool:
    return len(values) == count and all(isinstance(value, int | float) and np.isfinite(value) for value in values)


def _convex(corners: Sequence) -> bool:
    points = np.asarray(corners, np.float32).reshape(4, 2)
    inside = points.min() >= 0 and points.max() <= 1
    return bool(inside and cv2.isContourConvex(points) and cv2.contourArea(points, oriented=True) > 0.01)


def _is_colour(colour: Sequence) -> bool:
    (_, *low), (_, *high) = colour[:3], colour[3:]
    return (0 <= min(colour[0], colour[3]) <= max(colour[0], colour[3]) <= 180 and 0 <= min(low)
            and max(high) <= 255 and all(a <= b for a, b in zip(low, high)))
