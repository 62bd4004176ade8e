"""Images, depth and vectors together, from an environment that renders to actions."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

SIZE = 16


class Dot(gymnasium.Env):
    """A red dot that the action moves sideways; the depth image shows a wall, as far away as the dot is to the right;
    the vector alone says how fast it moves. Being on the right pays."""

    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8), wall=spaces.Box(0, 4, (SIZE, SIZE, 1), np.float32),
        speed=spaces.Box(-1, 1, (1,), np.float32))
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.speed, self.age = self.np_random.uniform(0, 1), 0.0, 0
        return self._seen(), {}

    def step(self, action):
        self.speed, self.age = float(action[0]), self.age + 1
        self.at = min(1.0, max(0.0, self.at + 0.2 * self.speed))
        return self._seen(), self.at, False, self.age == 16, {}

    def _seen(self):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        column = round(self.at * (SIZE - 4))
        image[6:10, column:column + 4, 0] = 255
        return {"image": image, "wall": np.full((SIZE, SIZE, 1), 4 * self.at, np.float32),
                "speed": np.float32([self.speed])}


SETTINGS = {"free_nats": 0.0, "size": "debug", "horizon": 2, "imagine_starts": 4, "learning_rate": 1e-2, "warmup": 10,
            "diagnose_every": 100}
LEARNERS = [("rssm", "actor_critic"), ("jepa", "off_policy")]


@pytest.mark.learning
@pytest.mark.parametrize("model, behaviour", LEARNERS)
def test_a_run_in_lockstep_learns_what_it_sees(tmp_path, model, behaviour):
    agent = AgentSettings(model=model, behaviour=behaviour, **SETTINGS)
    replay = ReplaySettings(batch=8, length=6, burn_in=0, prefill=150, segment_mib=4)
    with Lockstep(Dot(), agent, replay, LockstepSettings(train_ratio=96), tmp_path) as run:
        run.run(250)
        batch = run.recorder.sample(run.keys)
        actions, _ = run.agent.act(run.agent.initial(8), {key: batch[key][:, 0] for key in Dot.observation_space},
                                   batch["prev_action"][:, 0], batch["is_first"][:, 0])
    told = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()][-1]
    assert batch["image"].dtype == np.uint8 and batch["wall"].dtype == np.float32, "as they were seen"
    assert actions.shape == (8, 1) and np.isfinite(actions).all()
    assert told["updates"] == 200 and told["open_loop/reward_1"] < 0.6, told
    if run.agent.model.spec.offers_decoder:
        assert told["open_loop/images_1"] < 0.6 and told["open_loop/vectors_1"] < 0.6, told


@pytest.mark.parametrize("model, behaviour", LEARNERS)
def test_every_weight_learns_from_images_depth_and_vectors(model, behaviour):
    agent = Agent(Dot.observation_space, Dot.action_space, AgentSettings(model=model, behaviour=behaviour, **SETTINGS))
    env, rows = Dot(), []
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    for step in range(16):
        action = env.action_space.sample()
        rows.append({**obs, "prev_action": action, "is_first": step == 0, "is_last": False, "is_terminal": False})
        obs, rows[-1]["reward"], *_ = env.step(action)
    batch = {key: np.stack([row[key] for row in rows])[None] for key in rows[0]}
    before = {name: p.detach().clone() for name, p in agent.modules.named_parameters() if p.requires_grad}
    for _ in range(3):  # the first moves the heads' last layers, which are zero, and only then those before
        agent.train(batch)
    after = dict(agent.modules.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []
