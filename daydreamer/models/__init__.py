"""World models, one per file, all behind `world_model.WorldModel`."""

from __future__ import annotations

from gymnasium import spaces

from daydreamer.models.jepa import Jepa
from daydreamer.models.rssm import Rssm
from daydreamer.models.tiny import Tiny
from daydreamer.models.world_model import ModelSpec, WorldModel
from daydreamer.settings import AgentSettings

BY_NAME: dict[str, type[WorldModel]] = {"rssm": Rssm, "jepa": Jepa, "tiny": Tiny}


def build_model(observation_space: spaces.Dict, action_space: spaces.Space, settings: AgentSettings) -> WorldModel:
    """The model that the settings name, for these spaces. Raises ValueError for spaces that it cannot read."""
    return BY_NAME[settings.model](ModelSpec.of(observation_space, action_space), settings)
