"""What every planner promises, whatever the model says."""

import math

import pytest
import torch
from gymnasium import spaces
from planning_bench import GOAL, Fixed, Plane, at, planner, still

from daydreamer.behaviours import build_behaviour
from daydreamer.models import build_model
from daydreamer.nn.layers import initialise
from daydreamer.planning.objective import plan_return
from daydreamer.planning.planner import Planner
from daydreamer.planning.refit import LOST
from daydreamer.planning.refit import METHODS as METHODS_BY_NAME
from daydreamer.settings import AgentSettings, PlannerSettings

METHODS = pytest.mark.parametrize("method", ["mppi", "cem"])
NAN, INF = math.nan, math.inf


@METHODS
@pytest.mark.parametrize("proposals", [0, 16], ids=["alone", "around an actor that knows nothing"])
def test_the_best_plan_is_found(method, proposals):
    found = planner(method=method, proposals=proposals, iterations=12, candidates=256, elites=32).plan(
        Plane(), Fixed(), at([0.0, 0.0]), still())
    best = torch.stack([GOAL, *torch.zeros(3, 2)])
    assert (found.plan[0] - best).abs().max() < 0.15, found.plan


@METHODS
def test_what_fits_into_a_control_period_is_already_much_better_than_nothing(method):
    model, actor, start = Plane(), Fixed(), still()
    plan = planner(method=method).plan(model, actor, at([0.0, 0.0]), start).plan
    lost = [-worth(model, actor, at([0.0, 0.0]), p).item() for p in (start, plan)]
    assert lost[1] < 0.25 * lost[0]


def worth(model, actor, state, plan, discount=0.9):
    return plan_return(model, actor, model.imagine(state, plan, model.noise(*plan.shape[:2])), plan, discount)


@METHODS
@pytest.mark.parametrize("seed", range(5))
def test_a_plan_is_never_worse_than_the_actor_or_the_plan_before(method, seed):
    model, actor, state = learned(seed)
    start = torch.rand(3, 4, 2) * 2 - 1
    found = Planner(PlannerSettings(method=method, candidates=12, elites=3, proposals=4), 0.9, False).plan(
        model, actor, state, start)
    followed, places = [], state
    for _ in range(4):
        followed.append(actor.propose(model.features(places)))
        places = model.imagine_step(places, followed[-1])
    score = worth(model, actor, state, found.plan)
    assert (score >= worth(model, actor, state, torch.stack(followed, 1)) - 1e-4).all()
    assert (score >= worth(model, actor, state, start) - 1e-4).all()


@METHODS
def test_what_is_best_already_stays_as_it_is(method):
    """The plan before, or what the actor does when it does not explore: nothing that is drawn is better."""
    best = torch.stack([GOAL, *torch.zeros(3, 2)]).unsqueeze(0)
    assert torch.equal(planner(method=method).plan(Plane(), Fixed(), at([0.0, 0.0]), best).plan, best)
    knowing = Fixed(GOAL.tolist(), scatter=0.5)
    step = planner(method=method, horizon=1).plan(Plane(), knowing, at([0.0, 0.0]), still(horizon=1)).plan
    assert torch.equal(step[0, 0], GOAL)


@pytest.mark.parametrize("weigh", METHODS_BY_NAME.values(), ids=METHODS_BY_NAME)
def test_a_lost_plan_weighs_nothing_and_changes_nothing(weigh):
    scores = torch.tensor([[3.0, 2.0, 0.0]])
    with_lost = torch.tensor([[3.0, 2.0, 0.0, LOST, LOST]])
    weights = weigh(with_lost, 0.5)
    torch.testing.assert_close(weights[:, :3], weigh(scores, 0.5))
    assert not weights[:, 3:].any() and weights.sum() == pytest.approx(1)
    torch.testing.assert_close(weigh(torch.full((1, 4), LOST), 0.5), torch.full((1, 4), 0.25))


def learned(seed, model="tiny", action_space=spaces.Box(-1, 1, (2,), "float32")):
    """A world model and a behaviour with random weights, and a state of three robots."""
    torch.manual_seed(seed)
    settings = AgentSettings(model=model, size="debug")
    model = build_model(spaces.Dict(a=spaces.Box(-1, 1, (3,), "float32")), action_space, settings)
    actor = build_behaviour(model, settings)
    for head in (model.reward_head.body[-1], actor.critic.body[-1], actor.actor[-1]):
        initialise(head.weight, 16)
    model.generator = actor.generator = torch.Generator().manual_seed(seed)
    return model, actor, {key: torch.randn_like(x) for key, x in model.initial(3).items()}


