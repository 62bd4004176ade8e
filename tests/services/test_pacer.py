"""The pacer, with a clock of its own: steady, never drifting, no bursts."""

import pytest

from services.robot.pacer import LATE, Pacer


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def paced(busy, period=.05):
    """The times at which periods begin when each is `busy` for so long, and the pacer after each."""
    clock = Clock()
    pacer = Pacer(period, clock, clock.sleep)
    begun, missed = [], []
    for seconds in busy:
        pacer.wait()
        begun.append(round(clock.now - 100, 6))
        missed.append(pacer.missed)
        clock.now += seconds
    return begun, missed, pacer


def test_work_of_any_length_below_the_period_does_not_make_it_drift():
    begun, missed, _ = paced([.001, .04, .049, .03, .0])
    assert begun == pytest.approx([0, .05, .1, .15, .2])
    assert not any(missed)


def test_a_small_overrun_is_caught_up_and_a_large_one_is_not_made_up_by_a_burst():
    begun, missed, _ = paced([.06, .01, .01])
    assert begun == pytest.approx([0, .06, .1]) and missed == [False, True, False]
    begun, missed, _ = paced([.24, .01, .01, .01])
    assert begun == pytest.approx([0, .24, .29, .34]) and missed == [False, True, False, False]


def test_lateness_within_the_tolerance_is_no_miss():
    _, missed, pacer = paced([.05 + LATE * .9, .0])
    assert missed == [False, False]
    assert pacer.period == pytest.approx(.05 + LATE * .9)
