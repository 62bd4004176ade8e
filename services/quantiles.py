"""A histogram that many processes can fill and anybody can merge: quantiles within one per cent, in a few hundred
numbers.

Buckets are spaced logarithmically; bucket i holds the values in (RATIO ** (i - 1), RATIO ** i]. Because every histogram
has the same buckets, adding counts merges them exactly. After DDSketch (Masson, Rim and Lee 2019). Not thread-safe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.01
RATIO = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST, LARGEST = 1e-9, 1e9  # values outside count as these, so that the number of buckets is bounded


class Histogram:
    """Counts of observed values by bucket. `counts` is sparse and travels in `Telemetry.histograms`."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def observe(self, value: float) -> None:
        """Count one value. What is not above zero counts as the smallest; NaN is ignored."""
        if math.isnan(value):
            return
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, counts: Mapping[int, int]) -> None:
        """Add the counts of another histogram."""
        for bucket, n in counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + n

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts.values())

    def quantile(self, q: float) -> float | None:
        """The value below which a share `q` in [0, 1] of all lies, with 1 the greatest; None while there are none."""
        wanted = q * (self.total - 1)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen > wanted:
                return middle(bucket)
        return None


def middle(bucket: int) -> float:
    """The value that stands for a bucket: no value in it is further away than `RELATIVE_ERROR`."""
    return 2 * RATIO**bucket / (RATIO + 1)


def bucket_of(value: float) -> int:
    """The bucket that holds a value."""
    return math.ceil(math.log(min(max(value, SMALLEST), LARGEST)) / math.log(RATIO))
