import os
import resource
import subprocess
import sys
import threading
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from experience import SCHEMA, A, B, chunk, contents, fill, newest, plain

from daydreamer.replay.chunk import Chunk, Schema, SchemaError
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import DiskFull, LogDropped, LogError, LogLocked, OutOfOrder

SMALL = 1000  # segment bytes: a segment then holds two or three of the chunks below


def test_what_was_appended_is_read_back_after_reopening(tmp_path):
    chunks = [chunk(A, 0), chunk(B, 0), chunk(A, 1), chunk(B, 1, steps=3, first=5), chunk(A, 2)]
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        for c in chunks:
            log.append(c)
        assert contents(log) == plain(chunks)
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        assert contents(log) == plain(chunks)
        assert log.streams == {A: 3, B: 2}
        assert log.inserted == log.steps == 23
        assert not log.corrupt


def test_a_chunk_counts_as_durable_only_once_synced(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        entries = [log.append(chunk(A, 0)), log.append(chunk(A, 1))]
        assert log.streams == {}
        assert log.sync() == entries
        assert log.streams == {A: 2}
        assert log.sync() == []


def test_chunks_that_became_durable_while_a_segment_was_sealed_are_reported_too(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
        fill(log, A, 20)
        assert log.sync() == log.entries
        assert len(list(tmp_path.glob("*.chunks"))) > 3


def test_columns_are_read_only_views_without_copies(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        entry = log.append(chunk(A, 0))
        one, two = log.read(entry).columns["image"], log.read(entry).columns["image"]
        assert np.shares_memory(one, two)
        with pytest.raises(ValueError, match="read-only"):
            one[0] = 0


def test_only_the_next_chunk_of_a_stream_is_taken(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 2)
        for wrong in (0, 1, 3):
            with pytest.raises(OutOfOrder, match=f"got chunk {wrong}, the next one is 2"):
                log.append(chunk(A, wrong))
        assert log.inserted == 10


def test_columns_that_do_not_fit_the_schema_change_nothing(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        bad = chunk(A, 0)
        bad.columns["reward"] = bad.columns["reward"].astype("<f4")
        with pytest.raises(SchemaError, match="reward"):
            log.append(bad)
        fill(log, A, 1)
        assert len(contents(log)) == 1


@pytest.mark.parametrize("first", [-1, 9, 1 << 63])
def test_steps_that_go_back_or_nowhere_are_refused(tmp_path, first):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 2)
        with pytest.raises(SchemaError, match=f"chunk 2 starts at step {first}, the next one is 10"):
            log.append(Chunk(A, 2, first, chunk(A, 2).columns))
        with pytest.raises(SchemaError, match="named by 16 bytes"):
            log.append(chunk(b"short", 0))
        fill(log, A, 1)


def test_a_log_of_another_robot_is_refused_with_the_first_column_that_differs(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 1)
    columns = {c.name: (c.dtype, c.shape) for c in SCHEMA.columns}
    other = Schema.of(columns | {"image": ("|u1", (64, 64, 3)), "zoom": ("<f4", ())})
    with pytest.raises(SchemaError, match=r"column image: the log holds \|u1 \[2, 3\], wanted is \|u1 \[64, 64, 3\]"):
        ChunkLog.open(tmp_path, other)
    ChunkLog.open(tmp_path, SCHEMA).close()


def test_a_log_in_use_is_refused_with_the_process_that_uses_it(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA), pytest.raises(LogLocked, match=f"process {os.getpid()}"):
        ChunkLog.open(tmp_path, SCHEMA)
    ChunkLog.open(tmp_path, SCHEMA).close()


def test_who_is_patient_gets_the_log_of_a_writer_that_lets_go_of_it(tmp_path):
    former = ChunkLog.open(tmp_path, SCHEMA)
    fill(former, A, 1)
    ending = threading.Timer(0.2, former.close)
    ending.start()
    with ChunkLog.open(tmp_path, SCHEMA, patience=30.0) as log:
        assert log.steps == 5
        with pytest.raises(LogLocked):
            ChunkLog.open(tmp_path, SCHEMA, patience=0.05)
    ending.join()


def test_a_dead_process_leaves_no_lock(tmp_path):
    code = ("import os, signal, sys\nfrom experience import SCHEMA\nfrom daydreamer.replay.chunk_log import ChunkLog\n"
            "log = ChunkLog.open(sys.argv[1], SCHEMA)\nos.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=os.path.dirname(__file__), check=False)
    ChunkLog.open(tmp_path, SCHEMA).close()


def test_another_format_version_is_refused_and_named(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 1)
    path = newest(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] += 1  # the version, behind eight bytes of magic; its checksum with it
    end = 20 + int.from_bytes(data[12:16], "little")
    data[16:20] = zlib.crc32(data[:16] + data[20:end]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(LogError, match="00000000.chunks: format version 2, this program reads 1"):
        ChunkLog.open(tmp_path, SCHEMA)


def test_retention_removes_whole_segments_and_keeps_the_newest_steps(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
        fill(log, A, 30)
        log.sync()
        gone = log.entries[0]
        dropped = log.keep_newest(40)
        assert 40 <= log.steps == 150 - dropped < 40 + 3 * 5
        assert [e.sequence for e in log.entries] == list(range(dropped // 5, 30))
        assert log.inserted == 150
        with pytest.raises(LogDropped):
            log.read(gone)
    with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
        assert log.steps == 150 - dropped
        assert log.inserted == 150


def test_views_outlive_retention_and_closing(tmp_path):
    log = ChunkLog.open(tmp_path, SCHEMA, SMALL)
    fill(log, A, 10)
    view = log.read(log.entries[0]).columns["image"]
    log.keep_newest(0)
    log.close()
    assert view.tolist() == chunk(A, 0).columns["image"].tolist()


def test_what_was_acknowledged_is_known_after_its_segments_are_gone(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
        fill(log, B, 3)
        fill(log, A, 30)
        log.sync()
        log.keep_newest(0)
        assert all(entry.stream == A for entry in log.entries)
    for _ in range(2):
        with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
            assert log.streams[B] == 3
            with pytest.raises(OutOfOrder, match="the next one is 3"):
                log.append(chunk(B, 0))


def test_a_spool_drops_only_segments_that_were_acknowledged_in_full(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, SMALL) as log:
        fill(log, A, 12)
        fill(log, B, 12)
        log.sync()
        assert log.drop_before({}) == 0
        log.drop_before({A: 7})
        assert 7 >= min(e.sequence for e in log.entries if e.stream == A) > 0
        assert sum(e.stream == B for e in log.entries) == 12
        log.drop_before({A: 12, B: 12})
        assert len({e.segment for e in log.entries}) == 1


@contextmanager
def room_for(file_bytes):
    """A disk on which no file can grow beyond `file_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_the_log_takes_more_once_there_is_room(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 3)
        size = newest(tmp_path).stat().st_size
        with room_for(size + 100), pytest.raises(DiskFull, match="free some space"):
            log.append(chunk(A, 3))
        assert newest(tmp_path).stat().st_size == size
        assert log.inserted == 15
        fill(log, A, 2)
        assert len(log.sync()) == 5
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        assert contents(log) == plain([chunk(A, i) for i in range(5)])
        assert not log.corrupt


def test_no_room_for_a_new_segment_leaves_no_trace(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        with room_for(10), pytest.raises(DiskFull):
            log.append(chunk(A, 0))
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]
        fill(log, A, 1)


def test_when_the_disk_fails_to_sync_nothing_counts_as_durable_and_all_can_be_appended_again(tmp_path, monkeypatch):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 2)
        log.sync()
        fill(log, A, 2)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(DiskFull):
                log.sync()
        assert log.streams == {A: 2}
        assert log.inserted == log.steps == 10
        fill(log, A, 3)
        log.sync()
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        assert contents(log) == plain([chunk(A, i) for i in range(5)])


def test_a_reader_beside_the_writer_sees_only_whole_chunks(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 20_000) as log:
        wrong, done = [], threading.Event()

        def read():
            while not done.is_set():
                for entry in log.entries[-20:]:
                    try:
                        seen = log.read(entry).columns["action"][:, 0]
                    except LogDropped:
                        continue
                    if seen[0] != entry.first_step + 1:
                        wrong.append(entry)

        reader = threading.Thread(target=read)
        reader.start()
        for sequence in range(1000):
            log.append(chunk(A, sequence))
            if sequence % 50 == 49:
                log.sync()
                log.keep_newest(100)
        done.set()
        reader.join()
        assert not wrong
        assert not log.corrupt
