"""The process that owns one robot: ticks the driver in real time and follows what the control process left in memory.

What was said last counts, whatever order it is found in: a command from before a stop or an order is void, and a stop
that was said after an order is obeyed after it.

It needs nobody. Without commands the driver holds and damps by itself; without any sign of a control process for
`ABANDONED` seconds, or on SIGTERM or SIGINT, the process ends. However it ends, the driver disconnects: it parks where
the robot is armed and its state fresh, else it holds or damps. A robot is parked by its driver, so that is left out
where the driver or its link is what failed: an error in `tick` or `command`, of whatever kind, or a lost link anywhere
damps first. An error of the loop around them (memory, orders, reports) says nothing against the driver, which parks.

A fault is kept in a file for as long as it is latched, and latched again when the process starts: `body_layout.Latch`.
Everything but rendering and the watch over stops while parking happens on the main thread.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    Latch,
    Layout,
    stamp,
    text,
    unstamp,
)
from robots.clock import Clock
from robots.driver import Driver, FaultLatched, Health, LinkLost, Mode, RobotError, Stop
from robots.link import address_of
from robots.monitors import DEFAULTS, Monitors, Threshold
from robots.realtime import real_time
from robots.registry import checked, driver_class, make_driver
from robots.safety import ESTOPPED
from robots.shared_memory import Region

log = logging.getLogger("robots.body")

ABANDONED = 10.0  # s
WAKE = 0.002  # s between turns of the loop
CATCH_UP = 0.02  # s of the robot's clock that a late turn makes up for; what is beyond is an overrun
PUBLISH, REPORT = 0.005, 0.1  # s of the robot's clock between readings, s between health reports


class Pace:
    """How many ticks of `period` seconds of the robot's clock are due; lateness beyond `CATCH_UP` is given up and
    counted in `overruns`."""

    def __init__(self, period: float, clock: Clock) -> None:
        self._period, self._most, self._clock = period, max(1, round(CATCH_UP / period)), clock
        self._next = clock.seconds()
        self.overruns = 0

    def due(self) -> int:
        """Ticks to do now; they count as done."""
        late = int((self._clock.seconds() - self._next) / self._period)
        if (lost := late - self._most) > 0:
            self.overruns += lost
            self._next += lost * self._period
        ticks = min(late, self._most)
        self._next += ticks * self._period
        return ticks


class BodyProcess:
    """One driver, the memory it is commanded through, and the fault that outlives it."""

    def __init__(self, driver: Driver, region: Region, layout: Layout, speed: float,
                 monitors: Monitors = Monitors(DEFAULTS), latch: Latch | None = None) -> None:
        self._driver, self._region, self._layout, self._monitors = driver, region, layout, monitors
        self._latch = latch or Latch()
        self._tripped = ""  # why the robot was stopped by the monitors, or by the process before this one
        self._counts = (0, 0)  # ticks and overruns at the last report
        self._stopped = [0] * (len(Stop) + 1)  # when the last stop of each level was said
        self._ordered = self._order = self._command = 0
        self._sequence = -1
        self._published = self._reported = 0.0
        self._last_report: Health | None = None
        self._leaving = threading.Event()
        self._clock = Clock(speed)
        self._pace = Pace(1 / driver.spec.inner_hz, self._clock)

    def leave(self) -> None:
        """End in order; from a signal handler."""
        self._leaving.set()

    def run(self) -> None:
        """Until told to leave, abandoned, or something fails, which is raised. Then the driver disconnects, see the
        module."""
        try:
            self._begin_with_fault()
            self._work()
        except LinkLost:
            self._driver.stop(Stop.DAMP)
            raise
        finally:
            self._region.words[READY] = 0
            self._park()

    def _begin_with_fault(self) -> None:
        if self._latch.text:
            log.warning("%s", self._latch.text)
            self._tripped = self._latch.text
            self._driver.stop(Stop.ESTOP)

    def _work(self) -> None:
        words = self._region.words
        self._answer(0)
        words[CONTROL_TIME] = time.monotonic_ns()
        while not self._leaving.is_set() and (time.monotonic_ns() - int(words[CONTROL_TIME])) * 1e-9 < ABANDONED:
            self._obey_stops()
            self._obey_order()
            self._follow_speed()
            self._follow_command()
            with self._moving():
                for _ in range(self._pace.due()):
                    self._driver.tick()
            self._publish()
            words[READY] = 1
            time.sleep(WAKE / max(1.0, self._clock.speed))

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Around what moves the robot: a driver that fails in it is not trusted to park."""
        try:
            yield
        except BaseException:
            self._driver.stop(Stop.DAMP)
            raise

    def _park(self) -> None:
        """Disconnects the driver, not slower than in real time, while a thread goes on passing stops to it."""
        parked = threading.Event()
        watch = threading.Thread(target=self._watch_stops, args=(parked,), daemon=True)
        watch.start()
        try:
            self._run_at(max(1.0, self._clock.speed))
            self._driver.disconnect()
        finally:
            parked.set()
            watch.join()
            self._obey_stops()
            self._remember(self._driver.health())

    def _watch_stops(self, parked: threading.Event) -> None:
        while not parked.wait(WAKE):
            self._obey_stops()

    def _obey_stops(self) -> None:
        words = self._region.words
        words[BODY_TIME] = time.monotonic_ns()
        for level in Stop:
            if (asked := int(words[STOPS + level])) != self._stopped[level]:
                self._stopped[level] = asked
                self._driver.stop(level)
                if level == Stop.ESTOP:
                    self._latch.keep(ESTOPPED)

    def _follow_speed(self) -> None:
        if asked := int(self._region.words[SPEED]):
            self._run_at(asked / 1e6)

    def _run_at(self, speed: float) -> None:
        if speed != self._clock.speed:
            self._clock.run_at(speed)
            self._driver.keep_pace(speed)

    def _obey_order(self) -> None:
        message = self._region.boxes["order"].read()
        if message is None or message[0] == self._order:
            return
        self._order, order = message[0], json.loads(message[1])
        self._ordered = order["time"]
        try:
            if order["verb"] == "arm":
                if self._latch.text:
                    raise FaultLatched(self._latch.text)
                self._region.words[CLIP] = 0
                self._driver.arm()
            elif order["verb"] == "attach":
                self._driver.stop(Stop.DAMP)
            elif order["verb"] == "clear_fault":
                self._driver.clear_fault(order["token"])
                self._latch.clear(order["token"])
                self._tripped = ""
            for level in Stop:
                if self._stopped[level] > self._ordered:
                    self._driver.stop(level)
        except RobotError as error:
            self._answer(order["number"], type(error).__name__, str(error))
        else:
            self._report(self._driver.health())
            self._answer(order["number"])

    def _answer(self, number: int, error: str = "", why: str = "") -> None:
        self._region.boxes["answer"].write(text(number=number, error=error, text=why))

    def _follow_command(self) -> None:
        message = self._region.boxes["command"].read()
        if message is None or message[0] == self._command:
            return
        self._command, (sent, _, data) = message[0], unstamp(message[1])
        fresh = (time.monotonic_ns() - sent) * 1e-9 * self._clock.speed <= self._driver.spec.command_ttl
        if fresh and sent >= max(self._ordered, *self._stopped):
            action = self._layout.action.unpack(data)["action"]
            with self._moving():
                applied = self._driver.command(action)
            self._region.words[CLIP] = int(applied.clip)
            self._region.boxes["applied"].write(
                stamp(sent, int(applied.clip), self._layout.action.pack({"action": applied.action})))

    def _publish(self) -> None:
        now, health = time.monotonic(), self._driver.health()
        self._region.words[BUSY] = health.busy
        last = self._last_report
        if last is None or (health.mode, health.fault) != (last.mode, last.fault) or now - self._reported >= REPORT:
            self._report(health)
        if now - self._published >= PUBLISH / self._clock.speed:
            self._published = now
            self._show(health)

    def _show(self, health: Health) -> None:
        signals = self._driver.read()
        if signals.sequence == self._sequence:
            return
        self._sequence = signals.sequence
        captured = time.monotonic_ns() - round(health.link_age / self._clock.speed * 1e9)
        boxes = self._region.boxes
        if self._layout.images.size:
            boxes["images"].write(self._layout.images.pack(signals.values))
        boxes["vectors"].write(stamp(captured, signals.sequence, self._layout.vectors.pack(signals.values)))

    def _report(self, health: Health) -> None:
        gauges = {**health.gauges, "link_age_seconds": health.link_age, "overrun_ratio": self._overrun(health)}
        warnings, reason = self._monitors.look(gauges)
        if reason and health.mode != Mode.FAULT:
            log.error("stopped: %s", reason)
            self._tripped = reason
            self._driver.stop(Stop.ESTOP)
            health = self._driver.health()
        self._remember(health)
        self._reported, self._last_report = time.monotonic(), health
        fault = self._tripped if health.mode == Mode.FAULT and self._tripped else health.fault
        self._region.boxes["health"].write(text(
            mode=int(health.mode), fault=fault, link_age=health.link_age, ticks=health.ticks,
            overruns=self._pace.overruns, gauges=gauges, warnings=warnings))
        self._region.words[MODE] = int(health.mode)

    def _remember(self, health: Health) -> None:
        if health.mode == Mode.FAULT:
            self._latch.keep(self._tripped or health.fault)

    def _overrun(self, health: Health) -> float:
        """The share of the inner periods since the report before that was given up."""
        counts = health.ticks, self._pace.overruns
        ticks, lost = (now - before for now, before in zip(counts, self._counts))
        self._counts = counts
        return lost / max(1, ticks + lost)


