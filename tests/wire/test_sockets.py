"""Messages over real sockets: bounded, never blocking, back by themselves; strangers change nothing."""

import socket as posix
import threading
import time

import numpy as np
import pytest
import zmq

from services.wire import sockets
from services.wire.codec import encode
from services.wire.errors import NotLoopback, PortInUse, SocketError, TooLarge, Unreachable
from services.wire.messages import ChunkSent, NoNewWeights

LOOPBACK = "tcp://127.0.0.1:0"
SOON = 5.0  # seconds; what should happen happens much sooner


@pytest.fixture
def context():
    with zmq.Context() as made:
        yield made


@pytest.fixture
def opened(context):
    """Make sockets that are closed at the end, before the context."""
    made = []

    def make(kind, *arguments, **options):
        made.append(kind(context, *arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def pair(opened):
    server = opened(sockets.Server, LOOPBACK, limit=100_000)
    client = opened(sockets.Client, server.address, limit=100_000)
    client.wait_connected(SOON)
    return server, client


@pytest.fixture
def stranger(context, pair):
    """A bare DEALER at the server."""
    bare = context.socket(zmq.DEALER)
    bare.linger = 0
    bare.connect(pair[0].address)
    yield bare
    bare.close()


def until(condition, seconds=SOON):
    """The first truth that `condition` returns."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (value := condition()):
            return value
    raise AssertionError("it did not come about")


def test_a_question_is_answered(pair):
    server, client = pair
    assert client.send(NoNewWeights(1))
    received = server.receive(SOON)
    assert (received.message, received.user) == (NoNewWeights(1), "")
    assert server.send(received.peer, NoNewWeights(2))
    assert client.receive(SOON) == NoNewWeights(2)


@pytest.mark.parametrize("steps", [1, 5000])
def test_arrays_arrive_as_they_were_sent_small_and_large(pair, steps):
    server, client = pair
    arrays = {"x": np.arange(steps * 3, dtype="<f4").reshape(steps, 3), "is_first": np.arange(steps) == 0}
    assert client.send(ChunkSent(bytes(16), 0, 0, arrays))
    got = server.receive(SOON).message.arrays
    assert all(np.array_equal(got[name], arrays[name]) and got[name].flags.aligned for name in arrays)


def test_receive_waits_no_longer_than_asked(pair):
    for side in pair:
        start = time.monotonic()
        assert side.receive(0.05) is None
        assert 0.04 < time.monotonic() - start < 1


def test_two_clients_are_answered_apart(opened, pair):
    server, first = pair
    second = opened(sockets.Client, server.address)
    second.wait_connected(SOON)
    for number, client in enumerate((first, second)):
        client.send(NoNewWeights(number))
    for received in (server.receive(SOON), server.receive(SOON)):
        server.send(received.peer, received.message)
    assert (first.receive(SOON), second.receive(SOON)) == (NoNewWeights(0), NoNewWeights(1))


@pytest.mark.parametrize(("frames", "kind", "code"), [
    ([b""], "Malformed", "malformed"),
    ([b"GET / HTTP/1.1"], "Malformed", "malformed"),
    ([bytes(encode(NoNewWeights(1))[0]).replace(b"\x92\x01", b"\x92\x02")], "WrongVersion", "version"),
    ([bytes(encode(NoNewWeights(1))[0]), b"more"], "Malformed", "malformed"),
    ([bytes(60_000), bytes(60_000)], "TooLarge", "malformed"),  # each is within the limit, both are not
    ([bytes(encode(NoNewWeights(1))[0]), *[b""] * 10_000], "TooLarge", "malformed"),
])
def test_a_frame_that_is_not_ours_is_counted_and_answered_and_changes_nothing(pair, stranger, frames, kind, code):
    server, client = pair
    stranger.send_multipart(frames)
    assert server.receive(0.3) is None
    assert server.refused == {kind: 1}
    assert stranger.poll(SOON * 1000)
    assert code.encode() in stranger.recv_multipart()[0]
    client.send(NoNewWeights(5))
    assert server.receive(SOON).message == NoNewWeights(5)


def test_a_single_frame_beyond_the_limit_is_never_even_received(pair, stranger):
    server, client = pair
    stranger.send(bytes(100_001))
    client.send(NoNewWeights(5))
    assert server.receive(SOON).message == NoNewWeights(5)
    assert server.receive(0.1) is None and not server.refused


def test_bad_frames_do_not_hold_receive_beyond_its_time(pair, stranger):
    server, _ = pair
    for _ in range(20):
        stranger.send(b"rubbish")
    assert sockets.wait([server], SOON)
    assert server.receive(0.0) is None and server.refused == {"Malformed": 1}
    until(lambda: server.receive(0.05) or server.refused == {"Malformed": 20})


def test_a_client_counts_what_it_cannot_read_and_goes_on(opened, context):
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    client = opened(sockets.Client, f"tcp://127.0.0.1:{port}")
    client.wait_connected(SOON)
    client.send(NoNewWeights(1))
    peer, *_ = router.recv_multipart()
    router.send_multipart([peer, b"rubbish"])
    router.send_multipart([peer, *encode(NoNewWeights(1)), *[b""] * 10_000])
    router.send_multipart([peer, *encode(NoNewWeights(2))])
    assert client.receive(SOON) == NoNewWeights(2) and client.refused == {"Malformed": 1, "TooLarge": 1}
    router.close(linger=0)


def test_more_than_the_port_takes_is_refused_where_it_is_sent(pair):
    _, client = pair
    with pytest.raises(TooLarge, match="ChunkSent of .* this port takes 100000"):
        client.send(ChunkSent(bytes(16), 0, 0, {"x": np.zeros(100_000, "u1")}))


def test_sending_never_blocks_where_nobody_reads_or_nobody_is(opened, pair):
    server, client = pair
    nobody = opened(sockets.Client, "tcp://127.0.0.1:1")
    start = time.monotonic()
    assert not nobody.send(NoNewWeights(1))
    assert not server.send(b"unknown", NoNewWeights(1))
    chunk = ChunkSent(bytes(16), 0, 0, {"x": np.zeros(90_000, "u1")})
    assert not all(client.send(chunk) for _ in range(1000)), "queues are bounded"
    assert time.monotonic() - start < 2


def test_a_client_finds_a_service_that_came_back_on_its_port(opened):
    server = opened(sockets.Server, LOOPBACK)
    client = opened(sockets.Client, server.address)
    client.wait_connected(SOON)
    server.close()
    until(lambda: not client.connected)
    assert "nobody listens" in until(lambda: client.trouble)
    again = opened(sockets.Server, server.address)
    client.wait_connected(SOON)
    assert client.trouble == "" and client.send(NoNewWeights(3)) and again.receive(SOON).message == NoNewWeights(3)


def test_a_client_can_be_pointed_elsewhere(opened, pair):
    _, client = pair
    other = opened(sockets.Server, LOOPBACK)
    client.connect_to(other.address)
    client.wait_connected(SOON)
    assert client.send(NoNewWeights(3)) and other.receive(SOON).message == NoNewWeights(3)


def test_a_service_nobody_started_is_named(opened):
    with posix.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = opened(sockets.Client, f"tcp://127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}: .*is the service running"):
        client.wait_connected(0.3)


def test_a_port_in_use_is_named_with_the_way_out(context, pair):
    with pytest.raises(PortInUse, match=rf"{pair[0].address}.*--set network.port"):
        sockets.Server(context, pair[0].address, bind_seconds=0.1)


def test_a_port_that_is_let_go_in_time_is_taken(opened):
    first = opened(sockets.Server, LOOPBACK)
    timer = threading.Timer(0.3, first.close)
    timer.start()
    assert opened(sockets.Server, first.address, bind_seconds=SOON).address == first.address
    timer.join()


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.0.2.1", "robot.example", "[::]"])
def test_without_keys_nothing_but_loopback_is_bound(context, host):
    with pytest.raises(NotLoopback, match="daydreamer keys new"):
        sockets.Server(context, f"tcp://{host}:0")


@pytest.mark.parametrize("address", ["127.0.0.1:5550", "tcp://127.0.0.1", "udp://127.0.0.1:1", "tcp://127.0.0.1:99999"])
def test_what_is_no_address_is_named(context, address):
    for kind in (sockets.Server, sockets.Client):
        with pytest.raises(SocketError, match=f"{address}: not an address"):
            kind(context, address)


def test_telemetry_reaches_the_subscriber_from_every_publisher(opened):
    subscriber = opened(sockets.Subscriber, LOOPBACK)
    publishers = [opened(sockets.Publisher, subscriber.address) for _ in range(2)]
    heard = set()

    def heard_both():
        for number, publisher in enumerate(publishers):
            publisher.send(NoNewWeights(number))
        if (received := subscriber.receive(0.02)) is not None:
            heard.add(received.message.version)
        return heard == {0, 1}

    until(heard_both)


def test_a_publisher_without_a_subscriber_loses_what_it_sends(opened):
    publisher = opened(sockets.Publisher, "tcp://127.0.0.1:1")
    assert not any(publisher.send(NoNewWeights(1)) for _ in range(1000))


def test_last_words_leave_within_the_time_given(pair):
    server, client = pair
    client.send(NoNewWeights(9))
    client.close(linger_s=1.0)
    assert server.receive(SOON).message == NoNewWeights(9)


def test_wait_names_those_that_have_something(opened, pair):
    server, client = pair
    wakeup = sockets.Wakeup()
    assert sockets.wait([server, client, wakeup], 0.01) == []
    client.send(NoNewWeights(1))
    assert sockets.wait([server, client, wakeup], SOON) == [server]
    server.receive()
    timer = threading.Timer(0.05, wakeup.set)
    timer.start()
    assert sockets.wait([server, client, wakeup], SOON) == [wakeup]
    timer.join()
    wakeup.clear()
    assert sockets.wait([server, client, wakeup], 0.01) == []
    wakeup.close()
