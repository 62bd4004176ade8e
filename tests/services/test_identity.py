"""With keys, a robot may speak only as itself, to the replay and to the policy server."""

import numpy as np
from learning_bench import Switchboard, ask, client, run_folder, running, schema, toy_config

from services.policy.service import PolicyService
from services.replay.service import ReplayService
from services.wire.messages import ActRequest, OpenStream, StreamOpened
from services.wire.security import Security, new_keys


def keys(folder, robot: str) -> tuple[str, Security, Security]:
    """The services' key file, its keys, and the robot's."""
    robot_file = new_keys(robot, folder)
    server_file = folder / "server.key_secret"
    return str(server_file), Security.load(server_file), Security.load(robot_file)


def test_a_robot_may_not_send_experience_as_another(tmp_path):
    file, services, robot = keys(tmp_path / "keys", "toy-0")
    config = toy_config(network={"keys": file})
    columns = schema(config).to_json()
    with (Switchboard(services) as board,
          running(ReplayService(config, run_folder(tmp_path / "run"), control=board.control)),
          client(board.address("experience"), "experience", robot) as link):
        refused = ask(link, OpenStream("toy-1", b"s" * 16, columns))
        assert refused.code == "identity" and "toy-0 may not speak as toy-1" in refused.text
        assert ask(link, OpenStream("toy-0", b"s" * 16, columns)) == StreamOpened(b"s" * 16, 0)


def test_a_robot_may_not_ask_for_actions_as_another(tmp_path):
    file, services, robot = keys(tmp_path / "keys", "toy-0")
    arrays = {"is_first": np.array([True])}
    with (Switchboard(services) as board,
          running(PolicyService(toy_config(network={"keys": file}), control=board.control)),
          client(board.address("policy"), "policy", robot) as link):
        assert ask(link, ActRequest("toy-1", bytes(16), 0, True, arrays)).code == "identity"
        assert ask(link, ActRequest("toy-0", bytes(16), 0, True, arrays)).reason == "no_weights"
