"""In what precision matrix products are taken."""

from __future__ import annotations

import torch

NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # of a processor's capabilities, by PyTorch's names


def rounds(precision: str, device: torch.device) -> bool:
    """Whether products are taken in bfloat16. `auto`: where the device has instructions for it; what has not emulates
    them, and is ten times slower than in float32."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in NATIVE)
