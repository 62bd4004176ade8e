"""One service inside one Ray actor, and the handle our supervisor holds of it.

The actor is a thin wrapper: `run` builds the service and runs it in one thread of the actor, `ping` and `stop` answer
in another. Ray carries nothing else and retries nothing: a dead actor stays dead, and the supervisor makes another.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from services import logs
from services.cluster.roles import Service
from services.cluster.supervisor import Ended

PING = 0.5  # seconds between two questions for a sign of life

log = logging.getLogger(__name__)


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, concurrency_groups={"control": 1})
class ServiceActor:
    """A process with one service in it."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def run(self, name: str, build: Callable[[], Service], log_file: Path) -> Ended:
        """Run the service until it ends, however it ends."""
        logs.into(log_file)
        log.info("%s begins as process %d", name, os.getpid())
        try:
            build().run(self._stop)
        except Exception as error:
            log.exception("%s ends with an error", name)
            return Ended("refused" if is_refusal(error) else "crashed", f"{error}" or type(error).__name__)
        log.info("%s ends in order", name)
        return Ended("stopped")

    @ray.method(concurrency_group="control")
    def ping(self) -> tuple[str, int]:
        """A sign of life: Ray's name of this node, and the process id."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """Ask the service to end."""
        self._stop.set()


class ActorProcess:
    """A started `ServiceActor`, as the supervisor sees it (`supervisor.Process`). Used from one thread at a time."""

    def __init__(self, name: str, build: Callable[[], Service], log_file: Path, options: Mapping[str, Any]) -> None:
        """Raises RayError when Ray cannot make the actor. `options`: Ray's, of its name and where it goes."""
        self.pid, self._node = 0, ""
        self._actor = ServiceActor.options(**options).remote()
        self._end = self._actor.run.remote(name, build, log_file)
        self._ping = self._actor.ping.remote()
        self._heard: float | None = None

    def wait(self, timeout: float) -> Ended | None:
        """How it ended, None when it has not within `timeout` seconds."""
        if not ray.wait([self._end], timeout=timeout)[0]:
            return None
        try:
            return ray.get(self._end)
        except ActorDiedError:
            return Ended("crashed", f"process {self.pid or 'unknown'} died without a word")
        except RayError as error:
            return Ended("crashed", str(error).strip().splitlines()[-1])

    def silence(self) -> float | None:
        """Seconds since it last answered a ping, None before the first answer."""
        now = time.monotonic()
        due = self._heard is None or now - self._heard >= PING
        if due and ray.wait([self._ping], timeout=0)[0]:
            self._take_ping(now)
        return None if self._heard is None else now - self._heard

    def stop(self) -> None:
        """Ask it to end in order."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """End the process at once, if it is still there; Ray alone would wait for one that hangs to exit."""
        hangs = not ray.wait([self._end], timeout=0)[0]
        ray.kill(self._actor)
        if hangs and self.pid and self._node == ray.get_runtime_context().get_node_id():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _take_ping(self, now: float) -> None:
        try:
            self._node, self.pid = ray.get(self._ping)
        except RayError as error:  # its death shows in `wait`, with the reason
            log.debug("no answer from process %d: %s", self.pid, error)
            return
        self._heard = now
        self._ping = self._actor.ping.remote()


def is_refusal(error: BaseException) -> bool:
    """Whether a person has to mend something: our own typed errors say so, unless they are marked recoverable."""
    ours = type(error).__module__.partition(".")[0] in ("daydreamer", "robots", "services")
    return ours and not getattr(error, "recoverable", False)
