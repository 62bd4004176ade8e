"""The spool between a robot and a replay: real files, real sockets, disks that fill up."""

import itertools
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import zmq
from coordinated import until

from daydreamer.replay.chunk import Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import DiskFull
from services.crew import Crew
from services.metrics import Metrics
from services.robot.cutter import SECONDS, STEPS, Cutter
from services.robot.spool import QUEUE, Spool
from services.wire import sockets
from services.wire.delivery import Append, Receiver
from services.wire.messages import LIMITS, ChunkRefused, ChunkSent, OpenStream

SCHEMA = Schema.of({"is_first": ("|b1", ()), "joints": ("<f4", (3,))})
OLD, NEW = b"o" * 16, b"n" * 16


def step(i):
    return {"is_first": np.bool_(i == 0), "joints": np.full(3, i, np.float32)}


class Replay:
    """Takes chunks into memory; `refuses` answers every chunk with that code."""

    def __init__(self):
        self.context = zmq.Context()
        self.server = sockets.Server(self.context, "tcp://127.0.0.1:0", limit=LIMITS["experience"])
        self.address, self.refuses = self.server.address, ""
        self.receiver, self.chunks, self.opened = Receiver({}), [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.over.is_set():
            if (received := self.server.receive(.02)) is None:
                continue
            message = received.message
            if isinstance(message, OpenStream):
                self.opened.append(message.stream)
            if self.refuses and isinstance(message, ChunkSent):
                refusal = ChunkRefused(message.stream, message.sequence, 0, self.refuses, "not like this")
                self.server.send(received.peer, refusal)
                continue
            effects = self.receiver.on_message(received.peer, message)
            for effect in effects:
                if isinstance(effect, Append):
                    chunk = effect.chunk
                    self.chunks.append((chunk.stream, chunk.first_step, np.array(chunk.arrays["joints"][:, 0])))
                else:
                    self.server.send(effect.peer, effect.message)
            durable = {s: sum(c[0] == s for c in self.chunks) for s in (OLD, NEW)}
            for reply in self.receiver.synced(durable):
                self.server.send(reply.peer, reply.message)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.server.close()
        self.context.term()

    def values(self, stream):
        return [int(v) for s, _, joints in self.chunks for v in joints if s == stream]


class Line:
    """What a Link is, to one fixed address; "" for a replay that nobody knows yet."""

    def __init__(self, context, address=""):
        self._client = sockets.Client(context, address, limit=LIMITS["experience"]) if address else None

    def client(self):
        return self._client

    def send(self, message):
        return self._client is not None and self._client.send(message)

    def close(self):
        if self._client:
            self._client.close()


@contextmanager
def spool(folder, address="", limit=8 << 20):
    with zmq.Context() as context, Spool(folder, SCHEMA, "robot-0", Metrics("robot", "robot-0"), Line(context, address),
                                         limit=limit) as opened, Crew(threading.Event()) as crew:
        crew.start("spool", lambda: opened.work(crew))
        yield opened


def test_chunks_are_cut_at_64_steps_at_one_second_and_at_the_end_of_a_stream():
    cutter = Cutter(SCHEMA)
    cut = [chunk for i in range(STEPS + 10) for chunk in cutter.add(OLD, step(i), now=0.0)]
    assert [len(chunk) for chunk in cut] == [STEPS] and cutter.due(SECONDS / 2) == []
    [second] = cutter.due(SECONDS)
    assert (second.sequence, second.first_step, len(second)) == (1, STEPS, 10)
    cutter.add(OLD, step(74), now=2.0)
    [third] = cutter.add(NEW, step(0), now=2.1)
    assert (third.stream, third.sequence, third.first_step) == (OLD, 2, STEPS + 10)
    [fourth] = cutter.flush()
    assert (fourth.stream, fourth.sequence, fourth.first_step) == (NEW, 0, 0)


def test_what_an_earlier_boot_left_is_delivered_first_and_nothing_twice(tmp_path):
    with spool(tmp_path) as early:
        for i in range(100):
            early.put(OLD, step(i))
        assert not early.finish(.3)  # nobody is there to acknowledge
    with Replay() as replay, spool(tmp_path, replay.address) as late:
        for i in range(70):
            late.put(NEW, step(i))
        assert late.finish(10)
        assert replay.opened[:2] == [OLD, NEW]
        assert replay.values(OLD) == list(range(100)) and replay.values(NEW) == list(range(70))


def test_acknowledged_segments_leave_the_disk(tmp_path):
    with Replay() as replay, spool(tmp_path, replay.address, limit=64 << 10) as small:  # segments of 8 KiB
        for i in range(2000):
            until(lambda: small.put(NEW, step(i)), "room")
        assert small.finish(10)
    assert replay.values(NEW) == list(range(2000))
    assert len(list(tmp_path.glob("*.chunks"))) <= 2


def test_a_spool_that_nobody_empties_says_so_before_it_is_over_its_limit_and_goes_on_when_emptied(tmp_path):
    with spool(tmp_path, limit=32 << 10) as lonely:
        written, deadline = 0, time.monotonic() + 10
        while "spool_mib" not in lonely.trouble:
            assert time.monotonic() < deadline
            written += lonely.put(NEW, step(written))
            time.sleep(.0002)
        lonely.finish(.3)
    with Replay() as replay, spool(tmp_path, replay.address, limit=32 << 10) as helped:
        until(lambda: not helped.trouble, "room again")
    assert replay.values(NEW)[-1] == written - 1 and len(replay.values(NEW)) == written


def test_a_full_disk_holds_the_robot_and_loses_nothing(tmp_path, monkeypatch):
    append, full = ChunkLog.append, threading.Event()

    def sometimes(self, chunk):
        if full.is_set():
            raise DiskFull(f"{self.folder}: no space left")
        return append(self, chunk)

    monkeypatch.setattr(ChunkLog, "append", sometimes)
    with Replay() as replay, spool(tmp_path, replay.address) as mine:
        full.set()
        for i in range(150):
            mine.put(NEW, step(i))
        assert "no space left" in until(lambda: mine.trouble, "trouble")
        full.clear()
        until(lambda: not mine.trouble, "room again")
        assert mine.finish(10)
    assert replay.values(NEW) == list(range(150))


def test_a_sync_that_fails_undoes_and_writes_again(tmp_path, monkeypatch):
    sync, failures = ChunkLog._sync, [2]

    def twice(self):
        if self._unsynced and failures[0]:
            failures[0] -= 1
            self._undo_unsynced()
            raise DiskFull("no space left")
        return sync(self)

    monkeypatch.setattr(ChunkLog, "_sync", twice)
    with Replay() as replay, spool(tmp_path, replay.address) as mine:
        for i in range(70):
            mine.put(NEW, step(i))
        assert mine.finish(10)
    assert replay.values(NEW) == list(range(70))


def test_a_replay_that_refuses_holds_the_robot_and_says_why(tmp_path):
    with Replay() as replay, spool(tmp_path, replay.address) as mine:
        replay.refuses = "schema"
        for i in range(70):
            mine.put(NEW, step(i))
        assert "not like this" in until(lambda: mine.trouble, "trouble")
        replay.refuses = ""
        mine._reopen = 0.0  # an operator's patience, shortened
        until(lambda: not mine.trouble, "an end of it")
        assert mine.finish(10)
    assert replay.values(NEW) == list(range(70))


def test_more_steps_than_the_disk_takes_are_refused_and_announced(tmp_path, monkeypatch):
    busy, free = threading.Event(), threading.Event()
    monkeypatch.setattr(ChunkLog, "sync", lambda self: busy.set() or free.wait(30) and [])
    with spool(tmp_path) as slow:
        for i in range(STEPS):  # one chunk, with which the disk is never done
            slow.put(NEW, step(i))
        assert busy.wait(10)
        taken = itertools.takewhile(bool, (slow.put(NEW, step(i)) for i in itertools.count(STEPS)))
        assert sum(taken) <= QUEUE and slow.trouble == "the spool does not keep up"
        free.set()


def test_a_spool_of_another_schema_is_not_touched(tmp_path):
    from daydreamer.replay.chunk import SchemaError
    with spool(tmp_path) as mine:
        mine.put(NEW, step(0))
        mine.finish(.2)
    with zmq.Context() as context, pytest.raises(SchemaError, match="joints"):
        with Spool(tmp_path, Schema.of({"is_first": ("|b1", ()), "joints": ("<f4", (4,))}), "robot-0",
                   Metrics("robot", "robot-0"), Line(context), limit=1 << 20):
            pass
