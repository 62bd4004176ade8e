"""Which figures of a diagnosis are clearly wrong, and how to say so. Needs no torch: any process may ask.

The thresholds stand here and nowhere else. They are meant for what no healthy run shows, not for what could be better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SETTLED = 1000  # updates before which nothing is alarming: a fresh agent knows nothing and always does the same


@dataclass(frozen=True)
class Finding:
    """A figure of a diagnosis that is clearly wrong, and a short line that says so."""

    figure: str
    value: float
    text: str


@dataclass(frozen=True)
class Rule:
    """`figure` is wrong below `lowest` or above `highest`; `text` says it, with {value}."""

    figure: str
    text: str
    lowest: float = -math.inf
    highest: float = math.inf

    def apply(self, value: float) -> Finding | None:
        """What is found where the figure has this value; NaN is always wrong."""
        if self.lowest <= value <= self.highest:
            return None
        return Finding(self.figure, value, self.text.format(value=value))


RULES = (
    Rule("gradient/encoder", "nothing is learned by the encoder: gradient {value:g}", lowest=1e-9),
    Rule("gradient/actor", "nothing is learned by the actor: gradient {value:g}", lowest=1e-12),
    Rule("gradient/critic", "nothing is learned by the critic: gradient {value:g}", lowest=1e-12),
    Rule("gradient/critics", "nothing is learned by the critics: gradient {value:g}", lowest=1e-12),
    Rule("latent/effective_rank", "latents have collapsed: they vary in {value:.1f} directions", lowest=1.5),
    Rule("latent/deviation", "latents have collapsed: they vary by {value:.2%} of their size", lowest=0.01),
    Rule("latent/information", "latents have collapsed: each tells {value:.3f} nats about the state", lowest=0.02),
    Rule("open_loop/vectors_1", "the next step is foreseen no better than by its mean: error {value:.2f}", highest=1.0),
    Rule("open_loop/images_1", "the next image is foreseen no better than by its mean: error {value:.2f}", highest=1.0),
    Rule("open_loop/features_1", "the next state is foreseen no better than by its mean: error {value:.2f}",
         highest=1.0),
    Rule("value/error", "value is off by {value:.0%} of the return", highest=0.8),
    Rule("action/saturated", "actions are saturated: {value:.0%} at the edge of their range", highest=0.9),
    Rule("action/constant", "the policy does the same in every state", highest=0.99),
)


def find(figures: Mapping[str, float], updates: int) -> list[Finding]:
    """What is clearly wrong in a diagnosis after so many updates, in the order of the rules."""
    if updates < SETTLED:
        return []
    applied = (rule.apply(figures[rule.figure]) for rule in RULES if rule.figure in figures)
    return [finding for finding in applied if finding is not None]
