"""The replay over real sockets, and killed: what it acknowledged is on disk, what it refuses changes nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from learning_bench import (
    PATIENCE,
    Switchboard,
    ask,
    chunk,
    client,
    run_folder,
    running,
    schema,
    toy_config,
    wait_until,
)

from daydreamer.replay import files
from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import LogLocked
from services.replay.service import ReplayService
from services.wire import sockets
from services.wire.messages import (
    ChunkRefused,
    ChunkSent,
    ChunkStored,
    OpenStream,
    Refused,
    SampleReply,
    SampleRequest,
    SampleWait,
    StreamOpened,
)

STREAM = b"s" * 16
CONFIG = toy_config()
SCHEMA = schema(CONFIG)


@contextmanager
def replay(path: Path, **changes):
    """A running replay in `path`, and a client of its experience port."""
    with (Switchboard() as board,
          running(ReplayService(toy_config(**changes), run_folder(path), control=board.control)),
          client(board.address("experience"), "experience") as robot):
        yield robot, board


def sent(c: Chunk) -> ChunkSent:
    return ChunkSent(c.stream, c.sequence, c.first_step, c.columns)


def open_stream(robot: sockets.Client, stream: bytes = STREAM, wanted: Schema = SCHEMA) -> object:
    return ask(robot, OpenStream("toy-0", stream, wanted.to_json()))


def deliver(robot: sockets.Client, first: int, last: int, stream: bytes = STREAM) -> None:
    """Send chunks `first` to `last` and wait until all are acknowledged."""
    for sequence in range(first, last + 1):
        assert robot.send(sent(chunk(SCHEMA, stream, sequence)))
    while (stored := robot.receive(PATIENCE)).durable <= last:
        assert isinstance(stored, ChunkStored)


def stored(path: Path) -> list[tuple[bytes, int]]:
    """What is in the log, read after the replay ended."""
    with ChunkLog.open(path / "replay", SCHEMA) as log:
        for entry in log.entries:
            expected = chunk(SCHEMA, entry.stream, entry.sequence)
            read = log.read(entry)
            assert all(np.array_equal(read.columns[k], expected.columns[k]) for k in expected.columns)
        return [(entry.stream, entry.sequence) for entry in log.entries]


def sample(number: int = 0, replayed: int = 0, **changes) -> SampleRequest:
    return SampleRequest(**{"number": number, "batch": 4, "length": 8, "burn_in": 2, "replayed": replayed,
                            "columns": ["imu", "reward"], **changes})


def test_what_is_acknowledged_is_in_the_log_once_and_in_order(tmp_path):
    with replay(tmp_path) as (robot, _):
        assert open_stream(robot) == StreamOpened(STREAM, 0)
        deliver(robot, 0, 5)
        robot.send(sent(chunk(SCHEMA, STREAM, 3)))
        assert robot.receive(PATIENCE) == ChunkStored(STREAM, 6), "a duplicate is acknowledged again, and dropped"
    assert stored(tmp_path) == [(STREAM, n) for n in range(6)]


def test_a_gap_is_refused_and_says_what_is_wanted(tmp_path):
    with replay(tmp_path) as (robot, _):
        open_stream(robot)
        refused = ask(robot, sent(chunk(SCHEMA, STREAM, 2)))
        assert isinstance(refused, ChunkRefused) and (refused.code, refused.expected) == ("gap", 0)


def test_a_restarted_replay_goes_on_where_it_stood(tmp_path):
    with replay(tmp_path) as (robot, _):
        open_stream(robot)
        deliver(robot, 0, 2)
    with replay(tmp_path) as (robot, _):
        assert ask(robot, sent(chunk(SCHEMA, STREAM, 3))).code == "unknown_stream"
        assert open_stream(robot) == StreamOpened(STREAM, 3)
        deliver(robot, 3, 4)
    assert stored(tmp_path) == [(STREAM, n) for n in range(5)]


def test_a_chunk_with_other_columns_is_refused_and_the_stream_can_go_on(tmp_path):
    with replay(tmp_path) as (robot, _):
        open_stream(robot)
        good = chunk(SCHEMA, STREAM, 0)
        bad = {**good.columns, "imu": good.columns["imu"][:, :1].copy()}
        refused = ask(robot, ChunkSent(STREAM, 0, 0, bad))
        assert isinstance(refused, ChunkRefused) and refused.code == "schema" and "column imu" in refused.text
        deliver(robot, 0, 0)
    assert stored(tmp_path) == [(STREAM, 0)]


def test_a_robot_with_other_columns_is_refused_by_column_with_the_way_out(tmp_path):
    with replay(tmp_path) as (robot, _):
        open_stream(robot)
        deliver(robot, 0, 0)
        other = schema(toy_config(robot={"options": {"joints": 7}}))
        refused = open_stream(robot, b"t" * 16, other)
        assert isinstance(refused, Refused) and refused.code == "schema"
        assert "column joints: the log holds <f4 [3], wanted is <f4 [7]" in refused.text and "--name" in refused.text
        deliver(robot, 1, 1)


def test_the_columns_stay_fixed_over_a_restart(tmp_path):
    with replay(tmp_path) as (robot, _):
        open_stream(robot)
        deliver(robot, 0, 0)
    with replay(tmp_path) as (robot, _):
        assert open_stream(robot, b"t" * 16, schema(toy_config(robot={"options": {"joints": 7}}))).code == "schema"


def test_a_schema_that_is_none_is_refused(tmp_path):
    with replay(tmp_path) as (robot, _):
        assert ask(robot, OpenStream("toy-0", STREAM, "no json")).code == "schema"


def test_samples_come_after_the_prefill_and_no_faster_than_the_train_ratio(tmp_path):
    with replay(tmp_path) as (robot, board), client(board.address("samples"), "samples") as learner:
        wait = ask(learner, sample())
        assert isinstance(wait, SampleWait) and (wait.why, wait.inserted) == ("prefill", 0)
        open_stream(robot)
        deliver(robot, 0, 0)
        assert ask(learner, sample()).why == "prefill"
        deliver(robot, 1, 3)
        batch = ask(learner, sample(number=7))
        assert isinstance(batch, SampleReply) and (batch.number, batch.inserted) == (7, 64)
        assert {k: v.shape for k, v in batch.arrays.items()} == {"imu": (4, 10, 2), "reward": (4, 10),
                                                                 "prev_action": (4, 10, 2)}
        assert ask(learner, sample(replayed=64 * 8 + 64)).why == "ratio"


@pytest.mark.parametrize("changes, text", [
    ({"columns": ["camera"]}, "camera: not in the log"),
    ({"batch": 0}, "at least 1"),
    ({"batch": 2**40, "length": 2**20}, "lower replay.batch"),
])
def test_a_request_for_what_cannot_be_is_refused_before_it_costs_anything(tmp_path, changes, text):
    with replay(tmp_path) as (robot, board), client(board.address("samples"), "samples") as learner:
        open_stream(robot)
        refused = ask(learner, sample(**changes))
        assert isinstance(refused, Refused) and text in refused.text


def test_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    with replay(tmp_path) as (robot, board):
        open_stream(robot)
        deliver(robot, 0, 1)
        with monkeypatch.context() as full:
            full.setattr(files, "write_at", lambda *_: raise_(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
            refused = ask(robot, sent(chunk(SCHEMA, STREAM, 2)))
            assert isinstance(refused, ChunkRefused) and refused.code == "disk_full"
            assert "free some space" in refused.text
            wait_until(lambda: board.states.get("replay", "").startswith("fault"),
                       "the replay showed that it cannot store")
        assert open_stream(robot) == StreamOpened(STREAM, 2)
        deliver(robot, 2, 3)
        wait_until(lambda: board.states["replay"] == "running", "the replay showed that it can store again")
    assert stored(tmp_path) == [(STREAM, n) for n in range(4)]


def test_a_sync_that_fails_acknowledges_nothing_and_what_it_undid_can_be_sent_again(tmp_path, monkeypatch):
    with replay(tmp_path) as (robot, board):
        open_stream(robot)
        deliver(robot, 0, 1)
        with monkeypatch.context() as full:
            full.setattr(os, "fdatasync", lambda _: raise_(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
            robot.send(sent(chunk(SCHEMA, STREAM, 2)))
            wait_until(lambda: board.states.get("replay", "").startswith("fault"), "the sync failed")
        assert open_stream(robot) == StreamOpened(STREAM, 2)
        deliver(robot, 2, 2)
    assert stored(tmp_path) == [(STREAM, n) for n in range(3)]


def test_two_replays_in_one_folder_do_not_mix(tmp_path):
    with replay(tmp_path) as (robot, board):
        open_stream(robot)
        deliver(robot, 0, 0)
        second = ReplayService(CONFIG, run_folder(tmp_path), control=board.control)
        with pytest.raises(LogLocked, match=str(os.getpid())), running(second) as crew:
            wait_until(lambda: crew.ended, "the second gave up")


def test_what_does_not_belong_on_a_port_is_refused_by_name(tmp_path):
    with replay(tmp_path) as (robot, board), client(board.address("samples"), "samples") as learner:
        assert "OpenStream" in ask(robot, sample()).text
        assert "SampleRequest" in ask(learner, sent(chunk(SCHEMA, STREAM, 0))).text


REPLAY_PROCESS = """
import json, sys, threading
from pathlib import Path
from services import config
from services.replay.service import ReplayService
from services.run_folder import RunFolder
ReplayService(config.from_mapping(json.loads(sys.argv[1])), RunFolder(Path(sys.argv[2])), control=sys.argv[3]).run(
    threading.Event())
"""


def start_process(board: Switchboard, path: Path) -> subprocess.Popen:
    from services.config import to_mapping
    arguments = [json.dumps(to_mapping(CONFIG)), str(path), board.control]
    board.addresses.pop("experience", None)
    return subprocess.Popen([sys.executable, "-c", REPLAY_PROCESS, *arguments])


def test_a_killed_replay_loses_no_acknowledged_chunk(tmp_path):
    run_folder(tmp_path)
    acknowledged = 0
    with Switchboard() as board:
        for kill in range(2):
            process = start_process(board, tmp_path)
            try:
                with client(board.address("experience"), "experience") as robot:
                    opened = open_stream(robot)
                    assert opened.durable >= acknowledged
                    for sequence in range(opened.durable, opened.durable + 30):
                        robot.send(sent(chunk(SCHEMA, STREAM, sequence)))
                    while acknowledged < opened.durable + 3 + kill:
                        acknowledged = robot.receive(PATIENCE).durable
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
    found = stored(tmp_path)
    assert found == [(STREAM, n) for n in range(len(found))] and len(found) >= acknowledged > 4


def raise_(error: Exception) -> None:
    raise error
