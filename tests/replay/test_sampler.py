import threading
from collections import Counter

import numpy as np
import pytest
from experience import EPISODE, SCHEMA, A, B, C, chunk, fill, newest

from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import NotEnough
from daydreamer.replay.sampler import Sampler
from daydreamer.replay.settings import ReplaySettings

LENGTH, BURN_IN = 6, 3
WINDOW = BURN_IN + LENGTH


def settings(uniform=1.0, recency=0.0, online=0.0, **others):
    return ReplaySettings(length=LENGTH, burn_in=BURN_IN, uniform=uniform, recency=recency, online=online, **others)


@pytest.fixture
def log(tmp_path):
    with ChunkLog.open(tmp_path, SCHEMA, 2000) as log:
        yield log


def steps_of(batch):
    """Which steps were drawn, int [B, T]."""
    return batch["time"] // 50_000_000


def check(batch, begins=True):
    """Every row is what brute force says a window of its stream holds; `begins`: streams are there from their start."""
    streams = batch["action"][..., 1].astype(int)
    assert (streams == streams[:, :1]).all()
    for row, last in enumerate(steps_of(batch)[:, -1]):
        wanted = np.arange(last - WINDOW + 1, last + 1)
        first = (wanted <= 0) | (wanted % EPISODE == 0)
        wanted = wanted.clip(0)
        before = np.where(first[:, None], 0, np.stack([wanted, np.full(WINDOW, streams[row, 0])], 1))
        assert begins or last >= WINDOW
        np.testing.assert_array_equal(steps_of(batch)[row], wanted)
        np.testing.assert_array_equal(batch["is_first"][row], first)
        np.testing.assert_array_equal(batch["prev_action"][row], before)
        np.testing.assert_array_equal(batch["action"][row, :, 0], wanted + 1)
        np.testing.assert_array_equal(batch["image"][row, :, 1, 2], wanted % 251)
        np.testing.assert_array_equal(batch["reward"][row], wanted / 7)


def unlikely(counts, expected):
    """How many standard deviations a chi-square statistic lies above its mean."""
    freedom = len(expected) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def test_windows_are_unbroken_steps_of_one_stream_with_the_action_before_each(log):
    first = 0
    for sequence, steps in enumerate([1, 2, 7, 1, 1, 30, 4, 5]):
        log.append(chunk(A, sequence, steps, first))
        log.append(chunk(B, sequence, 3))
        first += steps
    sampler = Sampler(log, settings(0.4, 0.3, 0.3), seed=1)
    fill(log, C, 5)
    for entry in log.entries[-5:]:
        sampler.add(entry)
    for _ in range(40):
        batch = sampler.sample(8, LENGTH, BURN_IN)
        assert {n: a.shape[:2] for n, a in batch.items()} == dict.fromkeys(batch, (8, WINDOW))
        check(batch)


def test_every_window_is_drawn_evenly_the_first_and_last_step_of_a_stream_included(log):
    fill(log, A, 4)
    fill(log, B, 3)
    sampler = Sampler(log, settings(), seed=2)
    batch = sampler.sample(20_000, LENGTH, BURN_IN, ["action", "time"])
    drawn = Counter(zip(batch["action"][:, 0, 1], steps_of(batch)[:, -1] - LENGTH + 1, strict=True))
    windows = [(s, start) for s, steps in ((A[0], 20), (B[0], 15)) for start in range(steps - LENGTH + 1)]
    assert set(drawn) == set(windows)
    assert unlikely(np.array([drawn[w] for w in windows]), np.full(len(windows), 20_000 / len(windows))) < 4


@pytest.mark.parametrize("mean", [40.0, 300.0])  # far less, and as much as there is
def test_recency_fades_exponentially_with_age(log, mean):
    fill(log, A, 60)
    sampler = Sampler(log, settings(0.0, 1.0, recency_steps=mean), seed=3)
    last = steps_of(sampler.sample(20_000, LENGTH, BURN_IN, ["time"]))[:, -1]
    ages = np.arange(300 - LENGTH + 1)
    share = np.exp(-ages / mean) / np.exp(-ages / mean).sum()
    counts = np.bincount(299 - last, minlength=len(ages))
    assert unlikely(counts[:150], 20_000 * share[:150]) < 4


def test_the_first_step_of_a_stream_counts_as_first_whatever_the_robot_says(log):
    late = chunk(A, 0, steps=10)
    late.columns["is_first"][:] = False
    log.append(late)
    batch = Sampler(log, settings(), seed=2).sample(50, LENGTH, BURN_IN)
    padding = WINDOW - 1 - steps_of(batch)[:, -1:]
    np.testing.assert_array_equal(batch["is_first"], np.arange(WINDOW) <= padding)
    assert not batch["prev_action"][batch["is_first"]].any()


def test_recency_counts_age_over_all_streams(log):
    fill(log, A, 40)
    fill(log, B, 40)
    sampler = Sampler(log, settings(0.0, 1.0, recency_steps=20.0), seed=3)
    assert (sampler.sample(500, LENGTH, BURN_IN)["action"][..., 1] == B[0]).all()


