"""The behaviour that plans, through the agent: what it carries, whose weights it uses, how a run with it goes on."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings, PlannerSettings

SPACE = spaces.Dict(angles=spaces.Box(-4, 4, (3,), np.float32))
CONTINUOUS, DISCRETE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)
ACTIONS = pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
PLANNER = PlannerSettings(candidates=8, elites=3, proposals=2, horizon=3)
SETTINGS = AgentSettings(model="tiny", behaviour="mpc", size="debug", horizon=2, imagine_starts=4, warmup=0,
                         planner=PLANNER)


def agent_of(actions=CONTINUOUS, seed=0, **changes):
    return Agent(SPACE, actions, replace(SETTINGS, **changes), seed)


def act(agent, carry, first=False, mode="mode", batch=2, deadline=np.inf):
    angles = np.linspace(-1, 1, 3 * batch, dtype=np.float32).reshape(batch, 3)
    prev = np.zeros((batch, *agent.action_space.shape), agent.action_space.dtype)
    return agent.act(carry, {"angles": angles}, prev, np.broadcast_to(first, batch).copy(), mode, deadline)


@ACTIONS
@pytest.mark.parametrize("mode", ["sample", "mode"])
@pytest.mark.parametrize("planner", [{}, {"method": "cem"}, {"proposals": 0}, {"iterations": 0}], ids=str)
def test_planned_actions_lie_in_the_action_space(actions, mode, planner):
    agent = agent_of(actions, planner=replace(PLANNER, **planner))
    chosen, carry = act(agent, agent.initial(2), True, mode)
    chosen, carry = act(agent, carry, False, mode)
    assert all(actions.contains(action) for action in chosen), (chosen.dtype, chosen.shape)
    assert carry.keys() == agent.initial(2).keys()


def test_a_plan_goes_on_from_the_last_one_shifted_by_a_step():
    agent = agent_of(planner=replace(PLANNER, proposals=0, min_deviation=1e-6, max_deviation=1e-6))
    carry = agent.initial(1)
    carry["plan"] = torch.tensor([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]])
    chosen, after = act(agent, carry, batch=1)
    np.testing.assert_allclose(chosen, [[0.3, 0.4]], atol=1e-4)
    torch.testing.assert_close(after["plan"], torch.tensor([[[0.3, 0.4], [0.5, 0.6], [0.5, 0.6]]]), atol=1e-4, rtol=0)


def test_an_episode_begins_without_the_plan_of_the_last():
    agent = agent_of(planner=replace(PLANNER, proposals=0, min_deviation=1e-6, max_deviation=1e-6))
    carry = agent.initial(2) | {"plan": torch.full((2, 3, 2), 0.5)}
    chosen, _ = act(agent, carry, first=np.array([True, False]))
    np.testing.assert_allclose(chosen, [[0, 0], [0.5, 0.5]], atol=1e-4)


def test_a_rebuilt_carry_has_no_plan_yet():
    agent = agent_of()
    rows = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4, 2), np.float32), np.zeros((2, 4), bool)
    rebuilt = agent.observe(agent.initial(2) | {"plan": torch.ones(2, 3, 2)}, {"angles": rows[0]}, *rows[1:])
    assert rebuilt.keys() == agent.initial(2).keys() and not rebuilt["plan"].any()


@ACTIONS
def test_without_iterations_and_without_time_the_actor_acts(actions):
    actor, idle, late = (agent_of(actions, **changes) for changes in (
        {"behaviour": "actor_critic"}, {"planner": replace(PLANNER, iterations=0)}, {}))
    expected, _ = act(actor, actor.initial(2), True)
    assert np.array_equal(act(idle, idle.initial(2), True)[0], expected)
    assert np.array_equal(act(late, late.initial(2), True, deadline=0.0)[0], expected)
    assert late.behaviour.figures["plan_iterations"] == 0


def test_robots_that_plan_together_explore_apart():
    agent = agent_of(planner=replace(PLANNER, proposals=0, min_deviation=0.5))
    same = {"angles": np.zeros((2, 3), np.float32)}
    best, _ = agent.act(agent.initial(2), same, np.zeros((2, 2), np.float32), np.array([True, True]), "mode")
    explored, _ = agent.act(agent.initial(2), same, np.zeros((2, 2), np.float32), np.array([True, True]), "sample")
    assert np.array_equal(best[0], best[1]) and not np.array_equal(explored[0], explored[1])


@pytest.mark.parametrize("around, critics", [("actor_critic", {"critic"}), ("off_policy", {"critics.0", "critics.1"})])
@pytest.mark.parametrize("model", ["tiny", "rssm", "jepa"])
def test_planning_has_no_weights_so_that_a_run_may_be_planned_on_that_was_not(model, around, critics):
    actor = agent_of(model=model, behaviour=around)
    planner = agent_of(model=model, planner=replace(PLANNER, around=around), seed=1)
    planner.load_state_dict(actor.state_dict())
    assert planner.state_dict().keys() == actor.state_dict().keys()
    sent = planner.acting_state().keys() - actor.acting_state().keys()
    assert {name.rsplit(".body")[0] for name in sent} == {
        "model.reward_head", "model.continuation_head", *(f"behaviour.{name}" for name in critics)}, "nothing else"
    chosen, carry = act(planner, planner.initial(2), True, "sample")
    assert all(CONTINUOUS.contains(action) for action in chosen) and planner.behaviour.figures["plan_iterations"] == 2


@pytest.mark.parametrize("model, around", [("rssm", "actor_critic"), ("jepa", "off_policy")])
def test_who_takes_over_the_acting_weights_plans_the_same_and_reads_no_others(model, around):
    changes = {"model": model, "planner": replace(PLANNER, around=around)}
    trained, policy = agent_of(seed=1, **changes), agent_of(seed=2, **changes)
    with torch.no_grad():
        for tensor in trained.modules.state_dict().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
        for tensor in policy.modules.state_dict().values():
            tensor.fill_(torch.nan)
    policy.load_acting_state(trained.acting_state())
    policy.generator.set_state(trained.generator.get_state())
    for mode in ("mode", "sample"):
        assert np.array_equal(*(act(agent, agent.initial(2), True, mode)[0] for agent in (trained, policy)))


class Pendulous(gymnasium.Env):
    """Sixteen steps that pay for large actions."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, discrete):
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 16
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self._left -= 1
        seen = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return seen, float(np.abs(action).sum()), False, self._left == 0, {}


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("planner", [{}, {"method": "cem", "proposals": 0}], ids=["mppi around the actor", "cem alone"])
def test_a_run_that_plans_continues_bit_for_bit(tmp_path, discrete, planner):
    agent = replace(SETTINGS, model="rssm", planner=replace(PLANNER, **planner))

    def run_of(folder):
        replay = ReplaySettings(batch=2, length=6, burn_in=2, prefill=40, segment_mib=1)
        return Lockstep(Pendulous(discrete), agent, replay, LockstepSettings(train_ratio=2.0), folder, seed=7)

    with run_of(tmp_path / "whole") as whole:
        whole.run(80)
        whole.run(128)
        expected = whole.agent.state_dict()
    with run_of(tmp_path / "parts") as first:
        first.run(80)
    with run_of(tmp_path / "parts") as second:
        second.run(128)
        result = second.agent.state_dict()
    assert whole.agent.updates > 0 and whole.agent.behaviour.figures["plan_iterations"] == 2
    assert all(torch.equal(result[name], expected[name]) for name in expected)


@pytest.mark.parametrize("field, value", [
    ("around", "mpc"), ("method", "guess"), ("candidates", 1), ("horizon", 0), ("iterations", -1), ("elites", 65),
    ("proposals", 64), ("temperature", 0.0), ("min_deviation", 0.0), ("max_deviation", 0.01), ("action_cost", -1.0),
    ("budget", -0.1)])
def test_a_planner_setting_outside_its_range_is_named_with_what_is_allowed(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value}: "):
        PlannerSettings(**{field: value})
