"""The policy server: observations in, actions out, with the newest weights it can get.

Two threads. `run` owns the robots' socket and the model: it answers together those who ask within `batch_window` of the
first, never waits for a robot that is not asking, and goes before ordinary threads where the system allows it, because
control loops wait for it; between requests it sleeps. A behaviour that plans gets the time that is left until a robot
stops waiting. `weights` fetches, checks and unpacks newer weights; they are swapped in between two batches, and robots
keep their carries. Weights that do not fit are counted and left alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from contextlib import closing

import torch
import zmq
from torch import Tensor

from daydreamer.agent import Agent
from robots.realtime import real_time
from services.config import Config
from services.crew import Crew
from services.embodiment import model_spaces
from services.learner.weights import HEADER_SLACK, BadWeights, Fetcher, Weights, unpack
from services.link import Link
from services.node import Node
from services.policy.acting import Acting
from services.run_folder import RunFolder
from services.wire import sockets
from services.wire.messages import LIMITS, ActRefused, ActReply, ActRequest, NoNewWeights, Refused, WeightsPart
from services.wire.security import Security, may_speak_as

IDLE = 0.1  # seconds between looks at `stop` while nobody asks
PLANNING = 0.75  # of a robot's `action_deadline` may pass until an action is chosen; the rest is the way there and back

log = logging.getLogger(__name__)
Received = sockets.Received
Fresh = tuple[Weights, dict[str, Tensor]]


class PolicyService:
    """`folder` is the run's; the policy server writes nothing into it. `control`: the coordinator's address, where it
    is not the config's."""

    def __init__(self, config: Config, folder: RunFolder | None = None, *, control: str = "") -> None:
        self._config, self._control = config, control
        self._fresh: queue.SimpleQueue[Fresh] = queue.SimpleQueue()
        self._later: deque[Received] = deque()
        self._weights: Weights | None = None
        self._rebuilt = 0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`. Raises SocketError when the port cannot be bound, ConfigError for a robot it cannot
        know."""
        torch.set_num_threads(self._config.policy.threads)
        model = model_spaces(self._config)
        self._agent = Agent(*model, self._config.agent, self._config.seed, self._config.policy.device)
        self._acting = Acting(self._agent, *model)
        self._acting.warm_up()
        network = self._config.network
        security = Security.load(network.keys) if network.keys else None
        with (zmq.Context() as context,
              closing(sockets.Server(context, network.addresses()["policy"], limit=LIMITS["policy"],
                                     security=security)) as server,
              Node("policy", "policy", self._config, context, {"policy": server.address},
                   control=self._control) as node,
              Crew(stop) as crew):
            node.metrics.follow("bad_frames_total", server.refused.total, "policy")
            link = Link(context, node, "weights", security)
            crew.start("weights", lambda: self._fetch(crew, link, node))
            with real_time():  # threads that torch started before are ordinary
                self._serve(crew, server, node)

    def _serve(self, crew: Crew, server: sockets.Server, node: Node) -> None:
        node.gauge("policy_weights_version", -1)
        node.state = "waiting"
        while not crew.ended:
            self._swap(node)
            if batch := self._collect(server):
                self._answer(batch, server, node)

    def _swap(self, node: Node) -> None:
        """Take the newest weights that were fetched since the last batch, if any."""
        fresh: Fresh | None = None
        while not self._fresh.empty():
            fresh = self._fresh.get()
        if fresh is None:
            return
        self._weights, tensors = fresh
        self._agent.load_acting_state(tensors)
        node.gauge("policy_weights_version", self._weights.version)
        node.state = "running"

    def _collect(self, server: sockets.Server) -> list[Received]:
        """Requests of different robots: the first, and those that come within the window of it."""
        batch = self._put_off()
        names = {_name(received) for received in batch}
        end = time.monotonic() + (self._config.policy.batch_window if batch else IDLE)
        while len(batch) < self._config.policy.max_batch:
            now = time.monotonic()
            expected = not batch or len(batch) < self._acting.present(now)
            received = server.receive(max(0.0, end - now) if expected else 0.0)
            if received is None:
                break
            if not self._allowed(received, server):
                continue
            if _name(received) in names:
                self._later.append(received)
                continue
            if not batch:
                end = time.monotonic() + self._config.policy.batch_window
            batch.append(received)
            names.add(_name(received))
        return batch

    def _put_off(self) -> list[Received]:
        """What the last batch left: the first request of each robot."""
        batch: dict[object, Received] = {}
        rest: deque[Received] = deque()
        for received in self._later:
            rest.append(received) if _name(received) in batch else batch.setdefault(_name(received), received)
        self._later = rest
        return list(batch.values())

    def _allowed(self, received: Received, server: sockets.Server) -> bool:
        if not isinstance(received.message, ActRequest):
            server.send(received.peer, Refused("malformed", f"the policy port takes ActRequest, "
                                                            f"not {type(received.message).__name__}"))
            return False
        if not may_speak_as(received.user, received.message.robot):
            server.send(received.peer, Refused("identity", f"the key of {received.user} may not speak as "
                                                           f"{received.message.robot}"))
            return False
        return True

    def _answer(self, batch: list[Received], server: sockets.Server, node: Node) -> None:
        now = time.monotonic()
        weights = self._weights
        version, deadline = weights.version if weights else -1, now + self._patience(len(batch), now)
        replies = self._acting.answer([r.message for r in batch], version, now, deadline)
        for received, reply in zip(batch, replies, strict=True):
            server.send(received.peer, reply)
        self._account(replies, weights, time.monotonic() - now, node)

    def _patience(self, robots: int, now: float) -> float:
        """Seconds to choose actions in. Where others may ask meanwhile, who then have to wait, and only after that for
        their own, it is half."""
        alone = self._acting.present(now) <= robots
        return PLANNING * self._config.robot.action_deadline * (1.0 if alone else 0.5)

    def _account(self, replies: list[ActReply | ActRefused], weights: Weights | None, seconds: float,
                 node: Node) -> None:
        node.count("policy_requests_total", len(replies))
        node.observe("policy_batch_robots", len(replies))
        node.observe("policy_act_seconds", seconds)
        if weights:
            node.observe("policy_weights_age_seconds", max(0.0, time.time() - weights.created))
            for name, value in self._agent.behaviour.figures.items():
                node.observe(f"policy_{name}", value)
        if self._acting.rebuilt > self._rebuilt:
            node.count("policy_rebuilt_carries_total", self._acting.rebuilt - self._rebuilt)
            self._rebuilt = self._acting.rebuilt

    def _fetch(self, crew: Crew, link: Link, node: Node) -> None:
        """The thread `weights`."""
        like = {name: tensor.to("meta") for name, tensor in self._agent.acting_state().items()}
        limit = sum(tensor.nbytes for tensor in like.values()) + HEADER_SLACK
        fetcher = Fetcher(self._config.policy.poll_seconds, limit)
        try:
            while not crew.ended:
                if (client := link.client()) is None:
                    crew.pause(IDLE)
                    continue
                connected, now = client.connected, time.monotonic()
                if connected and (request := fetcher.due(now)) is not None:
                    client.send(request)
                message = client.receive(min(IDLE, fetcher.wait(now)) if connected else IDLE)
                if isinstance(message, WeightsPart | NoNewWeights):
                    self._receive(fetcher, message, like, node)
        finally:
            link.close()

    def _receive(self, fetcher: Fetcher, message: WeightsPart | NoNewWeights, like: dict[str, Tensor],
                 node: Node) -> None:
        try:
            if (weights := fetcher.receive(message, time.monotonic())) is not None:
                self._fresh.put((weights, unpack(weights, like)))
        except BadWeights as error:
            node.count("policy_refused_weights_total")
            log.error("%s; going on with the weights in use", error)


def _name(received: Received) -> tuple[str, bytes]:
    return received.message.robot, received.message.boot
