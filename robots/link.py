"""The wire to one robot, as its controller sees it: every inner period a command goes out and a state comes in.

Everything above a link (limits, filters, estimators, signals) is the same code on hardware and on a double. A robot has
up to three: `hardware`, the vendor's SDK and protocol to the robot's address; `protocol`, the same code against a
double that speaks the vendor's protocol in a process of its own; `direct`, a MuJoCo double in this process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

C = TypeVar("C")
S = TypeVar("S")
KINDS = ("direct", "protocol", "hardware")


def address_of(options: Any) -> str:
    """Where the robot is that these options mean; empty for a double, and where they do not say. A robot without a
    choice of links has only the one that `address` names."""
    return getattr(options, "address", "") if getattr(options, "link", "hardware") == "hardware" else ""


class Link(ABC, Generic[C, S]):
    """Opened and used by the thread that ticks the driver. A state carries `time`: when it was received, on `now`'s
    clock."""

    @abstractmethod
    def open(self, timeout: float) -> S:
        """The first state, or LinkLost after `timeout` seconds. A double starts anew."""

    @abstractmethod
    def exchange(self, command: C) -> S:
        """Send a command, return the newest state, without blocking longer than an inner period. A double in this
        process advances by one period. Raises LinkLost where nothing can come any more."""

    @abstractmethod
    def now(self) -> int:
        """The clock of a state's `time` [ns]: monotonic, or a double's own."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the robot, which is at rest; never raises. What the SDK started has ended."""

    def recover(self) -> None:
        """An operator looked and cleared the fault: bring the vendor's controller back from its own stop, as far as it
        allows. Raises CommandRejected, which says what an operator must do at the robot."""

    def extras(self) -> dict[str, np.ndarray]:
        """Signals that only this link has: `image` and `depth` of a camera, what a double tells of its world."""
        return {}

    def gauges(self) -> dict[str, float]:
        """Named numbers for `Health.gauges` that only this link knows: `battery_ratio`, `packets_lost`, ..."""
        return {}

    def truth(self) -> Mapping[str, np.ndarray]:
        """What a double knows and no robot measures, to judge estimates and results by; empty elsewhere."""
        return {}

    def keep_pace(self, speed: float = 1.0) -> None:
        """As Driver.keep_pace: slow work belongs on threads from the next `open` on, and is done as often as the
        robot's clock wants it at this speed from now on."""

    def reseed(self, seed: int) -> None:
        """As Driver.reseed."""
