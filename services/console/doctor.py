"""Looks a robot over before it moves: nothing here arms it or sends it a command that it would follow.

Each finding says that something is well, or what is wrong and what to do. The robot is looked at through the same
process and the same driver as in a run, so that the rates are those of a run.
"""

from __future__ import annotations

import ctypes
import difflib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from robots import registry
from robots.body import Body
from robots.driver import Driver, Health, Mode, RobotError, RobotSpec, Signals
from robots.monitors import Monitors, watched
from robots.realtime import real_time
from services.config import Config
from services.embodiment import robot_spec

OK, LOOK, WRONG = "ok", "look", "wrong"
LATE = 1.5  # control periods between two readings, from which on an operator should look
FREE_GIB, FSYNC = 5.0, 0.05  # of disk wanted; seconds that a write to it may take until it is safe
UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)
IMPORTS = 60.0  # s that an SDK may take to import
SLOW = 0.95  # of the inner rate, below which an operator should look
ALIKE = 0.8  # of a gauge's name, from which on another one may have been meant
CAMERA_AGE, OLD = "camera_age_seconds", 0.3  # the gauge; s, of frames that come every 0.03 to 0.1 s
WAYS_OUT = {  # what to do about a gauge that is past its threshold
    "battery_ratio": "charge it", "battery_volts": "charge it",
    "call_seconds": "connect by wire, with nothing else on that network",
    CAMERA_AGE: "give the camera more light, a USB 3 port and cable of its own, and this computer less to do",
    "effort_ratio": "take the load off it",
    "link_age_seconds": "is it on and near, and is nothing else on that network?",
    "overrun_ratio": "this computer is too busy: end other programs, or allow real-time priority",
    "temperature_celsius": "let it cool", "tilt_radians": "set it upright",
}


@dataclass(frozen=True)
class Finding:
    """`grade`: OK, LOOK or WRONG; `what` was looked at; `told`: the figures, and what to do where it is not well."""

    grade: str
    what: str
    told: str


def examine(config: Config, home: Path, seconds: float = 3.0, patience: float = 10.0) -> Iterator[Finding]:
    """The computer, then the SDK, then the robot, to which it may take `patience` seconds to connect and which is
    measured for `seconds`. Raises ConfigError for a config that names no robot that there is."""
    robot_spec(config)
    yield from computer(home)
    packages = list(sdk(config))
    yield from packages
    if any(finding.grade == WRONG for finding in packages):
        return
    robot = config.robot
    driver = registry.make_driver(robot.driver, robot.options, robot.control_hz, config.seed)  # for what it knows
    yield actions(driver.spec)
    body = Body(f"{home.resolve()}/doctor", robot.driver, robot.options, robot.control_hz, robot.first_speed,
                config.seed, robot.monitors, keep_faults=False)
    there, start = _far_end(config), time.monotonic()
    try:
        body.connect(patience)
    except RobotError as error:
        yield Finding(WRONG, "connection", f"{there}: {error}")
        return
    try:
        yield Finding(OK, "connection", f"{there} answered in {time.monotonic() - start:.1f} s")
        yield from of_robot(body, driver, seconds, config)
    except RobotError as error:
        yield Finding(WRONG, "link", str(error))
    finally:
        body.disconnect()


def computer(home: Path) -> Iterator[Finding]:
    """What a run asks of this computer, whatever the robot."""
    with real_time() as granted:
        yield Finding(OK, "real-time priority", "granted") if granted else Finding(
            LOOK, "real-time priority", "not allowed: a busy machine will delay control periods; allow rtprio 1 in "
            "/etc/security/limits.conf, or LimitRTPRIO=1 with systemd")
    yield clock()
    yield disk(home)


def clock() -> Finding:
    """Whether the wall clock, which orders the logs of several computers, is kept in time."""
    if sys.platform != "linux":
        return Finding(LOOK, "clock", "not known on this system whether the wall clock is kept in time")
    status = ctypes.create_string_buffer(256)  # struct timex: modes 0 reads; its status is the int after five longs
    ctypes.CDLL(None, use_errno=True).adjtimex(status)
    flags = int.from_bytes(status.raw[40:44], sys.byteorder)
    if flags & UNSYNCHRONISED:
        return Finding(LOOK, "clock", "the wall clock is not synchronised: logs of several computers will not line up; "
                       "install chrony or enable systemd-timesyncd (control uses the monotonic clock)")
    return Finding(OK, "clock", "synchronised")


def disk(home: Path) -> Finding:
    """Room and speed where experience is kept: it must be safe on disk about once a second."""
    home.mkdir(parents=True, exist_ok=True)
    path, times = home / f".doctor-{os.getpid()}", []
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(20):
                start = time.monotonic()
                file.write(bytes(1 << 16))
                os.fsync(file.fileno())
                times.append(time.monotonic() - start)
    finally:
        path.unlink(missing_ok=True)
    free, slowest = shutil.disk_usage(home).free / 2**30, max(times)
    told = (f"{home}: {free:.0f} GiB free, 64 KiB are safe in {1000 * np.median(times):.1f} ms, at most "
            f"{1000 * slowest:.1f}")
    if free < FREE_GIB:
        return Finding(WRONG, "disk", f"{told}; less than {FREE_GIB:g} GiB: free some, or choose another --home")
    if slowest > FSYNC:
        return Finding(LOOK, "disk", f"{told}; slow: experience will wait in memory; choose a faster disk with --home")
    return Finding(OK, "disk", told)


