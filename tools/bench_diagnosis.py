"""What it costs to look at how learning goes, next to what is looked at.

    python tools/bench_diagnosis.py [--threads 1 2] [--out docs/results/bench_diagnosis.csv]

`share`: of the time of training, in per cent, at the default `agent.diagnose_every`.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_train_step import ACTIONS, SPACE, alternate, experience
from gymnasium import spaces
from measurement import Row, report

from daydreamer.agent import Agent
from daydreamer.nn.memory import keep_freed_memory
from daydreamer.settings import AgentSettings

CASES = (("rssm", "actor_critic", 32, 4), ("jepa", "off_policy", 16, 0))  # model, behaviour, window, burn-in


def measure(threads: int, repeats: int) -> list[Row]:
    """A row for each case."""
    torch.set_num_threads(threads)
    rows = []
    for model, behaviour, length, burn_in in CASES:
        settings = AgentSettings(model=model, behaviour=behaviour)
        agent = Agent(SPACE, spaces.Box(-1, 1, (ACTIONS,), np.float32), settings)
        batch = experience(burn_in + length)
        found = alternate({"update": partial(agent.train, batch, burn_in),
                           "diagnosis": partial(agent.diagnose, batch, burn_in)}, repeats)
        update, diagnosis = (found[name]["cpu_ms"] for name in ("update", "diagnosis"))
        rows.append({"model": model, "behaviour": behaviour, "batch": f"16 x {length}", "threads": threads,
                     "update_cpu_ms": update, "diagnosis_cpu_ms": diagnosis, "every": settings.diagnose_every,
                     "share": 100 * diagnosis / (settings.diagnose_every * update + diagnosis)})
    return rows


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    report([row for threads in given.threads for row in measure(threads, given.repeats)], given.out)


if __name__ == "__main__":
    main()
