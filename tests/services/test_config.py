"""What a user learns from the program about a configuration, right or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import config as configs
from services.config import ConfigError
from services.embodiment import robot_spec

ROBOT = "robot: {driver: unitree_a1, task: walk}\n"


def _write(folder: Path, text: str, name: str = "a1.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _error(path: Path, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        configs.load(path, changes)
    return str(caught.value)


def test_a_file_that_says_only_which_robot_is_enough(tmp_path):
    config = configs.load(_write(tmp_path, ROBOT))
    assert (config.name, config.robot.driver, config.robot.count) == ("a1", "unitree_a1", 1)
    assert config.network.addresses()["samples"] == "tcp://127.0.0.1:5553"


def test_a_misspelt_key_is_named_with_file_line_and_the_nearest_key(tmp_path):
    path = _write(tmp_path, ROBOT + "learner:\n  trian_ratio: 3\n")
    assert _error(path) == f"{path}:3: learner.trian_ratio: unknown key, did you mean train_ratio?"


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(tmp_path):
    told = _error(_write(tmp_path, ROBOT + "train_ratio: 3\n"))
    assert told.endswith("unknown key, did you mean learner.train_ratio?")


def test_a_key_like_no_other_gets_the_list_of_keys(tmp_path):
    assert "unknown key; there are device, threads" in _error(_write(tmp_path, ROBOT + "policy: {qqq: 1}\n"))


@pytest.mark.parametrize(("change", "told"), [
    ("robot.count=two", "robot.count: 'two': must be a valid integer"),
    ("robot.count=1.5", "robot.count: 1.5: must be a valid integer"),
    ("robot.count=-1", "robot.count: -1: from 0 to 64"),
    ("robot.speed=true", "robot.speed: True: must be a valid number or 'auto'"),
    ("robot.speed=fast", "robot.speed: 'fast': must be a valid number or 'auto'"),
    ("robot.speed=0", "robot.speed: 0.0: more than 0, at most 100, or auto"),
    ("robot.model_keys=tilt", "robot.model_keys: 'tilt': must be a valid list"),
    ("robot.action_deadline=0.06", "robot.action_deadline: 0.06: more than 0 and below the period of 0.05 s"),
    ("learner.train_ratio=.nan", "learner.train_ratio: nan: more than 0"),
    ("learner.device=gpu", "learner.device: 'gpu': auto, cpu, cuda or cuda:N"),
    ("learner=", "learner: '': must be a section of settings"),
    ("network.port=80", "network.port: 80: 0, or from 1024 to 65530"),
    ("name=a/b", "name: 'a/b': letters, digits, '.', '_' and '-', at most 64"),
    ("seed=-1", "seed: -1: from 0 to 2**32 - 1"),
])
def test_a_wrong_value_is_told_with_key_value_and_what_is_allowed(tmp_path, change, told):
    assert _error(_write(tmp_path, ROBOT), change) == f"--set: {told}"


def test_all_mistakes_are_told_at_once(tmp_path):
    told = _error(_write(tmp_path, ROBOT), "robot.count=65", "learner.nice=40", "seed=x").splitlines()
    assert len(told) == 3


def test_what_must_be_given_is_asked_for(tmp_path):
    assert _error(_write(tmp_path, "robot: {driver: x}\n")).endswith("robot.task: must be given")
    assert _error(_write(tmp_path, "")).endswith("robot: must be given")


def test_a_missing_file_is_told_with_the_files_that_are_there(tmp_path):
    _write(tmp_path, ROBOT, "a1_walk.yaml")
    assert _error(tmp_path / "a1_wlak.yaml") == f"{tmp_path}/a1_wlak.yaml: no such file; {tmp_path} has a1_walk.yaml"


@pytest.mark.parametrize(("text", "told"), [
    ("robot: [1", ":1: not valid YAML: expected ',' or ']'"),
    ("- robot", ": must hold sections of settings, not a bare list"),
    ("seed: 1\nseed: 2\n", ":2: seed: written twice, first at "),
    ("1: x", ":1: 1: a key must be a word"),
    ("a: &x 1\nb: *x\n", ":2: not valid YAML: aliases are not used here, say extends"),
    ("seed: !!python/name:os.getpid ''", ":1: not valid YAML: could not determine a constructor"),
    ("extends: [3]", ":1: extends: [3]: must be a file name or a list of them"),
    ("extends: other.yaml", "other.yaml: no such file"),
    ("extends: a1.yaml", "extends: goes in a circle through a1.yaml"),
])
def test_a_file_that_is_not_a_configuration_is_told_where_and_why(tmp_path, text, told):
    assert told in _error(_write(tmp_path, text))


def test_bytes_that_are_no_text_are_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a1.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert _error(path).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize("change", ["learner.train_ratio", "=3", "learner..nice=3", "a b=3",
                                    "seed.=3", 'learner."nice=3', '"learner""nice"=3'])
def test_a_change_that_is_not_key_equals_value_is_refused(tmp_path, change):
    assert "write it as key=value" in _error(_write(tmp_path, ROBOT), change)


def test_numbers_words_and_lists_on_the_command_line_have_the_types_they_look_like(tmp_path):
    config = configs.load(_write(tmp_path, ROBOT), [
        "learner.publish_seconds=5e-1", "robot.model_keys=[tilt, joint_angles]", "network.keys=",
        "robot.options={pose: no}"])
    assert config.learner.publish_seconds == 0.5
    assert config.robot.model_keys == ("tilt", "joint_angles")
    assert config.network.keys == ""
    assert config.robot.options == {"pose": "no"}


def test_names_that_others_gave_their_motors_may_have_dots(tmp_path):
    """As LeRobot's do; a setting of ours has none."""
    path = _write(tmp_path, """
robot:
  driver: lerobot
  task: centre
  options: {type: so101_follower, units: {elbow.pos: {unit: degrees, low: -60, high: 60, speed: 60}}}
""")
    config = configs.load(path, ['robot.options.units."elbow.pos".speed=30', "robot.options.hz=40"])
    assert config.robot.options["units"] == {"elbow.pos": {"unit": "degrees", "low": -60, "high": 60, "speed": 30}}
    written = tmp_path / "written.yaml"
    written.write_text(configs.to_yaml(config))
    assert configs.load(written) == config
    assert ":2: learner.nice: unknown key" in _error(_write(tmp_path, ROBOT + "learner.nice: 3\n"))


