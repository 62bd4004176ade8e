"""The coordinator through its sockets, with nodes of ours and with bare clients."""

import json
import math
import os

import pytest
import zmq
from coordinated import PATIENCE, ask, client, config, coordinator, hear, run_folder, until

from services.cluster.cluster import with_ports
from services.coordinator.status import Status
from services.node import Node
from services.tempo import FASTEST, SLOWEST
from services.wire.messages import Answer, Ask, Heartbeat, HeartbeatReply, Hello, Order, OrderDone, Refused, Welcome
from services.wire.security import SERVER, Security, new_keys

BOOT = b"b" * 16


def hello(name="robot-0", kind="robot", boot=BOOT, run="test", **other):
    return Hello(kind, name, boot, 4242, run, **other)


def beat(name="robot-0", state="disarmed", detail="", boot=BOOT):
    return Heartbeat(name, boot, 1, state, detail)


def status(dealer):
    return Status.from_json(ask(dealer, Ask("status"), Answer).text)


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path)


@pytest.fixture
def here(folder):
    with coordinator(config(), folder) as service:
        yield service


def test_nodes_learn_where_each_other_are_and_their_figures_arrive(here):
    with zmq.Context() as context:
        control = here.addresses["control"]
        acts, learns = {"policy": "tcp://127.0.0.1:7"}, {"weights": "tcp://127.0.0.1:8"}
        with Node("policy", "policy", config(), context, acts, control=control) as policy, \
                Node("learner", "learner", config(), context, learns, control=control) as learner:
            until(lambda: learner.address("policy") == "tcp://127.0.0.1:7" and policy.address("weights"), "addresses")
            learner.state = "running"
            learner.gauge("learner_updates", 12)
            with client(control) as operator:
                until(lambda: status(operator).learner.updates == 12, "figures")
                seen = until(lambda: {s.name: s for s in status(operator).services if s.state == "running"}, "state")
                assert seen["learner"].alive == "alive" and seen["learner"].heartbeat_age < PATIENCE
        assert learner.address("telemetry") == here.addresses["telemetry"]


def test_what_a_robot_measures_of_itself_arrives_beside_its_limits(here):
    control = here.addresses["control"]
    with zmq.Context() as context, client(control) as operator:
        with Node("robot", "robot-0", config(), context, control=control) as robot:
            robot.gauge("robot_body", 0.5, "tilt_radians")
            robot.gauge("robot_body_warns", 0.6, "tilt_radians")
            robot.gauge("robot_body_stops", math.inf, "tilt_radians")  # it only warns
            robot.gauge("robot_body", 3.0, "packets_lost")  # nobody watches these
            robot.gauge("robot_body_warns", 60.0, "temperature_celsius")  # it measures none
            gauges = until(lambda: (robots := status(operator).robots) and robots[0].gauges, "gauges")
        assert gauges == {"tilt_radians": {"value": 0.5, "warns": 0.6, "stops": None},
                          "packets_lost": {"value": 3.0, "warns": None, "stops": None}}
        with Node("robot", "robot-0", config(), context, control=control) as robot:
            robot.gauge("robot_body", 0.1, "battery_ratio")
            until(lambda: [*status(operator).robots[0].gauges] == ["battery_ratio"], "the gauges of another boot")


def test_the_coordinator_is_in_its_own_status_with_its_restarts(here):
    with zmq.Context() as context, client(here.addresses["control"]) as operator, \
            Node("supervisor", "supervisor", config(), context, control=here.addresses["control"]) as supervisor:
        supervisor.count("restarts_total", 2, "coordinator")
        seen = until(lambda: (row := status(operator).services[0]).restarts and row, "restarts")
        assert (seen.kind, seen.state, seen.alive, seen.pid, seen.restarts) == (
            "coordinator", "running", "alive", os.getpid(), 2)


def test_a_well_robot_is_armed_and_a_faulted_one_is_not(here):
    with client(here.addresses["control"]) as well, client(here.addresses["control"]) as ill:
        ask(ill, hello("robot-1", boot=b"c" * 16), Welcome)
        ask(ill, beat("robot-1", "fault", "a motor is hot", b"c" * 16), HeartbeatReply)
        ask(well, hello(), Welcome)
        well.send(beat())
        assert hear(well, Order).order == "arm"
        with pytest.raises(AssertionError):
            hear(ill, Order, patience=.5)


