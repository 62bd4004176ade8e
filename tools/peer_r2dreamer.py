"""The train step of r2dreamer (github.com/NM512/r2dreamer, a DreamerV3 in PyTorch), to be timed beside ours on a CPU.

The checkout stays as it is: a copy of its `dreamer.py` is patched where it assumes a GPU or cannot do what is compared.
Every patch must fit exactly once, so that another version of the peer fails loudly. Needs `tensordict` and `omegaconf`.
Its replay is replaced by one batch that never changes, as on our side, so that no figure contains a replay.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import sys
import tempfile
import types
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

PATCHES = (
    # Autocast to float16 is for GPUs: here it is off, or bfloat16.
    ("autocast(device_type=self.device.type, dtype=torch.float16)",
     "autocast('cpu', torch.bfloat16, enabled=self.bfloat16)"),
    # It imagines from every state. Where it shall from fewer, draw them, and put their returns where ours go.
    ("imag_feat, imag_action = self._imagine(start, self.imag_horizon + 1)",
     "chosen = torch.randperm(B * T)[:self.starts]\n"
     "        imag_feat, imag_action = self._imagine(tuple(x[chosen] for x in start), self.imag_horizon + 1)"),
    ("        boot = ret[:, 0].reshape(B, T, 1)\n", "        imagined = ret[:, 0]\n"),
    ("        slow_value = self._frozen_slow_value(feat).mode()\n",
     "        slow_value = self._frozen_slow_value(feat).mode()\n"
     "        boot = value.detach().reshape(B * T, 1).index_copy(0, chosen, imagined).reshape(B, T, 1)\n"),
)
SMALL = {"deter": 256, "hidden": 128, "units": 128, "discrete": 16, "depth": 8, "act": "SiLU", "norm": True}
STOCH = 16


class Peer:
    """Their agent for one Box of numbers, as large as our `small`; `update()` is one train step."""

    def __init__(self, path: Path, batch: Mapping[str, np.ndarray], starts: int, horizon: int,
                 bfloat16: bool = False, compiled: bool = False) -> None:
        """batch: `observation` [B, T, O], `prev_action` [B, T, A], `reward` and flags [B, T]; starts 0: all B * T."""
        from tensordict import TensorDict

        observation, action = batch["observation"], batch["prev_action"]
        seen = spaces.Dict({"observation": spaces.Box(-np.inf, np.inf, observation.shape[2:], np.float32)})
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            agent = _patched(path).Dreamer(_config(path, horizon, compiled), seen,
                                           spaces.Box(-1, 1, action.shape[2:], np.float32))
        agent.starts, agent.bfloat16 = starts or observation[..., 0].size, bfloat16
        single = {key: torch.from_numpy(batch[key])[..., None] for key in ("reward", "is_first", "is_last",
                                                                          "is_terminal")}
        data = single | {"observation": torch.from_numpy(observation), "action": torch.from_numpy(action)}
        self.agent, self.parameters = agent, sum(p.numel() for p in agent._named_params.values())
        self._replay = _Replay(TensorDict(data, observation.shape[:2]), agent.rssm.initial(len(observation)))

    def update(self) -> None:
        """One train step."""
        with warnings.catch_warnings(action="ignore"):
            self.agent.update(self._replay)["opt/loss"].item()

    def act(self, count: int) -> None:
        """One decision for `count` robots."""
        self.agent.act(self._replay.data[:count, 0], self.agent.get_initial_state(count))


class _Replay:
    """One batch, for ever; new states are not kept."""

    def __init__(self, data: Mapping[str, torch.Tensor], initial: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.data, self.initial = data, initial

    def sample(self) -> tuple:
        return self.data, None, self.initial

    def update(self, *_: object) -> None:
        return None


def _config(path: Path, horizon: int, compiled: bool) -> object:
    """Their `configs.yaml` at our `small`, for numbers, learning from a decoder."""
    from omegaconf import OmegaConf

    keys = {"mlp_keys": ".*", "cnn_keys": "$^"}
    given = OmegaConf.create({"env": {"encoder": keys, "decoder": keys}, "model": SMALL, "device": "cpu"})
    base = OmegaConf.load(path / "configs" / "model" / "_base_.yaml")
    base.merge_with({"imag_horizon": horizon, "compile": compiled, "rep_loss": "dreamer", "rssm": {"stoch": STOCH}})
    model = OmegaConf.create(OmegaConf.to_container(base) | SMALL)
    return OmegaConf.merge(given, {"model": model}).model


def _patched(path: Path) -> types.ModuleType:
    """Their module `dreamer` from a copy with the patches. Raises ValueError where one does not fit this checkout."""
    source = (path / "dreamer.py").read_text()
    for old, new in PATCHES:
        if source.count(old) != 1:
            raise ValueError(f"{path}: not the r2dreamer that the patches are for: {old!r} is not there once")
        source = source.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        for file in path.glob("*.py"):
            shutil.copy(file, folder)
        shutil.copytree(path / "optim", Path(folder) / "optim")
        (Path(folder) / "dreamer.py").write_text(source)
        sys.path.insert(0, folder)
        module = importlib.import_module("dreamer")
        sys.path.remove(folder)
    return module
