"""Does anything come of it? And does it come from the right step?"""

from dataclasses import replace

import numpy as np
import pytest
from agent_bench import Echo

from daydreamer.agent import Agent
from daydreamer.evaluation import Evaluator
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

AGENT = AgentSettings(size="debug", horizon=4, imagine_starts=32, learning_rate=1e-2, warmup=20, discount_horizon=10)
REPLAY = ReplaySettings(batch=8, length=8, burn_in=1, prefill=200, segment_mib=1)


@pytest.mark.learning
def test_a_reward_is_explained_by_the_action_before_it_and_by_no_other(tmp_path):
    """An off-by-one anywhere between environment and loss makes this reward a coin toss, which is 0.69 nats worse."""
    losses = {}
    with Lockstep(Echo(), AGENT, replace(REPLAY, prefill=1500), LockstepSettings(), tmp_path) as run:
        run.run(1500)
        for late in (0, 1):
            agent = Agent(run.agent.observation_space, run.agent.action_space, AGENT)
            told = []
            for batch in (run.recorder.sample(run.keys) for _ in range(150)):
                batch["prev_action"] = np.roll(batch["prev_action"], late, axis=1)
                told.append(agent.train(batch, burn_in=1)["loss/reward"])
            losses[late] = np.mean(told[-15:])
    assert losses[0] < 0.5 and losses[1] > 0.9, losses  # 0.35: the price of a one, which lies between two bins


@pytest.mark.learning
def test_an_agent_learns_to_do_what_is_paid_for(tmp_path):
    """Random actions earn 8 of 16."""
    evaluator = Evaluator(lambda _: Echo())
    with Lockstep(Echo(), AGENT, REPLAY, LockstepSettings(train_ratio=32), tmp_path, evaluator=evaluator) as run:
        run.run(700)
        assert run.evaluate(5).mean >= 15
