"""An operator's commands against a real coordinator, from another terminal of the same machine."""

from __future__ import annotations

import sys
import threading

import pytest
from coordinated import coordinator
from coordinated import run_folder as folder_of

from robots.body_layout import STOPS
from robots.driver import Stop
from robots.shared_memory import Region
from services import cli, run_folder
from services import config as configs
from services.console.operator import Operator, OperatorError, control_address
from services.coordinator.service import CoordinatorService
from services.wire.security import new_keys


@pytest.fixture
def running(tmp_path):
    """The home of a run that has a coordinator and no robots."""
    config = configs.from_mapping({"name": "demo", "robot": {"driver": "gym", "task": "env"}, "network": {"port": 0}})
    stop = threading.Event()
    with run_folder.claim(tmp_path, config) as folder:
        service = CoordinatorService(config, folder)
        thread = threading.Thread(target=service.run, args=(stop,))
        thread.start()
        assert service.ready.wait(10)
        run_folder.announce(folder, service.addresses)
        yield tmp_path
        stop.set()
        thread.join()


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """Where bodies are looked for: not where those of this computer's real robots are, which an e-stop would stop."""
    path = tmp_path / "memory"
    path.mkdir()
    monkeypatch.setattr("robots.estop.folder", lambda: path)
    return path


def _daydreamer(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["daydreamer", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


def test_status_finds_the_run_and_shows_it(running, monkeypatch, capsys):
    assert _daydreamer(monkeypatch, "status", "--home", running) == 0
    assert "demo" in capsys.readouterr().out
    assert _daydreamer(monkeypatch, "status", "demo", "--plain", "--home", running) == 0
    assert " demo | steps 0 | " in capsys.readouterr().out


def test_status_of_a_coordinator_elsewhere_needs_only_its_address(running, monkeypatch, capsys):
    address = run_folder.running(running)[1].addresses["control"].removeprefix("tcp://")
    assert _daydreamer(monkeypatch, "status", "--plain", "--connect", address) == 0
    assert " demo | " in capsys.readouterr().out


@pytest.mark.parametrize(("command", "told"), [
    (["pause", "a1-7"], "a1-7: no such robot"),
    (["clear-fault", "--token", "", "a1-7"], "a1-7: no such robot"),
    (["estop"], "no robots in this run yet"),
])
def test_an_order_that_reaches_nobody_is_an_error_that_says_so(running, monkeypatch, capsys, command, told):
    assert _daydreamer(monkeypatch, *command, "--home", running) == 2
    assert told in capsys.readouterr().err


def test_an_emergency_stop_reaches_the_bodies_of_this_computer_without_any_run(tmp_path, memory, monkeypatch, capsys):
    regions = [Region(memory / f"runs-walk-{name}-0123456789ab.body", {}, create=True) for name in ("a1-0", "a1-1")]
    told = lambda: [int(region.words[STOPS + Stop.ESTOP]) > 0 for region in regions]  # noqa: E731
    assert _daydreamer(monkeypatch, "estop", "a1-1", "--home", tmp_path) == 0
    assert told() == [False, True]
    assert _daydreamer(monkeypatch, "estop", "--home", tmp_path) == 0
    assert told() == [True, True]
    assert "a1-0: stopped directly" in capsys.readouterr().out


def test_a_run_that_is_starting_says_so(tmp_path, monkeypatch, capsys):
    config = configs.from_mapping({"name": "demo", "robot": {"driver": "gym", "task": "env"}})
    with run_folder.claim(tmp_path, config) as folder:
        run_folder.announce(folder, {})
        assert _daydreamer(monkeypatch, "status", "--home", tmp_path) == 2
    assert "is starting; ask again in a moment" in capsys.readouterr().err


def test_a_coordinator_that_does_not_answer_is_told_with_its_address():
    with (Operator("tcp://127.0.0.1:9") as operator,
          pytest.raises(OperatorError, match=r"tcp://127.0.0.1:9: .* running")):
        operator.status(patience=0.1)


def test_a_coordinator_that_wants_keys_says_so(tmp_path):
    own, stranger = new_keys("server", tmp_path / "here"), new_keys("ann", tmp_path / "elsewhere")
    config = configs.from_mapping({"name": "demo", "robot": {"driver": "gym", "task": "env"},
                                   "network": {"port": 0, "keys": str(own)}})
    (tmp_path / "elsewhere" / "server.key").write_bytes((tmp_path / "here" / "server.key").read_bytes())
    with coordinator(config, folder_of(tmp_path)) as service:
        control = service.addresses["control"]
        for keys, told in (("", "wants keys"), (str(stranger), r"keys \(ann\) are not allowed")):
            with Operator(control, keys) as operator, pytest.raises(OperatorError, match=told):
                operator.status()
        with Operator(control, str(new_keys("ann", tmp_path / "here"))) as operator:
            assert operator.status().run == "demo"


@pytest.mark.parametrize(("given", "address"), [
    ("desk", "tcp://desk:5550"), ("desk:7000", "tcp://desk:7000"), ("tcp://10.0.0.2:7000", "tcp://10.0.0.2:7000")])
def test_a_coordinator_is_named_by_host_and_port_or_host_alone(given, address):
    assert control_address(given) == address
