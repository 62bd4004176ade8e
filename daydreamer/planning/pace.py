"""Whether one more iteration fits before a deadline, from how long the last ones took."""

from __future__ import annotations

RISE, FALL = 0.5, 0.1  # how fast the expectation follows a slower and a faster iteration


class Pace:
    """Seconds that an iteration takes, by the number of robots planned for. It rises faster than it falls, so that it
    lies above most; it also falls with each iteration that was left out, so that one hiccup does not end planning."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def expected(self, batch: int) -> float:
        """For a batch that was not seen yet, what another suggests; 0 before the first."""
        known = (seconds * max(1.0, batch / other) for other, seconds in self._seconds.items())
        return self._seconds[batch] if batch in self._seconds else max(known, default=0.0)

    def fits(self, batch: int, left: float) -> bool:
        """Whether an iteration is expected to fit into `left` seconds."""
        expected = self.expected(batch)
        if left > expected:
            return True
        self._seconds[batch] = (1 - FALL) * expected
        return False

    def took(self, batch: int, seconds: float) -> None:
        """Learn from an iteration."""
        expected = self._seconds.setdefault(batch, seconds)
        self._seconds[batch] += (RISE if seconds > expected else FALL) * (seconds - expected)