def test_every_fresh_step_is_given_once_by_the_online_draw(log):
    fill(log, A, 3)  # old: known before the sampler was made
    sampler = Sampler(log, settings(0.0, 0.0, 1.0), seed=4)
    given = {A[0]: [], B[0]: []}
    for sequence in range(12):
        for stream, first in ((A, 3), (B, 0)):
            sampler.add(log.append(chunk(stream, first + sequence)))
        waiting = {A[0]: 5 * (sequence + 1), B[0]: 5 * (sequence + 1)}
        for _ in range(sum((n - len(given[s])) // LENGTH for s, n in waiting.items())):
            batch = sampler.sample(1, LENGTH, BURN_IN)
            check(batch)
            given[int(batch["action"][0, 0, 1])] += steps_of(batch)[0, BURN_IN:].tolist()
    assert given == {A[0]: list(range(15, 75)), B[0]: list(range(60))}
    assert sampler.online_dropped == 0


def test_fresh_steps_beyond_the_limit_are_left_to_the_other_draws_and_counted(log):
    sampler = Sampler(log, settings(0.0, 0.0, 1.0, online_steps=20), seed=4)
    fill(log, A, 12)
    for entry in log.entries:
        sampler.add(entry)
    assert sampler.online_dropped == 40
    assert steps_of(sampler.sample(3, LENGTH, BURN_IN))[:, BURN_IN:].ravel().tolist() == list(range(40, 58))


def test_shares_of_a_batch_are_kept_on_average(log):
    fill(log, A, 200)
    sampler = Sampler(log, settings(0.5, 0.5, recency_steps=10.0), seed=5)
    last = steps_of(sampler.sample(10_000, LENGTH, BURN_IN, ["time"]))[:, -1]
    assert 0.5 < (last > 900).mean() < 0.6  # half of the draws, and a tenth of the others


def test_too_little_experience_says_so_and_a_resumed_robot_does_not_lengthen_the_old_stream(log):
    sampler = Sampler(log, settings(), seed=6)
    for stream in (A, B):
        sampler.add(log.append(chunk(stream, 0, LENGTH - 1)))
        with pytest.raises(NotEnough, match=f"no stream has {LENGTH} steps in a row yet"):
            sampler.sample(1, LENGTH, BURN_IN)
    assert sampler.steps == 2 * (LENGTH - 1)
    sampler.add(log.append(chunk(B, 1, 1, first=LENGTH - 1)))
    check(sampler.sample(4, LENGTH, BURN_IN))


def test_what_retention_removes_is_no_longer_drawn(log):
    fill(log, A, 40)
    sampler = Sampler(log, settings(), seed=7)
    log.sync()
    log.keep_newest(50)
    first = log.entries[0].first_step
    assert first > 100
    sampler.sample(1, LENGTH, BURN_IN)
    assert sampler.steps == log.steps
    batch = sampler.sample(3000, LENGTH, BURN_IN)
    check(batch, begins=False)
    assert steps_of(batch).min() == first + 1  # the action before the window is there
    assert steps_of(batch).max() == 199


def test_a_damaged_chunk_is_left_out_and_nothing_spans_it(log):
    fill(log, A, 12)
    log.sync()
    hit = log.entries[6]
    with (log.folder / f"{hit.segment:08d}.chunks").open("r+b") as file:
        file.seek(hit.payload.start)
        file.write(b"\xaa\xaa")
    sampler = Sampler(log, settings(), seed=8)
    batch = sampler.sample(2000, LENGTH, BURN_IN)
    steps = steps_of(batch)
    assert (np.diff(steps[:, BURN_IN:], axis=1) == 1).all()
    assert not np.isin(steps, np.arange(30, 35)).any()
    assert set(steps[:, -1]) == set(range(LENGTH - 1, 30)) | set(range(35 + 1 + WINDOW - 1, 60))
    assert sampler.steps == 55
    assert len(log.corrupt) == 1


def test_a_gap_in_the_step_numbers_is_never_spanned(log):
    log.append(chunk(A, 0, 20))
    log.append(chunk(A, 1, 20, first=27))
    steps = steps_of(Sampler(log, settings(), seed=8).sample(500, LENGTH, BURN_IN))
    assert set(steps[:, -1]) == set(range(LENGTH - 1, 20)) | set(range(27 + WINDOW, 47))


def test_only_the_wanted_columns_come(log):
    fill(log, A, 4)
    sampler = Sampler(log, settings(), seed=9)
    assert sorted(sampler.sample(2, LENGTH, BURN_IN, ["reward"])) == ["prev_action", "reward"]
    assert set(sampler.sample(2, LENGTH, BURN_IN)) == {c.name for c in SCHEMA.columns} | {"prev_action"}
    with pytest.raises(KeyError, match="zoom"):
        sampler.sample(2, LENGTH, BURN_IN, ["zoom"])


def test_batches_belong_to_the_caller(log):
    fill(log, A, 4)
    sampler = Sampler(log, settings(), seed=9)
    batch = sampler.sample(4, LENGTH, BURN_IN)
    for array in batch.values():
        array[...] = 0
    check(sampler.sample(4, LENGTH, BURN_IN))


def test_a_restored_sampler_goes_on_exactly_where_it_was(log):
    mix = settings(0.4, 0.3, 0.3)
    one = Sampler(log, mix, seed=10)
    fill(log, A, 30)
    for entry in log.entries:
        one.add(entry)
    one.sample(5, LENGTH, BURN_IN)
    two = Sampler(log, mix, seed=11)
    two.load_state_dict(one.state_dict())
    for _ in range(5):
        drawn = [steps_of(sampler.sample(5, LENGTH, BURN_IN)) for sampler in (one, two)]
        np.testing.assert_array_equal(*drawn)


def test_sampling_beside_a_writer_that_appends_and_drops_gives_only_sound_windows(log):
    fill(log, A, 10)
    log.sync()
    sampler = Sampler(log, settings(0.4, 0.3, 0.3), seed=12)
    errors, done = [], threading.Event()

    def draw():
        try:
            while not done.is_set():
                check(sampler.sample(4, LENGTH, BURN_IN), begins=not log.oldest)
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=draw)
    reader.start()
    for sequence in range(10, 400):
        log.append(chunk(A, sequence))
        for entry in log.sync():
            sampler.add(entry)
        log.keep_newest(200)
    done.set()
    reader.join()
    assert not errors
    assert newest(log.folder).name > "00000010"
