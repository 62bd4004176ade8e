"""Services that do nothing but say where they run and fail as their kind asks. Ray's workers import this module."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from services.cluster.roles import Role
from services.config import Config
from services.run_folder import RunFolder
from services.wire.errors import PortInUse


class ToyService:
    """Writes what it sees of its process into NAME.began.json and waits. A robot has a child in its own session."""

    def __init__(self, name: str, folder: RunFolder) -> None:
        self._name, self._folder = name, folder

    def run(self, stop: threading.Event) -> None:
        body = subprocess.Popen(["sleep", "60"], start_new_session=True).pid if self._name.startswith("toy-") else 0
        threads = os.environ.get("OMP_NUM_THREADS")
        self._note("began", {"pid": os.getpid(), "nice": os.nice(0), "threads": threads, "body": body})
        stop.wait()
        self._note("ended", {"time": time.time()})

    def _note(self, what: str, content: dict) -> None:
        path = Path(self._folder.path) / f"{self._name}.{what}.json"
        path.with_suffix(".tmp").write_text(json.dumps(content))
        path.with_suffix(".tmp").rename(path)


class Broken(ToyService):
    """The first start ends with a bug, the next ones serve."""

    def run(self, stop: threading.Event) -> None:
        marker = Path(self._folder.path) / "broke"
        if not marker.exists():
            marker.touch()
            raise ZeroDivisionError("a bug")
        super().run(stop)


class Refusing(ToyService):
    """Cannot run as things are."""

    def run(self, stop: threading.Event) -> None:
        raise PortInUse("tcp://127.0.0.1:5551: another process holds it")


def build(role: Role, config: Config, folder: RunFolder, control: str) -> ToyService:
    """Toys by kind: the policy server breaks once, all else is well."""
    return {"policy": Broken}.get(role.kind, ToyService)(role.name(config), folder)


def build_refusing(role: Role, config: Config, folder: RunFolder, control: str) -> ToyService:
    """A replay that refuses to run."""
    return {"replay": Refusing}.get(role.kind, ToyService)(role.name(config), folder)
