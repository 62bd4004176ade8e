"""Does the policy still choose, or does it always do the same, or all it can?"""

from __future__ import annotations

from torch import Tensor

SATURATED = 0.97  # of an action's range [-1, 1]
CONSTANT = 0.01  # deviation of an action over the states below which it does not vary


def action_usage(actions: Tensor, discrete: bool) -> dict[str, Tensor]:
    """Of the policy's likeliest or mean actions [..., A] (one-hot where discrete), over all leading axes:

    `action/deviation`: their deviation over the states, mean over A. `action/constant`: share of the A dimensions that
    do not vary. `action/saturated`: share of all entries at the edge of their range, where they are continuous.
    """
    rows = actions.reshape(-1, actions.shape[-1]).float()
    deviation = rows.std(0, unbiased=False)
    usage = {"action/deviation": deviation.mean(), "action/constant": (deviation < CONSTANT).float().mean()}
    return usage if discrete else usage | {"action/saturated": (rows.abs() > SATURATED).float().mean()}