def hardware(driver: str, options: Mapping[str, Any]) -> str:
    """Names the robot at an address, whatever its run is called; empty for a double, which is its run's own."""
    address = address_of(checked(driver_class(driver).Options, options))
    return f"{driver}@{address}" if address else ""


def main(settings: Mapping[str, Any], timeout: float = 10.0) -> None:
    """Own the robot that the settings of a Body describe, which is reached within `timeout`, until it is told to leave
    or abandoned."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("OpenGL").setLevel(logging.WARNING)  # it reports missing accelerators as news
    told = Told()
    files = Files(settings["name"])
    lock = files.take(files.body_lock)
    if lock is None:
        raise SystemExit(f"{settings['name']}: another body process owns this robot")
    held, kept = [files.body_lock], files.fault if settings.get("keep_faults", True) else None
    try:
        if address := hardware(settings["driver"], settings["options"]):
            kept = Files(address).fault
            held.append(_claimed(address))
        _own(settings, timeout, files, lock, Latch(kept), told)
    except Exception:
        log.exception("the body ends")
        raise SystemExit(1) from None
    finally:
        for path in (files.region, *held):
            path.unlink(missing_ok=True)


class Told:
    """SIGTERM and SIGINT: what it means to be told to end. While there is no `body` yet, nothing is waited for; later
    it ends in order, however often it is told."""

    def __init__(self) -> None:
        self.body: BodyProcess | None = None
        self._before = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        before, self._before = self._before, True
        if self.body is not None:
            self.body.leave()
        elif not before:
            raise SystemExit("told to end before the robot was reached")


def _claimed(address: str) -> Path:
    """One process of this computer at a time drives the robot at an address; the lock's file. Raises SystemExit."""
    lock = Files(address).body_lock
    if Files(address).take(lock) is None:
        raise SystemExit(f"{address}: another process of this computer drives this robot; end it first")
    return lock


def _own(settings: Mapping[str, Any], timeout: float, files: Files, lock: int, latch: Latch, told: Told) -> None:
    driver = make_driver(settings["driver"], settings["options"], settings["control_hz"], settings["seed"])
    layout = Layout(driver.spec)
    os.pwrite(lock, f"{os.getpid()} {layout.digest(settings)}".encode(), 0)
    region = layout.open(files, create=True)
    region.words[BODY_PID] = os.getpid()
    monitors = Monitors({name: Threshold(*limits) for name, limits in settings["monitors"].items()})
    try:
        driver.keep_pace(settings["speed"])
        driver.connect(timeout)
        told.body = BodyProcess(driver, region, layout, settings["speed"], monitors, latch)
        with real_time():
            told.body.run()
    except BaseException:
        driver.stop(Stop.DAMP)
        raise
    finally:
        driver.disconnect()
