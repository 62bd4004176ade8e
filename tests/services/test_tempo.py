"""`speed: auto` in virtual time: the train ratio holds, whatever the machine, and nothing swings."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daydreamer.replay.limiter import Limiter
from services.tempo import AHEAD, FASTEST, SLOWEST, Demand, Strain, shared

REPORT = TELL = 0.5  # seconds between two looks of the replay, two telemetries, two heartbeats
CHUNK, CHUNK_STEPS = 1.0, 64  # as services/robot/cutter.py
TICK = 0.02


@dataclass
class World:
    """A learner that makes `updates` a second of `steps` each, robots, and all that lies between them and delays.

    `limit`: what their computer can. The course of a run is in `speeds`, `leads` [steps] and `idle`, one value a tick;
    `collected` and `replayed` are steps.
    """

    updates: float
    hz: float = 20.0
    ratio: float = 192.0
    steps: int = 256
    prefill: int = 1000
    robots: int = 1
    limit: float = FASTEST
    collected: int = 0

    def __post_init__(self):
        self.replayed = self.ratio * self.collected
        self.limiter = Limiter(self.ratio, self.prefill)
        self.demand = Demand(self.ratio, self.prefill, self.hz)
        self.time, self.speed, self.ready, self.done, self.ask_at = 0.0, 1.0, 0, 0.0, 0.0
        self.waiting, self.since = [0.0] * self.robots, [0.0] * self.robots
        self.underway = deque()
        self.figures = deque([0.0] * round(REPORT / TICK), round(REPORT / TICK))  # on their way to the coordinator
        self.speeds, self.leads, self.idle = [], [], []

    def run(self, seconds):
        for tick in range(round(seconds / TICK)):
            self.collect()
            self.learn()
            if tick % round(REPORT / TICK) == 0:
                self.figures.append(self.demand.wanted(self.collected, self.time))
            else:
                self.figures.append(self.figures[-1])
            if tick % round(TELL / TICK) == 0:
                self.speed = min(shared(self.figures[0], self.robots, self.hz), self.limit)
            self.speeds.append(self.speed)
            self.leads.append(self.collected - self.replayed / self.ratio)
            self.time += TICK
        return self

    def collect(self):
        for robot in range(self.robots):
            self.waiting[robot] += self.speed * self.hz * TICK
            if int(self.waiting[robot]) >= CHUNK_STEPS or self.time - self.since[robot] >= CHUNK:
                self.underway.append((self.time + 0.1, int(self.waiting[robot])))
                self.waiting[robot] -= int(self.waiting[robot])
                self.since[robot] = self.time
        while self.underway and self.underway[0][0] <= self.time:
            self.collected += self.underway.popleft()[1]

    def learn(self):
        while self.updates and self.ready < 2 and self.time >= self.ask_at:
            why = self.limiter.wait_reason(self.collected, int(self.replayed), self.steps)
            self.demand.asked(int(self.replayed), self.steps, why, self.time)
            if why:
                self.ask_at = self.time + 0.05
                break
            self.replayed, self.ready = self.replayed + self.steps, self.ready + 1
        self.idle.append(not self.ready)
        if self.ready:
            self.done += self.updates * TICK
            while self.done >= 1 and self.ready:
                self.done, self.ready = self.done - 1, self.ready - 1

    @property
    def capacity(self):
        """The speed at which a robot collects what the learner can."""
        return self.updates * self.steps / self.ratio / self.hz / self.robots

    def last(self, course, seconds):
        return np.array(course[-round(seconds / TICK):], float)


@pytest.mark.parametrize("world", [
    World(12.0, collected=5000),  # an A1 on two cores
    World(90.0, collected=5000),  # on a GPU: six times as fast as real time
    World(0.42, hz=2.0, ratio=256.0, steps=512, collected=1000),  # a Sphero on two cores
    World(0.1, ratio=32.0, steps=1024, collected=1000),  # batches of 32 collected steps, one each 10 s
    World(12.0, robots=4, collected=5000),
], ids=["A1", "fast", "Sphero", "large batches", "four robots"])
def test_it_settles_at_the_speed_that_the_learner_can_follow(world):
    world.run(300)
    speeds = world.last(world.speeds, 100)
    assert speeds.mean() == pytest.approx(world.capacity, rel=0.1)
    assert speeds.std() < 0.25 * world.capacity
    assert world.last(world.idle, 200).mean() < 0.01
    batch, second = world.steps / world.ratio, world.capacity * world.hz * world.robots
    assert world.last(world.leads, 100).max() < 1.5 * AHEAD * second + 3 * batch


def test_it_does_not_swing_after_a_step_of_what_the_learner_can():
    world = World(12.0, collected=5000).run(120)
    world.updates = 4.0
    world.run(120)
    after = world.last(world.speeds, 120)
    reached = int(np.argmax(after < 1.1 * world.capacity))
    assert reached * TICK < 30
    assert after[reached:].max() < 1.4 * world.capacity  # slower while what was ahead is worked through, never faster
    assert np.abs(world.last(after, 60) / world.capacity - 1).max() < 0.4


def test_the_prefill_is_collected_as_fast_as_can_be_and_not_overshot():
    world = World(0.0)
    world.run(30)
    assert max(world.speeds) == FASTEST
    assert world.prefill <= world.collected < 1.1 * world.prefill
    assert world.speed == SLOWEST  # no learner has come yet


def test_what_the_prefill_put_ahead_is_caught_up_and_then_the_ratio_holds():
    world = World(12.0).run(400)
    assert min(world.speeds[round(20 / TICK):]) == SLOWEST
    assert world.replayed / world.collected > 0.95 * world.ratio


def test_a_learner_that_is_away_stops_the_robots_and_they_go_on_with_it():
    world = World(12.0, collected=5000).run(60)
    collected, world.updates = world.collected, 0.0
    world.run(60)
    assert world.speed == SLOWEST and world.collected - collected < 60 * 16 / 4
    world.updates = 12.0
    world.run(60)
    assert world.last(world.speeds, 10).mean() == pytest.approx(world.capacity, rel=0.2)


def test_a_computer_that_cannot_does_not_wind_up_what_is_asked_of_it():
    world = World(90.0, collected=5000, limit=0.5).run(120)
    assert world.speed == 0.5
    world.updates, world.limit = 3.0, FASTEST
    world.run(30)
    assert world.speed < 1.3 * world.capacity and max(world.last(world.speeds, 30)) < 2.0


def test_steps_in_streams_that_are_too_short_to_learn_from_do_not_stop_the_robots():
    demand = Demand(192.0, 40, 20.0)
    demand.asked(0, 256, "prefill", 0.0)
    assert demand.wanted(50, 1.0) == 20.0
    demand.asked(0, 256, "", 2.0)
    assert demand.wanted(5000, 3.0) < 1.0


def test_a_learner_that_goes_back_to_a_checkpoint_is_measured_anew():
    demand = Demand(192.0, 100, 20.0)
    for second in range(20):
        demand.asked(192 * (5000 + 10 * second), 192, "", second)
    for second in range(20, 26):
        demand.asked(192 * (4900 + 10 * second), 192, "", second)
    assert demand.lead(5200) == pytest.approx(49)
    assert demand.wanted(5151, 25.0) == pytest.approx(10 * np.e, rel=0.1)
    assert demand.wanted(6151, 25.0) < 0.01


asked = st.tuples(st.integers(0, 10**9), st.integers(1, 10**5), st.sampled_from(["", "ratio", "prefill"]),
                  st.floats(0, 100))


@given(st.lists(asked, max_size=30), st.lists(st.integers(0, 10**7), min_size=2, max_size=5), st.floats(0, 1000))
def test_whatever_is_asked_more_that_is_ahead_never_wants_more_collected(requests, inserted, wait):
    demand, now = Demand(64.0, 500, 20.0), 0.0
    for replayed, steps, why, seconds in requests:
        now += seconds
        demand.asked(replayed, steps, why, now)
    wanted = [demand.wanted(steps, now + wait) for steps in sorted(inserted) if steps >= 500]
    assert np.isfinite(wanted).all() and min(wanted, default=0) >= 0 and wanted == sorted(wanted, reverse=True)


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=9), st.integers(0, 64), st.floats(0.5, 100))
def test_a_speed_is_bounded_grows_with_what_is_wanted_and_is_divided_among_robots(wanted, robots, hz):
    speeds = [shared(steps, robots, hz) for steps in sorted(wanted)]
    assert speeds == sorted(speeds) and SLOWEST <= speeds[0] and speeds[-1] <= FASTEST
    assert all(shared(steps, robots + 1, hz) <= shared(steps, robots, hz) for steps in wanted)


def strained(seconds, what, hz=20.0):
    """The limit after a computer was tried for so long; `what`: how much of a period is lost at a speed, and
    when."""
    strain, now, limits = Strain(), 0.0, []
    while now < seconds:
        speed = strain.limit
        now += 1 / (hz * speed)
        strain.note(what(speed, now), speed, now)
        limits.append(strain.limit)
    return limits


def test_a_computer_that_keeps_up_is_not_limited():
    assert set(strained(60, lambda speed, now: 0.05)) == {FASTEST}


def test_a_computer_finds_the_speed_that_it_can_keep_up_with_and_stays_near_it():
    limits = strained(300, lambda speed, now: 0.5 if speed > 2 else 0.0)
    late = limits[len(limits) // 2:]
    assert 1.4 < min(late) and max(late) < 2.2


@pytest.mark.parametrize("hz, seconds", [(20, 30), (2, 240)])
def test_a_computer_that_was_busy_for_a_while_is_soon_fast_again(hz, seconds):
    def what(speed, now):
        return 0.5 if now < 300 and speed > 0.5 else 0.0

    assert 0.35 < strained(300, what, hz)[-1] < 0.55
    assert strained(300 + seconds, what, hz)[-1] > 5


def test_a_computer_that_never_keeps_up_still_moves():
    assert strained(3000, lambda speed, now: 1.0)[-1] == SLOWEST
