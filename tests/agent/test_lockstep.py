"""A run in one process: what it stores, when it trains, how it goes on."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from agent_bench import Echo

from daydreamer.agent import Agent
from daydreamer.checkpoints import CheckpointMismatch
from daydreamer.evaluation import Evaluator
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.chunk import SchemaError
from daydreamer.replay.errors import LogLocked
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

AGENT = AgentSettings(size="debug", horizon=2, imagine_starts=4, warmup=0)
REPLAY = ReplaySettings(batch=2, length=6, burn_in=2, prefill=40, segment_mib=1)


def run_of(folder, env=None, agent=AGENT, **settings):
    return Lockstep(env or Echo(), agent, REPLAY, LockstepSettings(**{"train_ratio": 2.0} | settings), folder, seed=7)


@pytest.mark.parametrize("pause", [24, 100], ids=["while it explores at random", "while it learns"])
def test_a_run_continues_bit_for_bit(tmp_path, pause):
    with run_of(tmp_path / "whole") as whole:
        whole.run(pause)
        whole.run(200)
        expected = whole.agent.state_dict()
    with run_of(tmp_path / "parts") as first:
        first.run(pause)
        updates = first.agent.updates
    with run_of(tmp_path / "parts") as second:
        assert second.steps == pause and second.agent.updates == updates
        second.run(200)
        result = second.agent.state_dict()
    assert all(torch.equal(result[name], expected[name]) for name in expected)
    returns = [[line["training_return"] for line in map(json.loads, (tmp_path / f / "scores.jsonl").open())]
               for f in ("whole", "parts")]
    assert returns[0] == returns[1]


def test_a_killed_run_goes_on_from_its_checkpoint_and_keeps_what_it_saw(tmp_path):
    with run_of(tmp_path) as run:
        run.run(64)
        run._episode(1000, lambda: None, lambda: False)  # an episode behind the last checkpoint
        stored = run.recorder.steps
    with run_of(tmp_path) as again:
        assert again.steps == 64 and again.recorder.steps == stored
        again.run(128)
        assert again.steps == 128


def test_the_train_ratio_counts_from_the_end_of_the_prefill(tmp_path):
    with run_of(tmp_path, train_ratio=3.0) as run:
        run.run(40)
        assert run.agent.updates == 0
        run.run(240)
        assert run.agent.updates == 200 * 3 // 12, "a batch replays 2 x 6 steps, burn-in not counted"


def test_what_is_stored_follows_the_time_convention(tmp_path):
    with run_of(tmp_path) as run:
        run.run(200)
        batch = run.recorder.sample(["observation", "action", "reward", "is_first", "is_last", "is_terminal"])
    inside = ~batch["is_first"][:, 1:]
    assert np.array_equal(batch["prev_action"][:, 1:][inside], batch["action"][:, :-1][inside])
    assert np.array_equal(batch["reward"][:, 1:][inside], (batch["action"][:, :-1, 0] > 0)[inside])
    assert not batch["is_terminal"].any(), "an episode that was cut off is not over"


class Stubborn(Echo):
    """Does at every third step the opposite of what it is told, and says so. `before`: what was done before each step,
    nothing at first."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self):
        self.before = []

    def reset(self, **how):
        self._done = np.zeros(1, np.float32)
        return super().reset(**how)

    def step(self, action):
        self.before.append(self._done)
        stubborn = self._left % 3 == 0
        self._done = -action if stubborn else action
        *result, _ = super().step(self._done)
        return *result, {"applied": self._done, "clip": 4 * stubborn}


def test_what_was_done_is_stored_as_the_action_whatever_was_asked_for(tmp_path):
    with run_of(tmp_path, Stubborn()) as run:
        run.run(200)
        batch = run.recorder.sample(["action", "action_requested", "clip", "reward", "is_first"])
    inside, stubborn = ~batch["is_first"][:, 1:], batch["clip"] == 4
    assert np.array_equal(batch["reward"][:, 1:][inside], (batch["action"][:, :-1, 0] > 0)[inside])
    assert np.array_equal(batch["action"], np.where(stubborn[..., None], -1, 1) * batch["action_requested"])
    assert 0 < stubborn.mean() < 0.5


def test_who_acts_remembers_what_was_done(tmp_path, monkeypatch):
    told, act = [], Agent.act

    def noted(self, carry, obs, before, *rest):
        told.append(before[0].copy())
        return act(self, carry, obs, before, *rest)

    monkeypatch.setattr(Agent, "act", noted)
    env, other = Stubborn(), Stubborn()
    with run_of(tmp_path, env) as run:
        run.run(100)
        assert 30 < len(told) < 100, "the first actions were random"
        assert np.array_equal(told, env.before[-len(told):])
        told.clear()
        Evaluator(lambda _: other).play(run.agent, [1])
    assert np.array_equal(told, other.before)


def test_scores_and_progress_tell_what_happened(tmp_path):
    seen = []
    settings = LockstepSettings(train_ratio=2, evaluate_every=64, evaluate_episodes=2)
    with Lockstep(Echo(), AGENT, REPLAY, settings, tmp_path, evaluator=Evaluator(lambda _: Echo())) as run:
        run.run(128, seen.append)
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").open()]
    assert sum("training_return" in line for line in lines) == 128 // 16
    assert [line["frames"] for line in lines if "evaluation_return" in line] == [64, 128]
    assert sorted({p.steps for p in seen}) == [32, 64, 96, 128] and 0 <= seen[-1].reward <= 1 and seen[-1].updates > 0


def test_a_run_can_be_stopped_in_the_middle_of_an_episode(tmp_path):
    stop = []
    with run_of(tmp_path) as run:
        run.run(1000, lambda p: stop.append(p.steps), lambda: bool(stop))
        assert run.steps == 32
    with run_of(tmp_path) as again:
        assert again.steps == 32


def test_a_folder_of_another_run_is_refused_and_let_go(tmp_path):
    with run_of(tmp_path) as run:
        run.run(10)
        with pytest.raises(LogLocked):
            run_of(tmp_path)
    with pytest.raises(SchemaError):
        run_of(tmp_path, env=gymnasium.make("CartPole-v1"))
    with pytest.raises(CheckpointMismatch, match="agent.model: saved 'rssm', now 'tiny'"):
        run_of(tmp_path, agent=AgentSettings(model="tiny", size="debug"))
    run_of(tmp_path).close()
