"""Robots share one pass of the model, each with its own memory; asking twice moves nothing; errors harm nobody else."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.settings import AgentSettings
from services.policy.acting import FORGET_AFTER, Acting
from services.wire.messages import ActRefused, ActReply, ActRequest

SEEN = spaces.Dict({"imu": spaces.Box(-10, 10, (2,), np.float32), "joints": spaces.Box(-3, 3, (3,), np.float32)})
MOVES = spaces.Box(-1, 1, (2,), np.float32)
BOOT = bytes(16)


def agent() -> Agent:
    return Agent(SEEN, MOVES, AgentSettings(size="debug"), seed=1)


def acting(a: Agent | None = None) -> Acting:
    return Acting(a or agent(), SEEN, MOVES)


def rows(first: int, last: int) -> dict[str, np.ndarray]:
    """What a robot saw at steps `first` to `last`; the same for the same steps, `is_first` at step 0."""
    steps = np.arange(first, last + 1)
    wave = np.sin(steps[:, None] * 0.3 + np.arange(3)).astype(np.float32)
    return {"imu": wave[:, :2], "joints": wave, "prev_action": 0.5 * wave[:, 1:], "is_first": steps == 0}


def request(step: int, first: int | None = None, robot: str = "a", boot: bytes = BOOT,
            complete: bool = False) -> ActRequest:
    return ActRequest(robot, boot, step, complete, rows(step if first is None else first, step))


def carry_at(a: Acting, robot: str = "a") -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in a._seats[robot, BOOT].carry.items()}


def one(a: Acting, r: ActRequest, version: int = 5, now: float = 0.0) -> ActReply | ActRefused:
    return a.answer([r], version, now)[0]


def test_without_weights_robots_are_told_to_explore():
    assert one(acting(), request(0), version=-1).reason == "no_weights"


def test_an_answer_names_its_step_and_the_weights_behind_it():
    reply = one(acting(), request(0))
    assert (reply.step, reply.weights_version) == (0, 5)
    assert reply.arrays["actions"].shape == (1, 2) and reply.arrays["actions"].dtype == np.float32


def test_robots_that_ask_together_are_answered_together_each_from_its_own_memory(monkeypatch):
    a = acting()
    together = [request(0, robot=name) for name in "abc"]
    batches = []
    act = a._agent.act
    monkeypatch.setattr(a._agent, "act",
                        lambda carry, obs, *rest: batches.append(len(obs["imu"])) or act(carry, obs, *rest))
    first = a.answer(together, 1, 0.0)
    assert batches == [3]
    assert [r.step for r in first] == [0, 0, 0]
    step = a.answer([request(1, robot="b"), dataclasses.replace(request(1, robot="c"), arrays=rows(4, 4))], 1, 0.0)
    assert all(isinstance(r, ActReply) for r in step)
    assert a._seats["a", BOOT].step == 0 and a._seats["b", BOOT].step == 1


def test_each_robot_gets_its_own_row_of_the_batch(monkeypatch):
    a = acting()
    given = []

    def act(carry, obs, *_):
        """The memory becomes what was seen, so that it can be followed."""
        given.append(next(iter(carry.values())).flatten(1)[:, 0].tolist())
        row = torch.from_numpy(obs["imu"][:, 0])
        return obs["imu"], {key: torch.ones_like(x) * row.reshape(-1, *[1] * (x.ndim - 1)) for key, x in carry.items()}

    monkeypatch.setattr(a._agent, "act", act)
    seen = {name: {**rows(0, 0), "imu": np.full((1, 2), value, np.float32)}
            for name, value in (("a", 0.25), ("b", 0.5))}
    replies = a.answer([ActRequest(name, BOOT, 0, True, arrays) for name, arrays in seen.items()], 1, 0.0)
    assert [r.arrays["actions"].tolist() for r in replies] == [[[0.25, 0.25]], [[0.5, 0.5]]]
    a.answer([request(1, robot="b"), request(1, robot="a")], 1, 0.0)
    assert given[1] == [0.5, 0.25], "whatever the order they ask in"


def test_asking_again_gives_the_same_action_and_moves_the_memory_once():
    a = acting()
    one(a, request(0))
    first = one(a, request(1))
    before = carry_at(a)
    again = one(a, request(1), version=6)
    assert again is first
    assert all((before[k] == carry_at(a)[k]).all() for k in before)


def test_a_memory_that_is_not_there_is_asked_for_and_rebuilt_from_the_last_steps():
    a = acting()
    assert one(a, request(40)).reason == "need_context"
    assert isinstance(one(a, request(40, first=30, complete=True)), ActReply)
    assert isinstance(one(a, request(41)), ActReply)
    assert a.rebuilt == 1


def test_a_missed_step_is_caught_up_from_the_memory_that_stands_before_it():
    a, seen = acting(), []
    one(a, request(0))
    observe = a._agent.observe
    a._agent.observe = lambda carry, obs, *rest: seen.append(obs["imu"].shape[1]) or observe(carry, obs, *rest)
    assert isinstance(one(a, request(3, first=1)), ActReply)
    assert isinstance(one(a, request(5, first=2)), ActReply)
    assert seen == [2, 1], "of steps 2 to 5 only 4 and 5 are new, and the newest is acted on"


def test_an_episode_that_begins_within_the_steps_needs_no_memory():
    assert isinstance(one(acting(), request(3, first=0)), ActReply)


def test_a_request_from_the_past_does_not_move_a_robot_back():
    a = acting()
    for step in range(4):
        one(a, request(step))
    assert one(a, request(1, first=0, complete=True)).reason == "need_context"
    assert isinstance(one(a, request(4)), ActReply)


def test_a_new_boot_of_a_robot_takes_the_place_of_the_old():
    a = acting()
    one(a, request(0))
    one(a, request(0, boot=b"\1" * 16))
    assert list(a._seats) == [("a", b"\1" * 16)]


def test_a_robot_that_was_silent_for_long_is_forgotten():
    a = acting()
    one(a, request(0))
    one(a, request(0, robot="b"), now=FORGET_AFTER + 1)
    assert one(a, request(1), now=FORGET_AFTER + 1).reason == "need_context"


@pytest.mark.parametrize("name, value, text", [
    ("imu", np.array([[np.nan, 0]], np.float32), "imu: not finite"),
    ("imu", np.zeros((1, 3), np.float32), "imu: got float32"),
    ("imu", np.zeros((1, 2), np.float64), "imu: got float64"),
    ("prev_action", np.array([[np.inf, 0]], np.float32), "prev_action: not finite"),
    ("is_first", np.zeros(0, bool), "is_first"),
    ("is_first", np.zeros((), bool), "is_first"),
    ("camera", np.zeros((1, 2), np.float32), "camera"),
])
def test_a_bad_observation_is_refused_by_name_and_the_others_are_answered(name, value, text):
    a = acting()
    good = request(0, robot="b")
    reply, other = a.answer([dataclasses.replace(request(0), arrays={**rows(0, 0), name: value}), good], 1, 0.0)
    assert reply.reason == "bad_observation" and text in reply.text
    assert isinstance(other, ActReply)
    assert isinstance(one(a, request(0)), ActReply), "the robot goes on as if it had not asked"


def test_a_choice_outside_the_action_space_is_refused():
    moves = spaces.Discrete(3)
    a = Acting(Agent(SEEN, moves, AgentSettings(size="debug")), SEEN, moves)
    arrays = {**rows(0, 0), "prev_action": np.array([0])}
    reply = one(a, ActRequest("a", BOOT, 0, True, arrays))
    assert reply.arrays["actions"].shape == (1,) and reply.arrays["actions"].dtype == np.int64
    refused = one(a, ActRequest("a", BOOT, 1, True, {**rows(1, 1), "prev_action": np.array([3])}))
    assert refused.reason == "bad_observation"


def test_a_memory_that_gives_no_action_is_dropped_instead_of_kept():
    a = acting()
    one(a, request(0))
    for tensor in a._seats["a", BOOT].carry.values():
        tensor.fill_(float("nan"))
    assert one(a, request(1)).reason == "need_context"
    assert isinstance(one(a, request(1, first=0, complete=True)), ActReply)


def test_new_weights_keep_the_memory():
    learner, a = agent(), acting()
    one(a, request(0))
    before = carry_at(a)
    a._agent.load_acting_state(learner.acting_state())
    assert all((before[k] == carry_at(a)[k]).all() for k in before)
    assert one(a, request(1), version=6).weights_version == 6


def test_warming_up_leaves_no_trace():
    a = acting()
    a.warm_up()
    assert a.present(0.0) == 0 and a.rebuilt == 0


def test_robots_that_plan_are_planned_for_together_and_each_keeps_its_plan():
    planner = Agent(SEEN, MOVES, AgentSettings(size="debug", behaviour="mpc"), seed=1)
    a = acting(planner)
    a.answer([request(0, robot=name) for name in "abc"], 1, 0.0)
    before = {name: carry_at(a, name)["plan"] for name in "abc"}
    assert planner.behaviour.figures["plan_iterations"] == 2 and before["a"].shape == (1, 4, 2)
    a.answer([request(1, robot="b")], 1, 0.0)
    assert (carry_at(a, "a")["plan"] == before["a"]).all() and (carry_at(a, "b")["plan"] != before["b"]).any()


def test_a_memory_that_is_not_finite_is_dropped_even_where_the_action_is(monkeypatch):
    planner = Agent(SEEN, MOVES, AgentSettings(size="debug", behaviour="mpc"), seed=1)
    a = acting(planner)
    one(a, request(0))
    observe = planner.model.observe
    monkeypatch.setattr(planner.model, "observe", lambda *inputs: (
        {key: x * np.nan for key, x in observe(*inputs)[0].items()}, {}))
    assert one(a, request(1)).reason == "need_context" and not a._seats
