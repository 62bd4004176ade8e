"""The optimiser of DreamerV3: adaptive gradient clipping, then LaProp (Ziyin et al. 2020), with a linear warm-up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class NonFiniteGradient(ArithmeticError):
    """The gradient has NaN or infinity; no parameter was changed."""


class LaProp:
    """One optimiser over many tensors, in the fused `foreach` operations of PyTorch.

    Each tensor's gradient is clipped to `clip` times that tensor's norm (at least `FLOOR`), divided by the running
    root mean square, and then averaged with momentum: a rare large gradient does not linger in both moments as it does
    in Adam.
    """

    FLOOR = 1e-3  # norm below which a tensor counts as this long
    DECAY, MOMENTUM, EPSILON = 0.999, 0.9, 1e-20

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, warmup: int, clip: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.warmup, self.clip = learning_rate, warmup, clip
        self.updates = 0
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.momenta = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, loss: Tensor) -> Tensor:
        """Minimise `loss` (scalar) by one update; the norm of the unclipped gradient. Raises NonFiniteGradient."""
        grads = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g.contiguous() for p, g in zip(self.parameters, grads)]
        norms = torch.stack(torch._foreach_norm(grads))
        total = norms.norm()
        if not torch.isfinite(total):
            raise NonFiniteGradient(f"gradient norm {total.item()} after {self.updates} updates")
        self._clip(grads, norms)
        self._apply(grads)
        return total

    def _clip(self, grads: list[Tensor], norms: Tensor) -> None:
        limits = self.clip * torch.stack(torch._foreach_norm(self.parameters)).clamp(min=self.FLOOR)
        torch._foreach_mul_(grads, list((limits / norms.clamp(min=1e-30)).clamp(max=1.0).unbind()))

    def _apply(self, grads: list[Tensor]) -> None:
        self.updates += 1
        torch._foreach_mul_(self.squares, self.DECAY)
        torch._foreach_addcmul_(self.squares, grads, grads, 1 - self.DECAY)
        roots = torch._foreach_div(self.squares, 1 - self.DECAY ** self.updates)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, self.EPSILON)
        torch._foreach_div_(grads, roots)
        torch._foreach_lerp_(self.momenta, grads, 1 - self.MOMENTUM)
        rate = self.learning_rate * min(1.0, self.updates / self.warmup if self.warmup else 1.0)
        torch._foreach_add_(self.parameters, self.momenta, alpha=-rate / (1 - self.MOMENTUM ** self.updates))

    def tensors(self) -> dict[str, Tensor]:
        """Both moments, numbered in the order of the parameters; with `updates` all that continues."""
        return {f"{name}.{i}": t for name, ts in (("squares", self.squares), ("momenta", self.momenta))
                for i, t in enumerate(ts)}
