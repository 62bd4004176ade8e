"""Where a run's status is shown while somebody watches: a picture that stays in place, or a line every few seconds."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.console import live
from services.coordinator.status import Status

PLAIN_SECONDS = 5.0  # between two lines


class Screen(Protocol):
    """Shows what it is told until it is left; `say` is for what is no status."""

    def __enter__(self) -> Screen: ...
    def __exit__(self, *exception: object) -> None: ...
    def show(self, status: Status, remaining: float | None = None, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...


def screen(console: Console, plain: bool) -> Screen:
    """The picture, or lines where that was wished or the output is no terminal."""
    return Lines(console) if plain or not console.is_terminal else Picture(console)


class Picture:
    """The live view, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(Text(), console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, status: Status, remaining: float | None = None, note: str = "") -> None:
        self._live.update(live.view(status, remaining, note), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)


class Lines:
    """One line now and then."""

    def __init__(self, console: Console) -> None:
        self._console, self._next = console, 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def show(self, status: Status, remaining: float | None = None, note: str = "") -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + PLAIN_SECONDS
            self.say(live.line(status))

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
