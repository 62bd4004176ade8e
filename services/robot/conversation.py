"""What a robot says to the policy server and what it makes of the answers. Sans-IO, one thread at a time.

Every observation gets a number, its tick, which grows for as long as the process lives, so that an answer can never be
taken for that to another question. The last observations are kept: when the server missed some, or restarted, it gets
them again. An answer is a plan: its entry i is for tick + i, and stays good for when a later answer does not come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from services.wire.messages import ActRefused, ActReply, ActRequest

PLANS = 8  # how many answers are kept


@dataclass(frozen=True)
class Decision:
    """An action for one tick: the weights that chose it, and when what it was chosen for was seen [monotonic ns]."""

    action: np.ndarray
    weights_version: int
    observed: int


@dataclass(frozen=True)
class _Seen:
    tick: int
    time: int
    arrays: Mapping[str, np.ndarray]


class Conversation:
    """One robot's side. `keep`: observations kept; `weights_seen`: whether an action ever came from weights."""

    def __init__(self, robot: str, action_space: spaces.Space, keep: int) -> None:
        self._robot, self._space = robot, action_space
        self._stream = b""
        self._seen: deque[_Seen] = deque(maxlen=keep)
        self._plans: deque[tuple[ActReply, int]] = deque(maxlen=PLANS)
        self._answered: int | None = None
        self._refused = self._repeated = -1
        self._episode = 0
        self.weights_seen = False

    def begin(self, stream: bytes) -> None:
        """A new boot of the body: what was seen before it has nothing to do with what comes."""
        self._stream, self._answered = stream, None
        self._seen.clear()
        self._plans.clear()

    def ask(self, tick: int, arrays: Mapping[str, np.ndarray], time: int) -> ActRequest:
        """The question about this tick. `arrays`: the model's observation keys, `prev_action` and `is_first`, one step;
        `time`: when it was seen."""
        if arrays["is_first"]:
            self._episode = tick
        self._seen.append(_Seen(tick, time, arrays))
        missed = len(self._seen) if self._answered is None else tick - self._answered
        return self._request(missed)

    def on_message(self, message: object) -> ActRequest | None:
        """Take an answer; returns what is to be sent at once. What answers nothing that was asked changes nothing."""
        match message:
            case ActReply() if (seen := self._find(message.step)) and self._fits(message.arrays):
                self._plans.append((message, seen.time))
                self._answered = max(message.step, self._answered or 0)
                self.weights_seen = True
            case ActRefused(reason="need_context") if self._may_repeat(message.step):
                self._repeated = message.step
                return self._request(len(self._seen))
            case ActRefused():
                self._refused = message.step
        return None

    def decision(self, tick: int) -> Decision | None:
        """The entry for this tick of the newest answer that has one. No plan reaches into the next episode."""
        for reply, time in sorted(self._plans, key=lambda plan: plan[0].step, reverse=True):
            actions = reply.arrays["actions"]
            if self._episode <= reply.step <= tick < reply.step + len(actions):
                return Decision(actions[tick - reply.step], reply.weights_version, time)
        return None

    def settled(self, tick: int) -> bool:
        """Whether there is nothing more to wait for: this very tick was answered or refused."""
        return self._refused == tick or (self._answered is not None and self._answered >= tick)

    def _may_repeat(self, tick: int) -> bool:
        """Once per tick, and only what was asked last."""
        return bool(self._seen) and self._repeated < tick == self._seen[-1].tick

    def _request(self, steps: int) -> ActRequest:
        """The last `steps` observations, as many as there are."""
        sent = list(self._seen)[-steps:]
        arrays = {key: np.stack([seen.arrays[key] for seen in sent]) for key in sent[0].arrays}
        return ActRequest(self._robot, self._stream, sent[-1].tick, len(sent) == len(self._seen), arrays)

    def _find(self, tick: int) -> _Seen | None:
        return next((seen for seen in reversed(self._seen) if seen.tick == tick), None)

    def _fits(self, arrays: Mapping[str, np.ndarray]) -> bool:
        actions = arrays.get("actions")
        return (actions is not None and actions.dtype == self._space.dtype and len(actions) > 0
                and actions.shape[1:] == self._space.shape)
