"""The robot's line to the policy server: the control thread asks and waits a moment, another moves the messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from robots.realtime import real_time
from services.crew import Crew
from services.link import Link
from services.node import Node
from services.robot.conversation import Conversation, Decision
from services.wire import sockets
from services.wire.messages import ActRefused, ActRequest

LISTEN = 0.1  # seconds between looks at whether the policy server moved


class PolicyClient:
    """One robot's. `begin`, `ask` and `answer` belong to the control thread, `work` is the other one. `keep`:
    observations kept for a server that missed some."""

    def __init__(self, robot: str, action_space: spaces.Space, keep: int, node: Node, link: Link) -> None:
        self._conversation = Conversation(robot, action_space, keep)
        self._node, self._link = node, link
        self._changed = threading.Condition()
        self._wakeup = sockets.Wakeup()
        self._request: ActRequest | None = None
        self._asked: tuple[int, float] = (-1, 0.0)

    @property
    def weights_seen(self) -> bool:
        """Whether an action ever came from weights."""
        return self._conversation.weights_seen

    def begin(self, stream: bytes) -> None:
        """A new boot of the body."""
        with self._changed:
            self._conversation.begin(stream)
            self._request = None

    def ask(self, tick: int, arrays: Mapping[str, np.ndarray], time_ns: int) -> None:
        """Send the observation of this tick, as Conversation.ask; it replaces one that has not left yet."""
        with self._changed:
            self._request = self._conversation.ask(tick, arrays, time_ns)
        self._wakeup.set()

    def answer(self, tick: int, deadline: float) -> Decision | None:
        """The action for this tick, as soon as it is there, at the latest at `deadline` (monotonic seconds); None: no
        answer reaches as far as this tick."""
        with self._changed:
            while not self._conversation.settled(tick) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._conversation.decision(tick)

    def work(self, crew: Crew) -> None:
        """The other thread."""
        try:
            with real_time():  # the control loop waits for what passes here
                while not crew.ended:
                    self._pass_on()
        finally:
            self._link.close()

    def _pass_on(self) -> None:
        """Wait for something to send or to hear, and move it."""
        client = self._link.client()
        sockets.wait([self._wakeup, client] if client else [self._wakeup], LISTEN)
        self._wakeup.clear()
        self._send()
        while client and (message := client.receive()) is not None:
            self._take(message)

    def _send(self) -> None:
        with self._changed:
            request, self._request = self._request, None
        if request is None:
            return
        if request.step != self._asked[0]:
            self._asked = request.step, time.monotonic()
        self._link.send(request)

    def _take(self, message: object) -> None:
        if isinstance(message, ActRefused):
            self._node.count("robot_policy_refusals_total", label=message.reason)
        if getattr(message, "step", None) == self._asked[0]:
            self._node.observe("robot_policy_round_trip_seconds", time.monotonic() - self._asked[1])
        with self._changed:
            self._request = self._conversation.on_message(message) or self._request
            self._changed.notify_all()
        self._send()
