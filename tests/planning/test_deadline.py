"""Planning ends before its deadline with the best plan so far, on a clock that only imagination moves."""

import pytest
import torch
from planning_bench import Fixed, Plane, at, planner, still

from daydreamer.planning.pace import Pace

STEP = 0.010  # seconds an iteration takes


class Slow(Plane):
    """Takes `step` seconds for every rollout."""

    def __init__(self, step=STEP):
        super().__init__()
        self.now, self.step = 100.0, step

    def imagine(self, state, actions, noise=None):
        self.now += self.step
        return super().imagine(state, actions, noise)


def plan(made, model, left):
    found = made.plan(model, Fixed(), at([0.0, 0.0]), still(), model.now + left)
    return found.iterations


def slow_planner(model, **settings):
    return planner(clock=lambda: model.now, **{"iterations": 30, "proposals": 0} | settings)


def test_planning_stops_before_the_iteration_that_would_not_fit():
    model = Slow()
    made, begin = slow_planner(model), model.now
    assert plan(made, model, left=3.5 * STEP) == 3
    assert model.now <= begin + 3.5 * STEP


def test_it_is_the_iterations_of_the_last_plans_that_tell_whether_one_fits():
    model = Slow()
    made = slow_planner(model)
    assert plan(made, model, left=0.4 * STEP) == 1, "nothing is known yet"
    assert plan(made, model, left=0.4 * STEP) == 0
    assert plan(made, model, left=2.5 * STEP) == 2


def test_a_plan_that_ran_out_of_time_is_the_best_so_far():
    model = Slow()
    short = slow_planner(model).plan(model, Fixed(), at([0.0, 0.0]), still(), model.now + 1.5 * STEP)
    long = slow_planner(other := Slow()).plan(other, Fixed(), at([0.0, 0.0]), still(), other.now + 1.0)
    assert (short.iterations, long.iterations) == (1, 30)
    returns = [model.reward(model.imagine(at([0.0, 0.0]), found.plan)).sum() for found in (short, long)]
    assert returns[0] < returns[1] and returns[0] > model.reward(model.imagine(at([0.0, 0.0]), still())).sum()
    nothing = slow_planner(model, iterations=0).plan(model, Fixed(), at([0.0, 0.0]), start := torch.rand(1, 4, 2))
    assert nothing.iterations == 0 and torch.equal(nothing.plan, start)


def test_a_budget_is_a_deadline_of_every_plan():
    model = Slow()
    made = slow_planner(model, budget=2.5 * STEP)
    assert [made.plan(model, Fixed(), at([0.0, 0.0]), still()).iterations for _ in range(3)] == [2, 2, 2]


def test_one_hiccup_does_not_end_planning():
    model = Slow()
    made = slow_planner(model)
    plan(made, model, left=3.5 * STEP)
    model.step = 50 * STEP
    plan(made, model, left=1.5 * STEP)
    model.step = STEP
    assert plan(made, model, left=3.5 * STEP) == 3


def test_iterations_that_are_always_too_slow_make_few_decisions_late_and_are_still_tried():
    model = Slow(3 * STEP)
    made = slow_planner(model)
    done = [plan(made, model, left=STEP) for _ in range(1000)]
    assert 3 <= sum(done) <= 12, "about one in a hundred"
    model.step = 0.4 * STEP
    done = [plan(made, model, left=STEP) for _ in range(400)]
    assert done[-1] == 2


@pytest.mark.parametrize("batch, expected", [(1, 0.01), (2, 0.02), (8, 0.08)])
def test_more_robots_are_expected_to_take_longer_until_they_were_seen(batch, expected):
    pace = Pace()
    pace.took(1, 0.01)
    assert pace.expected(batch) == pytest.approx(expected)
    pace.took(8, 0.02)
    assert pace.expected(8) == pytest.approx(0.02)
