"""What a plan is worth, from what the model imagines and a behaviour expects behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.models.world_model import State, WorldModel
from daydreamer.planning.refit import LOST


def plan_return(model: WorldModel, actor: Behaviour, states: State, actions: Tensor, discount: float,
                action_cost: float = 0.0) -> Tensor:
    """The return of plans, float32 [N]: discounted rewards, then the value of the last state; LOST where not finite.

    states [N, H, ...] that the actions [N, H, A] lead to. An action costs `action_cost` times its squared length. What
    comes after a step counts as far as the model believes that the episode goes on.
    """
    gained = model.reward(states) - action_cost * actions.square().sum(-1)
    ahead = (discount * model.continuation(states)).cumprod(1)
    reached = torch.cat([torch.ones_like(ahead[:, :1]), ahead[:, :-1]], 1)
    last = {key: x[:, -1] for key, x in states.items()}
    score = (reached * gained).sum(1) + ahead[:, -1] * actor.value(model, last)
    return torch.where(score.isfinite(), score, LOST)
