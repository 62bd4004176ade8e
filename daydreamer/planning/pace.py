"""How long one more iteration will take, from how long the last ones took."""

from __future__ import annotations

from collections import deque

REMEMBERED = 8  # iterations
FALL = 0.005  # by which the expectation falls with each plan that had no time for one


class Pace:
    """Seconds that an iteration takes, by the number of robots planned for: the second slowest of the last ones.

    So one hiccup of the machine changes nothing. Where iterations became too slow, they are tried again, but seldom: a
    decision without planning harms less than one that comes too late.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def expected(self, batch: int) -> float:
        """For a batch that was not seen yet, what another suggests; 0 before the first."""
        if batch in self._seconds:
            return sorted(self._seconds[batch])[-2:][0]
        return max((self.expected(other) * max(1.0, batch / other) for other in self._seconds), default=0.0)

    def took(self, batch: int, seconds: float) -> None:
        """Learn from an iteration."""
        self._seconds.setdefault(batch, deque(maxlen=REMEMBERED)).append(seconds)

    def left_out(self, batch: int) -> None:
        """No iteration fitted: come a little closer to trying one."""
        recent = self._seconds.get(batch, [self.expected(batch)])
        self._seconds[batch] = deque(((1 - FALL) * seconds for seconds in recent), REMEMBERED)
