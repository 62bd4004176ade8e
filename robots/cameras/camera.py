"""What every camera gives: its newest frame, and how old that is. Nobody waits for a camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from robots.driver import RobotError


class CameraLost(RobotError):
    """The camera gives no frames, and what could be done about it without an operator has been done."""

    recoverable = False


@dataclass(frozen=True)
class Frame:
    """One picture. `image`: uint8 [H, W, 3] RGB; `depth`: float32 [H, W] metres along the optical axis, aligned to the
    image, 0 where unknown; None from cameras without. `time`: when it was captured, on this host's monotonic clock
    [ns]; `sequence` grows with each new frame."""

    image: np.ndarray
    depth: np.ndarray | None
    time: int
    sequence: int


class Camera(ABC):
    """Opened, asked and closed by one thread."""

    @abstractmethod
    def open(self, timeout: float) -> Frame:
        """The first frame, or CameraLost after `timeout` seconds."""

    @abstractmethod
    def newest(self) -> Frame:
        """The newest frame, without blocking, however old: who uses it looks at its age. Raises CameraLost once the
        camera is given up."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the camera; twice is once."""

    def gauges(self) -> dict[str, float]:
        """`camera_age_seconds`, `camera_restarts`, ... for Health.gauges."""
        return {}
