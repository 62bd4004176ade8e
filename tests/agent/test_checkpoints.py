"""A crash at any moment leaves the checkpoint before in place, and nobody loads another agent's."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from agent_bench import CONTINUOUS, SPACE
from gymnasium import spaces

from daydreamer import checkpoints
from daydreamer.blueprint import Blueprint
from daydreamer.checkpoints import CheckpointForeign, CheckpointMismatch, CheckpointTorn
from daydreamer.settings import AgentSettings, LossScales

AGENT = Blueprint(SPACE, CONTINUOUS, AgentSettings(size="debug"))


def save(root, value: float, keep: int = 3):
    tensors = {"weight": torch.full((3, 2), value), "rng": torch.get_rng_state(), "count": torch.tensor(7)}
    return checkpoints.save(root, tensors, {"updates": int(value)}, AGENT, keep)


def test_what_was_saved_is_what_is_loaded(tmp_path):
    save(tmp_path, 4.0)
    found = checkpoints.load_newest(tmp_path, AGENT)
    assert found.counters == {"updates": 4}
    assert found.tensors["weight"].tolist() == [[4.0, 4.0]] * 3
    assert found.tensors["rng"].dtype == torch.uint8 and found.tensors["count"].shape == ()


def test_a_run_without_checkpoints_starts_from_nothing(tmp_path):
    assert checkpoints.load_newest(tmp_path / "missing", AGENT) is None


def test_only_the_newest_are_kept_and_their_numbers_go_on(tmp_path):
    for value in range(5):
        save(tmp_path, float(value), keep=2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["000000004", "000000005"]
    assert checkpoints.load_newest(tmp_path, AGENT).counters == {"updates": 4}


@pytest.mark.parametrize("present", [[], ["tensors.safetensors"], ["tensors.safetensors", "checkpoint.json"]])
def test_a_save_that_was_cut_off_does_not_count_and_is_cleaned_up(tmp_path, present):
    whole = save(tmp_path, 1.0)
    half = tmp_path / ".new-000000002"
    half.mkdir()
    for name in present:
        (half / name).write_bytes((whole / name).read_bytes())
    assert checkpoints.load_newest(tmp_path, AGENT).counters == {"updates": 1}
    save(tmp_path, 2.0)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["000000001", "000000002"]


def test_a_folder_without_its_done_marker_is_not_a_checkpoint(tmp_path):
    save(tmp_path, 1.0)
    (save(tmp_path, 2.0) / "done").unlink()
    assert checkpoints.load_newest(tmp_path, AGENT).counters == {"updates": 1}


@pytest.mark.parametrize("file", ["tensors.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path, file, damage):
    save(tmp_path, 1.0)
    torn = save(tmp_path, 2.0) / file
    data = bytearray(torn.read_bytes())
    if damage == "cut":
        torn.write_bytes(data[:-1])
    elif damage == "flipped":
        data[-8] ^= 1
        torn.write_bytes(data)
    else:
        torn.unlink()
    assert checkpoints.load_newest(tmp_path, AGENT).counters == {"updates": 1}


def test_when_every_checkpoint_is_torn_it_is_said_and_not_started_afresh(tmp_path):
    (save(tmp_path, 1.0) / "tensors.safetensors").write_bytes(b"noise")
    with pytest.raises(CheckpointTorn, match="000000001"):
        checkpoints.load_newest(tmp_path, AGENT)


def test_a_checkpoint_of_other_settings_names_them(tmp_path):
    save(tmp_path, 1.0)
    with pytest.raises(CheckpointMismatch, match=r"agent.size: saved 'debug', now '12m'.*--name"):
        checkpoints.load_newest(tmp_path, dataclasses.replace(AGENT, settings=AgentSettings(size="12m")))


def test_a_checkpoint_of_another_robot_names_the_signal(tmp_path):
    save(tmp_path, 1.0)
    with pytest.raises(CheckpointMismatch, match="signal gripper"):
        gripper = spaces.Dict({**SPACE, "gripper": spaces.Box(0, 1, (1,))})
        checkpoints.load_newest(tmp_path, dataclasses.replace(AGENT, observation_space=gripper))


def test_a_foreign_folder_is_refused(tmp_path):
    note = save(tmp_path, 1.0) / "checkpoint.json"
    note.write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointForeign, match="format 2"):
        checkpoints.load_newest(tmp_path, AGENT)


def test_the_one_written_last_is_found_wherever_it_lies(tmp_path):
    save(tmp_path / "run" / "checkpoints", 1.0)
    save(tmp_path / "run" / "checkpoints", 2.0)
    last = save(tmp_path / "run" / "lockstep" / "checkpoints", 3.0)
    found = checkpoints.load_latest(tmp_path / "run")
    assert found.folder == last and found.blueprint == AGENT
    (last / "tensors.safetensors").write_bytes(b"noise")
    assert checkpoints.load_latest(tmp_path / "run").counters == {"updates": 2}


@pytest.mark.parametrize("action", [spaces.Discrete(3, start=2), spaces.Box(-1, 1, (2,), np.float32)])
def test_a_blueprint_is_the_same_after_it_was_written_down(action):
    uneven = spaces.Box(np.float32([-1, -np.inf]), np.float32([0.1, np.inf]))
    seen = spaces.Dict(image=spaces.Box(0, 255, (8, 8, 3), np.uint8), flags=spaces.MultiBinary(3), uneven=uneven,
                       free=spaces.Box(-np.inf, np.inf, (2,)), scalar=spaces.Box(0, 1, (), np.float32))
    settings = AgentSettings(size="debug", loss_scales=LossScales(reward=2.0), learning_rate=1e-3)
    written = json.dumps(Blueprint(seen, action, settings).to_json(), allow_nan=False)
    again = Blueprint.from_json(json.loads(written))
    assert again == Blueprint(seen, action, settings)
    assert again.identity() == Blueprint(seen, action, settings).identity()


def test_settings_that_may_change_on_resume_make_no_other_agent(tmp_path):
    save(tmp_path, 1.0)
    other = dataclasses.replace(AGENT, settings=AgentSettings(size="debug", learning_rate=1e-3))
    assert checkpoints.load_newest(tmp_path, other).counters == {"updates": 1}
