"""Environments whose every number has one reason, so that a step too early or too late shows."""

import gymnasium
import numpy as np
from gymnasium import spaces

from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

DISCOUNT_HORIZON = 10


class Toy(gymnasium.Env):
    """What follows a step is decided by `_outcome(action)`: reward, terminated, truncated. What is seen says nothing,
    unless a subclass shows something."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._seen(), {}

    def step(self, action):
        self.age += 1
        reward, terminated, truncated = self._outcome(float(action[0]))
        return self._seen(), reward, terminated, truncated, {}

    def _seen(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class Border(Toy):
    """Every step pays one, and after every second an episode is over by chance. What is stored for the first step of
    an episode, which nobody took, is 0."""

    def _outcome(self, action):
        return 1.0, False, bool(self.np_random.random() < 0.5)


class Trap(Toy):
    """Ends for good where the action was above a half; else it is cut off after 8 steps."""

    def _outcome(self, action):
        return 1.0, action > 0.5, self.age == 8


class Countdown(Toy):
    """Pays one per step and shows how many are left, at first 1 to 4; then it ends for good."""

    observation_space = spaces.Box(0, 1, (5,), np.float32)

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.age = int(self.np_random.integers(4))
        return self._seen(), {}

    def _seen(self):
        return np.eye(5, dtype=np.float32)[4 - self.age]

    def _outcome(self, action):
        return 1.0, self.age == 4, False


class Endless(Toy):
    """Pays one per step and is cut off after 4, which is no end."""

    def _outcome(self, action):
        return 1.0, False, self.age == 4


class Recall(Toy):
    """Pays where what was seen two steps before was positive."""

    def reset(self, *, seed=None, options=None):
        self.shown = []
        return super().reset(seed=seed, options=options)

    def _seen(self):
        self.shown.append(float(self.np_random.choice([-1.0, 1.0])))
        return np.float32([self.shown[-1], 0.0])

    def _outcome(self, action):
        return float(self.age >= 2 and self.shown[self.age - 2] > 0), False, self.age == 24


def batches(env, folder, count, steps=1000, batch=8, length=8, burn_in=1):
    """What an agent did that knew nothing, by way of the recorder and the sampler."""
    settings = AgentSettings(model="tiny", size="debug")
    replay = ReplaySettings(batch=batch, length=length, burn_in=burn_in, prefill=steps, segment_mib=1)
    with Lockstep(env, settings, replay, LockstepSettings(), folder) as run:
        run.run(steps)
        return [run.recorder.sample(run.keys) for _ in range(count)]
