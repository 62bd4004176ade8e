"""A real run in a process of its own, to be watched, hurt and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robots.body_layout import Files
from services import run_folder
from services.console.operator import Operator, OperatorError
from services.coordinator.status import RobotStatus, Status
from services.run_folder import RunFolder

CONFIGS = Path(__file__).parents[2] / "configs"
ROBOT = "unitree_a1-0"
SETTINGS = {"agent.size": "debug", "replay.prefill": 64, "replay.batch": 4, "replay.length": 16,
            "learner.train_ratio": 8, "learner.publish_seconds": 1, "learner.checkpoint_seconds": 2,
            "learner.threads": 1, "network.port": 0}
PATIENCE = 60.0  # seconds to start; many times what it takes, so that a busy machine fails no test


class LiveRun:
    """`daydreamer run` of an A1 double with a small agent; of another `config`, with other `settings`, where those are
    given, and then `robot` is its name."""

    def __init__(self, home: Path, config: str = "a1_walk.yaml", robot: str = ROBOT, **settings: Any) -> None:
        self.home, self.folder = home, RunFolder(home / "chaos")
        self._config, self._name, self._settings = CONFIGS / config, robot, SETTINGS | settings
        self._output = home / "output.txt"
        self.process: subprocess.Popen | None = None
        self._operator: Operator | None = None
        self._seen: Status | None = None

    def start(self) -> None:
        """Start or resume it, and wait until the coordinator answers."""
        changes = [part for key, value in self._settings.items() for part in ("--set", f"{key}={value}")]
        with open(self._output, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "run", str(self._config), "--plain", "--name", "chaos",
                 "--home", str(self.home), *changes],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        control = self.until(self._control, PATIENCE, "the run says where it can be reached")
        self._hang_up()
        self._operator = Operator(control)
        self.until(self.status, PATIENCE, "the coordinator answers")

    def stop(self) -> int:
        """End it in order. Returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def output(self) -> str:
        """What it said so far."""
        return self._output.read_text()

    def status(self, patience: float = 2.0) -> Status:
        """What the coordinator says. Raises OperatorError while it is away."""
        self._seen = self._operator.status(patience)
        return self._seen

    def robot(self) -> RobotStatus:
        """The robot's part of the status. Raises OperatorError, StopIteration while it is not known."""
        return next(robot for robot in self.status().robots if robot.name == self._name)

    def pid(self, name: str) -> int:
        """The process that runs a service now, as its log says; the body's, as its lock says. 0 where there is none."""
        if name == "body":
            return Files(f"{self.folder.path.resolve()}/{self._name}").owner()[0]
        log = self.folder.logs / f"{name}.log"
        begun = re.findall(rf"{re.escape(name)} begins as process (\d+)", log.read_text()) if log.exists() else []
        return int(begun[-1]) if begun and alive(int(begun[-1])) else 0

    def below(self, module: str) -> int:
        """The process `python -m module` that the body started. 0 where there is none."""
        body = self.pid("body")
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == body and f"-m\0{module}\0" in (stat.parent / "cmdline").read_text():
                    return int(stat.parent.name)
        return 0

    def play(self, module: str, fault: str, **fields: Any) -> None:
        """A fault, by the protocol double `module` below the body: an order in the pipe that it reads orders from."""
        with open(f"/proc/{self.below(module)}/fd/0", "w") as orders:
            orders.write(json.dumps({"fault": fault, **fields}) + "\n")

    def ask(self, command: str, token: str = "") -> str:
        """What an operator types, and the answer. Raises OperatorError."""
        return self._operator.ask(command, token=token)

    def until(self, what: Callable[[], object], seconds: float, why: str) -> Any:
        """The first true value; a status that cannot be had is not true."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if value := what():
                    return value
            except (OperatorError, StopIteration) as error:
                why = f"{why.partition(' (')[0]} ({error})"
            assert time.monotonic() < deadline, f"not within {seconds} s: {why}\n{self._report()}"
            assert self.process.poll() is None, f"the run ended before this: {why}\n{self._report()}"
            time.sleep(0.05)

    def summary(self) -> dict[str, Any]:
        """What the run wrote about itself at its end."""
        return json.loads(self.folder.summary.read_text())

    def clear(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._hang_up()
        pids = [self.pid(name) for name in ("coordinator", "replay", "learner", "policy", self._name, "body")]
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)

    def _control(self) -> str:
        info = run_folder.read_info(self.folder)
        return info.addresses.get("control", "") if info and info.pid == self.process.pid else ""

    def _hang_up(self) -> None:
        if self._operator:
            self._operator.close()

    def _report(self) -> str:
        """The last of all that was written."""
        files = [self._output, *sorted(self.folder.logs.glob("*.log"))]
        lines = [line[:300] for file in files for line in (f"--- {file.name}", *file.read_text().splitlines()[-8:])]
        return "\n".join([*lines, repr(self._seen)])


def alive(pid: int) -> bool:
    """Whether the process is there and not only waiting to be buried."""
    try:
        return pid > 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
