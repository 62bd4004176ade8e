"""Doubles behind their vendor's protocol, each in a process of its own, as a robot is.

A link starts one with `ProtocolDouble` and ends it. The process writes one line of JSON to its standard output when it
listens (where it does), and reads orders from its standard input, one line of JSON each: faults to play for a while,
for tests and drills. It ends with its parent: when its input closes. Physics and protocol run in real time.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from robots.driver import LinkLost


class ProtocolDouble:
    """`python -m MODULE SETTINGS`, where the module's `main(settings)` calls `serve`."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        self._command = [sys.executable, "-m", module, json.dumps(dict(settings))]
        self._process: subprocess.Popen | None = None
        self.said: dict[str, Any] = {}  # when it listened

    @property
    def pid(self) -> int:
        """The double's process; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def ended(self) -> bool:
        """Whether its process was started and is not there any more."""
        return self._process is not None and self._process.poll() is not None

    def start(self, timeout: float) -> dict[str, Any]:
        """What the double said when it listened: its addresses. Raises LinkLost."""
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=os.environ | {"PYTHONPATH": path})
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise LinkLost(f"the double ({' '.join(self._command[1:3])}) did not start within {timeout:g} s")
        self.said = json.loads(line)
        return self.said

    def order(self, fault: str, **fields: Any) -> None:
        """Play a fault, as the double's module describes it."""
        self._process.stdin.write(json.dumps({"fault": fault, **fields}) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End the process; twice is once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.stdin.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve(said: Mapping[str, Any], order: Callable[[dict[str, Any]], None], tick: Callable[[], None],
          hz: float) -> None:
    """In the double's process: say where we listen, tick `hz` times a second until the parent closes our input, and
    hand on its orders, both on this thread. A late tick is made up for, up to 20 ms."""
    waiting: list[dict[str, Any]] = []
    ended = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            waiting.append(json.loads(line))
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps(dict(said)), flush=True)
    due = time.monotonic()
    while not ended.is_set():
        while waiting:
            order(waiting.pop(0))
        due = max(due, (now := time.monotonic()) - 0.02)
        if due <= now:
            tick()
            due += 1 / hz
        else:
            time.sleep(min(due - now, 0.01))
