"""Is what the critic says what then came?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daydreamer.losses.returns import lambda_return


def value_error(value: Tensor, batch: Mapping[str, Tensor], discount: float) -> dict[str, Tensor]:
    """The value [B, T] of every state of a window against the discounted return that was recorded behind it.

    The return ends with the value at the window's last step, or at an episode's last step unless that was terminal.
    `value/bias`: value minus return, in units of the reward. `value/error`: root mean square difference relative to
    the root mean square return. `value/unexplained`: mean square difference relative to the variance of the returns.

    batch: `reward` [B, T] on arriving at the step, `is_last`, `is_terminal` bool [B, T].
    """
    goes_on = (~batch["is_last"]).float()
    returns = lambda_return(batch["reward"], discount * (~batch["is_terminal"]).float(), value, goes_on)
    inside = ~batch["is_last"][:, :-1]
    came, error = returns[inside], (value[:, :-1] - returns)[inside]
    if not len(came):
        return {}
    square, tiny = error.square().mean(), torch.finfo(error.dtype).tiny
    return {"value/bias": error.mean(), "value/error": (square / came.square().mean().clamp(min=tiny)).sqrt(),
            "value/unexplained": square / came.var(unbiased=False).clamp(min=tiny)}
