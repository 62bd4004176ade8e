"""Real processes scraped over HTTP, and a port that somebody else holds."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from coordinated import client, config, coordinator, run_folder, until
from prometheus_client.parser import text_string_to_metric_families
from test_coordinator import status

from services import config as configs
from services import exporter
from services.config import PORTS, ConfigError
from services.exporter import Exporter, Server, metrics_port
from services.metrics import METRICS, PREFIX, Metrics
from services.node import Node
from services.wire.errors import PortInUse, SocketError
from services.wire.ports import free_ports

CARTPOLE = Path(__file__).parents[2] / "configs" / "cartpole.yaml"
HOST = "127.0.0.1"


def scrape(port: int) -> dict[tuple[str, str], float]:
    """(name, value of its own label) -> value, of what a process shows; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
    except OSError:
        return {}
    return {(sample.name, " ".join(value for label, value in sample.labels.items() if label not in ("kind", "name"))):
            sample.value for family in families for sample in family.samples}


def metered(first: int, **network):
    """A run on free ports whose processes show their metrics from `first` on."""
    values = configs.to_mapping(config())
    return configs.from_mapping(values | {"network": {"port": 0, "metrics": first} | network})


def test_a_coordinator_and_a_robot_in_processes_of_their_own_show_how_they_are(tmp_path):
    first = free_ports(HOST, len(PORTS) + 6)
    metrics = first + len(PORTS)
    settings = ["--set", f"network.port={first}", "--set", f"network.metrics={metrics}"]
    with ExitStack() as stack:
        for kind, *options in (["coordinator"], ["replay"], ["robot", "--connect", f"{HOST}:{first}"]):
            command = [sys.executable, "-m", "services.cli", kind, CARTPOLE, *options, "--home", tmp_path / kind]
            process = stack.enter_context(subprocess.Popen([*command, *settings], stderr=subprocess.DEVNULL))
            stack.callback(process.send_signal, signal.SIGTERM)
        until(lambda: scrape(metrics).get((PREFIX + "coordinator_members", "alive")) == 2, "both have come")
        assert scrape(metrics)[PREFIX + "state", "running"] == 1
        until(lambda: scrape(metrics + 1).get((PREFIX + "replay_inserted_steps", ""), 0) > 3, "steps in the replay")
        until(lambda: scrape(metrics + 5).get((PREFIX + "robot_steps_total", ""), 0) > 3, "steps of robot 0")
        shown = scrape(metrics + 5)
        process.send_signal(signal.SIGTERM)
        process.wait()
        until(lambda: sum(value for (name, _), value in scrape(metrics).items() if "coordinator_members" in name) == 1,
              "the robot has left in order, and is not missed")
    assert shown[PREFIX + "state", "armed"] == 1 and shown[PREFIX + "state", "fault"] == 0
    assert shown[PREFIX + "robot_control_period_seconds_bucket", "+Inf"] > 3
    ours = {re.sub("_(bucket|count|sum|created)$", "", name) for name, _ in shown}
    known = {PREFIX + re.sub("_sum$", "", name) for name in METRICS}
    assert {name for name in ours if not name.startswith(PREFIX + "process_")} <= known


def test_a_port_that_is_taken_is_told_stops_nobody_and_is_had_once_it_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "AGAIN", .02)
    with coordinator(config(), run_folder(tmp_path)) as here, zmq.Context() as context, \
            client(here.addresses["control"]) as operator, socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        def seen():
            return next((service for service in status(operator).services if service.name == "policy"), None)

        with Node("policy", "policy", metered(port - 2), context, control=here.addresses["control"]) as node:
            node.state = "running"
            detail = until(lambda: (found := seen()) and found.detail, "the state's detail")
            assert f"{HOST}:{port}: another process holds this port" in detail and "network.metrics" in detail
            node.count("policy_requests_total", 7)
            until(lambda: seen().alive == "alive" and seen().state == "running", "it runs all the same")
            taken.close()
            until(lambda: scrape(port).get((PREFIX + "policy_requests_total", "")) == 7, "the page")
            until(lambda: not seen().detail, "nothing more to tell")
        assert not scrape(port), "closed with its node"


def test_a_robot_that_waits_to_be_armed_does_not_give_metrics_as_a_reason_against_it(tmp_path):
    with coordinator(config(), run_folder(tmp_path)) as here, zmq.Context() as context, \
            socket.create_server((HOST, 0)) as taken:
        orders = []
        node = Node("robot", "robot-0", metered(taken.getsockname()[1] - 5), context, control=here.addresses["control"])
        node.on_order, node.state = orders.append, "disarmed"
        with node:
            until(lambda: orders, "the order to arm")
        assert orders[0].order == "arm"


@pytest.mark.parametrize(("host", "port", "error", "told"), [
    ("192.0.2.1", 0, SocketError, "network.host"), (HOST, 70000, SocketError, "network.metrics")])
def test_a_place_that_cannot_be_had_is_an_error_that_names_the_setting(host, port, error, told):
    with pytest.raises(error, match=told):
        Server(Metrics("replay", "replay"), host, port)


def test_two_processes_cannot_share_a_port():
    first = Server(Metrics("replay", "replay"), HOST, 0)
    try:
        with pytest.raises(PortInUse):
            Server(Metrics("policy", "policy"), HOST, first.port)
    finally:
        first.close()


def test_ports_are_consecutive_and_off_by_default():
    on = metered(9550)
    names = ["coordinator", "replay", "policy", "learner", "supervisor"]
    assert [metrics_port(on, name, name) for name in names] == [9550, 9551, 9552, 9553, 9554]
    assert [metrics_port(on, "robot", name) for name in ("unitree_a1-0", "unitree_a1-12")] == [9555, 9567]
    assert metrics_port(config(), "coordinator", "coordinator") == 0 == metrics_port(config(), "robot", "toy")


def test_metrics_are_shown_to_this_machine_alone_unless_the_host_says_otherwise():
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        shown = Exporter(Metrics("coordinator", "coordinator"), metered(port, host=host), "coordinator", "coordinator")
        shown.start()
        try:
            until(lambda: scrape(port), "the page")
            listening = Path("/proc/net/tcp").read_text().split()
            assert f"{'0100007F' if host == HOST else '00000000'}:{port:04X}" in listening
        finally:
            shown.close()


def test_ports_of_metrics_and_of_the_run_must_not_mix():
    for metrics, port in ((5550, 5550), (5555, 5550), (5481, 5550), (65500, 5550)):
        with pytest.raises(ConfigError, match="network.metrics"):
            metered(metrics, port=port)
    assert metered(5556, port=5550).network.metrics == 5556
