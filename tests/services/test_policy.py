"""The policy server over real sockets: batching, weights that come late or are wrong, robots that are wrong."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import zmq
from learning_bench import PATIENCE, Switchboard, ask, client, running, toy_config, wait_until

from daydreamer.agent import Agent
from robots.realtime import real_time
from services.crew import Crew
from services.embodiment import model_spaces
from services.learner.weights import Shelf, Weights, pack
from services.policy.acting import Acting
from services.policy.service import PolicyService
from services.wire import sockets
from services.wire.errors import NotLoopback
from services.wire.messages import LIMITS, ActRefused, ActReply, ActRequest, Refused, WeightsRequest

CONFIG = toy_config()


def request(step: int, robot: str = "toy-0", **arrays: np.ndarray) -> ActRequest:
    seen = {"imu": np.full((1, 2), 0.1 * step, np.float32), "joints": np.zeros((1, 3), np.float32),
            "prev_action": np.zeros((1, 2), np.float32), "is_first": np.array([step == 0])}
    return ActRequest(robot, robot.encode().ljust(16), step, False, {**seen, **arrays})


def weights(version: int) -> Weights:
    return pack(Agent(*model_spaces(CONFIG), CONFIG.agent, CONFIG.seed).acting_state(), version, updates=10)


@contextmanager
def learner(board: Switchboard, shelf: Shelf):
    """The learner's weights port, without the learner."""
    with zmq.Context() as context, Crew(threading.Event()) as crew:
        server = sockets.Server(context, "tcp://127.0.0.1:0", limit=LIMITS["weights"])

        def work() -> None:
            while not crew.ended:
                if (received := server.receive(0.02)) is not None:
                    assert isinstance(received.message, WeightsRequest)
                    server.send(received.peer, shelf.answer(received.message))
            server.close()

        crew.start("weights", work)
        board.addresses["weights"] = server.address
        yield


@contextmanager
def policy(shelf: Shelf | None = None, **changes):
    """A running policy server, and the function that asks it."""
    with Switchboard() as board, learner(board, shelf or Shelf()):
        service = PolicyService(toy_config(**changes), control=board.control)
        with running(service), client(board.address("policy"), "policy") as link:
            yield link


def act(link: sockets.Client, message: ActRequest) -> ActReply:
    """Ask until there are weights."""
    replies: list[object] = []
    wait_until(lambda: replies.append(ask(link, message)) or isinstance(replies[-1], ActReply), "there were weights")
    return replies[-1]


def shelf_with(version: int) -> Shelf:
    shelf = Shelf()
    shelf.put(weights(version))
    return shelf


def test_before_the_first_weights_robots_are_told_to_explore():
    with policy() as link:
        assert ask(link, request(0)).reason == "no_weights"


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no scheduling classes")
def test_only_the_thread_that_answers_robots_is_real_time_and_it_sleeps_while_nobody_asks():
    with real_time() as allowed:
        pass
    with policy(shelf_with(1)) as link:
        act(link, request(0))
        favoured = [t for t in threading.enumerate() if os.sched_getscheduler(t.native_id) & os.SCHED_RR]
        assert [t.name for t in favoured] == ["PolicyService"] * allowed
        before = time.process_time()
        assert link.receive(1.0) is None
        assert time.process_time() - before < 0.3  # seconds of processor time in one of nobody asking, all threads


def test_a_policy_server_that_starts_late_gets_the_newest_weights_and_then_newer_ones():
    shelf = shelf_with(7)
    with policy(shelf) as link:
        assert act(link, request(0)).weights_version == 7
        shelf.put(weights(8))
        step = iter(range(1, 10_000))
        wait_until(lambda: ask(link, request(next(step))).weights_version == 8,
                   "the newer weights were used, carries kept")


def test_two_robots_that_ask_together_are_answered_together():
    with policy(shelf_with(1), policy={"batch_window": 0.1}) as link:
        act(link, request(0, "toy-0"))
        act(link, request(0, "toy-1"))
        link.send(request(1, "toy-0"))
        link.send(request(1, "toy-1"))
        replies = [link.receive(PATIENCE) for _ in range(2)]
        assert all(isinstance(r, ActReply) and r.step == 1 for r in replies)
        assert not np.array_equal(*(r.arrays["actions"] for r in replies)), "each draws its own action"


