"""Behaviours, one per file, all behind `behaviour.Behaviour`."""

from __future__ import annotations

from daydreamer.behaviours.actor_critic import ActorCritic
from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.behaviours.mpc import Mpc
from daydreamer.behaviours.off_policy import OffPolicy
from daydreamer.models.world_model import WorldModel
from daydreamer.settings import AgentSettings

LEARNING: dict[str, type[Behaviour]] = {"actor_critic": ActorCritic, "off_policy": OffPolicy}


def build_behaviour(model: WorldModel, settings: AgentSettings) -> Behaviour:
    """The behaviour that the settings name, for this model."""
    if settings.behaviour == "mpc":
        return Mpc(model, LEARNING[settings.planner.around](model, settings), settings)
    return LEARNING[settings.behaviour](model, settings)
