"""The way from the control process to the process that owns a robot.

`Body` is a driver like any other to whoever commands it. Behind it the real driver lives in a process of its own, which
ticks it in real time and outlives the control process: if that dies, the body holds, damps, and after a while lays the
robot down and ends. Both talk through shared memory, so no verb waits for the other side, but `connect`, `disconnect`,
`arm` and `clear_fault`, which wait for its answer. A fault outlives both (`body_layout.Latch`): who starts that robot
next begins with it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robots import driver as contract
from robots.body_layout import (
    BODY_PID,
    BODY_TIME,
    BUSY,
    CLIP,
    CONTROL_TIME,
    MODE,
    READY,
    SPEED,
    STOPS,
    Files,
    Layout,
    stamp,
    text,
    unstamp,
)
from robots.driver import (
    Applied,
    Bound,
    Clip,
    Driver,
    Health,
    LinkLost,
    Mode,
    NotConnected,
    RobotError,
    RobotSpec,
    Signals,
    Stop,
)
from robots.estop import unheard
from robots.monitors import Threshold, watched
from robots.registry import make_driver
from robots.safety import ESTOPPED, Gate
from robots.shared_memory import Region

log = logging.getLogger(__name__)

SILENCE = 0.2  # s without a sign of the body until its lock is looked at
HUNG = 2.0  # s without a sign until a body that still lives is given up
ANSWER, PARKING = 2.0, 10.0  # s to answer an order, and to lay the robot down
STARTING = 5.0  # s for the process to begin, and to say why it could not connect, beside those to connect in
SLOWEST, FASTEST = 0.001, 100.0  # speeds of a double's clock
POLL = 0.002


class Busy(RobotError):
    """Another living control process commands this body."""


class Body(Driver):
    """Driver `driver` with `options` in a process of its own.

    `name` is unique on this computer, as a run's folder with a robot's name is. `speed`: how many times as fast as real
    time its clock runs, until `keep_pace` says otherwise. `monitors`: thresholds that differ from the driver's own.
    `keep_faults`: whether the fault of a double outlives its process, which of a robot at an address it always does;
    not where no run could clear it. `log_path`: where the process writes what goes wrong.
    """

    def __init__(self, name: str, driver: str, options: Mapping[str, Any], control_hz: float = 20.0, speed: float = 1.0,
                 seed: int = 0, monitors: Mapping[str, Threshold] | None = None, keep_faults: bool = True) -> None:
        self._driver = make_driver(driver, options, control_hz, seed)  # never connected: for what it knows
        self._region: Region | None = None
        self.keep_pace(speed)
        self.spec: RobotSpec = self._driver.spec
        self.thresholds = watched(self._driver.thresholds, monitors or {})
        self._settings = {"name": name, "driver": driver, "options": dict(options), "control_hz": control_hz,
                          "speed": speed, "seed": seed, "keep_faults": keep_faults,
                          "monitors": {gauge: [limits.warn, limits.stop] for gauge, limits in self.thresholds.items()}}
        self._files, self._layout = Files(name), Layout(self.spec)
        self._digest, self.log_path = self._layout.digest(self._settings), self._files.log
        self._child: subprocess.Popen | None = None
        self._control: int | None = None
        self._orders = itertools.count(time.monotonic_ns())
        self._gate = Gate(self.spec.action_space, self.spec.noop)
        self._commanded = False
        self._latched = ""  # the fault that no operator has cleared yet; it outlives the body

    @property
    def pid(self) -> int:
        """The body's process; 0 while there is none."""
        return 0 if self._region is None else int(self._region.words[BODY_PID])

    def connect(self, timeout: float = 10.0) -> None:
        """Attaches to the living body of this name, else starts one, whose driver connects within `timeout`; either way
        disarmed. One that hangs is killed: it could neither stop the robot nor make room for another. Raises Busy,
        LinkLost, in the words of the robot's link where that was reached."""
        if self._region is not None and not self._lost():
            return
        if self._region is not None:
            self._last_report()  # it may have died of what it reported
        self._region = None
        self._take_control()
        try:
            self._region = self._attach(timeout)
            self._tell_speed()
            if self._latched:
                self.stop(Stop.ESTOP)
            self._ask("attach")
        except BaseException:
            self._let_go()
            raise
        self._gate = Gate(self.spec.action_space, self.spec.noop)

    def disconnect(self) -> None:
        """The robot parks and its process ends."""
        if self._region is None:
            return
        try:
            if not self._lost():
                _signal(self.pid, signal.SIGTERM)
                self._wait_for_end(PARKING)
        finally:
            if self.log_path.exists() and not self.log_path.stat().st_size:
                self.log_path.unlink()
            self._let_go()

    def read(self) -> Signals:
        """What the body published last, at most some milliseconds old."""
        region = self._living()
        _, message = region.boxes["vectors"].read()
        captured, sequence, data = unstamp(message)
        values = self._layout.vectors.unpack(data)
        if self._layout.images.size:
            values |= self._layout.images.unpack(region.boxes["images"].read()[1])
        return Signals(values, captured, sequence)

    def command(self, action: np.ndarray) -> Applied:
        """As the driver's own; the mask holds what its limits met up to now. What is not finite is not sent at all.

        While the robot moves by itself, this waits for the body to say what it applied instead.
        """
        region = self._living()
        applied = self._gate.admit(action)
        if region.words[MODE] != Mode.ARMED:
            return Applied(applied.action, applied.clip | Clip.DISARMED)
        if not applied.clip & Clip.NOT_FINITE or self._commanded:
            sent, data = time.monotonic_ns(), self._layout.action.pack({"action": applied.action})
            region.boxes["command"].write(stamp(sent, 0, data))
            self._commanded = True
            if region.words[BUSY]:
                return self._answered(sent) or Applied(applied.action, applied.clip | Clip.BUSY)
        return Applied(applied.action, applied.clip | Clip(int(region.words[CLIP])) & ~Clip.BUSY)

    def _answered(self, sent: int) -> Applied | None:
        """What the body made of the command of this time; None where it does not say so within a control period."""
        deadline, box = time.monotonic() + 1 / self.spec.control_hz, self._region.boxes["applied"]
        while time.monotonic() < deadline:
            if (message := box.read()) is not None:
                time_sent, clip, data = unstamp(message[1])
                if time_sent == sent:
                    return Applied(self._layout.action.unpack(data)["action"], Clip(clip))
            time.sleep(POLL / 4)
        return None

    def tick(self) -> None:
        """The body ticks itself."""

    def keep_pace(self, speed: float) -> None:
        """From now on, and whenever it is connected, the clock of a double runs this many times as fast as the wall's.
        Raises ValueError for a robot with a clock of its own."""
        if not SLOWEST <= speed <= FASTEST:
            raise ValueError(f"speed: {speed!r}: allowed is {SLOWEST:g} to {FASTEST:g}")
        self._driver.keep_pace(speed)
        self._speed = speed
        if self._region is not None:
            self._tell_speed()

    def arm(self) -> None:
        """Waits for the body's answer."""
        self._living()
        self._commanded = False
        self._ask("arm")

    def stop(self, level: Stop) -> None:
        """One store into shared memory: works from any thread, whatever the others do."""
        if level == Stop.ESTOP:
            self._latched = self._latched or ESTOPPED
        self._commanded = False
        if (region := self._region) is not None:
            region.words[STOPS + level] = time.monotonic_ns()

    def clear_fault(self, token: str) -> None:
        """Waits for the body's answer."""
        self._living()
        before, self._latched = self._latched, ""
        try:
            self._ask("clear_fault", token=token)
        except RobotError:
            self._latched = self._latched or before
            raise

    def health(self) -> Health:
        """Up to a tenth of a second old, but for the mode and the fault. A lost body shows as a fault of the link."""
        if self._region is None:
            return Health(Mode.DISARMED)
        age, fields = _silence(self._region), self._last_report()
        if self._lost():
            fields |= {"mode": Mode.DISARMED, "fault": "the body process does not answer"}
        return Health(Mode(fields["mode"]), fields["fault"], max(age, fields["link_age"]), fields["ticks"],
                      fields["overruns"], fields["gauges"], tuple(fields["warnings"]),
                      bool(self._region.words[BUSY]))

    def standing(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """As the driver's own."""
        return self._driver.standing(values)

    def limits(self, values: Mapping[str, np.ndarray]) -> Sequence[Bound]:
        """See Driver."""
        return self._driver.limits(values)

    def _last_report(self) -> dict[str, Any]:
        """What the body said last of how it is. Its fault is remembered: the first one, because it names the cause."""
        fields = json.loads(self._region.boxes["health"].read()[1])
        if fields["mode"] == Mode.FAULT:
            if self._latched in ("", ESTOPPED):
                self._latched = fields["fault"]
            fields["fault"] = self._latched
        return fields

    def _tell_speed(self) -> None:
        self._region.words[SPEED] = round(self._speed * 1e6)

    def _take_control(self) -> None:
        if self._control is None:
            self._control = self._files.take(self._files.control_lock)
        if self._control is None:
            raise Busy(f"{self._settings['name']}: another living process commands this robot; stop it first")
        os.pwrite(self._control, f"{os.getpid()} ".encode(), 0)

    def _let_go(self) -> None:
        self._region = None
        if self._control is not None:
            self._files.control_lock.unlink(missing_ok=True)
            os.close(self._control)
            self._control = None
        if self._child is not None:
            self._child.poll()  # or it stays a zombie

    def _attach(self, timeout: float) -> Region:
        """The region of a living body that was started with our settings; starts one where none lives."""
        child, deadline = None, time.monotonic() + timeout + STARTING
        while time.monotonic() < deadline:
            pid, settings = self._files.owner()
            if pid and settings == self._digest and (region := self._open_if_ready()) is not None:
                if _silence(region) <= HUNG:
                    return region
                log.error("the body process %d hangs: killed", pid)
                _signal(pid, signal.SIGKILL)
            if pid > 0 and settings and settings != self._digest:
                _signal(pid, signal.SIGTERM)
            elif not pid and child is None:
                child = self._spawn(timeout)
            elif not pid and child.poll() is not None:
                raise LinkLost(f"the body process ended: {self._last_words()}; see {self.log_path}")
            time.sleep(POLL)
        raise LinkLost(f"no body process was ready in time; see {self.log_path}")

    def _open_if_ready(self) -> Region | None:
        try:
            region = self._layout.open(self._files, create=False)
        except FileNotFoundError:
            return None
        return region if region.words[READY] else None

    def _spawn(self, timeout: float) -> subprocess.Popen:
        if unheard(self._files.region):
            self._latched = self._latched or ESTOPPED
        self._files.region.unlink(missing_ok=True)
        path = os.pathsep.join(filter(None, sys.path))  # drivers that can be imported here can be imported there
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "robots.body", json.dumps(self._settings), str(timeout)],
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": path})
        return self._child

    def _last_words(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def _ask(self, verb: str, timeout: float = ANSWER, **fields: str) -> None:
        """Hand an order to the body and wait for its answer; raises what it raised there, or LinkLost."""
        region, number = self._region, next(self._orders)
        region.boxes["order"].write(text(number=number, time=time.monotonic_ns(), verb=verb, **fields))
        deadline = time.monotonic() + timeout
        while True:
            answer = json.loads(region.boxes["answer"].read()[1])
            if answer["number"] == number:
                break
            if self._lost() or time.monotonic() > deadline:
                raise LinkLost(f"the body process did not answer to {verb}; see {self.log_path}")
            time.sleep(POLL)
        if answer["error"]:
            raise getattr(contract, answer["error"], RobotError)(answer["text"])

    def _wait_for_end(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._files.owner()[0] == self.pid:
            if time.monotonic() > deadline:
                log.error("the body process %d does not end; see %s", self.pid, self.log_path)
                return
            time.sleep(POLL)

    def _living(self) -> Region:
        """The region, and a sign of life of ours in it. Raises NotConnected, LinkLost."""
        if self._region is None:
            raise NotConnected(f"{self._settings['name']}: connect first")
        if self._lost():
            raise LinkLost(f"the body process {self.pid} died or hangs; connect starts a new one; see {self.log_path}")
        self._region.words[CONTROL_TIME] = time.monotonic_ns()
        return self._region

    def _lost(self) -> bool:
        silent = _silence(self._region)
        return silent > SILENCE and (silent > HUNG or self._files.owner()[0] != self.pid)


def _silence(region: Region) -> float:
    return (time.monotonic_ns() - int(region.words[BODY_TIME])) * 1e-9


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, number)


if __name__ == "__main__":
    from robots.body_process import main

    main(json.loads(sys.argv[1]), *map(float, sys.argv[2:]))