def sdk(config: Config) -> Iterator[Finding]:
    """The packages of vendors that the config's link needs, each imported in a process of its own, which may crash."""
    options, packages = _options(config), registry.driver_class(config.robot.driver).packages
    link = getattr(options, "link", "")
    if hasattr(options, "camera_serial") and options.camera != "off":
        packages += ("pyrealsense2",)
    if link == "direct" or not packages:
        yield Finding(OK, "SDK", "none is needed")
        return
    for names in packages:
        package = next(filter(_installed, names.split("|")), "")
        if not package:  # where there is but one way to many robots, not all of them need it
            first = names.split("|")[0]
            yield Finding(WRONG if link else LOOK, "SDK", f"{first} is not installed: pip install {first}")
            continue
        trouble = _import(package)
        yield Finding(WRONG if trouble else OK, "SDK", f"{package} {version(package)}" + (trouble and f": {trouble}"))


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _import(package: str) -> str:
    """Why an installed distribution cannot be imported, and what to do; empty where it can."""
    path = os.pathsep.join(filter(None, sys.path))  # what can be imported here can be imported there
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    try:
        done = subprocess.run([sys.executable, "-c", program, *_modules(package)], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=IMPORTS, env=os.environ | {"PYTHONPATH": path})
    except subprocess.TimeoutExpired:
        return f"importing it does not end within {IMPORTS:g} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()[-1:] or ["without a word"]
    why = f"ends with {signal.Signals(-done.returncode).name}" if done.returncode < 0 else said[0]
    library = re.search(r"(\S+): cannot open shared object file", why)
    way = f"install the system's package that has {library[1]}" if library else (
        f"pip install --force-reinstall {package}, for this Python and this processor")
    return f"it cannot be imported, {why}; {way}"


def _modules(package: str) -> list[str]:
    """What an installed distribution lets one import: folders and files at its top. What it says of that itself is
    wrong where SDKs are built by hand."""
    found = set()
    for file in distribution(package).files or ():
        name, *suffixes = file.parts[0].split(".")
        extension = len(suffixes) == 2 and suffixes[-1] in ("so", "pyd")  # with one it is a library
        if file.parts[1:] == ("__init__.py",) or len(file.parts) == 1 and (suffixes == ["py"] or extension):
            found.add(name)
    return sorted(found)


def actions(spec: RobotSpec) -> Finding:
    """What it takes, how often, and what follows when it is told nothing."""
    space = spec.action_space
    told = f"{space.n} actions" if isinstance(space, spaces.Discrete) else f"{space.shape[0]} continuous actions"
    return Finding(OK, "limits", f"{told} at {spec.control_hz:g} Hz, inner loop {spec.inner_hz:g} Hz; without "
                   f"commands it holds after {spec.command_ttl:g} s and damps after {spec.damp_after:g} s")


def limits(driver: Driver, signals: Signals) -> Iterator[Finding]:
    """What stands between a policy and the robot, and whether the robot is inside."""
    for bound in driver.limits(signals.values):
        if bound.outside:
            yield Finding(WRONG, bound.what, f"{bound.told}; outside: {bound.outside}; {bound.way_out}")
        else:
            yield Finding(OK, bound.what, bound.told)


@dataclass(frozen=True)
class Watched:
    """What was seen of a robot for a while: each new reading and each new report, after the seconds at which it was
    seen."""

    readings: list[tuple[float, Signals]] = field(default_factory=list)
    reports: list[tuple[float, Health]] = field(default_factory=list)


def of_robot(body: Body, driver: Driver, seconds: float, config: Config) -> Iterator[Finding]:
    """A connected, disarmed robot; `driver`: its own, not connected."""
    health = body.health()
    if health.mode == Mode.FAULT:
        yield Finding(WRONG, "fault", f"{health.fault}; look at the robot, then start it and clear the fault")
    else:
        yield Finding(OK, "mode", f"{health.mode.name.lower()}, without a fault")
    with real_time():  # as the control loop of a run
        seen = watch(body, seconds)
    yield reading(seen.readings, body, seconds)
    yield inner_loop(seen.reports, body.spec.inner_hz * config.robot.first_speed)
    yield from limits(body, body.read())
    yield from pictures(seen, body.spec)
    yield from gauges(body.health(), driver, config)


def watch(body: Body, seconds: float) -> Watched:
    """Looks every millisecond."""
    seen = Watched()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        signals, health = body.read(), body.health()
        if not seen.readings or signals.sequence != seen.readings[-1][1].sequence:
            seen.readings.append((now, signals))
        if not seen.reports or health.ticks != seen.reports[-1][1].ticks:
            seen.reports.append((now, health))
        time.sleep(0.001)
    return seen


