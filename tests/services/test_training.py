"""`daydreamer train` and `daydreamer evaluate` as somebody uses them."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.blueprint import Blueprint
from robots.environments import environment, frames_per_step
from robots.gym import RobotEnv
from services import config as configs
from services import embodiment, run_folder
from services.console.film import Filmed
from services.embodiment import model_spaces
from services.learner.journal import Journal

ROOT = Path(__file__).parents[2]
BENCH = sorted(path for path in (ROOT / "configs" / "bench").glob("*.yaml") if not path.name.startswith("_"))
SMALL = ["--set", "learner.threads=1", "--set", "learner.train_ratio=4", "--set", "agent.horizon=2", "--set",
         "replay.batch=2", "--set", "replay.length=8", "--set", "replay.prefill=100"]


class Swing(gymnasium.Env):
    """A weight on a rod; nested observations, and a picture where one is asked for."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    observation_space = spaces.Dict(rod=spaces.Dict(angle=spaces.Box(-4, 4, (1,), np.float64)), side=spaces.Discrete(2))
    action_space = spaces.Box(-2, 2, (1,), np.float32)
    action_repeat = 4

    def __init__(self, render_mode=None, pictures=True):
        self.render_mode, self._pictures = render_mode, pictures

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._angle, self._left = float(self.np_random.uniform(-1, 1)), 20
        return self._shown(), {}

    def step(self, action):
        self._angle += 0.1 * float(action[0])
        self._left -= 1
        return self._shown(), 1.0, False, self._left == 0, {}

    def render(self):
        if not self._pictures:
            raise RuntimeError("no OpenGL")
        return np.full((48, 64, 3), (255, 0, 0), np.uint8)

    def _shown(self):
        return {"rod": {"angle": np.array([self._angle])}, "side": int(self._angle > 0)}


gymnasium.register("swing-v0", entry_point=lambda **options: Swing(**options))


@pytest.fixture
def swing(tmp_path):
    path = tmp_path / "swing.yaml"
    path.write_text("robot: {driver: gym, task: env, options: {id: swing-v0}}\nagent: {size: debug}\n"
                    "training: {evaluate_every: 100, evaluate_episodes: 2}\n")
    return path


