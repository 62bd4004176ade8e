import pytest

from daydreamer.replay.limiter import Limiter
from daydreamer.replay.settings import ReplaySettings


def replay(limiter, collected, batch=512):
    """Steps replayed when a learner takes every batch it may at this many collected steps."""
    replayed = 0
    while not limiter.wait_reason(collected, replayed, batch):
        replayed += batch
    return replayed


def test_nothing_is_replayed_before_the_prefill_is_there():
    limiter = Limiter(train_ratio=32, prefill=1000)
    assert limiter.wait_reason(999, 0, 512) == "prefill"
    assert limiter.wait_reason(1000, 0, 512) == ""


@pytest.mark.parametrize("ratio", [0.1, 1.0, 32.0, 512.0])
@pytest.mark.parametrize("collected", [1000, 20_000])
def test_the_train_ratio_is_reached_and_exceeded_by_a_few_batches_at_most(ratio, collected):
    limiter = Limiter(ratio, prefill=1000, tolerance=2)
    replayed = replay(limiter, collected)
    assert ratio * collected <= replayed <= ratio * collected + 2 * 512
    assert limiter.wait_reason(collected, replayed, 512) == "ratio"


def test_more_experience_ends_every_wait():
    limiter = Limiter(train_ratio=0.01, prefill=1)
    replayed = replay(limiter, 1)
    assert limiter.wait_reason(1 + 512 * 100, replayed, 512) == ""


def test_the_achieved_ratio_is_what_was_replayed_per_collected_step():
    assert Limiter.achieved(1000, 32_000) == 32
    assert Limiter.achieved(0, 0) == 0


@pytest.mark.parametrize(("field", "value"), [
    ("train_ratio", 0.0), ("train_ratio", -1.0), ("train_ratio", float("nan")), ("prefill", 0), ("tolerance", 0.5)])
def test_a_limit_that_would_never_let_anything_through_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value}: must be"):
        Limiter(**({"train_ratio": 32.0, "prefill": 1000} | {field: value}))


@pytest.mark.parametrize(("field", "value"), [
    ("batch", 0), ("length", 1), ("burn_in", -1), ("uniform", 1.5), ("recency", -0.1), ("online", 0.7),
    ("recency_steps", 0.0), ("online_steps", 8), ("prefill", 35), ("capacity", 999), ("segment_mib", 0),
    ("sync_seconds", 2.0)])
def test_replay_settings_that_cannot_work_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"{'uniform' if field == 'online' else field}: .*must"):
        ReplaySettings(**{field: value})
