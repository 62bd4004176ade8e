"""The smallest robot with a spec, for tests of services that need to know one and move none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gymnasium import spaces

from robots.driver import Applied, Driver, Health, Mode, RobotSpec, Signals, Stop
from robots.task import Outcome, Task


class Still(Task):
    """Rewards nothing."""

    def reset(self) -> None:
        pass

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        return Outcome(0.0)


class ToyDriver(Driver):
    """Measures three joints and an IMU, accepts two motors."""

    tasks: ClassVar = {"still": Still}

    @dataclass(frozen=True)
    class Options:
        joints: int = 3

    def __init__(self, options: Options, control_hz: float = 20.0, seed: int = 0) -> None:
        signals = {"imu": spaces.Box(-10, 10, (2,), np.float32),
                   "joints": spaces.Box(-3, 3, (options.joints,), np.float32)}
        self.spec = RobotSpec("toy", spaces.Dict(signals), {"imu": "rad", "joints": "rad"},
                              spaces.Box(-1, 1, (2,), np.float32), control_hz, 1000.0)

    def connect(self, timeout: float = 10.0) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def read(self) -> Signals:
        return Signals({k: np.zeros(s.shape, s.dtype) for k, s in self.spec.signals.items()}, 0, 0)

    def command(self, action: np.ndarray) -> Applied:
        return Applied(action)

    def tick(self) -> None:
        pass

    def arm(self) -> None:
        pass

    def stop(self, level: Stop) -> None:
        pass

    def clear_fault(self, token: str) -> None:
        pass

    def health(self) -> Health:
        return Health(Mode.DISARMED)
