"""All figures of one batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.diagnostics.actions import action_usage
from daydreamer.diagnostics.latents import class_usage, latent_usage
from daydreamer.diagnostics.open_loop import open_loop
from daydreamer.diagnostics.values import value_error
from daydreamer.models.world_model import State, WorldModel


@torch.no_grad()
def diagnosis(model: WorldModel, behaviour: Behaviour, state: State, batch: Mapping[str, Tensor],
              discount: float) -> dict[str, Tensor]:
    """Named scalars, of a batch and the state before it as the model's loss takes them, with `is_last` bool [B, T].

    `latent/surprise`: the model's, per step (for the RSSM the KL of posterior and prior in nats, not clipped).
    """
    states, prediction = model.observe_sequence(state, batch["prev_action"], model.encode(batch), batch["is_first"])
    features = model.features(states)
    return {
        "latent/surprise": model.surprise(prediction, states).mean(),
        **latent_usage(features),
        **(class_usage(prediction["posterior"]) if "posterior" in prediction else {}),
        **open_loop(model, states, batch),
        **value_error(behaviour.value(model, states), batch, discount),
        **action_usage(behaviour.propose(features), discrete=not model.spec.action_space.shape),
    }
