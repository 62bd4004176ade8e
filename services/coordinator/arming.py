"""When the coordinator arms a robot: only one that waits for it and is well, and not again and again. Sans-IO.

A robot comes up disarmed, at its first start and after any crash of what moves it. It is armed when nobody paused it,
the run is not ending, it was heard just now, it can read its signals, and its steps have somewhere to go. A faulted
robot is never armed. Each further attempt waits twice as long, until the robot has stayed armed for a while, or an
operator says that it may go on.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST, LONGEST = 1.0, 30.0  # seconds until the second attempt, and at most between two
WELL = 30.0  # seconds armed after which the next attempt is a first one again
FRESH = 1.0  # seconds since the last heartbeat


@dataclass(frozen=True)
class Condition:
    """What the checks look at. `detail` is the robot's own word on why it could not act; empty: it could."""

    state: str
    detail: str
    heartbeat_age: float
    paused: bool
    stopping: bool
    storable: bool


@dataclass
class _Attempts:
    next: float = 0.0
    wait: float = FIRST
    armed_since: float | None = None


class Arming:
    """One judgement per robot and moment."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempts] = {}

    def wanted(self, robot: str, condition: Condition, now: float) -> bool:
        """Whether to order this robot to arm now. True counts as an attempt."""
        attempts = self._attempts.setdefault(robot, _Attempts())
        if condition.state == "armed":
            attempts.armed_since = attempts.armed_since or now
            if now - attempts.armed_since >= WELL:
                attempts.wait, attempts.next = FIRST, 0.0
            return False
        attempts.armed_since = None
        if objection(condition) or now < attempts.next:
            return False
        attempts.next, attempts.wait = now + attempts.wait, min(2 * attempts.wait, LONGEST)
        return True

    def anew(self, robot: str) -> None:
        """Somebody looked at this robot: the next attempt is a first one."""
        self._attempts.pop(robot, None)


def objection(condition: Condition) -> str:
    """Why this robot is not armed now; empty: nothing speaks against it."""
    if condition.state != "disarmed":
        return f"it is {condition.state}"
    if condition.heartbeat_age > FRESH:
        return f"not heard for {condition.heartbeat_age:.1f} s"
    if condition.detail:
        return condition.detail
    if condition.paused:
        return "an operator paused it"
    if condition.stopping:
        return "the run is ending"
    if not condition.storable:
        return "no replay answers and the spool is full"
    return ""
