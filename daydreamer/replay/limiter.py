"""How much may be replayed: a pure comparison of counters, one-sided, so that a robot is never kept from inserting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limiter:
    """Holds the train ratio, replayed steps (burn-in not counted) per collected step, from above.

    `prefill`: steps to collect before the first batch; `tolerance`: batches that may run ahead of the ratio, so that a
    pipeline of batches in flight does not stutter. Both counters come from outside and survive restarts with the data
    and the checkpoint, so the limiter has nothing to lose.
    """

    train_ratio: float
    prefill: int
    tolerance: float = 2.0

    def __post_init__(self) -> None:
        if not self.train_ratio > 0:
            raise ValueError(f"train_ratio: {self.train_ratio}: must be above 0, or nothing is ever replayed")
        if self.prefill < 1:
            raise ValueError(f"prefill: {self.prefill}: must be at least 1 step")
        if self.tolerance < 1:
            raise ValueError(f"tolerance: {self.tolerance}: must be at least 1 batch")

    def wait_reason(self, inserted: int, replayed: int, wanted: int) -> str:
        """"" if `wanted` more steps may be replayed now, else what to wait for: "prefill" or "ratio".

        `inserted`: steps ever collected; `replayed`: steps replayed so far, those in flight included.
        """
        if inserted < self.prefill:
            return "prefill"
        if replayed + wanted > self.train_ratio * inserted + self.tolerance * wanted:
            return "ratio"
        return ""

    @staticmethod
    def achieved(inserted: int, replayed: int) -> float:
        """The train ratio so far."""
        return replayed / inserted if inserted else 0.0