def scores(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lockstep" / "scores.jsonl").open()]


def frames_of(video: Path) -> int:
    reader, count = cv2.VideoCapture(str(video)), 0
    while (read := reader.read())[0]:
        blue, green, red = read[1].mean((0, 1))
        assert red > 200 and green < 60 and blue < 60
        count += 1
    return count


def test_a_run_trains_is_evaluated_filmed_and_played_again(daydreamer, tmp_path, swing):
    code, told, _ = daydreamer("train", swing, "--seed", 3, "--steps", 220, "--home", tmp_path, *SMALL)
    folder = tmp_path / "swing-3"
    assert code == 0 and f"{folder}: 220 steps, 11 episodes" in told.replace("\n", " ")
    evaluations = [line for line in scores(folder) if "evaluation_return" in line]
    assert [(e["steps"], e["frames"], e["evaluation_returns"]) for e in evaluations] == [
        (100, 400, [20.0, 20.0]), (200, 800, [20.0, 20.0])]
    assert "swing-3: 200 steps, evaluation 20.0 (20.0 to 20.0)" in told
    assert frames_of(folder / "evaluation.mp4") == 11, "the first picture and every other one, 25 in a second"
    video = tmp_path / "played.mp4"
    code, told, _ = daydreamer("evaluate", "swing-3", "--home", tmp_path, "--episodes", 3, "--video", video, *SMALL)
    assert code == 0 and "mean 20.0, from 20.0 to 20.0" in told and re.search(r"after [1-9]\d* updates", told)
    assert frames_of(video) == 11


def test_a_run_that_goes_on_shows_the_whole_curve_and_what_was_evaluated_before(daydreamer, tmp_path, swing):
    daydreamer("train", swing, "--steps", 120, "--home", tmp_path, *SMALL)
    code, told, _ = daydreamer("train", swing, "--steps", 140, "--home", tmp_path, *SMALL)
    assert code == 0 and "140 of 140" in told and "evaluation 20.0 (20.0 to 20.0)" in told
    assert "120 steps, evaluation" not in told, "that was told when it happened"


def test_what_the_learner_of_a_run_in_real_time_saved_is_played_as_well(daydreamer, tmp_path, swing):
    config = configs.load(swing)
    with run_folder.claim(tmp_path, config) as folder:
        agent = Agent(*model_spaces(config), config.agent)
        journal = Journal(folder, Blueprint.of(agent), keep=3)
        journal.checkpoint(agent.state_dict(), {"updates": 0, "replayed": 0})
        journal.close()
    code, told, _ = daydreamer("evaluate", "--home", tmp_path, "--episodes", 2, *SMALL)
    assert code == 0 and "mean 20.0" in told and "after 0 updates" in told
    code, _, complaint = daydreamer("evaluate", "--home", tmp_path, "--set", "agent.size=small", *SMALL)
    assert code == 2 and "shape" in complaint


def test_every_seed_is_a_run_of_its_own_unless_it_is_named(daydreamer, tmp_path, swing):
    for arguments in (["--seed", 0], ["--seed", 1], ["--seed", 1, "--name", "mine"], []):
        assert daydreamer("train", swing, "--steps", 10, "--home", tmp_path, *arguments, *SMALL)[0] == 0
    assert {path.parent.name for path in tmp_path.glob("*/config.yaml")} == {"swing-0", "swing-1", "mine", "swing"}


def test_an_environment_without_a_picture_is_said_once_and_not_filmed(daydreamer, tmp_path, swing, monkeypatch):
    monkeypatch.setattr(Swing, "metadata", {"render_modes": []})
    _, told, _ = daydreamer("train", swing, "--steps", 220, "--home", tmp_path, *SMALL)
    assert told.count("no video") == 1 and not (tmp_path / "swing" / "evaluation.mp4").exists()


def test_a_machine_that_cannot_draw_films_nothing_and_plays_on(tmp_path, caplog):
    env = Filmed(Swing(render_mode="rgb_array", pictures=False), tmp_path / "x.mp4")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            env.reset(seed=0)
            while not env.step(np.zeros(1))[3]:
                pass
    env.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no video, this environment cannot be drawn here: no OpenGL"]
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_is_not_finished_does_not_replace_the_one_before(tmp_path):
    env = Filmed(Swing(render_mode="rgb_array"), tmp_path / "x.mp4")
    env.reset(seed=0)
    while not env.step(np.zeros(1))[3]:
        pass
    whole = (tmp_path / "x.mp4").read_bytes()
    env.reset(seed=1)
    env.step(np.zeros(1))
    env.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"] and (tmp_path / "x.mp4").read_bytes() == whole


def test_an_environment_is_stepped_as_itself_with_the_signals_that_its_driver_shows():
    env = environment("gym", "env", {"id": "swing-v0"})
    obs, _ = env.reset(seed=0)
    assert {key: value.shape for key, value in obs.items()} == {"rod_angle": (1,), "side": (2,)}
    assert env.observation_space.contains(obs) and frames_per_step(env) == 4
    assert set(environment("gym", "env", {"id": "swing-v0"}, keys=("side",)).reset()[0]) == {"side"}


def test_the_model_of_an_environment_sees_no_reward_unless_it_is_named(swing):
    assert set(model_spaces(configs.load(swing))[0]) == {"rod_angle", "side"}
    named = configs.load(swing, ["robot.model_keys=[side, env_reward]"])
    assert set(model_spaces(named)[0]) == {"side", "env_reward"}


def test_episodes_end_by_themselves_or_where_they_are_cut():
    def length(**options):
        env = environment("gym", "env", {"id": "swing-v0"}, **options)
        env.reset(seed=0)
        return next(n for n in range(1, 100) if env.step(np.zeros(1))[3])

    assert length() == 20 and length(episode_steps=5) == 5
    a1 = environment("unitree_a1", "walk", {})
    assert isinstance(a1, RobotEnv) and a1.episode_steps == 1000


@pytest.mark.parametrize(("options", "told"), [
    ({"id": "CartPol-v1"}, "robot.options.id: CartPol-v1: "),
    ({"id": "no.such.module:x-v0"}, "robot.options.id: no.such.module:x-v0: "),
    ({"id": "swing-v0", "kwargs": {"colour": 1}}, "robot.options.kwargs: {'colour': 1}: "),
])
def test_a_mistake_in_the_environment_is_one_line(daydreamer, tmp_path, swing, options, told):
    code, _, complaint = daydreamer("train", swing, "--home", tmp_path, "--set", f"robot.options={json.dumps(options)}",
                                    *SMALL)
    assert code == 2 and told in complaint and "Traceback" not in complaint
    assert not (tmp_path / "swing").exists()


@pytest.mark.parametrize("path", BENCH, ids=lambda path: path.stem)
def test_every_benchmark_is_an_environment_and_they_share_one_set_of_hyperparameters(path):
    pytest.importorskip("dm_control", reason="the extra `bench`")
    config, common = configs.load(path), configs.load(BENCH[0])
    ratio = common.learner.train_ratio / (2 if path.stem.endswith("pixels") else 1)  # an update of images takes long
    assert (config.agent, config.replay) == (common.agent, common.replay)
    assert config.learner == dataclasses.replace(common.learner, train_ratio=ratio)
    env = embodiment.environment(config)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs) and frames_per_step(env) == 2
    assert ("image" in obs) == path.stem.endswith("pixels") and (len(obs) == 1 or "image" not in obs)
    env.close()
