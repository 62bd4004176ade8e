"""How an operator's wish reaches robots: repeated until each has answered, or given up after a while. Sans-IO.

An order keeps its number while it is repeated, so that a robot carries it out once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.wire.messages import Answer, Order, OrderDone

AGAIN = 0.3  # seconds between repetitions
PATIENCE = 3.0  # seconds after which a silent robot is reported as such


@dataclass
class _Wish:
    asker: bytes
    order: Order
    since: float
    sent: float = 0.0
    open: set[str] = field(default_factory=set)
    done: dict[str, OrderDone] = field(default_factory=dict)


class Relay:
    """Orders under way. No number near `first_number` may have been used before, because a robot takes an order with a
    number that it knows for a repetition: a large random one will do, a clock that can be set back will not."""

    def __init__(self, first_number: int) -> None:
        self._number = first_number
        self._wishes: dict[int, _Wish] = {}

    def order(self, order: str, robots: Iterable[str], now: float, token: str = "", asker: bytes = b"") -> int:
        """Give an order to robots; `asker` is who wants the answer, empty: nobody. Returns its number."""
        self._number += 1
        self._wishes[self._number] = _Wish(asker, Order(order, self._number, token), now, now - AGAIN, set(robots))
        return self._number

    def on_done(self, robot: str, done: OrderDone) -> Order | None:
        """A robot's answer. Returns the order it answers, None for one that is no longer open."""
        wish = self._wishes.get(done.number)
        if wish is None or robot not in wish.open:
            return None
        wish.open.discard(robot)
        wish.done[robot] = done
        return wish.order

    def due(self, now: float) -> list[tuple[str, Order]]:
        """What is to be sent now: (robot, order)."""
        sends = []
        for wish in self._wishes.values():
            if wish.open and now - wish.sent >= AGAIN:
                wish.sent = now
                sends += [(robot, wish.order) for robot in sorted(wish.open)]
        return sends

    def finished(self, now: float) -> list[tuple[bytes, Answer]]:
        """Wishes that are over: (asker, answer), those of nobody left out."""
        over = [number for number, wish in self._wishes.items() if not wish.open or now - wish.since >= PATIENCE]
        ended = [self._wishes.pop(number) for number in over]
        return [(wish.asker, _answer(wish)) for wish in ended if wish.asker]


def _answer(wish: _Wish) -> Answer:
    said = {robot: (done.ok, done.detail or wish.order.order) for robot, done in wish.done.items()}
    silence = f"no answer in {PATIENCE:g} s; the order was sent, look at the robot"
    said |= {robot: (False, silence) for robot in wish.open}
    text = "; ".join(f"{robot}: {detail}" for robot, (_, detail) in sorted(said.items()))
    return Answer(bool(said) and all(ok for ok, _ in said.values()), text or "there are no robots in this run yet")
