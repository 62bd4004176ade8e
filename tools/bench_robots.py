"""What a robot's driver and its double cost a processor, and how well they keep time.

    python tools/bench_robots.py [--robots unitree_a1 ur5e] [--seconds 5] [--out docs/results/bench_robots.csv]

Two tables. In virtual time, in this process: how many seconds of the robot one second of processor gives. In real time,
with the body in a process of its own, as a run has it: its share of a core, the periods it missed, how old signals are
when they are read, and how long `read` and `command` take.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from measurement import Row, quantiles, report

from robots.body import Body
from robots.driver import Stop
from robots.registry import make_driver

ROBOTS = {"unitree_a1": {"pose": "stand"}, "unitree_go2": {"pose": "stand"}, "ur5e": {}, "xarm": {}, "sphero": {}}
CONTROL_HZ = 20.0


def measure_virtual(robot: str, seconds: float) -> Row:
    """Without a clock: ticks as fast as they come."""
    driver = make_driver(robot, ROBOTS[robot], CONTROL_HZ)
    driver.connect()
    driver.arm()
    ticks, start = round(driver.spec.inner_hz / CONTROL_HZ), time.process_time()
    for _ in range(round(seconds * CONTROL_HZ)):
        driver.command(driver.standing(driver.read().values))
        for _ in range(ticks):
            driver.tick()
    took = time.process_time() - start
    driver.disconnect()
    return {"virtual time": robot, "inner [Hz]": driver.spec.inner_hz,
            "robot seconds per processor second": seconds / took,
            "period [us]": 1e6 * took / (seconds * driver.spec.inner_hz)}


def measure_body(robot: str, seconds: float) -> Row:
    """Behind a body, which keeps pace with the clock on the wall."""
    body = Body(f"bench-robots-{os.getpid()}", robot, ROBOTS[robot], CONTROL_HZ)
    body.connect()
    try:
        body.arm()
        ages, reads, commands = [], [], []
        start, used, before = time.perf_counter(), _processor(body.pid), body.health()
        for _ in range(round(seconds * CONTROL_HZ)):
            begun = time.perf_counter()
            signals = body.read()
            reads.append(time.perf_counter() - begun)
            ages.append((time.monotonic_ns() - signals.time) * 1e-9)
            action, begun = body.standing(signals.values), time.perf_counter()
            body.command(action)
            commands.append(time.perf_counter() - begun)
            time.sleep(max(0.0, start + len(ages) / CONTROL_HZ - time.perf_counter()))
        took, after = time.perf_counter() - start, body.health()
        return {"body": robot, "share of a core": (_processor(body.pid) - used) / took,
                "missed periods": (after.overruns - before.overruns) / (took * body.spec.inner_hz),
                **_named("age", ages, 1e3, "ms"), **_named("read", reads, 1e6, "us"),
                **_named("command", commands, 1e6, "us")}
    finally:
        body.stop(Stop.DAMP)
        body.disconnect()


def _processor(pid: int) -> float:
    """Seconds of processor time that a process and its threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _named(name: str, seconds: Sequence[float], scale: float, unit: str) -> Row:
    found = quantiles(seconds, scale)
    return {f"{name} {q} [{unit}]": found[q] for q in ("p50", "p99")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=list(ROBOTS), help="which (default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the robot's time, for each figure")
    parser.add_argument("--out", type=Path, help="append the figures to this CSV file")
    options = parser.parse_args()
    report([measure_virtual(robot, options.seconds) for robot in options.robots], options.out)
    report([measure_body(robot, options.seconds) for robot in options.robots], options.out)


if __name__ == "__main__":
    main()
