"""With keys: only who is on the list gets in, as the name of its key; everybody else learns why not."""

import shutil
import stat
import subprocess
import sys
import time

import pytest
import zmq

from services.wire import sockets
from services.wire.codec import encode
from services.wire.errors import SecurityError, Unreachable
from services.wire.messages import NoNewWeights
from services.wire.security import Security, may_speak_as, new_keys

SOON = 5.0


@pytest.fixture
def keys(tmp_path):
    new_keys("robot-1", tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def server(keys):
    with zmq.Context() as context:
        made = sockets.Server(context, "tcp://127.0.0.1:0", security=Security.load(keys / "server.key_secret"))
        yield made
        made.close()


@pytest.fixture
def connect(server):
    """A client with the keys of a file, or without any."""
    with zmq.Context() as context:
        made = []

        def make(keys_file=None):
            security = Security.load(keys_file) if keys_file else None
            made.append(sockets.Client(context, server.address, security=security))
            return made[-1]

        yield make
        for client in made:
            client.close()


def assert_unheard(client, server, cause):
    with pytest.raises(Unreachable, match=cause):
        client.wait_connected(1.0)
    assert not client.send(NoNewWeights(1)) and server.receive(0.05) is None


def test_a_client_on_the_list_speaks_under_the_name_of_its_key(server, connect, keys):
    client = connect(keys / "robot-1.key_secret")
    client.wait_connected(SOON)
    client.send(NoNewWeights(1))
    received = server.receive(SOON)
    assert received.user == "robot-1"
    assert server.send(received.peer, NoNewWeights(2)) and client.receive(SOON) == NoNewWeights(2)


def test_a_client_without_keys_gets_nothing(server, connect):
    assert_unheard(connect(), server, "wants keys")


def test_a_client_that_is_not_on_the_list_gets_nothing_until_it_is(server, connect, keys):
    file = new_keys("robot-2", keys)
    (keys / "allowed/robot-2.key").unlink()
    client = connect(file)
    assert_unheard(client, server, r"our keys \(robot-2\) are not allowed")
    shutil.copy(keys / "robot-2.key", keys / "allowed")
    client.wait_connected(SOON)
    client.send(NoNewWeights(1))
    assert server.receive(SOON).user == "robot-2"


def test_a_client_does_not_talk_to_a_service_with_other_keys(server, connect, keys, tmp_path):
    elsewhere = new_keys("robot-1", tmp_path / "elsewhere")
    assert_unheard(connect(elsewhere), server, "server.key")


def test_a_client_with_keys_does_not_talk_to_a_service_without(keys):
    with zmq.Context() as context:
        server = sockets.Server(context, "tcp://127.0.0.1:0")
        client = sockets.Client(context, server.address, security=Security.load(keys / "robot-1.key_secret"))
        assert_unheard(client, server, "runs without keys")
        client.close()
        server.close()


def test_the_name_a_client_gives_its_socket_means_nothing(server, keys):
    security = Security.load(keys / "robot-1.key_secret")
    with zmq.Context() as context:
        bare = context.socket(zmq.DEALER)
        bare.linger, bare.identity = 0, b"server"
        security.identify(bare)
        bare.connect(server.address)
        bare.send_multipart([bytes(frame) for frame in encode(NoNewWeights(1))])
        assert server.receive(SOON).user == "robot-1"
        bare.close()


def test_nobody_but_the_services_is_called_server(server, connect, keys):
    file = new_keys("robot-2", keys)
    (keys / "allowed/robot-2.key").rename(keys / "allowed/server.key")
    assert_unheard(connect(file), server, "not allowed")


def test_telemetry_carries_the_name_too(keys):
    security = Security.load(keys / "server.key_secret")
    with zmq.Context() as context:
        subscriber = sockets.Subscriber(context, "tcp://127.0.0.1:0", security=security)
        publisher = sockets.Publisher(context, subscriber.address, security=Security.load(keys / "robot-1.key_secret"))
        received, deadline = None, time.monotonic() + SOON
        while received is None and time.monotonic() < deadline:
            publisher.send(NoNewWeights(1))
            received = subscriber.receive(0.02)
        assert received.user == "robot-1"
        publisher.close()
        subscriber.close()


def test_with_keys_any_interface_may_be_bound(keys):
    with zmq.Context() as context:
        sockets.Server(context, "tcp://0.0.0.0:0", security=Security.load(keys / "server.key_secret")).close()


def test_a_service_needs_the_services_keys(keys):
    with zmq.Context() as context, pytest.raises(SecurityError, match="server.key_secret"):
        sockets.Server(context, "tcp://127.0.0.1:0", security=Security.load(keys / "robot-1.key_secret"))


def test_the_services_may_speak_for_everybody_and_a_robot_only_for_itself():
    assert may_speak_as("server", "robot-1") and may_speak_as("robot-1", "robot-1") and may_speak_as("", "robot-1")
    assert not may_speak_as("robot-2", "robot-1")


def test_secrets_are_for_their_owner_alone(keys):
    for name in ("server", "robot-1"):
        assert stat.S_IMODE((keys / f"{name}.key_secret").stat().st_mode) == 0o600
        assert "secret" not in (keys / f"{name}.key").read_text()
    (keys / "robot-1.key_secret").chmod(0o644)
    with pytest.raises(SecurityError, match="chmod 600"):
        Security.load(keys / "robot-1.key_secret")


def test_keys_are_never_overwritten(keys):
    with pytest.raises(SecurityError, match="robot-1.key_secret: exists"):
        new_keys("robot-1", keys)


@pytest.mark.parametrize("name", ["", "../robot", "a b", "-x", "x" * 65])
def test_a_name_that_cannot_be_a_file_is_refused(tmp_path, name):
    with pytest.raises(SecurityError, match="letters"):
        new_keys(name, tmp_path)


@pytest.mark.parametrize("text", ["", "public-key = \"short\"", "public-key = \"" + "~" * 40 + "\"", None])
def test_a_file_that_is_no_key_is_named(keys, text):
    file = keys / "robot-1.key_secret"
    file.write_text(text) if text is not None else file.unlink()
    with pytest.raises(SecurityError, match="robot-1.key_secret: .*keys new"):
        Security.load(file)


def test_a_torn_file_in_the_list_does_not_lock_the_others_out(server, connect, keys):
    (keys / "allowed/torn.key").write_text("public-k")
    connect(keys / "robot-1.key_secret").wait_connected(SOON)


def test_the_wire_needs_no_torch_and_no_ray():
    code = ("import sys, services.wire.sockets, services.wire.delivery, services.wire.liveness; "
            "print({'torch', 'ray', 'mujoco'} & set(sys.modules))")
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
