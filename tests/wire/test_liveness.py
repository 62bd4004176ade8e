"""Who is silent is suspected, then dead; clocks are compared by the quickest probe."""

import random

import pytest

from services.wire.liveness import Changed, ClockOffset, Life, Liveness


def test_silence_makes_suspect_then_dead_and_a_message_alive_again():
    liveness = Liveness()
    assert liveness.heard("a1", 10.0) == [Changed("a1", None, Life.ALIVE, 0.0)]
    assert liveness.heard("a1", 10.5) == [] == liveness.poll(11.9)
    assert liveness.poll(12.0) == [Changed("a1", Life.ALIVE, Life.SUSPECT, 1.5)]
    assert liveness.poll(13.5) == [Changed("a1", Life.SUSPECT, Life.DEAD, 3.0)]
    assert liveness.poll(99.0) == []
    assert liveness.heard("a1", 100.0) == [Changed("a1", Life.DEAD, Life.ALIVE, 89.5)]


def test_a_state_can_be_asked_for_at_any_moment():
    liveness = Liveness()
    liveness.heard("a1", 0.0)
    states = [liveness.state("a1", now) for now in (0.0, 1.4, 1.5, 2.9, 3.0)]
    assert states == ["alive", "alive", "suspect", "suspect", "dead"]
    assert liveness.state("stranger", 0.0) == "dead"
    assert liveness.age("a1", 2.0) == 2.0


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="suspect_after 3 must be positive and at most dead_after 1"):
        Liveness(3, 1)


def test_the_true_offset_lies_within_the_uncertainty_however_unequal_the_ways():
    rng, truth, clock, now = random.Random(0), 7_000_000_123, ClockOffset(), 0
    for _ in range(100):
        there, work, back = (int(rng.expovariate(1e-6)) for _ in range(3))
        clock.add(now, now + there + truth, now + there + work + truth, now + there + work + back)
        now += 10**9
        assert abs(clock.offset - truth) <= clock.uncertainty
    assert clock.round_trip < 1_000_000, "the quickest of the last 32"


def test_a_drifting_clock_is_followed_because_old_probes_are_forgotten():
    clock = ClockOffset()
    clock.add(0, 100, 100, 0)
    for second in range(32):
        clock.add(second, 500 + second + 5, 500 + second + 5, second + 10)
    assert clock.offset == 500


def test_a_probe_that_ended_before_it_began_is_left_out():
    clock = ClockOffset()
    clock.add(100, 5, 5, 90)
    assert clock.offset is None and clock.round_trip is None and clock.uncertainty is None
