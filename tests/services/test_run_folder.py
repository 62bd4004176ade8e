"""A run's folder: who may use it, what resuming it means, and who finds it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from services import config as configs
from services import run_folder
from services.config import ConfigError
from services.run_folder import RunFolderError

HOLD = """
import sys, time
from services import config, run_folder
demo = config.from_mapping({"name": "demo", "robot": {"driver": "gym", "task": "env"}})
with run_folder.claim(sys.argv[1], demo) as folder:
    run_folder.announce(folder, {"control": "tcp://127.0.0.1:1"})
    print("held", flush=True)
    time.sleep(60)
"""


def _config(**changes):
    return configs.from_mapping({"name": "demo", "robot": {"driver": "gym", "task": "env"}} | changes)


@pytest.fixture
def holder(tmp_path):
    """Another process that runs `demo` here."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_started_run_can_be_found_by_its_name_and_as_the_latest(tmp_path):
    with run_folder.claim(tmp_path, _config()) as folder:
        run_folder.announce(folder, {"control": "tcp://127.0.0.1:5550"})
        found, info = run_folder.running(tmp_path)
        assert (found, info.pid, info.addresses) == (folder, os.getpid(), {"control": "tcp://127.0.0.1:5550"})
        assert run_folder.running(tmp_path, "demo")[0] == folder
        assert folder.spool("demo-0").parent.is_dir() and folder.checkpoints.is_dir() and folder.logs.is_dir()
    with pytest.raises(RunFolderError, match="demo is not running"):
        run_folder.running(tmp_path, "demo")
    assert run_folder.existing(tmp_path, "demo") == folder


def test_a_run_that_is_going_on_cannot_be_started_again(tmp_path, holder):
    with pytest.raises(RunFolderError) as caught, run_folder.claim(tmp_path, _config()):
        pass
    assert f"already running, as process {holder.pid}; `daydreamer stop demo` ends it" in str(caught.value)


def test_the_run_of_a_process_that_was_killed_is_not_running_and_can_be_resumed(tmp_path, holder):
    assert run_folder.running(tmp_path)[1].pid == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with pytest.raises(RunFolderError):
        run_folder.running(tmp_path)
    with run_folder.claim(tmp_path, _config()) as folder:
        assert folder.name == "demo"


def test_a_run_that_starts_again_is_not_taken_for_the_one_that_was_killed(tmp_path, holder):
    holder.kill()
    holder.wait()
    with run_folder.claim(tmp_path, _config()) as folder:
        assert run_folder.read_info(folder) is None


def test_waiting_for_a_run_ends_with_its_process(tmp_path, holder):
    folder, _ = run_folder.running(tmp_path)
    holder.send_signal(signal.SIGKILL)
    run_folder.wait_until_free(folder)
    assert run_folder.read_info(folder) is None


def test_a_run_of_another_robot_is_refused_and_left_as_it_is(tmp_path):
    with run_folder.claim(tmp_path, _config()) as folder:
        (folder.replay / "kept").touch()
    before = folder.config.read_text()
    with (pytest.raises(ConfigError) as caught,
          run_folder.claim(tmp_path, _config(robot={"driver": "unitree_a1", "task": "walk"}))):
        pass
    told = str(caught.value)
    assert str(folder.path) in told and "--name starts another run" in told and "robot.driver: 'unitree_a1'" in told
    assert folder.config.read_text() == before and (folder.replay / "kept").exists()


def test_a_resumed_run_takes_the_settings_that_may_change(tmp_path):
    with run_folder.claim(tmp_path, _config()):
        pass
    with run_folder.claim(tmp_path, _config(learner={"train_ratio": 7.0})) as folder:
        pass
    assert configs.load(folder.config).learner.train_ratio == 7.0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_run_is_not_taken_for_one(tmp_path, what):
    place = tmp_path / "demo"
    if what == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "photo.jpg").touch()
    with pytest.raises(RunFolderError, match="chooses another"), run_folder.claim(tmp_path, _config()):
        pass


def test_a_run_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    with run_folder.claim(tmp_path, _config()):
        pass
    with pytest.raises(RunFolderError, match="no such run; .* holds demo"):
        run_folder.existing(tmp_path, "dmo")


def test_a_service_started_by_hand_shares_the_folder_of_a_run_that_is_going_on(tmp_path):
    with run_folder.claim(tmp_path, _config()) as folder:
        assert run_folder.join(tmp_path, _config()) == folder


def test_a_place_that_cannot_be_written_is_an_error_with_a_way_out(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with (pytest.raises(RunFolderError, match="cannot be written .*--home"),
          run_folder.claim(tmp_path / "runs", _config())):
        pass


def test_services_that_are_started_by_hand_at_once_share_the_folder_that_one_of_them_makes(tmp_path):
    with ThreadPoolExecutor(8) as services:
        for attempt in range(20):
            config = _config(name=f"run{attempt}")
            folders = [service.result() for service in
                       [services.submit(run_folder.join, tmp_path, config) for _ in range(8)]]
            assert {folder.config.exists() for folder in folders} == {True}