def test_an_order_reaches_the_robot_and_its_answer_the_operator(here):
    with client(here.addresses["control"]) as robot, client(here.addresses["control"]) as operator:
        ask(robot, hello(), Welcome)
        robot.send(beat(state="armed"))
        operator.send(Ask("pause", "robot-0", "ann"))
        order = hear(robot, Order)
        assert (order.order, order.token) == ("pause", "ann")
        assert hear(robot, Order).number == order.number  # repeated until it is answered
        robot.send(OrderDone(order.number, True, "paused"))
        answer = hear(operator, Answer)
        assert answer.ok and answer.text == "robot-0: paused"


def test_a_robot_that_starts_anew_stays_paused_and_is_not_armed(here):
    with client(here.addresses["control"]) as robot, client(here.addresses["control"]) as operator:
        ask(robot, hello(), Welcome)
        operator.send(Ask("pause", "", "ann"))
        robot.send(OrderDone(hear(robot, Order).number, True))
        hear(operator, Answer)
    with client(here.addresses["control"]) as again:
        ask(again, hello(boot=b"c" * 16), Welcome)
        again.send(beat(boot=b"c" * 16))
        order = hear(again, Order)
        assert (order.order, order.token) == ("pause", "ann")


@pytest.mark.parametrize("by", ["operator", "robot"])
def test_a_robot_that_starts_anew_after_a_fault_is_not_armed(folder, by):
    with coordinator(config(), folder) as here, client(here.addresses["control"]) as robot, \
            client(here.addresses["control"]) as operator:
        ask(robot, hello(), Welcome)
        if by == "operator":
            operator.send(Ask("estop", "", "ann"))
            robot.send(OrderDone(hear(robot, Order).number, True))
            hear(operator, Answer)
        else:
            ask(robot, beat(state="fault"), HeartbeatReply)
        kept = folder.path / "coordinator.json"
        until(lambda: kept.exists() and "robot-0" in json.loads(kept.read_text())["paused"], "the note on the disk")
    with coordinator(config(), folder) as here, client(here.addresses["control"]) as again:
        ask(again, hello(boot=b"c" * 16), Welcome)
        again.send(beat(boot=b"c" * 16))
        assert {hear(again, Order).order for _ in range(4)} == {"pause"}


def test_an_order_of_a_new_coordinator_is_never_taken_for_one_of_the_last(folder, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)  # a clock that was set back
    numbers = []
    for _ in range(2):
        with coordinator(config(), folder) as here, client(here.addresses["control"]) as robot:
            ask(robot, hello(), Welcome)
            robot.send(beat())
            numbers.append(hear(robot, Order).number)
    assert numbers[0] != numbers[1]


def test_clearing_a_fault_needs_a_name_and_leaves_the_robot_paused(here):
    with client(here.addresses["control"]) as robot, client(here.addresses["control"]) as operator:
        ask(robot, hello(), Welcome)
        robot.send(beat(state="fault"))
        assert not ask(operator, Ask("clear_fault"), Answer).ok
        operator.send(Ask("clear_fault", "", "ann"))
        given = {hear(robot, Order).order for _ in range(2)}
        assert given == {"pause", "clear_fault"}
        robot.send(beat(state="disarmed"))
        assert "robot-0" in here._ledger.paused


def test_doubles_are_told_one_speed_that_lets_the_train_ratio_hold(folder):
    auto = config(speed="auto")
    with coordinator(auto, folder) as here, zmq.Context() as context:
        def node(kind, name):
            return Node(kind, name, auto, context, control=here.addresses["control"])

        with node("robot", "robot-0") as first, node("robot", "robot-1") as second:
            first.state = second.state = "armed"
            until(lambda: first.speed == second.speed == SLOWEST, "all but still while nobody takes what they collect")
            with node("replay", "replay") as replay:
                replay.gauge("replay_wanted_steps_per_second", 30.0)
                until(lambda: first.speed == second.speed == 30 / 20 / 2, "half of it each")
                second.state = "paused"
                until(lambda: first.speed == 30 / 20, "all of it for the one that collects")
                replay.gauge("replay_wanted_steps_per_second", 1e9)
                until(lambda: first.speed == FASTEST, "no more than that")
            until(lambda: first.speed == SLOWEST, "still again without a replay")


def test_robots_with_a_speed_of_their_own_are_told_none(here):
    with client(here.addresses["control"]) as robot:
        ask(robot, hello(), Welcome)
        assert ask(robot, beat(), HeartbeatReply).speed == 0.0


