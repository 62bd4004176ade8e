"""A robot of your own: a cart on a rail that learns to stay in the middle.

`python examples/own_robot.py` steps it at random. With `PYTHONPATH=examples`, a config has it as
`driver: own_robot:Cart` and `task: centre`. For hardware, `measure` returns the robot's newest message and `drive`
sends the next one to it.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Box, Dict

from robots.basic import BasicDriver
from robots.driver import RobotSpec
from robots.task import Outcome, Task


class Centre(Task):
    def reset(self):
        pass

    def score(self, signals):
        return Outcome(reward=1 - abs(float(signals["position"][0])))


@dataclass(frozen=True)
class CartOptions:
    strength: float = 2.0  # m/s² at full action


class Cart(BasicDriver):
    Options, tasks = CartOptions, {"centre": Centre}

    def __init__(self, options, control_hz=20.0, seed=0):
        signals = Dict({"position": Box(-1, 1, (1,)), "speed": Box(-9, 9, (1,))})
        units = {"position": "m", "speed": "m/s"}
        super().__init__(RobotSpec("cart", signals, units, Box(-1, 1, (1,)), control_hz, inner_hz=200.0))
        self.strength, self.position, self.speed = options.strength, 0.5, 0.0

    def measure(self):
        return {"position": np.float32([self.position]), "speed": np.float32([self.speed])}

    def drive(self, action):
        push = 0.0 if action is None else self.strength * float(action[0])
        self.speed += (push - self.speed) / 200
        self.position = min(1.0, max(-1.0, self.position + self.speed / 200))


if __name__ == "__main__":
    from robots.gym import RobotEnv

    env = RobotEnv(Cart(CartOptions()), Centre())
    env.reset()
    print("reward per step:", sum(env.step(env.action_space.sample())[1] for _ in range(100)) / 100)
