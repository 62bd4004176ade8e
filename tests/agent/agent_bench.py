"""What the tests of the agent share: small spaces, batches and environments."""

import gymnasium
import numpy as np
from gymnasium import spaces

SPACE = spaces.Dict(angles=spaces.Box(-4, 4, (3,), np.float32), tilt=spaces.Box(-4, 4, (2,), np.float32))
CONTINUOUS, DISCRETE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)


def batch_of(action_space, seed=0, batch=4, steps=10):
    """Random experience, two of whose sequences begin an episode on the way."""
    random = np.random.default_rng(seed)
    shape = (batch, steps)
    first = np.zeros(shape, bool)
    first[0, 4] = first[1, 0] = True
    data = {key: random.normal(size=(*shape, *space.shape)).astype(np.float32) for key, space in SPACE.items()}
    if isinstance(action_space, spaces.Discrete):
        data["prev_action"] = random.integers(action_space.n, size=shape)
    else:
        data["prev_action"] = random.uniform(-1, 1, (*shape, *action_space.shape)).astype(np.float32)
    last = np.roll(first, -1, 1)
    return data | {"reward": random.normal(size=shape).astype(np.float32), "is_first": first, "is_last": last,
                   "is_terminal": last.copy(), "clip": np.zeros(shape, np.uint32)}


def rows_of(batch, at=0):
    """One step of a batch, as `act` takes it."""
    return {key: batch[key][:, at] for key in SPACE}, batch["prev_action"][:, at], batch["is_first"][:, at]


class Echo(gymnasium.Env):
    """Pays for the action that was just taken: positive in the first coordinate. The observation says nothing."""

    observation_space = spaces.Box(-1, 1, (2,), np.float64)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 16
        return self._obs(), {}

    def step(self, action):
        self._left -= 1
        return self._obs(), float(action[0] > 0), False, self._left == 0, {}

    def _obs(self):
        return self.np_random.uniform(-1, 1, 2)
