"""The robot node with a real body, real sockets and a real disk; the other services are small stand-ins under our
control."""

import dataclasses
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import zmq
from coordinated import ask, client, config, coordinator, run_folder, running, until

from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from robots.registry import make_driver
from services.cluster.cluster import with_ports
from services.coordinator.status import Status
from services.node import Node
from services.robot.service import RobotNode, RobotRefused
from services.wire import sockets
from services.wire.delivery import Append, Receiver
from services.wire.messages import LIMITS, ActRefused, ActReply, Answer, Ask, OpenStream

SCHEMA = Schema.of_spaces((spec := make_driver("gym", {"id": "CartPole-v1"}).spec).signals, spec.action_space)


class Replay:
    """Stores chunks in a log and acknowledges them while `takes` is set."""

    kind, port = "replay", "experience"

    def __init__(self, folder):
        self.log = ChunkLog.open(folder, SCHEMA)
        self.receiver = Receiver(self.log.streams)
        self.takes = threading.Event()
        self.takes.set()

    def serve(self, server, received):
        if not self.takes.is_set():
            return
        for effect in self.receiver.on_message(received.peer, received.message):
            if isinstance(effect, Append):
                chunk = effect.chunk
                columns = {name: np.array(array) for name, array in chunk.arrays.items()}
                self.log.append(Chunk(chunk.stream, chunk.sequence, chunk.first_step, columns))
                self.log.sync()
            else:
                server.send(effect.peer, effect.message)
        for reply in self.receiver.synced(self.log.streams):
            server.send(reply.peer, reply.message)

    def steps(self):
        """All columns of all chunks, in order of arrival."""
        chunks = [self.log.columns(entry) for entry in list(self.log.entries)]
        return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]} if chunks else {"reward": []}


class Policy:
    """Answers `says` after `delay` seconds; None: there are no weights."""

    kind, port = "policy", "policy"

    def __init__(self, says=1, delay=0.0):
        self.says, self.delay, self.requests = says, delay, []

    def serve(self, server, received):
        request = received.message
        self.requests.append(request)
        time.sleep(self.delay)
        if self.says is None:
            server.send(received.peer, ActRefused(request.step, "no_weights"))
        else:
            server.send(received.peer, ActReply(request.step, 3, {"actions": np.array([self.says])}))


@contextmanager
def stand_in(service, control):
    """A service with one port, at the coordinator's."""
    over = threading.Event()
    with zmq.Context() as context:
        server = sockets.Server(context, "tcp://127.0.0.1:0", limit=LIMITS[service.port])

        def work():
            while not over.is_set():
                if (received := server.receive(.02)) is not None:
                    service.serve(server, received)

        thread = threading.Thread(target=work)
        binds = {service.port: server.address}
        with Node(service.kind, service.kind, config(), context, binds, control=control) as node:
            node.state = "running"
            thread.start()
            try:
                yield service
            finally:
                over.set()
                thread.join()
                server.close()


@contextmanager
def robot(folder, control, **settings):
    with running(RobotNode(config(**settings), "robot-0", folder, control=control)) as node:
        yield node


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path)


@pytest.fixture
def here(folder):
    with coordinator(config(), folder) as service:
        yield service


def status(control):
    with client(control) as operator:
        return Status.from_json(ask(operator, Ask("status"), Answer).text)


def first_robot(control):
    robots = status(control).robots
    return robots[0] if robots else None


def armed(control):
    return until(lambda: (robot := first_robot(control)) and robot.state == "armed" and robot.steps > 10 and robot,
                 "an armed robot")


def order(control, command, token=""):
    with client(control) as operator:
        return ask(operator, Ask(command, "", token), Answer)


def test_every_step_arrives_once_and_a_stop_flushes_the_rest(here, folder, tmp_path):
    control = here.addresses["control"]
    with stand_in(Replay(tmp_path / "replay"), control) as replay, stand_in(Policy(), control):
        with robot(folder, control):
            armed(control)
        told = until(lambda: (robot := first_robot(control)).state == "stopped" and robot, "the last report")
    steps = replay.steps()
    assert len(steps["reward"]) == told.steps > 10 and told.unacknowledged_chunks == 0
    assert len(replay.log.streams) == 1
    assert steps["is_first"][0] and steps["is_last"][-1]
    ends, begins = steps["is_last"][:-1], steps["is_first"][1:]
    assert (ends == begins).all() and ends.any()  # CartPole pushed to one side falls within the second
    assert (steps["action"][steps["weights_version"] == 3] == 1).all()
    assert 0 < np.median(steps["action_age"]) < .05
    assert told.control_period_seconds["p50"] == pytest.approx(.05, rel=.2)


