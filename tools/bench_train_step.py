"""How long one update and one decision take, alone or beside those of another implementation.

    python tools/bench_train_step.py [--sizes small 1m] [--threads 1 2] [--starts 128 0] [--out
    docs/results/bench_train_step.csv]
    python tools/bench_train_step.py --peer ../r2dreamer --threads 1 2 --starts 128 0    # git clone of NM512/r2dreamer

Batches of 16 x 32 steps, the A1's 16 numbers and 12 actions, imagination of 15 steps. What is compared takes turns,
call by call, so that whatever else the machine does slows all of it. `min_ms` is what the machine can do, `p50_ms` what
it did while it had other work; `cpu_ms` is processor time over all threads. `burn_in`: steps before those that are
learned from; the peer keeps states in its replay instead and has none.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from measurement import Row, report
from peer_r2dreamer import Peer

from daydreamer.agent import Agent
from daydreamer.nn.memory import keep_freed_memory
from daydreamer.settings import PRECISIONS, SIZES, AgentSettings

BATCH, BURN_IN, LENGTH, NUMBERS, ACTIONS = 16, 4, 32, 16, 12
ROBOTS = (1, 8)  # that act at once
SPACE = spaces.Dict({"observation": spaces.Box(-9, 9, (NUMBERS,), np.float32)})


def experience(length: int) -> dict[str, np.ndarray]:
    """A batch of noise."""
    random, shape = np.random.default_rng(0), (BATCH, length)
    batch = {flag: np.zeros(shape, bool) for flag in ("is_first", "is_last", "is_terminal")}
    batch["observation"] = random.normal(size=(*shape, NUMBERS)).astype(np.float32)
    batch["prev_action"] = random.uniform(-1, 1, (*shape, ACTIONS)).astype(np.float32)
    return batch | {"reward": random.normal(size=shape).astype(np.float32)}


def alternate(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Row]:
    """Wall clock and processor time of one call of each, in milliseconds, after a few unmeasured ones."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for turn, (name, work) in itertools.product(range(-3, repeats), works.items()):
        began, spent = time.perf_counter(), time.process_time()
        work()
        if turn >= 0:
            wall[name].append(1000 * (time.perf_counter() - began))
            cpu[name].append(1000 * (time.process_time() - spent))
    return {name: {"min_ms": min(wall[name]), "p50_ms": float(np.median(wall[name])), "cpu_ms": min(cpu[name])}
            for name in works}


def ours(agent: Agent, name: str) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """What trains, and what acts."""
    train, act = {}, {}
    for steps in (0, BURN_IN):
        train[f"train {name}, burn-in {steps}"] = partial(agent.train, experience(steps + LENGTH), steps)
    now = {key: x[:, 0] for key, x in experience(1).items()}
    for count in ROBOTS:
        step = {"observation": now["observation"][:count]}, now["prev_action"][:count], now["is_first"][:count]
        act[f"act {name}, batch {count}"] = partial(agent.act, agent.initial(count), *step)
    return train, act


def measure(size: str, starts: int, threads: int, given: argparse.Namespace) -> list[Row]:
    """Rows for training and for acting, of every precision and of the peer."""
    torch.set_num_threads(threads)
    train: dict[str, Callable] = {}
    act: dict[str, Callable] = {}
    parameters = {}
    for precision in given.precisions:
        settings = replace(AgentSettings(), size=size, imagine_starts=starts, precision=precision, diagnose_every=0)
        agent = Agent(SPACE, spaces.Box(-1, 1, (ACTIONS,), np.float32), settings, device=given.device)
        trains, acts = ours(agent, precision)
        train, act = train | trains, act | acts
        parameters |= dict.fromkeys(trains | acts, sum(p.numel() for p in agent.optimiser.parameters))
    if given.peer:
        for precision in given.precisions:
            peer = Peer(given.peer, experience(LENGTH), starts, AgentSettings().horizon, precision == "bfloat16")
            trains = {f"train peer {precision}": peer.update}
            acts = {f"act peer {precision}, batch {count}": partial(peer.act, count) for count in ROBOTS}
            train, act = train | trains, act | acts
            parameters |= dict.fromkeys(trains | acts, peer.parameters)
    say = {"size": size, "starts": starts or "all", "threads": threads, "device": given.device}
    found = alternate(train, given.repeats) | alternate(act, 10 * given.repeats)
    return [{"what": name, "parameters": parameters[name]} | say | row for name, row in found.items()]


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--starts", nargs="+", type=int, default=[128])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--peer", type=Path, help="a checkout of r2dreamer; it is as large as our size `small`")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    cases = itertools.product(given.sizes, given.starts, given.threads)
    report([row for case in cases for row in measure(*case, given)], given.out)


if __name__ == "__main__":
    main()
