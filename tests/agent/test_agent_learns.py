"""Does anything come of it?"""


import pytest
from agent_bench import Echo

from daydreamer.evaluation import Evaluator
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

AGENT = AgentSettings(size="debug", horizon=4, imagine_starts=32, learning_rate=1e-2, warmup=20, discount_horizon=10)
REPLAY = ReplaySettings(batch=8, length=8, burn_in=1, prefill=200, segment_mib=1)


@pytest.mark.learning
def test_an_agent_learns_to_do_what_is_paid_for(tmp_path):
    """Random actions earn 8 of 16."""
    evaluator = Evaluator(lambda _: Echo())
    with Lockstep(Echo(), AGENT, REPLAY, LockstepSettings(train_ratio=32), tmp_path, evaluator=evaluator) as run:
        run.run(700)
        assert run.evaluate(5).mean >= 15
