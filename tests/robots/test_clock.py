"""A robot's clock whose speed changes, over clocks on the wall of every kind."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import robots.basic
from robots.body_process import CATCH_UP, Pace
from robots.clock import Clock
from robots.driver import Mode

SPEEDS = st.floats(0.001, 100)


class Wall:
    """Nanoseconds that go by when told to."""

    def __init__(self, now=10**15):
        self.now = now

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += round(seconds * 1e9)


@given(first=SPEEDS, course=st.lists(st.tuples(SPEEDS, st.floats(0, 1000)), max_size=20))
def test_what_it_shows_is_what_went_by_at_each_speed_and_never_jumps(first, course):
    wall = Wall()
    clock = Clock(first, wall)
    begun, gone = clock.now(), 0.0
    for speed, seconds in course:
        before = clock.now()
        clock.run_at(speed)
        assert abs(clock.now() - before) <= 1 and clock.speed == speed
        wall.wait(seconds)
        gone += speed * seconds
        assert clock.now() >= before
    assert (clock.now() - begun) * 1e-9 == pytest.approx(gone, abs=1e-5)


def test_at_the_speed_it_began_with_it_shows_the_walls_time_as_many_times():
    wall = Wall()
    clock, real = Clock(4.0, wall), Clock(wall=wall)
    wall.wait(12.5)
    assert clock.now() == 4 * wall() and real.now() == wall()


def test_periods_that_are_due_follow_the_clock_and_a_leap_of_its_speed_makes_none_late():
    wall = Wall()
    clock = Clock(0.01, wall)
    pace = Pace(0.001, clock)
    wall.wait(0.05)  # half a period
    assert pace.due() == 0
    clock.run_at(10.0)
    wall.wait(0.001)
    assert pace.due() == 10 and not pace.overruns
    wall.wait(0.01)
    assert pace.due() == round(CATCH_UP / 0.001) and pace.overruns == 100 - 20


def test_a_basic_driver_ages_commands_by_the_robots_clock_whatever_its_speed_was(monkeypatch):
    from pathlib import Path

    wall = Wall()
    monkeypatch.setattr(robots.basic, "Clock", lambda speed: Clock(speed, wall))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    own = importlib.import_module("own_robot")
    cart = own.Cart(own.CartOptions())

    def moves():
        before = cart.speed
        cart.tick()
        return cart.speed > before

    cart.keep_pace(1.0)
    cart.connect()
    cart.arm()
    cart.command(np.ones(1))
    cart.keep_pace(0.01)
    wall.wait(0.9 * cart.spec.command_ttl / 0.01)
    assert moves()
    cart.keep_pace(50.0)
    assert moves()
    wall.wait(0.2 * cart.spec.command_ttl / 50)
    assert not moves() and cart.health().mode == Mode.ARMED
    wall.wait(cart.spec.damp_after / 50)
    assert not moves() and cart.health().mode == Mode.DISARMED
