import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from experience import MEMORY, SCHEMA, A, B, chunk, contents, crashed_copy, fill, newest, plain

from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import LogCorrupt

CHUNKS = [chunk(A, 0), chunk(B, 0), chunk(A, 1), chunk(A, 2), chunk(B, 1)]


@pytest.fixture
def written():
    """A log of CHUNKS, the last two of them never synced, as its writer left it when it died."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder, entries = Path(name), []
        with ChunkLog.open(folder / "log", SCHEMA) as log:
            for number, c in enumerate(CHUNKS):
                entries.append(log.append(c))
                if number < 3:
                    log.sync()
            crashed = crashed_copy(folder / "log", folder / "crashed")
        yield crashed, entries


def test_a_log_cut_at_any_byte_of_its_last_two_chunks_recovers_every_chunk_before(written):
    folder, entries = written
    whole = newest(folder).read_bytes()
    for size in range(entries[3].offset, len(whole) + 1):
        newest(folder).write_bytes(whole[:size])
        with ChunkLog.open(folder, SCHEMA) as log:
            kept = sum(e.payload.stop <= size for e in entries)
            assert kept >= 3
            assert contents(log) == plain(CHUNKS[:kept]), size
            assert not log.corrupt, size
            assert log.streams == {A: 2 + (kept > 3), B: 1 + (kept > 4)}


def test_a_log_cut_anywhere_takes_the_lost_chunks_again(written):
    folder, entries = written
    for size in (entries[3].offset + 1, entries[3].end, entries[4].payload.stop - 1, entries[4].end - 1):
        again = crashed_copy(folder, folder.with_name("again"))
        os.truncate(newest(again), size)
        with ChunkLog.open(again, SCHEMA) as log:
            for c in CHUNKS[len(log.entries):]:
                log.append(c)
        with ChunkLog.open(again, SCHEMA) as log:
            assert contents(log) == plain(CHUNKS)
            assert not log.corrupt


@pytest.mark.parametrize("fill_with", [b"\0", b"\xff", b"D"])
def test_pages_that_never_reached_the_disk_cost_nothing_that_was_synced(written, fill_with):
    folder, entries = written
    whole = newest(folder).read_bytes()
    for start in range(entries[3].offset, len(whole), 64):  # torn at sector-like steps
        for stop in (start + 64, len(whole), len(whole) + 4096):
            newest(folder).write_bytes(whole[:start] + fill_with * (stop - start) + whole[stop:])
            with ChunkLog.open(folder, SCHEMA) as log:
                kept = contents(log)
                assert kept[:3] == plain(CHUNKS[:3])
                assert kept == plain(CHUNKS[:len(kept)])
                assert not log.corrupt


def test_a_flipped_byte_anywhere_is_never_read_as_data(written):
    folder, entries = written
    whole = newest(folder).read_bytes()
    for at in range(0, len(whole), 3):
        newest(folder).write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1:])
        with ChunkLog.open(folder, SCHEMA) as log:
            kept = contents(log)
            assert all(c in plain(CHUNKS) for c in kept)
            if at < entries[1].offset:  # far before the end: what was synced after it stays
                assert kept[-2:] == plain(CHUNKS[-2:])


def test_damage_in_the_middle_is_set_aside_and_what_follows_stays(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 4000) as log:
        fill(log, A, 40)
        log.sync()
        hit = log.entries[2]
    path = tmp_path / f"{hit.segment:08d}.chunks"
    data = bytearray(path.read_bytes())
    data[hit.offset + 5] ^= 1
    path.write_bytes(data)
    with ChunkLog.open(tmp_path, SCHEMA, 4000) as log:
        assert [e.sequence for e in log.entries] == [0, 1, *range(3, 40)]
        assert [(d.segment, d.offset, d.end) for d in log.corrupt] == [(hit.segment, hit.offset, hit.end)]
        assert log.streams == {A: 40}
        assert log.inserted == 200
        log.append(chunk(A, 40))


def test_damaged_contents_are_found_when_they_are_read(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 4000) as log:
        fill(log, A, 40)
    with ChunkLog.open(tmp_path, SCHEMA, 4000) as log:
        hit = log.entries[2]
        path = tmp_path / f"{hit.segment:08d}.chunks"
        with path.open("r+b") as file:
            file.seek(hit.payload.start)
            file.write(b"\x99")
        for _ in range(2):
            with pytest.raises(LogCorrupt, match=f"{path.name}: chunk 2 at byte {hit.offset}") as error:
                log.read(hit)
        assert error.value.entry == hit
        assert len(log.corrupt) == 1
        assert log.read(log.entries[3]).sequence == 3


def test_a_damaged_first_line_of_a_segment_loses_no_chunk(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        fill(log, A, 12)
    for path in sorted(tmp_path.glob("*.chunks")):
        with path.open("r+b") as file:
            file.seek(30)
            file.write(b"\x00\x00")
        with ChunkLog.open(tmp_path, SCHEMA) as log:
            assert contents(log) == plain([chunk(A, i) for i in range(12)])
            assert log.streams == {A: 12}
            assert log.inserted == 60


WRITER = """
import sys
from experience import SCHEMA, A, chunk
from daydreamer.replay.chunk_log import ChunkLog
log = ChunkLog.open(sys.argv[1], SCHEMA, 100_000)
sequence = log.streams.get(A, 0)
while True:
    for _ in range(7):
        log.append(chunk(A, sequence))
        sequence += 1
    log.sync()
    print(log.streams[A], flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_chunk(tmp_path):
    acknowledged = 0
    for lines in (1, 20, 3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=os.path.dirname(__file__), stdout=subprocess.PIPE, text=True) as writer:
            for _ in range(lines):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split("\n")[:-1]
            acknowledged = int(said[-1]) if said else acknowledged
        with ChunkLog.open(tmp_path, SCHEMA) as log:
            assert log.streams[A] >= acknowledged
            assert contents(log) == plain([chunk(A, i) for i in range(log.streams[A])])
            assert not log.corrupt
