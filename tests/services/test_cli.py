"""The command line as somebody uses it: what it says, and with which exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from daydreamer.replay.chunk import BOOKKEEPING, Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from services import cli, run_folder
from services import config as configs
from services.console import options

ROOT = Path(__file__).parents[2]
A1 = str(ROOT / "configs" / "a1_walk.yaml")
CARTPOLE = str(ROOT / "configs" / "cartpole.yaml")


def _log(folder: Path, chunks: int = 3) -> Path:
    """A small log of one stream of 64-step chunks; returns its first segment."""
    schema = Schema.of({"x": ("<f4", (3,)), "action": ("<f4", (2,)), "action_requested": ("<f4", (2,))} | BOOKKEEPING)
    columns = {column.name: np.zeros((64, *column.shape), column.dtype) for column in schema.columns}
    log = ChunkLog.open(folder, schema)
    for n in range(chunks):
        log.append(Chunk(b"s" * 16, n, 64 * n, columns | {"time": (64 * n + np.arange(64)) * 50_000_000}))
    log.close()
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(("modules", "without"), [
    ("services.cli", {"torch", "ray", "numpy", "zmq", "pydantic"}),  # what help needs: nothing that takes time
    ("services.cli, services.console.by_hand, services.embodiment", {"torch", "ray"}),  # what a robot's computer lacks
])
def test_the_command_line_loads_no_more_than_a_command_needs(modules, without):
    loaded = f"import sys, {modules}; print(sorted({without} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("arguments", "told"), [
    (["run", A1, "--set", "learner.trian_ratio=3"], "learner.trian_ratio: unknown key, did you mean train_ratio?"),
    (["run", A1, "--set", "robot.driver=unitree_a2"], "robot.driver: unitree_a2: unknown, did you mean unitree_a1?"),
    (["run", A1, "--set", "robot.task=wlak"], "a1_walk: robot.task: wlak: unknown, did you mean walk?"),
    (["run", A1, "--set", "robot.options.pse=back"], "a1_walk: robot.options.pse: unknown, did you mean pose?"),
    (["run", A1, "--set", "robot.options.pose=bakc"], "a1_walk: robot.options.pose: 'bakc': allowed is back, belly"),
    (["run", A1, "--set", "robot.model_keys=[x, tlit]"], "model_keys: x: unitree_a1 has no such signal; there are"),
    (["run", A1, "--set", "robot.model_keys=[tlit]"], "tlit: unitree_a1 has no such signal, did you mean tilt?"),
    (["run", A1, "--robots", "65"], "--set: robot.count: 65: from 0 to 64"),
    (["run", A1, "--name", "a/b"], "--set: name: 'a/b': letters, digits"),
    (["run", A1, "--for", "soon"], "--for soon: write it as 90s, 10m, 2h or 1h30m"),
    (["run", "configs/nothing.yaml"], "configs/nothing.yaml: no such file"),
    (["status"], "no run here; --home looks elsewhere"),
    (["stop", "demo"], "demo: no such run"),
    (["pause"], "no run here; --home looks elsewhere"),
    (["replay", "stats"], "holds no runs"),
])
def test_a_mistake_is_one_line_that_names_the_thing_and_exit_code_2(daydreamer, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    code, _, complaint = daydreamer(*arguments)
    assert code == 2
    assert told.lower() in complaint.lower() and complaint.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user():
    assert not cli.is_ours(KeyError("x")) and cli.is_ours(configs.ConfigError("x"))


def test_config_show_lists_every_setting_with_its_value_and_origin(daydreamer):
    code, told, _ = daydreamer("config", "show", A1, "--set", "learner.nice=3")
    lines = {line.split()[0]: line for line in told.splitlines()}
    assert code == 0
    assert lines["learner.nice"].split()[1:] == ["3", "--set"]
    assert lines["policy.threads"].split()[1:] == ["1", "default"]
    assert "a1_walk.yaml:" in lines["robot.control_hz"]


@pytest.mark.parametrize("config", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_project_means_a_robot(config):
    from services.embodiment import robot_spec
    assert robot_spec(configs.load(config)).signals


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m5s", 5405)])
def test_a_duration_reads_as_people_write_it(text, seconds):
    assert options.parse_duration(text) == seconds


def test_the_log_of_a_run_is_told_and_verified(daydreamer, tmp_path):
    with run_folder.claim(tmp_path, configs.load(A1)) as folder:
        _log(folder.replay)
    code, told, _ = daydreamer("replay", "stats", "--home", tmp_path)
    assert code == 0 and "192 of 192 ever inserted" in told and "3" in told
    code, told, _ = daydreamer("replay", "verify", "a1_walk", "--home", tmp_path)
    assert code == 0 and "every byte is as it was written" in told


def test_a_log_with_a_missing_chunk_is_told_and_exit_code_1(daydreamer, tmp_path):
    with run_folder.claim(tmp_path, configs.load(A1)) as folder:
        segment = _log(folder.replay)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    code, told, _ = daydreamer("replay", "verify", "--home", tmp_path)
    assert (code == 1 and "damaged" in told) or "cut off at the next start" in told


def test_keys_are_made_once_and_never_shown(daydreamer, tmp_path):
    code, told, _ = daydreamer("keys", "new", "a1-kitchen", "--folder", tmp_path)
    assert code == 0 and "a1-kitchen.key_secret" in told
    assert (tmp_path / "a1-kitchen.key_secret").stat().st_mode & 0o77 == 0
    code, _, complaint = daydreamer("keys", "new", "a1-kitchen", "--folder", tmp_path)
    assert code == 2 and "exists" in complaint
    assert "stays on their machine" in daydreamer("keys", "new", "server", "--folder", tmp_path / "other")[1]


def test_training_in_lockstep_stops_on_demand_and_goes_on_where_it_was(tmp_path):
    def train(steps: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "services.cli", "train", CARTPOLE, "--steps", steps, "--home", tmp_path,
                   "--set", "replay.prefill=100", "--set", "learner.threads=1"]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)

    scores = tmp_path / "cartpole" / "lockstep" / "scores.jsonl"
    first = train(1_000_000)
    while not scores.exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    told, _ = first.communicate(timeout=60)
    assert first.returncode == 0
    done = int(told.split("cartpole: ")[-1].split()[0])
    second = train(done + 30)
    assert f"cartpole: {done + 30} steps" in second.communicate(timeout=60)[0]
    steps = [json.loads(line)["steps"] for line in scores.read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == done + 30
