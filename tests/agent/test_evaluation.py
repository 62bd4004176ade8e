"""Evaluations tell how good an agent is, and leave no trace; whoever loads a checkpoint plays the same way."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from agent_bench import Echo
from gymnasium import spaces

from daydreamer.agent import Agent, BadObservation
from daydreamer.checkpoints import CheckpointError
from daydreamer.evaluation import Evaluator
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings
from daydreamer.uniform import uniform

AGENT = AgentSettings(size="debug", horizon=2, imagine_starts=4, warmup=0)
REPLAY = ReplaySettings(batch=2, length=6, burn_in=2, prefill=40, segment_mib=1)
SEEDS = list(range(5))


class Countdown(Echo):
    """Echo whose episodes end, by their seed, after 3 to 9 steps, each of which pays 1."""

    def reset(self, *, seed=None, options=None):
        shown = super().reset(seed=seed)
        self._left = int(self.np_random.integers(3, 10))
        return shown

    def step(self, action):
        shown, _, _, _, info = super().step(action)
        return shown, 1.0, self._left == 0, False, info


def lockstep(folder, evaluated: bool, env=Echo):
    settings = LockstepSettings(train_ratio=2.0, evaluate_every=32 * evaluated, evaluate_episodes=3)
    return Lockstep(env(), AGENT, REPLAY, settings, folder, seed=7, evaluator=Evaluator(lambda _: env()))


def agent_of(env=Echo):
    env = uniform(env())
    return Agent(env.observation_space, env.action_space, AGENT, seed=3)


def test_training_is_the_same_bit_for_bit_with_evaluations_and_without(tmp_path):
    states = []
    for evaluated in (False, True):
        with lockstep(tmp_path / str(evaluated), evaluated) as run:
            run.run(160)
            assert run.evaluations == 15 * evaluated
            states.append(run.agent.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_that_is_interrupted_between_evaluations_tells_the_scores_of_one_that_was_not(tmp_path):
    def scores(*pauses: int) -> list:
        folder = tmp_path / "-".join(map(str, pauses))
        for pause in pauses:
            with lockstep(folder, True) as run:
                run.run(pause)
        lines = [json.loads(line) for line in (folder / "scores.jsonl").open()]
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    assert scores(48, 96, 160) == scores(160)


def test_an_episode_that_the_end_of_the_run_cut_says_so(tmp_path):
    with lockstep(tmp_path, False) as run:
        run.run(40)
        assert [(line["steps"], "cut" in line) for line in run.scores.lines] == [(16, False), (32, False), (40, True)]


def test_scores_behind_the_checkpoint_of_a_killed_run_are_not_told_twice(tmp_path):
    with lockstep(tmp_path, True) as run:
        run.run(64)
    before = (tmp_path / "scores.jsonl").read_text()
    behind = json.loads(before.splitlines()[-1]) | {"steps": 80}
    (tmp_path / "scores.jsonl").write_text(before + json.dumps(behind) + '\n{"steps": 9')
    lockstep(tmp_path, True).close()
    assert (tmp_path / "scores.jsonl").read_text() == before


def test_every_episode_is_played_to_its_own_end_in_an_environment_of_its_own():
    lengths = []
    for seed in SEEDS:
        env = Countdown()
        env.reset(seed=seed)
        lengths.append(env._left)
    assert len(set(lengths)) > 1
    assert list(Evaluator(lambda _: Countdown()).play(agent_of(Countdown), SEEDS).returns) == lengths


def test_environments_are_made_when_they_are_needed_and_at_most_ten():
    made = []
    evaluator = Evaluator(lambda index: made.append(index) or Countdown())
    assert made == []
    assert len(evaluator.play(agent_of(Countdown), list(range(23))).returns) == 23
    assert made == list(range(10))


def test_the_same_seeds_are_the_same_episodes():
    agent, evaluator = agent_of(), Evaluator(lambda _: Echo())
    first = evaluator.play(agent, SEEDS)
    agent.generator.manual_seed(99)
    assert evaluator.play(agent, SEEDS) == first


@pytest.mark.parametrize("make", [Echo, lambda: gymnasium.make("CartPole-v1")], ids=["continuous", "discrete"])
def test_who_loads_a_run_plays_as_its_agent_did(tmp_path, make):
    with lockstep(tmp_path, False, make) as run:
        run.run(100)
        expected = run.agent
    player = Agent.load(tmp_path)
    assert player.agent.updates == expected.updates > 0
    env = uniform(make())
    obs, _ = env.reset(seed=1)
    expected.generator.manual_seed(5)
    player.agent.generator.manual_seed(5)
    for episode in range(2):
        player.reset()
        carry, before = expected.initial(1), np.zeros((1, *env.action_space.shape), env.action_space.dtype)
        for step in range(5):
            rows = {key: value[None] for key, value in obs.items()}
            before, carry = expected.act(carry, rows, before, np.array([step == 0]), "mode")
            action = player.act(obs["observation"] if episode else obs)
            assert env.action_space.contains(action) and np.array_equal(action, before[0])
            obs, *_ = env.step(action)


def test_a_folder_without_a_checkpoint_cannot_be_played(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Agent.load(tmp_path)


def test_a_player_refuses_what_its_agent_has_never_seen(tmp_path):
    with lockstep(tmp_path, False) as run:
        run.run(20)
    with pytest.raises(BadObservation, match="observation: shape"):
        Agent.load(tmp_path).act(np.zeros(7, np.float32))


class Shifted(gymnasium.Env):
    """Discrete actions that start at 5, bounds that differ."""

    observation_space = spaces.Dict(x=spaces.Box(-1.0, np.array([1, np.inf]), (2,), np.float64))
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"x": np.zeros(2)}, {}

    def step(self, action):
        assert self.action_space.contains(np.int64(action))
        return {"x": np.zeros(2)}, 0.0, True, False, {}


def test_discrete_actions_that_start_elsewhere_are_counted_from_zero(tmp_path):
    with lockstep(tmp_path, True, Shifted) as run:
        run.run(64)
    assert Agent.load(tmp_path).act({"x": np.zeros(2)}) in (0, 1, 2)
