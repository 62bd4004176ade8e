"""What planning brings: the newest checkpoint of a run plays with its actor alone, a planner alone, and both.

    .venv/bin/python tools/evaluate_planning.py runs/walker_walk-1 --out docs/results/evaluate_planning.csv
    .venv/bin/python tools/evaluate_planning.py runs/walker_walk-1 --planner iterations=6 --planner candidates=512

The weights are the same, planning has none; so are the episodes, by their seeds, and what is drawn in them at first.
`--planner` changes the run's `agent.planner`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import pstdev

import torch
import yaml
from measurement import report
from rich.console import Console

from daydreamer import checkpoints
from daydreamer.agent import Agent
from daydreamer.blueprint import Blueprint
from daydreamer.checkpoints import Checkpoint
from daydreamer.settings import PlannerSettings
from services import config as configs
from services.console.training import evaluator_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--planner", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = checkpoints.load_latest(arguments.run)
    evaluator = evaluator_of(configs.load(arguments.run / "config.yaml"), None, Console())
    rows = []
    for who, settings in players(found.blueprint, arguments.planner).items():
        begin = time.process_time()
        played = evaluator.play(agent := player(found, settings), list(range(arguments.episodes)))
        plan = f"{settings.method} {settings.candidates} x {settings.iterations} x {settings.horizon}"
        rows.append({"run": arguments.run.name, "updates": agent.updates, "who": who,
                     "plan": plan if settings.iterations else "", "proposals": settings.proposals,
                     "episodes": arguments.episodes, "mean": played.mean, "deviation": pstdev(played.returns),
                     "lowest": min(played.returns), "highest": max(played.returns),
                     "cpu_s": time.process_time() - begin})
    evaluator.close()
    report(rows, arguments.out)


def players(blueprint: Blueprint, changes: list[str]) -> dict[str, PlannerSettings]:
    """Who plays, and how each plans."""
    agent = blueprint.settings
    around = agent.planner.around if agent.behaviour == "mpc" else agent.behaviour
    changed = {key: yaml.safe_load(value) for key, _, value in (change.partition("=") for change in changes)}
    both = replace(agent.planner, around=around, **changed)
    return {"actor": replace(both, iterations=0), "planner": replace(both, proposals=0), "both": both}


def player(found: Checkpoint, planner: PlannerSettings) -> Agent:
    """The checkpoint's agent, planning as told."""
    settings = replace(found.blueprint.settings, behaviour="mpc", planner=planner)
    agent = replace(found.blueprint, settings=settings).build()
    agent.load_state_dict(found.tensors)
    return agent


if __name__ == "__main__":
    main()
