"""Round trip of the policy server over loopback: from sending an observation to having the action, p50 and p99.

    .venv/bin/python tools/bench_policy.py --out docs/results/bench_policy.csv
    .venv/bin/python tools/bench_policy.py --set agent.behaviour=mpc --out docs/results/bench_policy.csv

The server runs in a process of its own, as in a run, with weights from a learner's shelf in this one. `robots` ask at
the same moment, `--hz` times a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import zmq
from measurement import quantiles, report

from daydreamer.agent import Agent
from services import config as configs
from services.config import Config
from services.coordinator.service import CoordinatorService
from services.crew import Crew
from services.embodiment import model_spaces
from services.learner.weights import Shelf, pack
from services.node import Node
from services.policy.service import PolicyService
from services.run_folder import RunFolder
from services.wire import sockets
from services.wire.messages import LIMITS, ActReply, ActRequest

STOP_WITHIN = 10.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/a1_walk.yaml")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = configs.load(arguments.config, ["network.port=0", "policy.device=cpu", *arguments.changes])
    rows = []
    with zmq.Context() as context, tempfile.TemporaryDirectory() as folder, Crew(stop := threading.Event()) as crew:
        coordinator = CoordinatorService(config, RunFolder(Path(folder)))
        crew.start("coordinator", lambda: coordinator.run(stop))
        coordinator.ready.wait()
        control = coordinator.addresses["control"]
        with Node("learner", "learner", config, context, control=control) as node:
            crew.start("learner", lambda: serve_weights(config, context, node, crew))
            ended = multiprocessing.get_context("spawn").Event()
            server = multiprocessing.get_context("spawn").Process(target=serve_policy, args=(config, control, ended))
            server.start()
            try:
                for count in arguments.robots:
                    seconds = measure(config, context, node, count, arguments)
                    figures = {f"{name}_ms": value for name, value in quantiles(seconds).items()}
                    rows.append({"what": "policy round trip", "behaviour": behaviour(config), "robots": count,
                                 "hz": arguments.hz, "requests": len(seconds), **figures})
            finally:
                ended.set()
                server.join(STOP_WITHIN)
                stop.set()
    report(rows, arguments.out)


def behaviour(config: Config) -> str:
    """What acts, with the size of its plans where it plans."""
    agent, planner = config.agent, config.agent.planner
    plan = f" {planner.method} {planner.candidates} x {planner.iterations} x {planner.horizon}"
    return agent.behaviour + plan * (agent.behaviour == "mpc")


def serve_policy(config: Config, control: str, ended: threading.Event) -> None:
    """The policy server's process."""
    PolicyService(config, control=control).run(ended)


def serve_weights(config: Config, context: zmq.Context, node: Node, crew: Crew) -> None:
    """A learner that has weights and learns nothing."""
    shelf = Shelf()
    shelf.put(pack(Agent(*model_spaces(config), config.agent, config.seed).acting_state(), version=1, updates=1))
    server = sockets.Server(context, config.network.addresses()["weights"], limit=LIMITS["weights"])
    node.addresses = {"weights": server.address}
    while not crew.ended:
        if (received := server.receive(0.1)) is not None:
            server.send(received.peer, shelf.answer(received.message))
    server.close()


def measure(config: Config, context: zmq.Context, node: Node, count: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds of every round trip of `count` robots that ask together."""
    while not node.address("policy"):
        time.sleep(0.1)
    links = [sockets.Client(context, node.address("policy"), limit=LIMITS["policy"]) for _ in range(count)]
    for link in links:
        link.wait_connected(30)
    arrays = observation(config)
    step = 0
    while not all(isinstance(reply, ActReply) for reply, _ in ask(links, step, arrays)):
        time.sleep(0.1)
    seconds: list[float] = []
    due = time.perf_counter()
    for step in range(1, round(arguments.seconds * arguments.hz) + 1):
        due += 1 / arguments.hz
        time.sleep(max(0.0, due - time.perf_counter()))
        seconds += [took for _, took in ask(links, step, {**arrays, "is_first": np.array([False])})]
    for link in links:
        link.close()
    return seconds


def ask(links: list[sockets.Client], step: int, arrays: dict[str, np.ndarray]) -> list[tuple[object, float]]:
    """Every robot's reply and how long it took."""
    begun = time.perf_counter()
    for i, link in enumerate(links):
        link.send(ActRequest(f"robot-{i}", i.to_bytes(16, "big"), step, False, arrays))
    replies: list[tuple[object, float]] = []
    waiting = list(links)
    while waiting:
        for link in sockets.wait(waiting, 5.0):
            replies.append((link.receive(), time.perf_counter() - begun))
            waiting.remove(link)
    return replies


def observation(config: Config) -> dict[str, np.ndarray]:
    """One step of the config's robot, at rest."""
    seen, action = model_spaces(config)
    arrays = {key: np.zeros((1, *space.shape), space.dtype) for key, space in seen.items()}
    return {**arrays, "prev_action": np.zeros((1, *action.shape), action.dtype), "is_first": np.array([True])}


if __name__ == "__main__":
    main()
