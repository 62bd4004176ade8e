"""Does anything come of it? And does it come from the right step?"""

import numpy as np
import pytest
from agent_bench import Echo

from daydreamer.agent import Agent
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

AGENT = AgentSettings(size="debug", horizon=4, imagine_starts=32, learning_rate=2e-3, warmup=20, discount_horizon=10)
REPLAY = ReplaySettings(batch=8, length=8, burn_in=1, prefill=200, segment_mib=1)


def shifted(batch, by):
    return batch | {"prev_action": np.roll(batch["prev_action"], by, axis=1)}


@pytest.mark.learning
@pytest.mark.parametrize("model", ["rssm", "tiny"])
def test_a_reward_is_explained_by_the_action_before_it_and_by_no_other(tmp_path, model):
    """An off-by-one anywhere between environment and loss makes this reward a coin toss."""
    settings = AgentSettings(model=model, size="debug", horizon=1, imagine_starts=1, learning_rate=3e-3, warmup=20)
    with Lockstep(Echo(), settings, REPLAY, LockstepSettings(), tmp_path) as run:
        run.run(REPLAY.prefill)
        losses = {}
        for shift in (0, -1):
            agent = Agent(run.agent.observation_space, run.agent.action_space, settings)
            tail = [agent.train(shifted(run.recorder.sample(run._keys), shift), burn_in=1)["loss/reward"] for _ in range(150)][-20:]
            losses[shift] = np.mean(tail)
    assert losses[0] < 0.35, "nats; a coin toss is 0.69"
    assert losses[-1] > 0.55


@pytest.mark.learning
def test_an_agent_learns_to_do_what_is_paid_for(tmp_path):
    """Random actions earn 8 of 16."""
    with Lockstep(Echo(), AGENT, REPLAY, LockstepSettings(train_ratio=32), tmp_path, evaluation_env=Echo()) as run:
        run.run(700)
        assert run.evaluate(5) >= 15
