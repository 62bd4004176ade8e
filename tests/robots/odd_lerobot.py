"""A robot in LeRobot's shape, as its plugins are: two joints in degrees, a gripper, a base, a camera; and its whims."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np

UNITS = {
    "pan.pos": {"unit": "degrees", "low": -90, "high": 90, "speed": 90},
    "lift.pos": {"unit": "degrees", "low": -60, "high": 60, "speed": 60},
    "gripper.pos": {"unit": "gripper", "low": 100, "high": 0, "speed": 200},  # 100 is closed on this one
    "x.vel": {"unit": "metres_per_second", "low": -0.2, "high": 0.2, "speed": 1.0, "rest": "zero"},
}
OPTIONS = {"type": "odd_lerobot:Wobbly", "units": UNITS, "cameras": ["front", "front_depth"], "image_size": 16}
ALL = []  # every robot made, for tests to look at


@dataclass
class WobblyConfig:
    """`clamp`: the most that a joint follows at once, as LeRobot's `max_relative_target`; `slow`: s per bus read."""

    port: str = "/dev/null"
    clamp: float = 360.0
    slow: float = 0.0
    trouble: str = ""
    start: dict = field(default_factory=dict)


class Wobbly:
    config_class = WobblyConfig
    name = "wobbly"

    def __init__(self, config):
        self.config = config
        self.state = {"pan.pos": 30.0, "lift.pos": -45.0, "gripper.pos": 100.0, "x.vel": 0.0} | config.start
        self.asked, self.sent, self.calls, self.threads = [], [], [], set()
        self.failing = self.connected = False
        ALL.append(self)

    @property
    def observation_features(self):
        return {name: float for name in self.state} | {"front": (48, 64, 3), "front_depth": (48, 64, 1)}

    @property
    def action_features(self):
        return dict.fromkeys(self.state, float)

    def connect(self, calibrate=True):
        self._called("connect")
        if self.config.trouble == "connect":
            raise ConnectionError(f"no motor on {self.config.port}")
        if self.config.trouble == "calibration":
            input("Press ENTER")
        if self.config.trouble == "hangs":
            time.sleep(3)
        self.connected = True

    def get_observation(self):
        self._called("get_observation")
        time.sleep(self.config.slow)
        if self.failing:
            raise ConnectionError("Failed to sync read")
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, 32:] = 200, 100, 50
        return self.state | {"front": picture, "front_depth": np.full((48, 64, 1), 1000, np.uint16)}

    def send_action(self, action):
        self._called("send_action")
        sent = {name: float(np.clip(value, self.state[name] - self.config.clamp, self.state[name] + self.config.clamp))
                for name, value in action.items()}
        self.asked.append(action)
        self.sent.append(sent)
        self.state = self.state | sent
        return sent

    def disconnect(self):
        self._called("disconnect")
        self.connected = False

    def _called(self, what):
        assert what == "connect" or self.connected
        self.calls.append(what)
        self.threads.add(threading.get_ident())
