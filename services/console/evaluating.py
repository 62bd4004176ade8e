"""`daydreamer evaluate`: what a run has learned, played and told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import pstdev

import numpy as np
import torch
from rich.console import Console

from daydreamer.player import load
from services import config as configs
from services.console.training import evaluator_of
from services.run_folder import RunFolder


def evaluate(folder: RunFolder, changes: Iterable[str], episodes: int, seed: int, video: Path | None,
             console: Console) -> None:
    """Play `episodes` with the newest checkpoint of a run of `train` or `run`, in environments made by its config.

    `changes` are to that config: another planner around the same weights, for one. Raises CheckpointError, ConfigError,
    BadWeights.
    """
    config = configs.load(folder.config, changes)
    torch.set_num_threads(config.learner.threads)
    agent = load(folder.path, config.learner.device, config.agent)
    evaluator = evaluator_of(config, video, console)
    try:
        played = evaluator.play(agent, [int(n) for n in np.random.SeedSequence(seed).generate_state(episodes)])
    finally:
        evaluator.close()
    console.print("returns", *(f"{score:.1f}" for score in played.returns), highlight=False, soft_wrap=True)
    lowest, highest, deviation = min(played.returns), max(played.returns), pstdev(played.returns)
    console.print(f"{folder.path}: mean {played.mean:.1f}, from {lowest:.1f} to {highest:.1f}, deviation "
                  f"{deviation:.1f}, after {agent.updates} updates", highlight=False, soft_wrap=True)
