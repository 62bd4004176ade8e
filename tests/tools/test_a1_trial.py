"""What the tool says of trials that were made up, and of one that a scripted robot recorded."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from daydreamer.recorder import Recorder
from daydreamer.replay.chunk import Schema
from daydreamer.replay.settings import ReplaySettings
from robots.registry import make
from robots.unitree_a1.anatomy import A1
from services import config as configs

ROOT = Path(__file__).parents[2]


def trial(tool, minutes=1.0, task="walk", begins=(0,), **values):
    """A robot that stands all the time, but for `values`."""
    n = round(minutes * 1200)
    standing = {"reward": np.full(n, 9.0), "up": np.tile([0.0, 0, 1], (n, 1)), "disturbances": np.zeros((n, 3)),
                "tilt": np.zeros((n, 2)), "base_velocity": np.zeros((n, 3)), "is_first": np.zeros(n, bool),
                "is_last": np.zeros(n, bool), "is_terminal": np.zeros(n, bool)}
    standing["is_first"][list(begins)] = True
    return tool.Trial(task, 20.0, standing | values, begins)


def lie(values, start, upright, standing):
    """On its back from the step `start`, upright and standing so many seconds later."""
    up, lying, crouching = values["up"], start + round(20 * upright), start + round(20 * standing)
    up[start:lying], values["reward"][start:lying] = [0, 0, -1], 5.0
    values["reward"][lying:crouching] = 7.5


def disturb(values, step, kind):
    values["disturbances"][step:, kind] += 1


def only(rows, what):
    return [row for row in rows if row["what"] == what]


def test_it_counts_the_seconds_until_it_is_upright_and_until_it_stands(tool):
    found = trial(tool)
    disturb(found.values, 300, tool.TURNED)
    lie(found.values, 300, 2.0, 3.5)
    [row] = only(tool.figures(found), "turned")
    assert row["minute"] == 0.25
    assert row["upright_s"] == pytest.approx(2.0, abs=0.06) and row["standing_s"] == pytest.approx(3.5, abs=0.06)


def test_standing_for_a_moment_is_not_standing_and_the_next_turning_ends_the_chance(tool):
    found = trial(tool)
    for step in (300, 600):
        disturb(found.values, step, tool.TURNED)
    lie(found.values, 300, 2.0, 15.0)
    found.values["reward"][400:415] = 9.0  # 0.75 s
    lie(found.values, 600, 1.0, 2.0)
    rows = tool.figures(found)
    assert [row["standing_s"] for row in only(rows, "turned")] == ["", pytest.approx(2.0, abs=0.06)]
    [summary] = only(rows, "laid on its back, medians")
    assert (summary["times"], summary["stood"]) == (2, 1)


def test_where_it_began_on_its_back_counts_and_a_new_boot_is_no_disturbance(tool):
    found = trial(tool, begins=(0, 600))
    lie(found.values, 0, 4.0, 5.0)
    disturb(found.values, 600, tool.TURNED)  # the counter of the boot before is lower
    rows = tool.figures(found)
    assert len(only(rows, "began on its back")) == 1 and not only(rows, "turned")


def test_a_push_tells_what_was_kept_and_when_it_was_back(tool):
    found = trial(tool)
    for step in (200, 500, 800, 820):
        disturb(found.values, step, tool.PUSHED)
    found.values["reward"][500:530] = 6.0  # down for 1.5 s
    found.values["up"][500:530, 2] = 0.2
    rows = tool.figures(found)
    harmless, hard, last = only(rows, "pushed")
    assert (harmless["before"], harmless["after"], harmless["fell"]) == (9, 9, 0) and harmless["recovered_s"] < 0.1
    assert hard["after"] == pytest.approx(9 - 3 * 0.3) and hard["fell"] == 1
    assert hard["recovered_s"] == pytest.approx(1.5, abs=0.2)
    assert last["minute"] == pytest.approx(820 / 1200, abs=0.01)  # that at 800 was followed by another too soon
    assert only(rows, "pushed, medians")[0]["fell"] == 1


def test_minutes_are_full_ones(tool):
    found = trial(tool, 5.5)
    found.values["reward"][:1200] = 5.0
    rows = tool.figures(found)
    assert [row["reward_per_step"] for row in only(rows, "1 min")] == [5, 9, 9, 9, 9]
    assert [row["reward_per_step"] for row in only(rows, "5 min")] == [pytest.approx(8.2)]


def test_a_run_is_told_by_speed_falls_and_return_at_the_marks(tool):
    n = 5_100  # twelve episodes of 400 steps and their first observation each, and a part of the next
    first, last = np.arange(n) % 401 == 0, np.arange(n) % 401 == 400
    reward, velocity = np.where(first, 0.0, 7.0), np.zeros((n, 3))
    velocity[2000:, 0], pitch = 0.5, np.tile([0.0, 0.2], (n, 1))
    found = trial(tool, n / 1200, "run", reward=reward, is_first=first, is_last=last, base_velocity=velocity,
                  tilt=pitch, is_terminal=last & (np.arange(n) > 4000))
    rows = tool.figures(found)
    [row] = only(rows, "run")
    assert row["steps"] == 5000 and row["metres_per_second"] == pytest.approx(0.5 * np.cos(0.2), abs=1e-3)
    assert row["return"] == 2800 and row["episodes"] == 5
    assert row["falls_per_minute"] == pytest.approx(3 / (2000 / 1200), abs=0.01)


def test_one_who_lies_a_while_before_it_is_lifted_fell_once(tool):
    n, fell = 6_000, 4_900
    first, terminal = np.zeros(n, bool), np.zeros(n, bool)
    first[[0, *range(fell + 1, fell + 5)]] = terminal[fell:fell + 4] = True  # three episodes of one step on its side
    found = trial(tool, n / 1200, "run", is_first=first, is_last=terminal, is_terminal=terminal)
    [row] = only(tool.figures(found), "run")
    assert row["falls_per_minute"] == pytest.approx(1 / (2000 / 1200), abs=0.01)
    assert row["episodes"] == 1 and row["return"] == 9 * fell


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that a scripted robot recorded."""
    folder = tmp_path_factory.mktemp("run")
    config = configs.from_mapping({"name": "trial", "robot": {"driver": "unitree_a1", "task": "walk"}})
    (folder / "config.yaml").write_text(configs.to_yaml(config))
    record(folder / "replay")
    return folder


