"""Looks a robot over before it moves: nothing here arms it or sends it a command that it would follow.

Each finding says that something is well, or what is wrong and what to do. The robot is looked at through the same
process and the same driver as in a run, so that the rates are those of a run.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from gymnasium import spaces

from robots import registry
from robots.body import Body
from robots.driver import Driver, Health, Mode, RobotError, Signals
from robots.monitors import DEFAULTS, Monitors
from robots.realtime import real_time
from services.config import Config
from services.embodiment import robot_spec

OK, LOOK, WRONG = "ok", "look", "wrong"
LATE = 1.5  # control periods between two readings, from which on an operator should look
FREE_GIB, FSYNC = 5.0, 0.05  # of disk wanted; seconds that a write to it may take until it is safe
UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)


@dataclass(frozen=True)
class Finding:
    """`grade`: OK, LOOK or WRONG; `what` was looked at; `told`: the figures, and what to do where it is not well."""

    grade: str
    what: str
    told: str


def examine(config: Config, home: Path, seconds: float = 3.0) -> Iterator[Finding]:
    """The computer, then the SDK, then the robot, measured for `seconds`. Raises ConfigError for a config that names no
    robot that there is."""
    robot_spec(config)
    yield from computer(home)
    packages = list(sdk(config))
    yield from packages
    if any(finding.grade == WRONG for finding in packages):
        return
    robot = config.robot
    body = Body(f"{home.resolve()}/doctor", robot.driver, robot.options, robot.control_hz, robot.first_speed,
                config.seed, robot.monitors)
    yield limits(body)
    start = time.monotonic()
    try:
        body.connect()
    except RobotError as error:
        yield Finding(WRONG, "connection", str(error))
        return
    try:
        yield Finding(OK, "connection", f"there in {time.monotonic() - start:.1f} s")
        yield from of_robot(body, seconds, config)
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
    """The vendor's packages, where the config's link needs them."""
    driver = registry.driver_class(config.robot.driver)
    if config.robot.options.get("link", "direct") == "direct":
        return
    for package in driver.packages:
        try:
            yield Finding(OK, "SDK", f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Finding(WRONG, "SDK", f"{package} is not installed: pip install {package}")


def limits(body: Body) -> Finding:
    """What stands between a policy and the robot."""
    spec = body.spec
    space = spec.action_space
    actions = f"{space.n} actions" if isinstance(space, spaces.Discrete) else f"{space.shape[0]} continuous actions"
    return Finding(OK, "limits", f"{actions} at {spec.control_hz:g} Hz, inner loop {spec.inner_hz:g} Hz; without "
                   f"commands it holds after {spec.command_ttl:g} s and damps after {spec.damp_after:g} s")


def of_robot(body: Body, seconds: float, config: Config) -> Iterator[Finding]:
    """A connected, disarmed robot."""
    health = body.health()
    if health.mode == Mode.FAULT:
        yield Finding(WRONG, "fault", f"{health.fault}; look at the robot, then start it and clear the fault")
    else:
        yield Finding(OK, "mode", f"{health.mode.name.lower()}, without a fault")
    readings, commands = watch(body, seconds)
    yield reading(readings, body, seconds)
    yield command(commands, body.spec.control_hz)
    yield from pictures(readings, body)
    yield from gauges(body.health(), config)


def watch(body: Body, seconds: float) -> tuple[list[tuple[float, Signals]], list[float]]:
    """For a while: every new reading with the seconds at which it was seen, and how long commands took, which a
    disarmed robot does not follow."""
    readings: list[tuple[float, Signals]] = []
    commands: list[float] = []
    end = time.monotonic() + seconds
    due = 0.0
    while (now := time.monotonic()) < end:
        signals = body.read()
        if not readings or signals.sequence != readings[-1][1].sequence:
            readings.append((now, signals))
        if now >= due:
            due = now + 1 / body.spec.control_hz
            body.command(body.standing(signals.values))
            commands.append(time.monotonic() - now)
        time.sleep(0.001)
    return readings, commands


def reading(readings: list[tuple[float, Signals]], body: Driver, seconds: float) -> Finding:
    """Rate, jitter and age of what is read."""
    odd = sorted({name for _, signals in readings for name, value in signals.values.items()
                  if not np.isfinite(value).all()})
    if odd:
        return Finding(WRONG, "signals", f"{', '.join(odd)}: not finite; check the sensors")
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


def command(times: list[float], hz: float) -> Finding:
    """How long it takes to hand on a command."""
    told = f"{1000 * np.median(times):.2f} ms to hand on (p99 {1000 * np.percentile(times, 99):.2f}), disarmed"
    if max(times) > 1 / hz:
        return Finding(LOOK, "commands", f"{told}; slower than a control period of {1000 / hz:g} ms")
    return Finding(OK, "commands", told)


def pictures(readings: list[tuple[float, Signals]], body: Body) -> Iterator[Finding]:
    """Whether each camera shows something, and something new now and then."""
    for name in [name for name, space in body.spec.signals.items() if len(space.shape) == 3]:
        frames = [signals.values[name] for _, signals in readings]
        fresh = 1 + sum(not np.array_equal(a, b) for a, b in zip(frames, frames[1:]))
        newest = frames[-1]
        told = f"{newest.shape[1]} x {newest.shape[0]}, brightness {newest.mean():.0f} of 255, {fresh} frames"
        if newest.max() == newest.min():
            yield Finding(WRONG, name, f"{told}: all of one colour; is the lens covered, does the light shine?")
        elif fresh == 1:
            yield Finding(LOOK, name, f"{told}: nothing moved or the camera is frozen; wave a hand before it")
        else:
            yield Finding(OK, name, told)


def gauges(health: Health, config: Config) -> Iterator[Finding]:
    """Every gauge of the robot, beside its thresholds."""
    thresholds = {**DEFAULTS, **registry.driver_class(config.robot.driver).thresholds, **config.robot.monitors}
    monitors = Monitors(thresholds)
    for name, value in health.gauges.items():
        warnings, reason = monitors.look({name: value})
        limits = thresholds.get(name)
        told = f"{value:.4g}" + ("" if limits is None else f", warns at {limits.warn:g}") + (
            f", stops at {limits.stop:g}" if limits and math.isfinite(limits.stop) else "")
        yield Finding(WRONG if reason else LOOK if warnings else OK, name, told)
