"""How long one update and one action take.

    python tools/bench_train_step.py [--sizes small 1m] [--threads 1 2] [--starts 128 0] [--out
    docs/results/train_step.csv]

Batches of 16 x 32 steps after 4 of burn-in, the A1's 16 numbers and 12 actions, imagination of 15 steps. `min_ms` is
what the machine can do, `p50_ms` what it did while it had other work; `cpu_ms` is processor time over all threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from measurement import Row, report

from daydreamer.agent import Agent
from daydreamer.settings import PRECISIONS, SIZES, AgentSettings

BATCH, BURN_IN, LENGTH, ACTIONS = 16, 4, 32, 12
SPACE = spaces.Dict({"joint_angles": spaces.Box(-4, 4, (12,), np.float32), "tilt": spaces.Box(-4, 4, (2,), np.float32),
                     "tilt_rates": spaces.Box(-9, 9, (2,), np.float32)})


def experience() -> dict[str, np.ndarray]:
    """A batch of noise."""
    random, shape = np.random.default_rng(0), (BATCH, BURN_IN + LENGTH)
    batch = {key: random.normal(size=(*shape, *space.shape)).astype(np.float32) for key, space in SPACE.items()}
    batch |= {flag: np.zeros(shape, bool) for flag in ("is_first", "is_last", "is_terminal")}
    batch["prev_action"] = random.uniform(-1, 1, (*shape, ACTIONS)).astype(np.float32)
    return batch | {"reward": random.normal(size=shape).astype(np.float32)}


def times(work: Callable[[], object], repeats: int) -> Row:
    """Wall clock and processor time of one call, in milliseconds, after a few unmeasured ones."""
    for _ in range(3):
        work()
    wall, cpu = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        work()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - spent))
    return {"min_ms": min(wall), "p50_ms": float(np.median(wall)), "cpu_ms": min(cpu)}


def measure(settings: AgentSettings, threads: int, device: str, repeats: int) -> list[Row]:
    """Rows for training and for acting for one robot."""
    torch.set_num_threads(threads)
    agent = Agent(SPACE, spaces.Box(-1, 1, (ACTIONS,), np.float32), settings, device=device)
    batch, carry = experience(), agent.initial(1)
    step = {key: batch[key][:1, 0] for key in SPACE}, batch["prev_action"][:1, 0], batch["is_first"][:1, 0]
    parameters = sum(p.numel() for p in agent.optimiser.parameters)
    say = {"size": settings.size, "precision": settings.precision, "parameters": parameters,
           "starts": settings.imagine_starts or "all", "threads": threads, "device": device}
    return [
        {"what": "train"} | say | times(lambda: agent.train(batch, BURN_IN), repeats),
        {"what": "act"} | say | times(lambda: agent.act(carry, *step), 10 * repeats),
    ]


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["debug", "small"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--starts", nargs="+", type=int, default=[128])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: list[Row] = []
    for size in given.sizes:
        for starts in given.starts:
            for precision in given.precisions:
                settings = replace(AgentSettings(), size=size, imagine_starts=starts, precision=precision)
                for threads in given.threads:
                    rows += measure(settings, threads, given.device, given.repeats)
    report(rows, given.out)


if __name__ == "__main__":
    main()
