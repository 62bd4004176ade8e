"""When the periods of a control loop begin: on the clock of its robot, which for a double at `speed: auto` runs as fast
as the run wants it to and this computer can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from robots.body import Body
from robots.clock import Clock
from services.robot.control import Control
from services.robot.pacer import Pacer
from services.tempo import Strain

if TYPE_CHECKING:
    from services.config import RobotConfig
    from services.node import Node

NAP = 0.1  # seconds on the wall in which a loop whose clock runs slowly looks up
CHANGE = 0.02  # of the speed; less is not worth telling the body


class Clockwork:
    """The clock of one robot, and what its loop does by it. One thread."""

    def __init__(self, robot: RobotConfig, body: Body, control: Control, node: Node) -> None:
        self._body, self._control, self._node = body, control, node
        self._follows = robot.speed == "auto"
        self._period, self._ticks = 1 / robot.control_hz, body.spec.inner_hz / robot.control_hz
        self._clock, self._strain, self._overruns = Clock(), Strain(), 0
        self._pacer = Pacer(self._period, self._clock.seconds, lambda left: time.sleep(left / self._clock.speed))
        self._run_at(robot.first_speed)

    def restart(self) -> None:
        """The first period begins with the next wait, at once."""
        self._pacer.restart()

    def wait(self) -> bool:
        """Sleep until the next period begins. False where that is far on a slow clock, and only a nap was taken."""
        if self._follows:
            self._follow()
        if self._clock.speed < 1 and self._pacer.left() / self._clock.speed > NAP:
            time.sleep(NAP)
            return False
        self._pacer.wait()
        self._control.elapsed = self._pacer.period or 0.0
        if (period := self._pacer.period) is not None:
            self._node.observe("robot_control_period_seconds", period)
            self._node.count("robot_clock_seconds_total", period)
        if self._pacer.missed:
            self._node.count("robot_deadline_misses_total")
        return True

    def note(self) -> None:
        """A period is done: see whether this computer kept up with it."""
        given_up, self._overruns = max(0, self._control.overruns - self._overruns), self._control.overruns
        late = self._pacer.period / self._period - 1 if self._pacer.period is not None else 0.0
        lost = late + self._control.fell_back + given_up / self._ticks
        self._strain.note(lost, self._clock.speed, time.monotonic())

    def _follow(self) -> None:
        speed = min(self._node.speed or self._clock.speed, self._strain.limit)
        if abs(speed - self._clock.speed) > CHANGE * self._clock.speed:
            self._run_at(speed)

    def _run_at(self, speed: float) -> None:
        self._clock.run_at(speed)
        self._body.keep_pace(speed)
        self._control.speed = speed
        self._node.gauge("robot_speed", speed)