def test_a_robot_that_is_turned_and_lifted_is_read_from_its_log(tool, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["a1_trial.py", str(run), "--out", str(tmp_path / "figures.csv")])
    tool.main()
    turned = [line for line in capsys.readouterr().out.splitlines() if " turned " in line]
    assert len(turned) == 2 and (tmp_path / "figures.csv").stat().st_size
    minute, upright, standing = map(float, turned[0].split()[2:5])
    assert minute == pytest.approx(0.1, abs=0.01) and upright == pytest.approx(2, abs=0.1) and 2 <= standing < 3


@pytest.mark.parametrize("task", ["walk", "run"])
def test_a_trial_is_drawn(tool, run, tmp_path, task):
    pytest.importorskip("matplotlib")
    from plot_a1_trial import draw

    found = tool.read(run)
    draw(dataclasses.replace(found, task=task), ROOT / "docs/results/a1_baselines.csv", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def record(folder):
    """Fifteen seconds of holding the standing pose, turned every 6 s and set on its feet 2 s later."""
    driver, task = make("unitree_a1", "walk", {"pose": "stand", "turn_every": 6.0})
    driver.connect()
    driver.arm()
    recorder = Recorder(folder, Schema.of_spaces(driver.spec.signals, driver.spec.action_space), ReplaySettings(), 0)
    for period in range(300):
        if period in (160, 280):
            driver.link.set_pose("stand")
        driver.command(A1.stand_action)
        for _ in range(50):
            driver.tick()
        values = driver.read().values
        recorder.add(values | {"action": A1.stand_action, "action_requested": A1.stand_action,
                               "reward": task.score(values).reward, "is_first": period == 0})
    recorder.flush()
    recorder.close()