def test_the_config_of_the_page_about_ones_own_robot_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "robots" / "your_own.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    assert robot_spec(configs.load(_write(tmp_path, text))).action_space.shape == (6,)


def test_later_files_and_the_command_line_win_and_every_value_knows_its_origin(tmp_path):
    shared = _write(tmp_path, ROBOT + "learner: {nice: 5, threads: 3}\nseed: 1\n", "shared.yaml")
    path = _write(tmp_path, "extends: shared.yaml\nlearner:\n  nice: 7\n")
    resolved = configs.resolve(path, ["seed=4"])
    assert (resolved.config.learner.nice, resolved.config.learner.threads, resolved.config.seed) == (7, 3, 4)
    assert resolved.origins["learner.nice"] == f"{path}:3"
    assert resolved.origins["learner.threads"] == f"{shared}:2"
    assert resolved.origins["seed"] == "--set"
    assert "learner.keep" not in resolved.origins  # nobody wrote it: the default


def test_a_written_configuration_reads_back_as_the_same(tmp_path):
    config = configs.load(_write(tmp_path, ROBOT), [
        "robot.options={word: '1e5', truth: 'true', nothing: '', small: 1e-7, list: [1, a]}", "robot.model_keys=[a]"])
    assert configs.load(_write(tmp_path, configs.to_yaml(config), "config.yaml")) == config


def test_a_run_may_go_on_with_another_train_ratio_but_not_with_another_robot(tmp_path):
    path = _write(tmp_path, ROBOT)
    old = configs.load(path)
    configs.check_resume(old, configs.load(path, [
        "learner.train_ratio=7", "robot.count=2", "network.port=0", "robot.speed=2", "agent.learning_rate=1e-3"]))
    with pytest.raises(ConfigError) as caught:
        configs.check_resume(old, configs.load(path, ["robot.driver=ur5e", "robot.control_hz=10", "learner.nice=3"]))
    told = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in told] == ["robot.driver", "robot.control_hz"]
    assert "started with 'unitree_a1'" in told[0] and "--name" in told[0]


def test_a_run_may_go_on_in_a_rougher_world_but_not_with_other_actions(tmp_path):
    path = _write(tmp_path, ROBOT)
    old = configs.load(path)
    configs.check_resume(old, configs.load(path, ["robot.options.turn_every=60", "robot.options.push_every=10"]))
    with pytest.raises(ConfigError, match="^robot.options.filter_hz: 5"):
        configs.check_resume(old, configs.load(path, ["robot.options.filter_hz=5", "robot.options.payload=2"]))