def test_stop_makes_the_run_stopping_and_arms_nobody(here):
    with client(here.addresses["control"]) as robot, client(here.addresses["control"]) as operator:
        assert not ask(operator, Ask("stop"), Answer).ok  # no robots yet; it stops all the same
        assert status(operator).state == "stopping"
        ask(robot, hello(), Welcome)
        robot.send(beat())
        with pytest.raises(AssertionError):
            hear(robot, Order, patience=.5)


@pytest.mark.parametrize("message, code", [
    (hello(run="other"), "run"), (hello("learner", "robot"), "identity"), (hello("robot-1", schema="bbbb"), "schema"),
    (hello("policy", "policy", addresses={"policy": "nowhere"}), "malformed"), (Welcome("test", {}), "malformed")])
def test_what_does_not_belong_here_is_refused_with_the_way_out(here, message, code):
    with client(here.addresses["control"]) as dealer, client(here.addresses["control"]) as operator:
        ask(dealer, hello("replay", "replay", schema="aaaa"), Welcome)
        ask(dealer, hello("learner", "learner"), Welcome)
        refused = ask(dealer, message, Refused)
        assert refused.code == code and refused.text
        assert [robot.name for robot in status(operator).robots] == []


@pytest.mark.parametrize("question, hint", [
    (Ask("dance"), "status"), (Ask("pause", "robot-9"), "no such robot"), (Ask("clear_fault"), "token")])
def test_a_question_that_makes_no_sense_is_answered_with_what_does(here, question, hint):
    with client(here.addresses["control"]) as operator:
        answer = ask(operator, question, Answer)
        assert not answer.ok and hint in answer.text


def test_a_stranger_who_heartbeats_is_asked_to_say_hello(here):
    with client(here.addresses["control"]) as robot:
        assert not ask(robot, beat(), HeartbeatReply).known
        ask(robot, hello(), Welcome)
        assert ask(robot, beat(), HeartbeatReply).known
        assert not ask(robot, beat(boot=b"c" * 16), HeartbeatReply).known


def test_a_killed_coordinator_comes_back_and_nothing_is_forgotten(folder):
    settings = with_ports(config())
    with zmq.Context() as context:
        with coordinator(settings, folder) as first:
            control = first.addresses["control"]
            node = Node("robot", "robot-0", settings, context, control=control).start()
            node.count("robot_steps_total", 100)
            with client(control) as operator:
                until(lambda: status(operator).steps == 100, "the first count")
        node.count("robot_steps_total", 5)
        with coordinator(settings, folder), client(control) as operator:
            until(lambda: status(operator).steps == 105, "the count going on")
            node.close()
            with Node("robot", "robot-0", settings, context, control=control) as reborn:
                reborn.count("robot_steps_total", 7)
                until(lambda: status(operator).steps == 112, "the count over both boots")
    summary = json.loads(folder.summary.read_text())
    assert summary["steps"] == 112 and summary["seconds"] > 0


def test_a_full_disk_costs_the_summary_and_not_the_coordinator(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.coordinator.service.write_atomic", full)
    monkeypatch.setattr("services.coordinator.ledger.write_atomic", full)
    with coordinator(config(), folder) as here, client(here.addresses["control"]) as operator:
        assert status(operator).run == "test"
    assert not folder.summary.exists()


def test_with_keys_a_robot_speaks_only_as_itself_and_asks_nothing(tmp_path, folder):
    keys = tmp_path / "keys"
    robot_key, other_key, ann_key = (Security.load(new_keys(name, keys)) for name in ("robot-0", "robot-1", "ann"))
    settings = config()
    object.__setattr__(settings.network, "keys", str(keys / f"{SERVER}.key_secret"))
    with coordinator(settings, folder) as here:
        control = here.addresses["control"]
        with client(control, robot_key) as robot, client(control, other_key) as other, client(control, ann_key) as ann:
            ask(robot, hello(), Welcome)
            assert ask(other, hello(), Refused).code == "identity"
            usurper = hello("policy", "policy", addresses={"policy": "tcp://127.0.0.1:9"})
            assert ask(robot, usurper, Refused).code == "identity"
            assert ask(robot, Ask("estop"), Refused).code == "identity"
            assert not ask(other, beat(), HeartbeatReply).known
            assert ask(ann, Ask("status"), Answer).ok