def test_a_robot_alone_does_not_wait_for_the_window():
    with policy(shelf_with(1), policy={"batch_window": 0.1}) as link:
        act(link, request(0))
        begun = time.monotonic()
        for step in range(1, 21):
            ask(link, request(step))
        assert time.monotonic() - begun < 20 * 0.1, "it would be 2 s, had every request waited"


def test_a_robot_with_nan_is_refused_and_the_others_act():
    with policy(shelf_with(1), policy={"batch_window": 0.1}) as link:
        act(link, request(0, "toy-0"))
        link.send(request(0, "toy-1", imu=np.full((1, 2), np.nan, np.float32)))
        link.send(request(1, "toy-0"))
        replies = {type(r): r for r in (link.receive(PATIENCE), link.receive(PATIENCE))}
        assert replies[ActRefused].reason == "bad_observation" and "imu: not finite" in replies[ActRefused].text
        assert replies[ActReply].step == 1


def test_two_requests_of_one_robot_within_a_window_are_answered_one_after_the_other():
    with policy(shelf_with(1), policy={"batch_window": 0.1}) as link:
        act(link, request(0, "toy-0"))
        act(link, request(0, "toy-1"))
        for asked in (request(1, "toy-0"), request(2, "toy-0"), request(1, "toy-1")):
            link.send(asked)
        replies = [link.receive(PATIENCE) for _ in range(3)]
        assert all(isinstance(r, ActReply) for r in replies) and sorted(r.step for r in replies) == [1, 1, 2]


@pytest.mark.parametrize("spoil", [
    lambda w: dataclasses.replace(w, data=w.data[:-1] + bytes([w.data[-1] ^ 1])),
    lambda w: pack({"actor": torch.zeros(3)}, w.version, w.updates),
    lambda w: pack({"actor": torch.zeros(10**6)}, w.version, w.updates),
], ids=["tampered", "of another agent", "too large"])
def test_bad_weights_are_left_alone_and_the_ones_in_use_stay(spoil):
    shelf = shelf_with(1)
    with policy(shelf) as link:
        act(link, request(0))
        shelf.put(spoil(weights(2)))
        shelf.put(spoil(weights(3)))
        assert {ask(link, request(step)).weights_version for step in range(1, 60)} == {1}
        shelf.put(weights(4))
        step = iter(range(60, 10_000))
        wait_until(lambda: ask(link, request(next(step))).weights_version == 4, "good weights were taken again")


def test_what_is_no_request_is_refused_by_name():
    with policy() as link:
        answer = ask(link, WeightsRequest(-1))
        assert isinstance(answer, Refused) and "ActRequest" in answer.text


def test_a_server_that_strangers_could_reach_does_not_start_without_keys():
    with pytest.raises(NotLoopback, match="daydreamer keys new"):
        PolicyService(toy_config(network={"host": "0.0.0.0"})).run(threading.Event())


def test_planning_ends_before_a_robot_stops_waiting_and_sooner_where_others_may_ask_meanwhile(monkeypatch):
    plans = {"behaviour": "mpc", "planner": {"candidates": 4, "elites": 2, "proposals": 1}}
    planned, shares, answer = toy_config(agent=plans), [], Acting.answer

    def answers(acting, requests, version, now, deadline):
        shares.append((deadline - now) / planned.robot.action_deadline)
        return answer(acting, requests, version, now, deadline)

    shelf = Shelf()
    shelf.put(pack(Agent(*model_spaces(planned), planned.agent, planned.seed).acting_state(), 1, updates=10))
    monkeypatch.setattr(Acting, "answer", answers)
    with policy(shelf, agent=plans) as link:
        act(link, request(0, "toy-0"))
        act(link, request(1, "toy-0"))
        act(link, request(0, "toy-1"))
        act(link, request(1, "toy-1"))
    assert shares[-3:-1] == pytest.approx([0.75, 0.75]) and shares[-1] == pytest.approx(0.375)
