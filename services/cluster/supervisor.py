"""Keeps the services of a run alive: watches them, starts again what died, tells a crash from a refusal, ends in order.

A service that dies, falls silent or ends with an error is started again after a pause that doubles from `FIRST_PAUSE`
to `LONGEST_PAUSE` and is short again after a `HEALTHY` time of life. One that, at its very first start, ends with an
error that only a person can mend (a port in use, a wrong setting) is not: it is the run's `failure`. One that returns
without being asked has done its work, such as a robot that an operator stopped.

What a process is (a Ray actor, a fake in a test) and what it does is not known here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between a death and the next start
HEALTHY = 60.0  # seconds of life after which earlier deaths no longer count
SILENT = 10.0  # seconds without a sign of life after which a process that has lived is given up
STARTING = 60.0  # the same, for one that has not given any yet
LOOK = 0.1  # seconds between two looks at all of them

log = logging.getLogger(__name__)


class ServiceRefused(Exception):
    """A service cannot run as things are; the text is the service's own and names the way out."""


@dataclass(frozen=True)
class Ended:
    """How a service ended: `stopped` in order, `crashed`, or `refused` to run, which only a person can mend."""

    how: str
    text: str = ""


class Process(Protocol):
    """One started service. None of these blocks, but `wait` up to its timeout."""

    pid: int  # 0 while not known

    def wait(self, timeout: float) -> Ended | None:
        """How it ended, None when it has not within `timeout` seconds."""

    def silence(self) -> float | None:
        """Seconds since it last gave a sign of life, None before the first."""

    def stop(self) -> None:
        """Ask it to end in order."""

    def kill(self) -> None:
        """Make sure that nothing of it is left; also after it ended."""


Launch = Callable[[int], Process]  # starts a service anew; the argument counts its starts


class Watch:
    """One service under supervision. `state`: running | restarting | stopped | refused."""

    def __init__(self, name: str, launch: Launch) -> None:
        self.name, self.state, self.restarts = name, "restarting", 0
        self.process: Process | None = None
        self.ended = Ended("stopped", "never started")
        self._launch, self._pause, self._starts = launch, 0.0, 0
        self._since = self._due = 0.0

    def tick(self, now: float) -> bool:
        """Look after the service. Returns whether it was started again just now."""
        if self.state == "restarting" and now >= self._due:
            return self._start(now)
        if self.state == "running" and (ended := self._look(now)) is not None:
            self._over(ended, now)
        return False

    def _start(self, now: float) -> bool:
        again = self._starts > 0
        self.process = self._launch(self._starts)
        self._starts += 1
        self._since, self.state = now, "running"
        self.restarts += again
        return again

    def _look(self, now: float) -> Ended | None:
        if (ended := self.process.wait(0)) is not None:
            return ended
        silence = self.process.silence()
        if silence is None and now - self._since > STARTING:
            return Ended("crashed", f"did not start within {STARTING:g} s")
        if silence is not None and silence > SILENT:
            return Ended("crashed", f"gave no sign of life for {silence:.0f} s")
        return None

    def _over(self, ended: Ended, now: float) -> None:
        self.process.kill()
        self.ended = ended
        if ended.how == "stopped" or ended.how == "refused" and self._starts == 1 and now - self._since < HEALTHY:
            self.state = ended.how
            log.info("%s %s %s", self.name, ended.how, ended.text)
            return
        healthy = now - self._since > HEALTHY
        self._pause = FIRST_PAUSE if healthy else min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
        self.state, self._due = "restarting", now + self._pause
        log.warning("%s died, starts again in %.1f s: %s", self.name, self._pause, ended.text)


class Supervisor:
    """Watches the services in `launches` from a thread of its own; `on_restart` is told each name that started again.

    `order`: the names in groups; `stop` ends one group after the other, each within its `patience` seconds.
    """

    def __init__(self, launches: Mapping[str, Launch], order: Sequence[tuple[Sequence[str], float]],
                 on_restart: Callable[[str], None]) -> None:
        self._watches = {name: Watch(name, launch) for name, launch in launches.items()}
        self._order, self._on_restart = order, on_restart
        self._broken: ServiceRefused | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start everything, and go on watching."""
        self.tick(time.monotonic())
        self._thread.start()

    def tick(self, now: float) -> None:
        """Look after every service once."""
        for watch in self._watches.values():
            if watch.tick(now):
                self._on_restart(watch.name)

    @property
    def failure(self) -> ServiceRefused | None:
        """Why the run cannot go on: a service refused, or nothing can be watched or started any more."""
        refused = [watch for watch in self._watches.values() if watch.state == "refused"]
        return ServiceRefused(f"{refused[0].name}: {refused[0].ended.text}") if refused else self._broken

    @property
    def restarts(self) -> dict[str, int]:
        """How often each service was started again."""
        return {name: watch.restarts for name, watch in self._watches.items()}

    def states(self) -> dict[str, str]:
        """State of each service: running | restarting | stopped | refused."""
        return {name: watch.state for name, watch in self._watches.items()}

    def pids(self) -> dict[str, int]:
        """Process id of each service that runs, as far as it is known."""
        running = [watch for watch in self._watches.values() if watch.state == "running"]
        return {watch.name: watch.process.pid for watch in running if watch.process.pid}

    def stop(self) -> list[str]:
        """End all services in order. Returns those that did not end by themselves and were killed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        return [name for names, patience in self._order for name in self._stop_group(names, patience)]

    def _stop_group(self, names: Sequence[str], patience: float) -> list[str]:
        watches = [self._watches[name] for name in names if self._watches[name].state == "running"]
        for watch in watches:
            watch.process.stop()
        deadline = time.monotonic() + patience
        late = [watch.name for watch in watches if not _ends(watch, deadline - time.monotonic())]
        for watch in self._watches.values():
            if watch.name in names and watch.state != "refused":
                watch.state = "stopped"
        return late

    def _work(self) -> None:
        try:
            while not self._stop.wait(LOOK):
                self.tick(time.monotonic())
        except Exception as error:  # what processes are made of is gone, such as Ray
            log.exception("cannot watch the services any more")
            self._broken = ServiceRefused(f"services cannot be watched any more: {error}; start the run again")


def _ends(watch: Watch, patience: float) -> bool:
    ended = watch.process.wait(max(0.0, patience))
    watch.process.kill()
    if ended is None:
        log.error("%s did not end within its time and was killed", watch.name)
    elif ended.how != "stopped":
        log.error("%s ended badly: %s", watch.name, ended.text)
    return ended is not None
