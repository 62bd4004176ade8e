"""Experience arrives exactly once, whatever the network and the processes do."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from lossy_world import World

from services.wire.delivery import Append, Open, Receiver, Reply, Send, Sender, Stored, Stuck
from services.wire.messages import ChunkRefused, ChunkSent, ChunkStored, OpenStream, Refused, StreamOpened

A, B = b"a" * 16, b"b" * 16
PEER = b"peer"


def chunk(sequence: int, stream: bytes = A) -> ChunkSent:
    return ChunkSent(stream, sequence, sequence, {"x": np.zeros(1)})


def sending(count: int, **options) -> Sender:
    """A sender of stream A with its window full."""
    sender = Sender(**options)
    for sequence in range(count):
        sender.announce(A, sequence, 10, 0.0)
    sender.on_message(StreamOpened(A, 0), 0.0)
    return sender


@pytest.mark.parametrize("hundred", range(10))
def test_nothing_is_lost_or_doubled_in_a_thousand_bad_networks(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            live_through_a_bad_day(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def live_through_a_bad_day(seed: int) -> None:
    world = World(seed, drop=(seed % 4) * 0.15, double=(seed % 3) * 0.2, delay=(0.02, 0.3, 2.0)[seed % 3])
    faults = [world.reconnect, world.boot_robot, world.boot_replay, lambda: setattr(world, "parted", not world.parted),
              lambda: setattr(world, "room", not world.room)]
    for _ in range(12):
        for _ in range(world.rng.randrange(4)):
            world.record()
        world.run(world.rng.random())
        if world.rng.random() < 0.4:
            world.rng.choice(faults)()
        world.check()
    world.heal()


@settings(max_examples=30, stateful_step_count=20, derandomize=True,
          suppress_health_check=list(HealthCheck))
class BadDays(RuleBasedStateMachine):
    """Any order of work and faults."""

    def __init__(self):
        super().__init__()
        self.world = World(0)

    @rule(drop=st.floats(0, 0.7), double=st.floats(0, 0.7), delay=st.floats(0, 3), parted=st.booleans(),
          room=st.booleans())
    def weather(self, drop, double, delay, parted, room):
        vars(self.world).update(drop=drop, double=double, delay=delay, parted=parted, room=room)

    @rule(chunks=st.integers(1, 8), seconds=st.floats(0, 3))
    def work(self, chunks, seconds):
        for _ in range(chunks):
            self.world.record()
        self.world.run(seconds)

    @rule(fault=st.sampled_from(["boot_robot", "boot_replay", "reconnect", "sync"]))
    def fault(self, fault):
        getattr(self.world, fault)()

    @invariant()
    def the_promise_holds(self):
        self.world.check()

    def teardown(self):
        self.world.heal()


test_nothing_is_lost_or_doubled_in_any_order_of_faults = BadDays.TestCase


def test_a_quiet_network_carries_every_chunk_once():
    world = World(0)
    for _ in range(50):
        world.record()
        world.run(0.1)
    world.heal(1)
    assert world.chunks_sent == 50 and world.receiver.duplicates == 0


def test_a_long_outage_is_caught_up_within_the_window():
    world = World(0)
    world.parted = True
    for _ in range(500):
        world.record()
    world.run(20)
    assert world.chunks_sent == 0, "nothing is sent before the stream is opened"
    world.heal(30)
    assert world.chunks_sent == 500


def test_a_chunk_is_sent_only_after_the_replay_said_where_it_stands():
    sender = Sender()
    assert sender.announce(A, 0, 10, 0.0) == [Open(A)]
    assert sender.announce(A, 1, 10, 0.0) == []
    assert sender.on_message(StreamOpened(A, 0), 0.1) == [Send(A, 0), Send(A, 1)]
    assert sender.unacknowledged == 2


def test_a_restarted_robot_goes_on_where_the_replay_stands():
    sender = Sender()
    for sequence in (3, 4, 5):
        sender.announce(A, sequence, 10, 0.0)
    assert sender.on_message(StreamOpened(A, 5), 0.1) == [Stored(A, 5), Send(A, 5)]


def test_older_boots_are_delivered_first():
    sender = Sender()
    sender.announce(A, 0, 10, 0.0)
    assert sender.announce(B, 0, 10, 0.0) == []
    sender.on_message(StreamOpened(A, 0), 0.0)
    assert sender.on_message(ChunkStored(A, 1), 0.0) == [Stored(A, 1), Open(B)]


def test_the_window_bounds_chunks_and_bytes_but_lets_one_chunk_through():
    assert [sent.sequence for sent in fill(Sender(window_chunks=3), [1] * 9)] == [0, 1, 2]
    assert [sent.sequence for sent in fill(Sender(window_bytes=25), [10] * 9)] == [0, 1]
    assert [sent.sequence for sent in fill(Sender(window_bytes=25), [100] * 9)] == [0]


def fill(sender: Sender, sizes: list[int]) -> list[Send]:
    for sequence, size in enumerate(sizes):
        sender.announce(A, sequence, size, 0.0)
    return sender.on_message(StreamOpened(A, 0), 0.0)


def test_an_acknowledgement_makes_room_in_the_window():
    sender = sending(4, window_chunks=2)
    assert sender.on_message(ChunkStored(A, 1), 0.0) == [Stored(A, 1), Send(A, 2)]
    assert sender.on_message(ChunkStored(A, 1), 0.0) == [], "an old acknowledgement changes nothing"


def test_silence_is_met_by_asking_less_and_less_often_until_there_is_progress():
    sender, asked = sending(1, patience=1.0), []
    while len(asked) < 5:
        asked.append(sender.wakeup)
        assert sender.poll(sender.wakeup - 1e-3) == []
        assert sender.poll(sender.wakeup) == [Open(A)]
    assert np.diff([0, *asked]).round(6).tolist() == [1, 2, 4, 8, 8]
    assert sender.on_message(StreamOpened(A, 0), 30.0) == [Send(A, 0)]
    assert sender.on_message(ChunkStored(A, 1), 30.0) == [Stored(A, 1)] and sender.wakeup == math.inf
    assert sender.announce(A, 1, 10, 40.0) == [Send(A, 1)] and sender.wakeup == 41.0


def test_a_gap_is_answered_once_by_asking_where_the_replay_stands():
    sender = sending(3)
    assert sender.on_message(ChunkRefused(A, 1, 0, "gap", ""), 0.1) == [Open(A)]
    assert sender.on_message(ChunkRefused(A, 2, 0, "gap", ""), 0.1) == [], "the rest of the window is no news"
    assert sender.on_message(StreamOpened(A, 0), 0.2) == [Send(A, 0), Send(A, 1), Send(A, 2)]
    assert sender.on_message(ChunkRefused(A, 1, 0, "gap", ""), 0.3) == [], "and what did not help is not hurried"
    assert sender.poll(sender.wakeup) == [Open(A)]


def test_a_full_disk_is_waited_for():
    sender = sending(2)
    assert sender.on_message(ChunkRefused(A, 0, 0, "disk_full", "no room"), 0.1) == []
    assert sender.poll(sender.wakeup) == [Open(A)] and not sender.stuck
    assert sender.on_message(StreamOpened(A, 0), 5.0) == [Send(A, 0), Send(A, 1)]


def test_a_chunk_that_is_never_taken_is_reported_and_kept_while_other_streams_go_on():
    sender = sending(2)
    sender.announce(B, 0, 10, 0.0)
    stuck = Stuck(A, 1, "schema", "column x")
    assert sender.on_message(ChunkRefused(A, 1, 1, "schema", "column x"), 0.1) == [stuck, Open(B)]
    assert sender.stuck == {A: stuck} and sender.unacknowledged == 3
    assert sender.reopen(1.0) == [Open(A)] and not sender.stuck


def test_a_stream_that_may_not_be_opened_is_stuck():
    sender = Sender()
    sender.announce(A, 0, 10, 0.0)
    assert sender.on_message(Refused("identity", "not you"), 0.1) == [Stuck(A, 0, "identity", "not you")]
    assert sender.wakeup == math.inf


def test_a_replay_that_lost_acknowledged_chunks_is_reported():
    sender = Sender()
    sender.announce(A, 7, 10, 0.0)
    effects = []
    while not sender.stuck and sender.wakeup < 60:
        effects = sender.on_message(StreamOpened(A, 2), sender.wakeup)
        effects += sender.poll(sender.wakeup) if not sender.stuck else []
    assert sender.stuck[A].code == "lost" and "7" in sender.stuck[A].text


def test_chunks_must_be_announced_one_after_the_other():
    with pytest.raises(ValueError, match="chunk 5 announced, want 1"):
        sending(1).announce(A, 5, 10, 0.0)


def test_foreign_and_late_messages_change_nothing():
    sender = sending(1)
    foreign = StreamOpened(B, 3), ChunkStored(B, 3), ChunkRefused(B, 0, 0, "schema", "")
    for message in (*foreign, ChunkStored(A, 0), chunk(0)):
        assert sender.on_message(message, 0.1) == []
    assert Sender().on_message(Refused("internal", ""), 0.0) == []


def opened(durable: int = 0) -> Receiver:
    receiver = Receiver({A: durable})
    assert receiver.on_message(PEER, OpenStream("robot", A, "[]")) == [Reply(PEER, StreamOpened(A, durable))]
    return receiver


def test_a_chunk_is_acknowledged_only_when_the_log_says_it_is_durable():
    receiver = opened(4)
    (effect,) = receiver.on_message(PEER, chunk(4))
    assert isinstance(effect, Append)
    assert receiver.synced({A: 4}) == []
    assert receiver.synced({A: 5}) == [Reply(PEER, ChunkStored(A, 5))]
    assert receiver.synced({A: 5}) == []


def test_a_duplicate_is_counted_and_acknowledged_again_but_not_appended():
    receiver = opened(4)
    assert receiver.on_message(PEER, chunk(3)) == [Reply(PEER, ChunkStored(A, 4))]
    receiver.on_message(PEER, chunk(4))
    assert receiver.on_message(PEER, chunk(4)) == [], "it is not on disk yet"
    assert receiver.duplicates == 2


def test_a_gap_is_refused_with_the_chunk_that_is_wanted():
    (reply,) = opened(4).on_message(PEER, chunk(6))
    assert reply == Reply(PEER, ChunkRefused(A, 6, 4, "gap", "want chunk 4 first"))


def test_a_chunk_the_log_does_not_take_is_wanted_again():
    receiver = opened()
    (effect,) = receiver.on_message(PEER, chunk(0))
    assert receiver.append_failed(effect, "disk_full", "x") == [Reply(PEER, ChunkRefused(A, 0, 0, "disk_full", "x"))]
    assert receiver.on_message(PEER, chunk(0)) == [effect]


@pytest.mark.parametrize("peer", [PEER, b"stranger"])
def test_only_who_opened_a_stream_may_add_to_it(peer):
    receiver = opened() if peer != PEER else Receiver({})
    (reply,) = receiver.on_message(peer, chunk(0))
    assert reply.peer == peer and reply.message.code == "unknown_stream"


def test_a_reconnected_robot_hears_the_acknowledgement_of_what_it_sent_before():
    receiver = opened()
    receiver.on_message(PEER, chunk(0))
    receiver.on_message(b"later", OpenStream("robot", A, "[]"))
    assert receiver.synced({A: 1}) == [Reply(b"later", ChunkStored(A, 1))]
