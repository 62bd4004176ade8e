"""What a robot does once per control period; nothing here waits longer than the action deadline or touches a disk.

Period t: read the signals, score them, ask the policy, wait for its answer until the deadline, apply the action for t
or repeat the last one while it is no older than the robot's `command_ttl`, record the step. A step is handed over one
period later, because only then is it known whether the episode goes on. Whatever keeps the robot from collecting
(disarmed, paused, a fault, an unreadable observation, a silent policy, a full spool, a lost link, a computer so busy
that the last command expired) holds the robot and closes the episode; the next recorded step begins one.

One thread calls `connect`, `tick` and `finish`; `order` is called from any.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from daydreamer.exploration import Explorer
from robots.driver import Applied, Driver, Health, LinkLost, Mode, NotConnected, RobotError, Signals, StaleState, Stop
from robots.task import Outcome, Task
from services.robot.conversation import Decision
from services.wire.messages import Order

if TYPE_CHECKING:
    from services.node import Node

EXPLORED, HELD = -1, -2  # weights_version of steps that no weights chose
PATIENCE = 1.0  # seconds on the wall for which the policy is waited for at most, however slow the robot's clock is
BLIND = 1.0  # seconds of unreadable observations after which the robot is stopped for an operator to look

log = logging.getLogger(__name__)
Step = dict[str, np.ndarray]


class Policy(Protocol):
    """What the loop needs of services/robot/policy_client.py."""

    weights_seen: bool

    def begin(self, stream: bytes) -> None: ...
    def ask(self, tick: int, arrays: Mapping[str, np.ndarray], time: int) -> None: ...
    def answer(self, tick: int, deadline: float) -> Decision | None: ...


class Sink(Protocol):
    """What the loop needs of services/robot/spool.py. `trouble`: why no step can be taken, "" while there is room."""

    trouble: str

    def put(self, stream: bytes, step: Step) -> bool: ...


@dataclass(frozen=True)
class Choice:
    """What the loop asks of the body now; `observed`: when what it was chosen for was seen [monotonic ns]."""

    action: np.ndarray
    weights_version: int
    observed: int


class Control:
    """The loop's state and its period. `keys`: the signals that the policy sees; `deadline`: seconds to wait for it.

    Seconds are the robot's, whose clock runs `speed` times as fast as the wall's, from now on. `elapsed`: those since
    the period before began, told before each. Of the period that was last: `fell_back`, whether no answer came in time,
    and `overruns` of the body until then.
    """

    def __init__(self, body: Driver, task: Task, policy: Policy, sink: Sink, node: Node, explorer: Explorer, *,
                 keys: Sequence[str], deadline: float, now: Callable[[], int] = time.monotonic_ns) -> None:
        self._body, self._task, self._policy, self._sink, self._node = body, task, policy, sink, node
        self._explorer, self._keys, self._deadline, self._now = explorer, tuple(keys), deadline, now
        space = body.spec.action_space
        self._nothing = np.zeros(space.shape, space.dtype)
        self._orders: queue.SimpleQueue[tuple[Order, int]] = queue.SimpleQueue()
        self._estops = self.overruns = 0
        self.speed, self.elapsed, self.fell_back = 1.0, 0.0, False
        self.stopping = threading.Event()
        self._paused = ""
        self._stream = b""
        self._ticks = 0
        self._first = True
        self._pending: Step | None = None
        self._held: Choice | None = None
        self._previous = self._nothing
        self._blind_since: int | None = None
        self._warnings = ""

    def connect(self) -> bool:
        """Reach the body; a body reached anew is a new stream. False where it cannot be reached now."""
        try:
            self._body.connect()
        except RobotError as error:
            if not error.recoverable:
                raise
            self._say("starting", str(error))
            return False
        self._stream = os.urandom(16)
        self._policy.begin(self._stream)
        return True

    def tick(self) -> bool:
        """One control period. False where the body was lost: connect again."""
        return self._guarded(self._period)

    def attend(self) -> bool:
        """What must not wait for the next period where a slow clock puts it far off: a sign of life for the body,
        orders, faults. False as `tick`."""
        return self._guarded(self._look_up)

    def _guarded(self, work: Callable[[], None]) -> bool:
        try:
            work()
            return True
        except (LinkLost, NotConnected) as error:
            log.warning("body lost: %s", error)
            self._node.count("robot_link_losses_total")
            self._interrupt()
            self._say("starting", str(error))
            return False
        except StaleState as error:
            self._interrupt()
            self._say("waiting", str(error))
            return True

    def order(self, order: Order) -> None:
        """Take an order; what must not wait for the loop is done at once, the rest in the next period."""
        match order.order:
            case "estop":
                self._estops += 1
                self._body.stop(Stop.ESTOP)
                self._node.order_done(order.number, True, "stopped; look at the robot, then clear the fault")
            case "stop":
                self.stopping.set()
                self._node.order_done(order.number, True, "stopping")
            case _:
                self._orders.put((order, self._estops))

    def finish(self) -> None:
        """Close the episode and bring the robot to rest: hold, park, let go."""
        self._interrupt()
        self._body.stop(Stop.HOLD)
        self._body.disconnect()

    def _period(self) -> None:
        start, self.fell_back = self._now(), False
        if self.elapsed > self._body.spec.command_ttl:
            self._interrupt()
        self._obey()
        signals, health = self._body.read(), self._body.health()
        self._report(health)
        if state := self._obstacle(signals, health, start):
            self._say(*state)
            self._rest()
        else:
            self._act(signals, start)

    def _look_up(self) -> None:
        self._obey()
        self._body.read()
        health = self._body.health()
        self._report(health)
        if health.mode == Mode.FAULT:
            self._say("fault", health.fault)
            self._rest()

    def _obey(self) -> None:
        while not self._orders.empty():
            order, estops = self._orders.get()
            try:
                if order.order not in ("pause", "disarm") and estops != self._estops:
                    raise ValueError(f"{order.order}: overtaken by an emergency stop")
                self._node.order_done(order.number, True, self._carry_out(order))
            except (RobotError, ValueError) as error:
                self._node.order_done(order.number, False, str(error))
                if isinstance(error, (LinkLost, NotConnected)):
                    raise

    def _carry_out(self, order: Order) -> str:
        """What was done. Raises RobotError, ValueError for an order that robots do not know."""
        match order.order:
            case "arm":
                self._body.arm()
            case "disarm":
                self._body.stop(Stop.DAMP)
            case "pause":
                self._paused = f"by {order.token}" if order.token else "by an operator"
            case "resume":
                self._paused = ""
            case "clear_fault":
                self._body.clear_fault(order.token)
            case unknown:
                raise ValueError(f"order {unknown!r}: robots know arm, disarm, pause, resume, stop, estop, clear_fault")
        return order.order

    def _obstacle(self, signals: Signals, health: Health, now: int) -> tuple[str, str] | None:
        """The state and its reason where no step can be collected in this period."""
        unreadable = self._unreadable(signals, health, now)
        if health.mode == Mode.FAULT:
            return "fault", health.fault
        if self._paused:
            return "paused", self._paused
        if health.mode == Mode.DISARMED:
            return "disarmed", unreadable
        if unreadable:
            return "waiting", unreadable
        if self._sink.trouble:
            return "waiting", self._sink.trouble
        return None

    def _unreadable(self, signals: Signals, health: Health, now: int) -> str:
        """Why this reading cannot be acted on. Values that stay not finite are a fault."""
        bad = [name for name, value in signals.values.items() if not np.isfinite(value).all()]
        if not bad:
            self._blind_since = None
            stale = health.link_age > self._body.spec.command_ttl
            return f"robot not heard for {health.link_age:.1f} s" if stale else ""
        self._node.count("robot_bad_observations_total")
        self._blind_since = self._blind_since or now
        why = f"observation {', '.join(bad)}: not finite"
        if self._seconds(now - self._blind_since) > BLIND and health.mode != Mode.FAULT:
            log.error("%s for %g s: stopped", why, BLIND)
            self._body.stop(Stop.ESTOP)
        return why

    def _rest(self) -> None:
        """Stay where it is; a robot that is not armed rests by itself."""
        self._interrupt()
        self._body.stop(Stop.HOLD)

    def _act(self, signals: Signals, start: int) -> None:
        if self._first:
            self._task.reset()
        outcome = self._task.score(signals.values)
        if not np.isfinite(outcome.reward):
            self._node.count("robot_bad_observations_total")
            self._say("waiting", f"the task's reward is {outcome.reward}")
            return self._rest()
        if (choice := self._choose(signals, start)) is None:
            self._say("waiting", "the policy server does not answer")
            return self._rest()
        self._say("armed", self._warnings)
        applied = self._body.command(choice.action)
        age = (self._now() - choice.observed) / 1e9
        self._record(signals, outcome, choice, applied, age)
        self._held = Choice(self._hold(applied.action), HELD, choice.observed)
        self._first = outcome.is_last
        self._previous = applied.action

    def _choose(self, signals: Signals, start: int) -> Choice | None:
        """What to do now; None where there is nothing, or only something too old, to repeat."""
        previous = self._nothing if self._first else self._previous
        observation = {key: signals.values[key] for key in self._keys}
        tick, self._ticks = self._ticks, self._ticks + 1
        self._policy.ask(tick, observation | {"prev_action": previous, "is_first": np.bool_(self._first)}, start)
        if decision := self._policy.answer(tick, start / 1e9 + min(self._deadline / self.speed, PATIENCE)):
            return Choice(decision.action, decision.weights_version, decision.observed)
        if not self._policy.weights_seen:
            self._node.count("robot_random_actions_total")
            return Choice(self._explorer.action(), EXPLORED, start)
        self.fell_back = True
        if self._held is None or not self._repeatable(self._held, start):
            return None
        self._node.count("robot_fallback_actions_total")
        return self._held

    def _repeatable(self, held: Choice, now: int) -> bool:
        """A no-op may be repeated for ever. What moves the robot may not: nobody is looking where it goes."""
        spec = self._body.spec
        return spec.noop is not None or self._seconds(now - held.observed) <= spec.command_ttl

    def _seconds(self, nanoseconds: int) -> float:
        """That went by on the wall, on the robot's clock."""
        return nanoseconds / 1e9 * self.speed

    def _hold(self, action: np.ndarray) -> np.ndarray:
        """What to repeat when there is nothing new."""
        noop = self._body.spec.noop
        return action if noop is None else np.asarray(noop, self._nothing.dtype)

    def _record(self, signals: Signals, outcome: Outcome, choice: Choice, applied: Applied, age: float) -> None:
        node, clip = self._node, applied.clip
        if self._first:
            node.count("robot_episodes_total")
        if clip:
            node.count("robot_clipped_actions_total")
        node.count("robot_steps_total")
        node.count("robot_reward_sum", outcome.reward)
        node.observe("robot_action_age_seconds", age)
        node.gauge("robot_weights_version", choice.weights_version)
        self._hand_over()
        self._pending = signals.values | {
            "action": applied.action, "action_requested": choice.action, "action_age": np.float32(age),
            "clip": np.uint32(clip),
            "intervention": np.bool_(False), "is_first": np.bool_(self._first), "is_last": np.bool_(outcome.is_last),
            "is_terminal": np.bool_(outcome.is_terminal), "reward": np.float32(outcome.reward),
            "time": np.int64(signals.time), "weights_version": np.int64(choice.weights_version)}

    def _interrupt(self) -> None:
        """The episode ends with the step that was recorded last."""
        if self._pending:
            self._pending["is_last"] = np.bool_(True)
        self._hand_over()
        self._first, self._held = True, None

    def _hand_over(self) -> None:
        if self._pending and not self._sink.put(self._stream, self._pending):
            self._node.count("robot_dropped_steps_total")
        self._pending = None

    def _report(self, health: Health) -> None:
        if (warnings := "; ".join(health.warnings)) and not self._warnings:
            log.warning("%s", warnings)
        self._warnings = warnings
        self.overruns = health.overruns
        self._node.gauge("robot_inner_overruns", health.overruns)
        for reading, value in health.gauges.items():
            self._node.gauge("robot_body", value, reading)

    def _say(self, state: str, detail: str = "") -> None:
        if state != self._node.state:
            log.info("%s%s", state, f": {detail}" if detail else "")
        self._node.state, self._node.detail = state, detail
