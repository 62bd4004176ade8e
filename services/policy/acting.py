"""Answers robots' requests for actions: who sits where, what each remembers, one pass of the model for all.

A robot's boot has a seat: the step it stands at, its carry there, and the last reply. The carry goes on from request to
request, survives new weights, and is rebuilt from the steps that the robot sends again when it is not there. Sans-IO,
one thread. Several robots share one `agent.act`; one bad request harms no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.models.world_model import State
from services.wire.messages import ActRefused, ActReply, ActRequest

FORGET_AFTER = 60.0  # seconds without a request; the robot then sends its context again
PRESENT = 1.0  # seconds since its last request for which a robot is expected to ask again

Name = tuple[str, bytes]  # robot and boot


@dataclass
class Seat:
    """Where one boot of a robot stands: `carry` [1, ...] is that after `step`."""

    step: int
    carry: State
    reply: ActReply
    used: float


@dataclass(frozen=True)
class _Turn:
    """A request that will be acted on: its last `rows` steps, beginning from `carry`."""

    index: int
    request: ActRequest
    carry: State
    rows: int


class Acting:
    """The seats around one agent."""

    def __init__(self, agent: Agent, observation_space: spaces.Dict, action_space: spaces.Space) -> None:
        self._agent, self._space, self._action_space = agent, observation_space, action_space
        self._seats: dict[Name, Seat] = {}
        self.rebuilt = 0  # carries made anew from a robot's last steps

    def answer(self, requests: Sequence[ActRequest], version: int, now: float,
               deadline: float = math.inf) -> list[ActReply | ActRefused]:
        """One reply per request, in order; at most one per robot and boot. `version`: of the weights (-1: none). Who
        plans stops before `deadline`, a time of `time.monotonic`."""
        if version < 0:
            return [ActRefused(r.step, "no_weights", "the learner has not published weights yet") for r in requests]
        placed = [self._place(i, r) for i, r in enumerate(requests)]
        turns = [p for p in placed if isinstance(p, _Turn)]
        for turn, reply in zip(turns, self._act(turns, version, now, deadline), strict=True):
            placed[turn.index] = reply
        self._forget(now)
        return placed  # type: ignore[return-value]  # every turn has been replaced

    def present(self, now: float) -> int:
        """How many robots asked lately, and so may be waited for within the batch window."""
        return sum(now - seat.used < PRESENT for seat in self._seats.values())

    def warm_up(self) -> None:
        """Run the model once on nothing: the first call of torch is slow, and no robot should wait for it."""
        rows = {key: np.zeros((1, 2, *space.shape), space.dtype) for key, space in self._space.items()}
        prev_action = np.zeros((1, 2, *self._action_space.shape), self._action_space.dtype)
        is_first = np.array([[True, False]])
        carry = self._agent.observe(self._agent.initial(1), rows, prev_action, is_first)
        self._agent.act(carry, {key: row[:, 0] for key, row in rows.items()}, prev_action[:, 0], is_first[:, 1])

    def _place(self, index: int, request: ActRequest) -> _Turn | ActReply | ActRefused:
        if wrong := self._wrong(request.arrays):
            return ActRefused(request.step, "bad_observation", wrong)
        seat = self._seats.get((request.robot, request.boot))
        first, steps = request.arrays["is_first"], len(request.arrays["is_first"])
        if seat and seat.step == request.step:
            return seat.reply  # asked again: the same action, and the carry moves once
        if seat and seat.step > request.step:
            return ActRefused(request.step, "need_context", f"late: step {seat.step} was answered already")
        if seat and request.step - seat.step <= steps:
            return _Turn(index, request, seat.carry, request.step - seat.step)
        if request.complete or first.any():
            self.rebuilt += 1
            return _Turn(index, request, self._agent.initial(1), steps)
        return ActRefused(request.step, "need_context", "no carry for the step before these")

    def _wrong(self, arrays: Mapping[str, np.ndarray]) -> str:
        """What is wrong with a request's arrays; empty: nothing."""
        wanted = {**self._space.spaces, "prev_action": self._action_space}
        odd = sorted(set(arrays) ^ {*wanted, "is_first"})
        if odd:
            return f"{', '.join(odd)}: missing, or not what the model reads"
        first = arrays["is_first"]
        if first.ndim != 1 or first.dtype != np.bool_ or not len(first):
            return f"is_first: got {first.dtype} {first.shape}, want bool [K]"
        for key, space in wanted.items():
            array = arrays[key]
            if array.shape != (len(first), *space.shape) or array.dtype != space.dtype:
                return f"{key}: got {array.dtype} {array.shape}, want {space.dtype} {(len(first), *space.shape)}"
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"{key}: not finite"
        return self._wrong_choice(arrays["prev_action"])

    def _wrong_choice(self, prev_action: np.ndarray) -> str:
        space = self._action_space
        if isinstance(space, spaces.Discrete) and ((prev_action < 0) | (prev_action >= space.n)).any():
            return f"prev_action: want 0 to {space.n - 1}"
        return ""

    def _act(self, turns: list[_Turn], version: int, now: float, deadline: float) -> list[ActReply | ActRefused]:
        """Act on the newest step of every turn at once, after going over the steps before it."""
        if not turns:
            return []
        newest = {key: np.stack([turn.request.arrays[key][-1] for turn in turns]) for key in turns[0].request.arrays}
        prev_action, is_first = newest.pop("prev_action"), newest.pop("is_first")
        carry = join([self._catch_up(turn) for turn in turns])
        actions, carry = self._agent.act(carry, newest, prev_action, is_first, "sample", deadline)
        return [self._seat(turn, actions[i], part(carry, i), version, now) for i, turn in enumerate(turns)]

    def _catch_up(self, turn: _Turn) -> State:
        """The carry just before the newest step."""
        if turn.rows == 1:
            return turn.carry
        missed = {key: array[-turn.rows:-1][None] for key, array in turn.request.arrays.items()}
        prev_action, is_first = missed.pop("prev_action"), missed.pop("is_first")
        return self._agent.observe(turn.carry, missed, prev_action, is_first)

    def _seat(self, turn: _Turn, action: np.ndarray, carry: State, version: int, now: float) -> ActReply | ActRefused:
        """Remember where the robot stands now. A carry that is not finite is dropped, and so is one that gives no
        finite action."""
        request = turn.request
        if not (np.isfinite(action).all() and all(tensor.isfinite().all() for tensor in carry.values())):
            self._seats.pop((request.robot, request.boot), None)
            return ActRefused(request.step, "need_context", f"weights {version} give no finite action from this carry")
        reply = ActReply(request.step, version, {"actions": np.asarray(action)[None]})
        for name in [n for n in self._seats if n[0] == request.robot and n[1] != request.boot]:
            del self._seats[name]
        self._seats[request.robot, request.boot] = Seat(request.step, carry, reply, now)
        return reply

    def _forget(self, now: float) -> None:
        for name in [n for n, seat in self._seats.items() if now - seat.used > FORGET_AFTER]:
            del self._seats[name]


def join(carries: Sequence[State]) -> State:
    """Carries [1, ...] to one carry [B, ...]."""
    return {key: torch.cat([carry[key] for carry in carries]) for key in carries[0]}


def part(carry: State, i: int) -> State:
    """Entry i of a carry [B, ...], as a carry [1, ...] with memory of its own."""
    return {key: tensor[i:i + 1].clone() for key, tensor in carry.items()}
