"""What a run's replay keeps and how it draws from it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ReplaySettings:
    """`batch` windows of `burn_in` + `length` steps; `uniform`, `recency` and `online` are the shares of a batch that
    are drawn evenly, with exponentially fading age (mean `recency_steps`), and from fresh windows given once. Fresh
    steps beyond `online_steps` are left to the other two. `prefill` [steps] before the first batch; `capacity` [steps]
    kept; `segment_mib` per file; `sync_seconds` at most between a write and its acknowledgement."""

    batch: int = 16
    length: int = 32
    burn_in: int = 4
    uniform: float = 0.6
    recency: float = 0.2
    online: float = 0.2
    recency_steps: float = 5000.0
    online_steps: int = 4096
    prefill: int = 1000
    capacity: int = 1_000_000
    segment_mib: int = 256
    sync_seconds: float = 0.05

    def __post_init__(self) -> None:
        self._at_least("batch", 1)
        self._at_least("length", 2)
        self._at_least("burn_in", 0)
        for name in ("uniform", "recency", "online"):
            self._within(name, 0.0, 1.0)
        if not math.isclose(total := self.uniform + self.recency + self.online, 1.0, abs_tol=1e-3):
            raise ValueError(f"uniform: {self.uniform}: uniform, recency and online must add up to 1, not {total:g}")
        self._at_least("recency_steps", 1)
        self._at_least("online_steps", self.length)
        self._at_least("prefill", self.window, "burn_in + length, or no window would fit")
        self._at_least("capacity", self.prefill, "prefill")
        self._at_least("segment_mib", 1)
        self._within("sync_seconds", 0.0, 1.0)

    @property
    def window(self) -> int:
        """Steps of one window."""
        return self.burn_in + self.length

    def _at_least(self, name: str, low: float, why: str = "") -> None:
        value = getattr(self, name)
        if not value >= low:
            raise ValueError(f"{name}: {value}: must be at least {low}{f' ({why})' if why else ''}")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"{name}: {value}: must be between {low:g} and {high:g}")
