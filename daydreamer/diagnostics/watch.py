"""Looks at an agent every so many updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from daydreamer.diagnostics.findings import Finding, find

if TYPE_CHECKING:
    from daydreamer.agent import Agent


class Watch:
    """The newest diagnosis of an agent that somebody trains: `figures`, what is clearly wrong in them (`findings`), and
    after how many `updates` it was made; 0: not yet. One thread, the agent's."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self._every = agent, agent.settings.diagnose_every
        self.figures: dict[str, float] = {}
        self.findings: list[Finding] = []
        self.updates = 0

    def look(self, batch: Mapping[str, np.ndarray], burn_in: int) -> bool:
        """To be called after each update, with its batch: diagnoses where it is due, and says whether it was."""
        if not self._every or self._agent.updates % self._every:
            return False
        self.updates = self._agent.updates
        self.figures = self._agent.diagnose(batch, burn_in)
        self.findings = find(self.figures, self.updates)
        return True
