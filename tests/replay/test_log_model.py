"""The log against a plain list, with crashes at any byte."""

import shutil
import tempfile
from pathlib import Path

from experience import MEMORY, SCHEMA, A, B, C, chunk, contents, crashed_copy, newest, plain
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daydreamer.replay.chunk_log import ChunkLog

SEGMENT = 1500


class LogAndList(RuleBasedStateMachine):
    """`appended`: what the log should hold; the first `durable` of them must survive anything; the first `dropped` may
    have been removed by retention."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="chunk-log-", dir=MEMORY))
        self.generation = 0
        self.log = ChunkLog.open(self.root / "0", SCHEMA, SEGMENT)
        self.appended, self.durable, self.dropped = [], 0, 0

    @rule(stream=st.sampled_from([A, B, C]), steps=st.integers(1, 12))
    def append(self, stream, steps):
        mine = [c for c in self.appended if c.stream == stream]
        first = mine[-1].first_step + len(mine[-1]) if mine else 0
        segments = self.log.bytes
        self.appended.append(chunk(stream, len(mine), steps, first))
        self.log.append(self.appended[-1])
        assert self.log.bytes > segments

    @rule()
    def sync(self):
        self.log.sync()
        self.durable = len(self.appended)

    @rule(steps=st.integers(0, 60))
    def keep_newest(self, steps):
        before = self.log.steps
        self.dropped += self.chunks_of(self.log.keep_newest(steps))
        assert self.log.steps >= min(steps, before)

    @rule(acknowledged=st.fixed_dictionaries({s: st.integers(0, 10) for s in (A, B, C)}))
    def drop_acknowledged(self, acknowledged):
        was = self.dropped
        self.dropped += self.chunks_of(self.log.drop_before(acknowledged))
        assert all(c.sequence < acknowledged[c.stream] for c in self.appended[was:self.dropped])

    @rule()
    def close_and_open(self):
        self.log.close()
        self.durable = len(self.appended)
        self.log = ChunkLog.open(self.log.folder, SCHEMA, SEGMENT)

    @precondition(lambda self: self.log.bytes)
    @rule(share=st.floats(0, 1), torn=st.booleans())
    def crash(self, share, torn):
        """What was not synced is cut at any byte, or a 64-byte piece of it is lost."""
        synced = sum(s.stat().st_size for s in self.log.folder.glob("*.chunks")) - self.unsynced_bytes()
        self.generation += 1
        folder = crashed_copy(self.log.folder, self.root / str(self.generation))
        self.log.close()
        self.damage(folder, synced, share, torn)
        self.log = ChunkLog.open(folder, SCHEMA, SEGMENT)
        found = self.dropped + len(self.log.entries)
        assert self.durable <= found <= len(self.appended)
        del self.appended[found:]
        self.durable = found

    def damage(self, folder, synced, share, torn):
        path = newest(folder)
        others = sum(s.stat().st_size for s in folder.glob("*.chunks")) - path.stat().st_size
        data, safe = path.read_bytes(), max(0, synced - others)
        at = safe + int(share * (len(data) - safe))
        path.write_bytes(data[:at] + (b"\0" * len(data[at:at + 64]) + data[at + 64:] if torn else b""))

    def unsynced_bytes(self):
        """A chunk that is not in `streams` is not durable; sealing a segment makes all before durable."""
        durable = self.log.streams
        waiting = [e for e in self.log.entries if e.sequence >= durable.get(e.stream, 0)]
        self.durable = len(self.appended) - len(waiting)
        return sum(e.end - e.offset for e in waiting)

    def chunks_of(self, steps):
        """How many of the oldest chunks that are left have so many steps together."""
        n = 0
        while steps > 0:
            steps -= len(self.appended[self.dropped + n])
            n += 1
        assert steps == 0
        return n

    @invariant()
    def holds_what_the_list_holds(self):
        assert contents(self.log) == plain(self.appended[self.dropped:])
        assert self.log.inserted == sum(len(c) for c in self.appended)
        assert self.log.steps == sum(len(c) for c in self.appended[self.dropped:])
        assert not self.log.corrupt

    @invariant()
    def knows_what_is_durable(self):
        at_least = {c.stream: c.sequence + 1 for c in self.appended[:self.durable]}
        at_most = {c.stream: c.sequence + 1 for c in self.appended}
        for stream, chunks in self.log.streams.items():
            assert at_least.get(stream, 0) <= chunks <= at_most[stream]
        assert set(at_least) <= set(self.log.streams)

    def teardown(self):
        self.log.close()
        shutil.rmtree(self.root)


TestLogAndList = LogAndList.TestCase
TestLogAndList.settings = settings(
    max_examples=60, stateful_step_count=30, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
