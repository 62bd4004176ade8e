"""How long one decision takes that is planned: the actor alone, and planners of several sizes, on one and two threads.

    .venv/bin/python tools/bench_planning.py --out docs/results/bench_planning.csv

Wall time of the agent's whole `act` (checks, encoder, one step of the model, planning) for robots with the spaces of
`--config`, from weights that were never trained: the time does not depend on them. `min_ms` is what the machine can
do, `p50_ms` what it did beside whatever else ran; `cpu_ms` is the processor time of the fastest decision, over all
threads.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measurement import quantiles, report

from daydreamer.agent import Agent
from daydreamer.settings import AgentSettings, PlannerSettings
from services import config as configs
from services.embodiment import model_spaces

PLANS = {
    "actor alone": PlannerSettings(iterations=0),
    "MPPI 64 x 2 x 4": PlannerSettings(),
    "MPPI 512 x 6 x 3": PlannerSettings(candidates=512, iterations=6, horizon=3, elites=64, proposals=24),
    "CEM 300 x 30 x 5": PlannerSettings(method="cem", candidates=300, iterations=30, horizon=5, elites=30, proposals=0),
}
WARM_UP = 2  # decisions before the first that counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/a1_walk.yaml")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every figure")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = configs.load(arguments.config, arguments.changes)
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for name, planner in PLANS.items():
            settings = replace(config.agent, behaviour="mpc", planner=replace(planner, around=learned(config.agent)))
            agent = Agent(*model_spaces(config), settings, config.seed, arguments.device)
            for robots in arguments.robots:
                rows.append({"plan": name, "model": settings.model, "size": settings.size, "around": learned(settings),
                             "device": agent.device.type, "threads": threads, "robots": robots,
                             **measure(agent, robots, arguments.seconds)})
    report(rows, arguments.out)


def learned(settings: AgentSettings) -> str:
    """The behaviour that learns."""
    return settings.planner.around if settings.behaviour == "mpc" else settings.behaviour


def measure(agent: Agent, robots: int, seconds: float) -> dict[str, float]:
    """Figures of decisions for `robots` at once, made for some seconds."""
    obs = {key: np.zeros((robots, *space.shape), space.dtype) for key, space in agent.observation_space.items()}
    prev_action = np.zeros((robots, *agent.action_space.shape), agent.action_space.dtype)
    carry, took, spent, first = agent.initial(robots), [], [], np.zeros(robots, bool)
    end = time.perf_counter() + seconds
    while len(took) <= WARM_UP or time.perf_counter() < end:
        cpu, begin = time.process_time(), time.perf_counter()
        _, carry = agent.act(carry, obs, prev_action, first)
        took.append(time.perf_counter() - begin)
        spent.append(time.process_time() - cpu)
    took, spent = took[WARM_UP:], spent[WARM_UP:]
    figures = quantiles(took)
    return {"decisions": len(took), "min_ms": 1e3 * min(took), "p50_ms": figures["p50"], "cpu_ms": 1e3 * min(spent)}


if __name__ == "__main__":
    main()