def reading(readings: list[tuple[float, Signals]], body: Driver, seconds: float) -> Finding:
    """Rate, jitter and age of what is read."""
    odd = sorted({name for _, signals in readings for name, value in signals.values.items()
                  if not np.isfinite(value).all()})
    if odd:
        return Finding(WRONG, "signals", f"{', '.join(odd)}: not finite; check the sensors")
    if len(readings) < 3 and body.health().link_age < 1 / body.spec.control_hz:
        return Finding(LOOK, "signals", f"nothing new in {seconds:g} s, though it is heard: it stands still until it "
                       "is commanded, as an environment does")
    if len(readings) < 3:
        return Finding(WRONG, "signals", f"{len(readings)} readings in {seconds:g} s: the robot does not send; is it "
                       "powered on and in the right mode?")
    gaps = 1000 * np.diff([seen for seen, _ in readings])
    age = 1000 * float(np.median([seen - signals.time * 1e-9 for seen, signals in readings]))
    told = (f"{len(readings) / seconds:.0f} readings/s, {np.median(gaps):.1f} ms apart (p99 "
            f"{np.percentile(gaps, 99):.1f}, at most {gaps.max():.1f}), {age:.1f} ms old")
    if gaps.max() > LATE * 1000 / body.spec.control_hz:
        return Finding(LOOK, "signals", f"{told}; gaps beyond a control period: check the network, a wire is better "
                       "than radio, and what else this computer does")
    return Finding(OK, "signals", told)


def inner_loop(reports: list[tuple[float, Health]], hz: float) -> Finding:
    """How often the link gets an order, which of a disarmed robot is one to rest: `hz` times a second is wanted."""
    times, ticks, overruns = np.array([(seen, health.ticks, health.overruns) for seen, health in reports]).T
    if len(reports) < 3:
        return Finding(WRONG, "commands", "the inner loop does not run: is this computer too busy?")
    rates, rate = np.diff(ticks) / np.diff(times), (ticks[-1] - ticks[0]) / (times[-1] - times[0])
    told = (f"{rate:.0f} of {hz:g} orders/s to the link, disarmed all to rest; {rates.min():.0f} to {rates.max():.0f} "
            f"from one report to the next, {overruns[-1] - overruns[0]:.0f} left out")
    if rate < SLOW * hz:
        return Finding(LOOK, "commands", f"{told}; {WAYS_OUT['overrun_ratio']}")
    return Finding(OK, "commands", told)


def pictures(seen: Watched, spec: RobotSpec) -> Iterator[Finding]:
    """Whether each camera shows something, and something new now and then: by the age of its frames where that is
    known, else by what changes in them."""
    ages = [health.gauges[CAMERA_AGE] for _, health in seen.reports if CAMERA_AGE in health.gauges]
    for name in [name for name, space in spec.signals.items() if len(space.shape) == 3]:
        frames = [signals.values[name] for _, signals in seen.readings]
        fresh = 1 + sum(not np.array_equal(a, b) for a, b in zip(frames, frames[1:]))
        newest = frames[-1]
        told = f"{newest.shape[1]} x {newest.shape[0]}, brightness {newest.mean():.0f} of 255, " + (
            f"frames at most {max(ages):.2f} s old" if ages else f"{fresh} frames")
        if newest.max() == newest.min():
            yield Finding(WRONG, name, f"{told}: all of one colour; is the lens covered, does the light shine?")
        elif ages and max(ages) > OLD:
            yield Finding(LOOK, name, f"{told}, more than {OLD:g}; {WAYS_OUT[CAMERA_AGE]}")
        elif not ages and fresh == 1:
            yield Finding(LOOK, name, f"{told}: nothing moved or the camera is frozen; wave a hand before it")
        else:
            yield Finding(OK, name, told)


def gauges(health: Health, driver: Driver, config: Config) -> Iterator[Finding]:
    """Every gauge of the robot, beside its thresholds; and what the config watches in vain."""
    thresholds = watched(driver.thresholds, config.robot.monitors)
    monitors = Monitors(thresholds)
    for name, value in health.gauges.items():
        warnings, reason = monitors.look({name: value})
        limits = thresholds.get(name)
        told = f"{value:.4g}" + ("" if limits is None else f", warns at {limits.warn:g}") + (
            f", stops at {limits.stop:g}" if limits and math.isfinite(limits.stop) else "")
        way = f"; {WAYS_OUT.get(name, 'see its page in docs/robots')}" if warnings or reason else ""
        yield Finding(WRONG if reason else LOOK if warnings else OK, name, told + way)
    for name in (name for name in config.robot.monitors if name not in health.gauges):
        near = difflib.get_close_matches(name, health.gauges, n=1, cutoff=ALIKE)
        yield Finding(LOOK if near else OK, name, "not measured over this link, so not watched" + (
            f"; did you mean {near[0]}?" if near else ""))


def _options(config: Config) -> Any:
    return registry.checked(registry.driver_class(config.robot.driver).Options, config.robot.options)


def _far_end(config: Config) -> str:
    """What is connected to, in words."""
    options = _options(config)
    link = getattr(options, "link", "hardware")
    return getattr(options, "address", "the robot") if link == "hardware" else f"a double (link {link})"
