"""How well does the model foresee what it is not shown?

From one state inside each window the model imagines the rest of it with the recorded actions. Every error is the share
of the variance, over the batch, that was not foreseen: 0 is perfect, 1 is no better than the mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daydreamer.models.world_model import State, WorldModel
from daydreamer.nn.distributions import symlog
from daydreamer.nn.perception import Layout

HORIZONS = (1, 5, 15)  # steps ahead; those that do not fit into the window are left out
STILL = 1e-8  # variance of what does not vary


def open_loop(model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`open_loop/WHAT_H`: error H steps ahead, WHAT being `vectors` (in symlog space) and `images` where the model
    decodes, else `features`, and `reward`; without an entry for what does not vary in the batch.

    `open_loop/action_use`: error with the actions of another window, relative to the error with the right ones, at the
    farthest horizon: near 1, the model does not look at the actions.

    states [B, T, ...] and batch as the model's loss returns and takes them.
    """
    steps = batch["reward"].shape[1]
    horizons = [h for h in HORIZONS if h < steps]
    if not horizons:
        return {}
    start = steps - 1 - horizons[-1]
    actions = batch["prev_action"][:, start + 1:]
    unbroken = batch["is_first"][:, start + 1:].cumsum(1) == 0  # of the same episode as the start
    begin = {key: x[:, start] for key, x in states.items()}
    noise = model.noise(*actions.shape[:2])
    truth = _seen(model, states, batch)
    spread = {what: x.flatten(0, 1).var(0, unbiased=False).mean() for what, x in truth.items()}
    at = torch.tensor([h - 1 for h in horizons], device=actions.device)

    def errors(taken: Tensor) -> dict[str, Tensor]:
        foreseen = _foreseen(model, {key: x[:, at] for key, x in model.imagine(begin, taken, noise).items()})
        return {f"open_loop/{what}_{h}": (foreseen[what][rows, i] - x[rows, start + h]).square().mean() / spread[what]
                for i, h in enumerate(horizons) if (rows := unbroken[:, h - 1]).any()
                for what, x in truth.items() if spread[what] > STILL}

    right, wrong = errors(actions), errors(actions.roll(1, 0))
    return right | _action_use(right, wrong)


def _action_use(right: Mapping[str, Tensor], wrong: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen = [name for name in right if not name.startswith("open_loop/reward")]
    if not seen:
        return {}
    return {"open_loop/action_use": wrong[seen[-1]] / right[seen[-1]].clamp(min=STILL)}


def _seen(model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was there to foresee, [B, T, ...] each."""
    return (_views(model, batch) if model.spec.offers_decoder else {"features": model.features(states)}) \
        | {"reward": batch["reward"]}


def _foreseen(model: WorldModel, imagined: State) -> dict[str, Tensor]:
    """The same as the model imagines it."""
    views = _views(model, model.decode(imagined)) if model.spec.offers_decoder \
        else {"features": model.features(imagined)}
    return views | {"reward": model.reward(imagined)}


def _views(model: WorldModel, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Vectors and images of an observation as encoder and decoder see them."""
    layout = Layout(model.spec.observation_space)
    views = {"vectors": symlog(layout.vector(obs))} if layout.vectors else {}
    return views | ({"images": layout.image(obs)} if layout.images else {})
