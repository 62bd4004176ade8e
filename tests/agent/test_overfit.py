"""A world model that is given three episodes of a real body learns them by heart."""

import numpy as np
import pytest
import torch

from daydreamer.agent import Agent
from daydreamer.exploration import Explorer
from daydreamer.settings import AgentSettings
from robots.gym import RobotEnv
from robots.registry import make

pytestmark = pytest.mark.learning
EPISODES, STEPS, HORIZON = 3, 24, 15


@pytest.fixture(scope="module")
def recorded():
    """Spaces, and three episodes [3, STEPS + 1, ...] of an A1 double that stands and then moves its legs at random."""
    env = RobotEnv(*make("unitree_a1", "walk", {"pose": "stand"}), STEPS, ("joint_angles", "tilt", "tilt_rates"))
    rows = []
    for episode in range(EPISODES):
        explorer = Explorer(env.action_space, 4, episode)
        action, reward = np.zeros(12, np.float32), 0.0
        obs, _ = env.reset(seed=episode)
        for step in range(STEPS + 1):
            rows.append({**obs, "prev_action": action, "reward": np.float32(reward), "is_first": step == 0,
                         "is_last": step == STEPS, "is_terminal": False})
            if step < STEPS:
                action = explorer.action()
                obs, reward, *_ = env.step(action)
    env.close()
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return env, {key: x.reshape(EPISODES, STEPS + 1, *x.shape[1:]) for key, x in batch.items()}


def learned_by_heart(recorded, updates, **settings):
    env, batch = recorded
    agent = Agent(env.observation_space, env.action_space, AgentSettings(
        size="small", horizon=1, imagine_starts=1, learning_rate=3e-3, warmup=20, **settings))
    assert agent.diagnose(batch)["open_loop/reward_15"] > 1, "it knows nothing before it has learned"
    for _ in range(updates):
        agent.train(batch)
    return agent, agent.diagnose(batch)


def test_an_rssm_foresees_fifteen_steps_of_what_it_knows_by_heart(recorded):
    agent, told = learned_by_heart(recorded, 200, model="rssm", behaviour="actor_critic")
    assert told["open_loop/vectors_15"] < 0.1 and told["open_loop/reward_15"] < 0.05
    angles = recorded[1]["joint_angles"]
    error = np.abs(foreseen(agent, recorded[1])["joint_angles"] - angles[:, -1]).mean()
    assert error < 0.15 < 0.4 < np.abs(angles[0, -1] - angles[1, -1]).mean(), "rad; the episodes differ more"


@torch.no_grad()
def foreseen(agent, batch):
    """The last observation of each episode, as foreseen `HORIZON` steps before."""
    seen = STEPS + 1 - HORIZON
    head = {key: x[:, :seen] for key, x in batch.items()}
    carry = agent.observe(agent.initial(EPISODES), head, head["prev_action"], head["is_first"])
    ahead = agent.model.imagine(carry, torch.from_numpy(batch["prev_action"][:, seen:]))
    return {key: x.numpy() for key, x in agent.model.decode({k: x[:, -1] for k, x in ahead.items()}).items()}


def test_a_jepa_foresees_farther_than_it_was_unrolled_while_learning(recorded):
    _, told = learned_by_heart(recorded, 200, model="jepa", behaviour="off_policy")
    assert told["open_loop/features_5"] < 0.3 and told["open_loop/reward_15"] < 0.05
