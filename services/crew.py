"""The threads of one service: they end together, and the first failure is the service's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

log = logging.getLogger(__name__)


class Crew:
    """Runs loops in threads beside the caller's own.

        with Crew(stop) as crew:
            crew.start("io", self._io)          # every loop asks `crew.ended` often
            while not crew.ended:
                ...

    Leaving the context ends all loops and raises what a thread raised, unless the body itself failed.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether it is time for every loop to return."""
        return self._over.is_set() or self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, unless the crew ends."""
        self._over.wait(seconds)

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread of this name."""
        thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001  carried to the thread that waits for us
            log.error("thread %s failed: %r", threading.current_thread().name, failure)
            self._failure = self._failure or failure
            self._over.set()
