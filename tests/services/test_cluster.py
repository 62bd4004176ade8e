"""The cluster with toy services on a real local Ray: they come back when they die, and end in order."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy_services
import zmq

from services.cluster.cluster import Cluster, placement, with_ports
from services.cluster.roles import Role, robot_name, roles
from services.config import PORTS, from_mapping
from services.run_folder import RunFolder
from services.wire.errors import PortInUse
from services.wire.security import new_keys

CONFIG = from_mapping({"name": "toys", "robot": {"driver": "nowhere:toy", "task": "none"}, "network": {"port": 0}})


def until(what: Callable[[], object], seconds: float = 20.0):
    """The first true value of `what`."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return value


def note(folder: RunFolder, name: str, what: str = "began") -> dict:
    return json.loads((folder.path / f"{name}.{what}.json").read_text())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module", autouse=True)
def importable_toys() -> Iterator[None]:
    """Ray's workers find what this folder holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.logs.mkdir()
    return folder


@pytest.fixture(scope="module")
def cluster(folder: RunFolder) -> Iterator[Cluster]:
    cluster = Cluster(CONFIG, folder, build=toy_services.build)
    try:
        cluster.start()
        until(lambda: len(cluster.pids()) == 5 and (folder.path / "policy.began.json").exists())
        yield cluster
    finally:
        cluster.stop()


def test_every_service_of_the_config_runs_in_a_process_of_its_own_at_normal_priority(cluster, folder):
    pids = cluster.pids()
    assert set(pids) == {"coordinator", "replay", "policy", "learner", "toy-0"}
    assert len({os.getpid(), *pids.values()}) == 6
    for name, pid in pids.items():
        seen = note(folder, name)
        assert (seen["pid"], seen["nice"], seen["threads"]) == (pid, 0, "1")


def test_a_bug_is_a_crash_and_the_service_is_started_again(cluster, folder):
    assert cluster.restarts["policy"] == 1
    assert "ZeroDivisionError: a bug" in (folder.logs / "policy.log").read_text()


def test_nobody_else_can_reach_the_cluster(cluster):
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    open_files = (fd for pid in _descendants(os.getpid()) for fd in Path(f"/proc/{pid}/fd").glob("*"))
    inodes = {os.readlink(fd) for fd in open_files if _is_socket(fd)}
    hosts = {entry[1].partition(":")[0] for entry in _listening() if f"socket:[{entry[9]}]" in inodes}
    assert hosts and hosts <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, of IPv4 and mapped
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_killed_service_is_back_within_seconds_and_its_neighbours_do_not_notice(cluster):
    before = cluster.pids()
    os.kill(before["replay"], signal.SIGKILL)
    until(lambda: cluster.pids().get("replay") not in (None, before["replay"]), seconds=10)
    after = cluster.pids()
    assert {name: pid for name, pid in after.items() if name != "replay"} == {
        name: pid for name, pid in before.items() if name != "replay"}
    assert cluster.restarts["replay"] == 1 and cluster.states()["replay"] == "running"


def test_a_frozen_service_is_replaced(cluster, monkeypatch):
    monkeypatch.setattr("services.cluster.supervisor.SILENT", 1.5)
    before = cluster.pids()["learner"]
    os.kill(before, signal.SIGSTOP)
    until(lambda: cluster.pids().get("learner") not in (None, before), seconds=15)
    until(lambda: not alive(before), seconds=1)


def test_a_body_outlives_its_control_process(cluster, folder):
    before = note(folder, "toy-0")
    try:
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: note(folder, "toy-0")["pid"] != before["pid"])
        assert alive(before["body"])
    finally:
        for body in (before["body"], note(folder, "toy-0")["body"]):
            os.kill(body, signal.SIGKILL)


def test_sigterm_stays_with_whoever_handled_it_before(cluster):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_services_end_in_order_robots_first(cluster, folder):
    assert cluster.stop() == []
    order = ["toy-0", "learner", "policy", "replay", "coordinator"]
    assert sorted(order, key=lambda name: note(folder, name, "ended")["time"]) == order
    assert cluster.stop() == []  # twice changes nothing


def test_a_service_that_cannot_run_is_the_run_s_failure_and_no_process_stays(tmp_path):
    folder = RunFolder(tmp_path)
    cluster = Cluster(CONFIG, folder, services=[Role("replay"), Role("coordinator")], build=toy_services.build_refusing)
    try:
        cluster.start()
        failure = until(lambda: cluster.failure)
        assert str(failure) == "replay: tcp://127.0.0.1:5551: another process holds it"
        pids = until(lambda: cluster.pids())
    finally:
        cluster.stop()
    until(lambda: not any(alive(pid) for pid in pids.values()))


def test_a_second_run_on_the_ports_of_the_first_starts_nothing(tmp_path):
    config = with_ports(CONFIG)
    holder = zmq.Context.instance().socket(zmq.ROUTER)
    holder.bind(config.network.addresses()["control"])
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    cluster = Cluster(config, folder, build=toy_services.build)
    try:
        with pytest.raises(PortInUse, match="another process holds this port.*--set network.port"):
            cluster.start()
        assert not cluster.pids() and not list(tmp_path.glob("*.began.json"))
    finally:
        cluster.stop()
        holder.close(linger=0)


def test_free_ports_are_chosen_once_so_that_a_restarted_service_is_where_it_was():
    config = with_ports(CONFIG)
    assert config.network.port and with_ports(config) is config
    assert len(set(config.network.addresses().values())) == len(PORTS)
    assert 1024 <= config.network.port < 32768 - len(PORTS)  # no outgoing connection takes them meanwhile


def test_two_robots_have_two_roles():
    config = from_mapping({"name": "two", "robot": {"driver": "unitree_a1", "task": "walk", "count": 2}})
    assert [role.name(config) for role in roles(config)] == ["coordinator", "replay", "policy", "learner",
                                                            "unitree_a1-0", "unitree_a1-1"]


@pytest.mark.parametrize("driver, name", [
    ("unitree_a1", "unitree_a1-0"), ("my_robots.arms:Arm", "Arm-0"), ("our robot/v2.1", "our_robot_v2_1-0"),
    ("a:Ä", "robot-0"), ("x" * 200, "x" * 48 + "-0")])
def test_a_robots_name_fits_folders_and_keys_whatever_its_driver_is_called(driver, name, tmp_path):
    config = from_mapping({"name": "named", "robot": {"driver": driver, "task": "any"}})
    assert robot_name(config, 0) == name
    assert new_keys(robot_name(config, 63), tmp_path).is_file()


HEAD = "ab" * 28  # as long as a node id of Ray
NODES = [{"NodeID": HEAD, "Alive": True, "Resources": {"CPU": 8}, "Labels": {}},
         {"NodeID": "dog", "Alive": True, "Resources": {"robot:a1-0": 1}, "Labels": {"robot": "a1-0"}},
         {"NodeID": "arm", "Alive": True, "Resources": {"robot:a1-1": 1}, "Labels": {}},
         {"NodeID": "gone", "Alive": False, "Resources": {"robot:a1-2": 1}, "Labels": {}}]


def test_a_robot_goes_to_the_node_that_has_it_and_all_else_to_the_node_of_the_command():
    assert placement(Role("robot"), "a1-0", NODES, HEAD) == {
        "resources": {"robot:a1-0": 1}, "label_selector": {"robot": "a1-0"}}
    assert placement(Role("robot", 1), "a1-1", NODES, HEAD) == {"resources": {"robot:a1-1": 1}}
    for role, name in ((Role("robot", 2), "a1-2"), (Role("learner"), "learner")):
        strategy = placement(role, name, NODES, HEAD)["scheduling_strategy"]
        assert (strategy.node_id, strategy.soft) == (HEAD, False)


def _descendants(pid: int) -> set[int]:
    parents = {int(p.name): int(p.joinpath("stat").read_text().rpartition(")")[2].split()[1])
               for p in Path("/proc").glob("[0-9]*") if p.joinpath("stat").exists()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _is_socket(fd: Path) -> bool:
    try:
        return os.readlink(fd).startswith("socket:")
    except OSError:
        return False


def _listening() -> list[list[str]]:
    tables = (Path("/proc/net") / table for table in ("tcp", "tcp6"))
    return [line.split() for table in tables for line in table.read_text().splitlines()[1:] if line.split()[3] == "0A"]
