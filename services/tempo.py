"""How fast the clocks of doubles run at `robot.speed: auto`: as fast as the train ratio asks for and a computer can.

The replay knows what was collected and what learners have replayed of it; its `Demand` says how many steps a second all
robots together should collect. The coordinator, which knows how many collect, makes one speed of that for all of them
(`shared`) and tells it with its heartbeats. Each robot's node keeps to it as far as its own computer does (`Strain`).
Nothing here has a clock or a thread of its own; times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
import threading
from collections import deque

SLOWEST, FASTEST = 0.01, 10.0  # speeds; the slowest all but stops a double, and still hears when it may go on

AHEAD = 8.0  # seconds of a learner's work that robots are to be ahead of it
GAIN = 1.0  # the e-fold that robots are slowed by for each time that they are further ahead; a change is felt within
#             3 s, and more than AHEAD / (e * 3 s) would swing
WINDOW, BATCHES = 10.0, 8  # seconds, and batches at least, over which a learner's work is measured
LEAST = 0.25  # of the steps that one robot collects in real time: less than that nobody asks for who just begins
APPROACH = 4.0  # seconds in which what is left of the prefill would be collected; longer than steps are under way


class Demand:
    """What learners work through, seen from the samples they ask for. Any thread.

    It asks for `demand * exp(GAIN * (1 - lead / target))` steps a second. `demand`: collected steps that the learner
    worked through per second lately, at the wanted ratio. `lead`: steps collected that it has yet to work through;
    `target`: those of AHEAD seconds and one batch. A learner that is kept waiting thus gets e times what it got, again
    and again, until it does not wait; one that has fallen behind gets less by the exponential of how far.
    """

    def __init__(self, train_ratio: float, prefill: int, control_hz: float) -> None:
        self._ratio, self._prefill, self._hz = train_ratio, prefill, control_hz
        self._marks: deque[tuple[float, float]] = deque()  # when, and collected steps worked through until then
        self._batch, self._short = 0.0, False
        self._lock = threading.Lock()

    def asked(self, replayed: int, steps: int, why: str, now: float) -> None:
        """A learner that has replayed so much asked for a batch of `steps`; `why` it waits, "" where it got it."""
        with self._lock:
            self._batch, self._short = steps / self._ratio, why == "prefill"
            done = replayed / self._ratio + (0.0 if why else self._batch)
            if self._marks and done < self._marks[-1][1]:  # it began anew, or was forgiven what it had too much
                self._marks.clear()
            if not why or not self._marks:
                self._marks.append((now, done))
                while len(self._marks) > BATCHES + 1 and now - self._marks[1][0] > WINDOW:
                    self._marks.popleft()

    def lead(self, inserted: int) -> float | None:
        """Steps collected that the learner has yet to work through; None before one asked."""
        with self._lock:
            return inserted - self._marks[-1][1] if self._marks else None

    def wanted(self, inserted: int, now: float) -> float:
        """Steps a second that robots should collect together. Before the prefill as many as they can, a little before
        its end no more than in real time; afterwards none before a learner asks."""
        if inserted < self._prefill:
            return max(self._hz, (self._prefill - inserted) / APPROACH)
        if self._short:
            return self._hz
        if (lead := self.lead(inserted)) is None:
            return 0.0
        demand = max(self._rate(now), LEAST * self._hz)
        return demand * math.exp(GAIN * (1 - max(lead, 0.0) / (AHEAD * demand + self._batch)))

    def _rate(self, now: float) -> float:
        """Collected steps worked through per second lately."""
        with self._lock:
            (since, before), (_, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - since) if now > since else 0.0


def shared(steps_per_second: float, robots: int, control_hz: float) -> float:
    """The speed at which so many robots together collect these steps, as near as a clock may come to it."""
    return min(max(steps_per_second / (max(1, robots) * control_hz), SLOWEST), FASTEST)


class Strain:
    """How fast a computer lets a double's clock run: `limit`.

    Where more than `MANY` of a spell's periods are lost, the limit goes down to `LESS` of the speed that was too much.
    After `BACK` spells it is there again, where it lingers; and then it goes up faster and faster, because what the
    computer had to do beside may be over (the course of TCP's CUBIC). One thread.
    """

    PERIODS, SECONDS = 20, 1.0  # of a spell, at least
    MANY, LESS, BACK = 0.1, 0.8, 5

    def __init__(self) -> None:
        self.limit = self._too_fast = FASTEST
        self._spells = self.BACK  # since the speed was too much
        self._begin(0.0)

    def note(self, lost: float, speed: float, now: float) -> None:
        """One period went by at this speed. `lost`: how many periods' worth of time or of actions were, less than 0
        where time was made up."""
        if not self._periods:
            self._since = now
        self._periods, self._lost = self._periods + 1, self._lost + lost
        if self._periods >= self.PERIODS and now - self._since >= self.SECONDS:
            self._judge(speed)
            self._begin(now)

    def _judge(self, speed: float) -> None:
        """The spell that is over."""
        if self._lost > self.MANY * self._periods:
            self._too_fast, self._spells = min(self.limit, speed), 0
        elif self.limit < FASTEST:
            self._spells += 1
        limit = self._too_fast * self.LESS ** (1 - self._spells / self.BACK) ** 3
        self.limit = min(max(limit, SLOWEST), FASTEST)

    def _begin(self, now: float) -> None:
        self._periods, self._lost, self._since = 0, 0.0, now
