import os

import pytest
from experience import EPISODE, SCHEMA, A, B, chunk, fill, newest

from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import LogError
from daydreamer.replay.stats import columns, stats, verify


def test_a_log_in_use_can_be_counted(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        fill(log, A, 12)
        fill(log, B, 5)
        found = stats(tmp_path)
        assert found == verify(tmp_path)
        assert (found.steps, found.chunks, found.inserted) == (85, 17, 85)
        assert found.episodes == -(-60 // EPISODE) + -(-25 // EPISODE)
        assert [(s.stream, s.chunks, s.steps) for s in found.streams] == [(A, 12, 60), (B, 5, 25)]
        assert found.seconds == pytest.approx((59 + 24) * 0.05)
        assert found.segments == len(list(tmp_path.glob("*.chunks")))
        assert found.bytes == log.bytes
        assert found.schema == SCHEMA
        assert found.sound
        assert found.unfinished == 0


def test_columns_of_a_log_in_use_can_be_read_stream_by_stream(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        fill(log, A, 3)
        fill(log, B, 2)
        fill(log, A, 4)
        of_a, of_b = columns(tmp_path, ["reward", "action", "nothing"])
        assert sorted(of_a) == ["action", "reward"]
        assert of_a["reward"].tolist() == [step / 7 for step in range(35)]
        assert of_b["action"].tolist() == [[step + 1, B[0]] for step in range(10)]
    os.truncate(newest(tmp_path), log.entries[-1].payload.stop - 1)
    assert len(columns(tmp_path, ["reward"])[0]["reward"]) == 30
    with pytest.raises(LogError, match="no chunk log here"):
        columns(tmp_path / "nowhere", ["reward"])


def test_steps_that_retention_removed_still_count_as_inserted(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        fill(log, A, 40)
        log.keep_newest(50)
        assert stats(tmp_path).inserted == 200
        assert stats(tmp_path).steps == log.steps


def test_damage_is_reported_with_its_place(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        fill(log, A, 12)
    hit = log.entries[1]
    path = tmp_path / f"{hit.segment:08d}.chunks"
    data = bytearray(path.read_bytes())
    data[hit.payload.start] ^= 1
    path.write_bytes(data)
    assert stats(tmp_path).sound  # it reads no contents
    found = verify(tmp_path)
    assert not found.sound
    assert [(d.segment, d.offset, d.reason, d.entry) for d in found.corrupt] == [
        (hit.segment, hit.offset, "wrong checksum", hit)]
    assert found.gaps == 1
    assert found.chunks == 11


def test_an_unfinished_write_is_no_damage(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 4)
    os.truncate(newest(tmp_path), log.entries[-1].payload.stop - 1)
    found = verify(tmp_path)
    assert found.sound
    assert found.chunks == 3
    assert found.unfinished > 0


def test_a_chunk_that_is_there_twice_and_steps_that_are_missing_are_counted(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA) as log:
        fill(log, A, 2)
        log.append(chunk(A, 2, first=12))
    data = newest(tmp_path).read_bytes()
    one = data[log.entries[1].offset:log.entries[1].end]
    newest(tmp_path).write_bytes(data + one)
    found = verify(tmp_path)
    assert (found.gaps, found.duplicates) == (1, 1)
    assert not found.sound


@pytest.mark.parametrize("look", [stats, verify])
def test_a_folder_without_a_log_is_named(tmp_path, look):
    with pytest.raises(LogError, match=f"{tmp_path}: no chunk log here"):
        look(tmp_path)
