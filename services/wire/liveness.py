"""Who is alive, and how far apart two clocks are. No I/O: the caller brings messages' arrival and the time."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass


class Life(enum.StrEnum):
    """By the time since somebody was last heard."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(frozen=True)
class Changed:
    """`name` went from `before` (None: first heard) to `after`, `silence` seconds after its last message."""

    name: str
    before: Life | None
    after: Life
    silence: float


class Liveness:
    """Silent for `suspect_after` seconds: suspect; for `dead_after`: dead. `now` is seconds of a monotonic clock."""

    def __init__(self, suspect_after: float = 1.5, dead_after: float = 3.0) -> None:
        if not 0 < suspect_after <= dead_after:
            raise ValueError(f"suspect_after {suspect_after} must be positive and at most dead_after {dead_after}")
        self._suspect_after = suspect_after
        self._dead_after = dead_after
        self._heard: dict[str, float] = {}
        self._lives: dict[str, Life] = {}

    def heard(self, name: str, now: float) -> list[Changed]:
        """A message of `name` arrived."""
        silence = max(0.0, now - self._heard.get(name, now))
        self._heard[name] = now
        return self._become(name, Life.ALIVE, silence)

    def poll(self, now: float) -> list[Changed]:
        """What silence changed since the last call."""
        return [change for name in self._heard
                for change in self._become(name, self._life_at(name, now), self.age(name, now))]

    def state(self, name: str, now: float) -> Life:
        """By the silence at `now`; who was never heard is dead."""
        return self._life_at(name, now) if name in self._heard else Life.DEAD

    def age(self, name: str, now: float) -> float:
        """Seconds since `name` was heard. Raises KeyError where it never was."""
        return max(0.0, now - self._heard[name])

    def _life_at(self, name: str, now: float) -> Life:
        age = self.age(name, now)
        return Life.DEAD if age >= self._dead_after else Life.SUSPECT if age >= self._suspect_after else Life.ALIVE

    def _become(self, name: str, after: Life, silence: float) -> list[Changed]:
        before = self._lives.get(name)
        self._lives[name] = after
        return [Changed(name, before, after, silence)] if before != after else []


class ClockOffset:
    """How far a remote monotonic clock is ahead of ours, from the probe with the shortest round trip of the last ones.

    The true offset is within `uncertainty` (half that round trip) of `offset`, however unequal the two ways are
    (Cristian's algorithm, 1989). All times are nanoseconds.
    """

    def __init__(self, probes: int = 32) -> None:
        self._probes: deque[tuple[int, int]] = deque(maxlen=probes)  # (round trip, offset)

    def add(self, sent: int, remote_received: int, remote_sent: int, received: int) -> None:
        """One probe: sent and received by our clock, in between received and sent by the remote one. A probe that
        ended before it began is left out."""
        round_trip = (received - sent) - (remote_sent - remote_received)
        if round_trip >= 0:
            self._probes.append((round_trip, (remote_received - sent + remote_sent - received) // 2))

    @property
    def round_trip(self) -> int | None:
        """Of the best probe; None before the first."""
        return min(self._probes)[0] if self._probes else None

    @property
    def offset(self) -> int | None:
        """Remote clock minus ours; None before the first probe."""
        return min(self._probes)[1] if self._probes else None

    @property
    def uncertainty(self) -> int | None:
        """At most this far from the truth; None before the first probe."""
        return None if self.round_trip is None else self.round_trip // 2 + 1