@METHODS
@pytest.mark.parametrize("spoil", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("actor", [Fixed(value=NAN), Fixed(value=-INF), Fixed((NAN, INF)), Fixed((5.0, -9.0))])
def test_a_plan_is_finite_and_allowed_whatever_model_and_actor_say(method, spoil, actor):
    model = Plane(spoil=lambda reward, place: torch.full_like(reward, spoil))
    found = planner(method=method).plan(model, actor, at([0.0, NAN], [0.1, 0.2]), still(2))
    explored = found.plans.explore(found.plan, model.generator)
    assert found.plan.isfinite().all() and (found.plan.abs() <= 1).all()
    assert explored.isfinite().all() and (explored.abs() <= 1).all()


@METHODS
@pytest.mark.parametrize("worst", [NAN, INF, -INF], ids=str)
def test_plans_whose_return_is_not_finite_lose(method, worst):
    model = Plane(spoil=lambda reward, place: torch.where(place[..., 0] > 0.2, worst, reward))
    plan = planner(method=method, iterations=6, candidates=128).plan(model, Fixed(), at([0.0, 0.0]), still()).plan
    reached = plan.cumsum(1)[0]
    assert (reached[:, 0] <= 0.2).all() and (reached[:, 1] + 0.7).abs().max() < 0.3, reached


@METHODS
def test_a_robot_plans_the_same_alone_and_beside_others(method):
    near, far = [0.1, 0.0], [5.0, 5.0]
    together = planner(method=method).plan(Plane(), Fixed(), at(near, far), still(2))
    beside = planner(method=method).plan(Plane(), Fixed(), at(near, [NAN, 0.0]), still(2))
    alone = planner(method=method).plan(Plane(), Fixed(), at(near), still())
    assert torch.equal(together.plan[0], beside.plan[0])
    torch.testing.assert_close(together.plan[:1], alone.plan)


@METHODS
def test_the_same_random_numbers_give_the_same_plan(method):
    plans = [planner(method=method).plan(Plane(seed), Fixed(), at([0.0, 0.0]), still()).plan for seed in (1, 1, 2)]
    assert torch.equal(plans[0], plans[1]) and not torch.equal(plans[0], plans[2])


@METHODS
def test_candidates_share_the_noise_of_sampled_latents(method):
    """Candidates that are the same plan lead to the same latents, of which there are many."""
    model, actor, state = learned(0, "rssm")
    seen, imagine = [], model.imagine
    model.imagine = lambda *inputs: seen.append(imagine(*inputs)) or seen[-1]
    narrow = PlannerSettings(method=method, proposals=0, min_deviation=1e-9, max_deviation=1e-9)
    for _ in range(2):
        Planner(narrow, 0.9, False).plan(model, actor, state, torch.zeros(3, 4, 2))
    latents = [states["stoch"].unflatten(0, (3, 64)) for states in seen]
    assert all(torch.equal(x, x[:, :1].expand_as(x)) for x in latents)
    assert torch.equal(latents[0], latents[1]) and not torch.equal(latents[0], latents[2]), "anew for each plan"


def test_mppi_plans_the_same_for_small_and_large_rewards():
    plans = [planner().plan(Plane(spoil=lambda reward, place: scale * reward), Fixed(), at([0.0, 0.0]), still()).plan
             for scale in (0.01, 1.0, 1000.0)]
    torch.testing.assert_close(plans[0], plans[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(plans[2], plans[1], atol=1e-3, rtol=0)


def test_an_action_may_cost_something():
    free, dear = (planner(action_cost=cost, iterations=6).plan(Plane(), Fixed(), at([0.0, 0.0]), still()).plan
                  for cost in (0.0, 10.0))
    assert dear.square().sum() < 0.2 * free.square().sum()


def test_rewards_behind_the_end_of_an_episode_do_not_count():
    """Beyond the line the episode ends; without rewards to lose, that is the best there is."""
    model = Plane()
    model.continuation = lambda state: (state["place"][..., 0] > -0.5).float()
    plan = planner(iterations=6, candidates=128).plan(model, Fixed(value=-100.0), at([0.0, 0.0]), still()).plan
    assert (plan.cumsum(1)[0, :, 0] <= -0.5).any()
    plan = planner(iterations=6, candidates=128).plan(model, Fixed(value=100.0), at([0.0, 0.0]), still()).plan
    assert (plan.cumsum(1)[0, :, 0] > -0.5).all()


@METHODS
def test_discrete_plans_are_found_among_discrete_actions(method):
    """Of three actions, which move by 1, 0 and -1, two steps forward and then none are best."""
    moves = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    model = Plane(spoil=lambda reward, place: -(place[..., 0] - 2.0).square())
    model.imagine_step = lambda state, action, noise=None: {"place": state["place"] + action @ moves}
    made = Planner(PlannerSettings(method=method, proposals=0, candidates=128, iterations=4), 0.9, True)
    found = made.plan(model, Fixed(), at([0.0, 0.0]), torch.full((1, 4, 3), 1 / 3))
    assert found.plan[0].argmax(-1).tolist() == [0, 0, 1, 1] and (found.plan.sum(-1) == 1).all()
    explored = torch.stack([found.plans.explore(found.plan, model.generator)[0] for _ in range(50)])
    assert (explored.sum(-1) == 1).all() and explored[:, 0].mean() > 0.8
