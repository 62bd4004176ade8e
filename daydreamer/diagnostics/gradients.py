"""Does learning reach every part?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def gradient_norms(loss: Tensor, modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """`gradient/PART`: the norm of the gradient of `loss` (scalar, with its graph) in each direct submodule of the
    modules, before clipping. Zero where nothing arrives. Frees the graph."""
    named = [(name.partition(".")[0], p) for module in modules for name, p in module.named_parameters()
             if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    norms: dict[str, list[Tensor]] = defaultdict(lambda: [loss.new_zeros(())])
    for (part, _), gradient in zip(named, gradients, strict=True):
        norms[part] += [] if gradient is None else [gradient.float().norm()]
    return {f"gradient/{part}": torch.stack(found).norm() for part, found in norms.items()}