def test_before_there_are_weights_the_robot_explores(here, folder, tmp_path):
    control = here.addresses["control"]
    with stand_in(Replay(tmp_path / "replay"), control) as replay, stand_in(Policy(says=None), control):
        with robot(folder, control):
            armed(control)
    steps = replay.steps()
    assert set(steps["weights_version"]) == {-1} and set(steps["action"]) == {0, 1}


def test_a_late_policy_makes_the_robot_hold_and_never_wait(here, folder, tmp_path):
    control = here.addresses["control"]
    with stand_in(Replay(tmp_path / "replay"), control) as replay, stand_in(Policy(), control) as policy:
        with robot(folder, control):
            armed(control)
            policy.delay = .045  # after the deadline, within the period
            until(lambda: first_robot(control).fallback_actions > 5, "fallbacks")
            period = first_robot(control).control_period_seconds["p50"]
    steps = replay.steps()
    assert (steps["weights_version"] == -2).sum() > 5 and period == pytest.approx(.05, rel=.2)
    assert (steps["action"][steps["weights_version"] == -2] == 0).all()  # the driver's no-op


def test_the_loop_goes_on_while_coordinator_policy_and_replay_are_away(folder, tmp_path):
    settings = with_ports(config())
    with coordinator(settings, folder) as here:
        control = here.addresses["control"]
        with stand_in(Policy(), control), stand_in(Replay(tmp_path / "replay"), control):
            node = robot(folder, control)
            node.__enter__()
            before = armed(control)
    time.sleep(1.0)  # nobody is there; the robot goes on by itself
    with coordinator(settings, folder):
        until(lambda: (robot := first_robot(control)) and robot.steps > before.steps + 15 and robot.state == "armed",
              "steps of the dark second, and still armed")
        with stand_in(Replay(tmp_path / "other"), control) as replay:
            until(lambda: first_robot(control).unacknowledged_chunks == 0, "what was spooled meanwhile")
            node.__exit__(None, None, None)
    assert len(replay.steps()["reward"]) > 15


def test_pausing_records_nothing_and_an_emergency_stop_needs_a_name_to_be_cleared(here, folder, tmp_path):
    control = here.addresses["control"]
    with stand_in(Replay(tmp_path / "replay"), control), stand_in(Policy(), control), robot(folder, control):
        armed(control)
        assert order(control, "pause").ok
        until(lambda: first_robot(control).state == "paused", "paused")
        count = first_robot(control).steps
        time.sleep(.6)
        assert first_robot(control).steps == count
        assert order(control, "resume").ok
        until(lambda: first_robot(control).steps > count + 5, "steps after resume")
        assert order(control, "estop").ok
        until(lambda: first_robot(control).state == "fault", "fault")
        assert not order(control, "clear_fault").ok
        assert order(control, "clear_fault", "ann").ok
        until(lambda: first_robot(control).state == "paused", "still until somebody resumes")
        assert order(control, "resume").ok
        until(lambda: first_robot(control).state == "armed", "armed again")


def test_an_order_to_stop_ends_the_node(here, folder, tmp_path):
    control, ended = here.addresses["control"], threading.Event()
    with stand_in(Replay(tmp_path / "replay"), control), stand_in(Policy(), control):
        node = RobotNode(config(), "robot-0", folder, control=control)
        thread = threading.Thread(target=lambda: (node.run(threading.Event()), ended.set()))
        thread.start()
        armed(control)
        assert order(control, "stop").ok
        assert ended.wait(15)
        thread.join()


def test_a_robot_of_another_run_ends_with_the_reason(folder, tmp_path):
    other = dataclasses.replace(config(), name="other")
    with coordinator(other, run_folder(tmp_path)) as here:
        with pytest.raises(RobotRefused, match="here runs other"):
            RobotNode(config(), "robot-0", folder, control=here.addresses["control"]).run(threading.Event())


def test_the_robot_node_loads_neither_torch_nor_ray():
    code = ("import sys, services.robot.service, services.cluster.roles; "
            "print(sorted({'torch', 'ray'} & set(sys.modules)))")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


def test_open_stream_names_the_schema_of_the_robot():
    assert OpenStream("robot-0", b"s" * 16, SCHEMA.to_json()).schema == SCHEMA.to_json()
