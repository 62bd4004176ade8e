"""The odd robot as a plugin of LeRobot's, of its own classes and in its registry: needs the real package."""

from dataclasses import dataclass

from lerobot.robots import Robot, RobotConfig
from odd_lerobot import Wobbly


@RobotConfig.register_subclass("real_wobbly")
@dataclass(kw_only=True)
class RealWobblyConfig(RobotConfig):
    port: str
    clamp: float = 360.0
    slow: float = 0.0
    trouble: str = ""

    @property
    def start(self):
        return {}


class RealWobbly(Wobbly, Robot):
    config_class, name = RealWobblyConfig, "real_wobbly"
    is_calibrated = True

    def __init__(self, config):
        Robot.__init__(self, config)
        Wobbly.__init__(self, config)

    @property
    def is_connected(self):
        return self.connected

    def calibrate(self):
        pass

    def configure(self):
        pass
