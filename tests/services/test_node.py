"""A node against a coordinator that we play ourselves."""

import time

import pytest
import zmq
from coordinated import PATIENCE, config, until

from services.node import Node
from services.wire import sockets
from services.wire.messages import (
    LIMITS,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Order,
    OrderDone,
    Refused,
    Telemetry,
    Welcome,
)
from services.wire.security import SERVER, Security, new_keys


class Coordinator:
    """Hears everything, says what the test wants."""

    def __init__(self, context):
        self.server = sockets.Server(context, "tcp://127.0.0.1:0", limit=LIMITS["control"])
        self.telemetry = sockets.Subscriber(context, "tcp://127.0.0.1:0", limit=LIMITS["telemetry"])
        self.peer = b""

    def hear(self, kind):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if (received := self.server.receive(.05)) is not None:
                self.peer = received.peer
                if isinstance(received.message, kind):
                    return received.message
        raise AssertionError(f"no {kind.__name__}")

    def say(self, message):
        assert self.server.send(self.peer, message)

    def welcome(self, **addresses):
        hello = self.hear(Hello)
        self.say(Welcome("test", {"telemetry": self.telemetry.address} | addresses))
        return hello


@pytest.fixture
def played():
    with zmq.Context() as context:
        coordinator = Coordinator(context)
        yield coordinator
        coordinator.server.close()
        coordinator.telemetry.close()


@pytest.fixture
def node(played):
    with zmq.Context() as context:
        node = Node("robot", "robot-0", config(), context, {"policy": "tcp://127.0.0.1:7"}, "abcd",
                    control=played.server.address)
        node.start()
        yield node
        node.close()


def test_it_says_who_it_is_heartbeats_and_tells_a_new_state_at_once(played, node):
    hello = played.welcome()
    assert (hello.kind, hello.name, hello.run, hello.schema) == ("robot", "robot-0", "test", "abcd")
    assert hello.addresses == {"policy": "tcp://127.0.0.1:7"} and hello.boot == node.boot
    assert played.hear(Heartbeat).state == "starting"
    node.state = "armed"
    assert until(lambda: (beat := played.hear(Heartbeat)).state == "armed" and beat, "the new state").boot == node.boot


def test_what_it_counts_is_published_where_it_was_told(played, node):
    node.count("robot_steps_total", 3)
    node.observe("robot_action_age_seconds", .01)
    played.welcome()
    report = until(lambda: played.telemetry.receive(.1), "a report").message
    assert isinstance(report, Telemetry) and report.values["robot_steps_total"] == 3
    assert sum(report.histograms["robot_action_age_seconds"].values()) == 1


def test_it_says_hello_again_when_the_coordinator_does_not_know_it_or_when_it_has_changed(played, node):
    played.welcome()
    beat = played.hear(Heartbeat)
    played.say(HeartbeatReply(beat.time, 0, False, {}))
    assert played.hear(Hello).boot == node.boot
    node.schema = "efgh"
    assert until(lambda: (hello := played.hear(Hello)).schema == "efgh" and hello, "the new schema")


def test_addresses_follow_and_stay_when_the_coordinator_is_silent(played, node):
    played.welcome(policy="tcp://0.0.0.0:5552")
    until(lambda: node.address("policy") == "tcp://127.0.0.1:5552", "the address, at the host where the coordinator is")
    beat = played.hear(Heartbeat)
    played.say(HeartbeatReply(beat.time, beat.time, True, {"policy": "tcp://127.0.0.1:9"}))
    until(lambda: node.address("policy") == "tcp://127.0.0.1:9", "the new address")
    played.server.close()
    assert node.address("policy") == "tcp://127.0.0.1:9" and node.address("weights") == ""


def test_an_order_that_is_repeated_is_carried_out_once_and_answered_each_time(played, node):
    given = []
    node.on_order = given.append
    played.welcome()
    for _ in range(3):
        played.say(Order("arm", 5))
    until(lambda: given, "the order")
    node.order_done(5, True, "arm")
    assert played.hear(OrderDone) == OrderDone(5, True, "arm")
    played.say(Order("arm", 5))
    assert played.hear(OrderDone) == OrderDone(5, True, "arm")
    assert len(given) == 1


def test_a_refusal_is_kept_for_the_service_to_see(played, node):
    played.hear(Hello)
    played.say(Refused("run", "another run is here; start one with --name"))
    assert until(lambda: node.refused, "the refusal").code == "run"


def test_who_takes_no_orders_says_so(played, node):
    played.welcome()
    played.say(Order("arm", 9))
    assert not played.hear(OrderDone).ok


def test_leaving_reports_the_last_state_and_counts(played):
    with zmq.Context() as context:
        with Node("replay", "replay", config(), context, control=played.server.address) as node:
            played.welcome()
            until(lambda: played.telemetry.receive(.1), "a report")
            node.gauge("replay_steps", 42)
        until(lambda: (report := played.telemetry.receive(.1)) and report.message.values.get("replay_steps") == 42,
              "the last report")
        assert until(lambda: (beat := played.hear(Heartbeat)).state == "stopped" and beat, "the last word")


def test_who_is_not_heard_says_why_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("services.node.SILENCE", 0.2)
    new_keys("ann", tmp_path)
    guarded = Security.load(tmp_path / f"{SERVER}.key_secret")
    with zmq.Context() as context, zmq.Context() as ours:
        server = sockets.Server(context, "tcp://127.0.0.1:0", limit=LIMITS["control"], security=guarded)
        with Node("robot", "robot-0", config(), ours, control=server.address):
            until(lambda: "robot-0: " in caplog.text, "a complaint")
            until(lambda: "wants keys" in caplog.text, "the reason")
        server.close()
    assert caplog.text.count("wants keys") == 1
