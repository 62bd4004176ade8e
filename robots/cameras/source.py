"""Where a camera's frames come from: the contract beneath the capture process.

A source is a dataclass whose fields are its settings, checked when it is made, so that it can be described to another
process and made anew there. `open`, `wait` and `close` may block and may hang for ever, as vendor code does: they are
called in the capture process, which can be killed. A source of your own, anywhere on the import path, works as well.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

OLDEST = 1_000_000_000  # ns; a frame said to be older than this when it arrives comes from a clock that is off


class SourceLost(Exception):
    """There are no frames; the text says why. `final`: a restart cannot change that."""

    def __init__(self, text: str, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Raw(NamedTuple):
    """One frame as the camera gave it. The arrays may lie in the SDK's memory: decode them before the next `wait`.

    A camera that repeats its `number` or its `stamp` is frozen: such a frame does not count.
    """

    image: np.ndarray  # uint8 [H, W, 3] RGB
    depth: np.ndarray | None  # uint16 [H, W] counts, aligned to the image, 0 where unknown
    unit: float  # metres per count
    time: int  # when it was captured, on this host's monotonic clock [ns]
    number: int  # the camera's own count
    stamp: float  # the camera's own clock, in its unit


class Source(ABC):
    """Opened, asked and closed by one thread. `check` says what to look at when there are no frames."""

    check: ClassVar[str] = "the camera and its cable"

    @abstractmethod
    def open(self) -> None:
        """Start the camera. Raises SourceLost."""

    @abstractmethod
    def wait(self, timeout: float) -> Raw | None:
        """The next frame, or None after about `timeout` seconds without. Raises SourceLost."""

    @abstractmethod
    def close(self) -> None:
        """Stop the camera; without effect on one that is not open."""

    def reset(self) -> None:
        """Before `open`: set this one camera back to how it was when it was plugged in, where it can do that."""


def describe(source: Source) -> dict[str, Any]:
    """What `build` makes an equal source of: plain values, for JSON."""
    kind = type(source)
    return {"kind": f"{kind.__module__}:{kind.__qualname__}", "settings": dataclasses.asdict(source)}


def build(description: Mapping[str, Any]) -> Source:
    """The inverse of `describe`. Raises ValueError for settings that are out of range."""
    module, _, name = description["kind"].partition(":")
    return getattr(importlib.import_module(module), name)(**description["settings"])


def require(good: bool, name: str, value: object, allowed: str) -> None:
    """Raises ValueError, which names the setting, its value and what is allowed, unless it is good."""
    if not good:
        raise ValueError(f"camera: {name}: {value!r}: allowed is {allowed}")


def on_our_clock(age: float, arrived: int) -> int:
    """When a frame was captured [ns], monotonic: `age` seconds before it arrived, by some clock that is not ours. An
    age that cannot be (negative, over a second, not finite: a clock was set) counts as none."""
    return arrived - round(age * 1e9) if 0 <= age * 1e9 <= OLDEST else arrived


def wall_age(milliseconds: float) -> float:
    """Seconds since a time of the wall clock, given in milliseconds since 1970."""
    return time.time() - milliseconds * 1e-3
