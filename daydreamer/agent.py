"""The agent: one world model, one behaviour and their optimiser.

An agent belongs to one thread. It takes and gives NumPy arrays at its border and checks what comes in: a bad
observation is a typed error and changes nothing. Who only acts needs `acting_state`; who continues training needs
`state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from daydreamer.behaviours import build_behaviour
from daydreamer.behaviours.behaviour import Behaviour, Mode
from daydreamer.diagnostics.diagnosis import diagnosis
from daydreamer.diagnostics.gradients import gradient_norms
from daydreamer.models import build_model
from daydreamer.models.world_model import State, WorldModel
from daydreamer.nn.optimiser import LaProp, NonFiniteGradient
from daydreamer.nn.precision import rounds
from daydreamer.settings import AgentSettings

if TYPE_CHECKING:
    from daydreamer.player import Player

FLAGS = ("is_first", "is_last", "is_terminal")


class BadObservation(ValueError):
    """An input is missing, has another shape, or is not finite. `key` names it, `rows` are the batch rows at fault."""

    def __init__(self, key: str, problem: str, rows: tuple[int, ...] = ()) -> None:
        super().__init__(f"observation {key}: {problem}")
        self.key, self.rows = key, rows


class BadWeights(ValueError):
    """Weights or a saved state of another agent: names and shapes differ."""


class NonFiniteLoss(ArithmeticError):
    """A loss or gradient is NaN or infinite; the update was skipped. `metrics` has the loss terms."""

    def __init__(self, message: str, metrics: dict[str, float]) -> None:
        super().__init__(message)
        self.metrics = metrics


class Agent:
    """Acts, and learns from batches of experience.

    A carry is a dict of tensors with leading batch axis: carries of several robots are stacked with `torch.cat` and
    split by slicing, key by key.

        carry = agent.initial(batch=1)
        action, carry = agent.act(carry, obs, prev_action, is_first)
        metrics = agent.train(batch)
    """

    def __init__(self, observation_space: spaces.Dict, action_space: spaces.Space, settings: AgentSettings,
                 seed: int = 0, device: str = "cpu") -> None:
        """Raises ValueError for spaces that no model can read. `device` may be `auto`: a GPU where there is one."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.observation_space, self.action_space, self.settings = observation_space, action_space, settings
        self.device = torch.device(device)
        self.rounds = rounds(settings.precision, self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build_model(observation_space, action_space, settings).to(self.device)
            self.behaviour = build_behaviour(self.model, settings).to(self.device)
        for part in [*self.model.modules(), *self.behaviour.modules()]:
            if isinstance(part, (WorldModel, Behaviour)):
                part.generator = self.generator
        self.modules = nn.ModuleDict({"model": self.model, "behaviour": self.behaviour.learned})
        if clash := self.model.initial(1).keys() & self.behaviour.initial(1).keys():
            raise ValueError(f"carry {sorted(clash)[0]}: the model and the behaviour both have one")
        trained = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimiser = LaProp(trained, settings.learning_rate, settings.warmup, settings.clip)
        self.discrete = isinstance(action_space, spaces.Discrete)

    @staticmethod
    def load(path: str | Path, device: str = "cpu") -> Player:
        """Whoever plays as the newest checkpoint under `path` (a run's folder, for one) has learned to.

            player = Agent.load("runs/walker_walk-1")
            action = player.act(obs)

        Raises CheckpointError."""
        from daydreamer.player import Player, load

        return Player(load(Path(path), device))

    @property
    def updates(self) -> int:
        """How many updates the weights have seen."""
        return self.optimiser.updates

    def initial(self, batch: int) -> State:
        """The carry before anything was seen: a dict of tensors [B, ...], the model's and the behaviour's."""
        return self.model.initial(batch) | self.behaviour.initial(batch)

    @torch.no_grad()
    def act(self, carry: State, obs: Mapping[str, np.ndarray], prev_action: np.ndarray, is_first: np.ndarray,
            mode: Mode = "sample", deadline: float = math.inf) -> tuple[np.ndarray, State]:
        """One step for B robots: actions float32 [B, A] in [-1, 1], or int64 [B] where discrete, and the next carry.

        obs [B, *shape] per key, prev_action [B, A] or int [B] as it was applied, is_first bool [B]. `mode` "sample"
        explores, "mode" takes the best action known. A behaviour that plans is done before `deadline` (a time of
        `time.monotonic`) where it can. Raises BadObservation.
        """
        seen, first = self._observation(obs, leading=1), self._bool(is_first)
        state, _ = self.model.observe(carry, self._actions(prev_action), self.model.encode(seen), first)
        action, kept = self.behaviour.act(self.model, state, self._kept(carry, first), mode, deadline)
        action = action.argmax(-1) if self.discrete else action.clamp(-1, 1)
        return action.cpu().numpy(), state | kept

    @torch.no_grad()
    def observe(self, carry: State, obs: Mapping[str, np.ndarray], prev_action: np.ndarray,
                is_first: np.ndarray) -> State:
        """The carry after K steps that others acted in: everything as in `act` with a second axis [B, K, ...]. The
        behaviour's part of it is as at the start of an episode."""
        seen = self._observation(obs, leading=2)
        embeds = self.model.encode(seen)
        states, _ = self.model.observe_sequence(carry, self._actions(prev_action), embeds, self._bool(is_first))
        return {key: x[:, -1] for key, x in states.items()} | self.behaviour.initial(len(embeds))

    def train(self, batch: Mapping[str, np.ndarray], burn_in: int = 0) -> dict[str, float]:
        """One update on sequences [B, burn_in + T, ...]; returns metrics.

        The batch has the observation's keys, `prev_action`, `reward`, `is_first`, `is_last`, `is_terminal`; other keys
        are ignored. The first `burn_in` steps only warm the state up. Raises BadObservation and NonFiniteLoss, both
        without a change to weights or normalisers.
        """
        state, data = self._prepared(batch, burn_in)
        total, metrics = self._loss(state, data)
        try:
            metrics["gradient_norm"] = self.optimiser.step(total)
        except NonFiniteGradient as error:
            raise NonFiniteLoss(str(error), _numbers(metrics)) from error
        self.model.after_update()
        self.behaviour.after_update(metrics)
        return _numbers(metrics)

    def diagnose(self, batch: Mapping[str, np.ndarray], burn_in: int = 0) -> dict[str, float]:
        """What makes failures of learning visible (docs/diagnostics.md), of a batch as `train` takes it. Changes
        nothing, not even the random numbers to come. Raises BadObservation."""
        generator = self.generator.get_state()
        try:
            state, data = self._prepared(batch, burn_in)
            total, _ = self._loss(state, data)
            figures = gradient_norms(total, self.modules.values())
            figures |= diagnosis(self.model, self.behaviour, state, data, self.settings.discount)
        finally:
            self.generator.set_state(generator)
        return _numbers(figures)

    def acting_state(self) -> dict[str, Tensor]:
        """A copy of the weights that `act` needs, float32 and contiguous, on the CPU."""
        return {name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
                for name, tensor in self._acting().items()}

    def load_acting_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over another agent's `acting_state`; carries stay valid. Raises BadWeights, changing nothing."""
        _copy(self._acting(), tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """A copy, on the CPU, of all that training continues from: weights, optimiser, normalisers, counters, RNG."""
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._everything().items()}
        return copies | {"updates": torch.tensor(self.updates), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`: training continues bit for bit. Raises BadWeights, changing nothing."""
        state = dict(state)
        try:
            updates, generator = int(state.pop("updates")), state.pop("generator")
        except KeyError as error:
            raise BadWeights(f"{error.args[0]}: missing") from error
        _copy(self._everything(), state)
        self.optimiser.updates = updates
        self.generator.set_state(generator)

    def _acting(self) -> dict[str, Tensor]:
        """The tensors that `act` reads: who plans also needs what judges an imagined state."""
        skipped = tuple(f"{name}.{part}." for name, module in self.modules.items() for part in module.training_only
                        if not (self.behaviour.plans and part in module.planning_only))
        return {name: tensor for name, tensor in self.modules.state_dict().items() if not name.startswith(skipped)}

    def _everything(self) -> dict[str, Tensor]:
        return self.modules.state_dict() | {f"optimiser.{name}": t for name, t in self.optimiser.tensors().items()}

    def _kept(self, carry: State, first: Tensor) -> State:
        """The behaviour's part of a carry [B, ...], as at the start of an episode where `first` bool [B]."""
        fresh = self.behaviour.initial(len(first))
        return {key: torch.where(first.view(-1, *[1] * (new.ndim - 1)), new, carry[key]) for key, new in fresh.items()}

    def _prepared(self, batch: Mapping[str, np.ndarray], burn_in: int) -> tuple[State, dict[str, Tensor]]:
        """A batch as the model's loss takes it, checked and without its first `burn_in` steps, and the state before it.
        Raises BadObservation."""
        data = self._observation(batch, leading=2) | {key: self._bool(batch[key]) for key in FLAGS}
        data["prev_action"] = self._actions(batch["prev_action"])
        data["reward"] = self._float("reward", batch["reward"]) - self.settings.reward_offset
        return self._warm_up(data, burn_in)

    def _loss(self, state: State, data: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What an update minimises, and the metrics of model and behaviour."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.rounds):
            losses, states = self.model.loss(data, state)
            behaviour_losses, metrics = self.behaviour.loss(self.model, states, data)
        losses = {name: loss.mean() for name, loss in (losses | behaviour_losses).items()}
        total = sum(getattr(self.settings.loss_scales, name) * loss for name, loss in losses.items())
        metrics |= {f"loss/{name}": loss.detach() for name, loss in losses.items()} | {"loss": total.detach()}
        return total, metrics

    @torch.no_grad()
    def _warm_up(self, data: dict[str, Tensor], burn_in: int) -> tuple[State, dict[str, Tensor]]:
        """The state behind the first `burn_in` steps, and the steps after them."""
        state = self.model.initial(len(data["reward"]))
        if not burn_in:
            return state, data
        head = {key: x[:, :burn_in] for key, x in data.items()}
        embeds = self.model.encode(head)
        states, _ = self.model.observe_sequence(state, head["prev_action"], embeds, head["is_first"])
        return {key: x[:, -1] for key, x in states.items()}, {key: x[:, burn_in:] for key, x in data.items()}

    def _observation(self, obs: Mapping[str, np.ndarray], leading: int) -> dict[str, Tensor]:
        """Checked tensors [*batch, *shape] of the observation's keys, with `leading` batch axes."""
        missing = sorted(set(self.observation_space) - set(obs))
        if missing:
            raise BadObservation(missing[0], "missing")
        tensors = {}
        for key, space in self.observation_space.items():
            array = np.asarray(obs[key])
            if array.shape[leading:] != space.shape or array.ndim != leading + len(space.shape):
                raise BadObservation(key, f"shape {array.shape}: {leading} batch axes, then {space.shape}, is wanted")
            tensors[key] = self._float(key, array) if array.dtype.kind == "f" else self._tensor(array)
        return tensors

    def _actions(self, actions: np.ndarray) -> Tensor:
        """Actions as the model takes them: float32 [..., A], one-hot where discrete."""
        if not self.discrete:
            return self._float("prev_action", actions)
        actions = np.asarray(actions)
        if ((actions < 0) | (actions >= self.action_space.n)).any():
            raise BadObservation("prev_action", f"outside 0 to {self.action_space.n - 1}")
        return nn.functional.one_hot(self._tensor(actions.astype(np.int64)), int(self.action_space.n)).float()

    def _float(self, key: str, array: np.ndarray) -> Tensor:
        array = np.asarray(array, np.float32)
        if not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
            raise BadObservation(key, f"not finite in rows {rows.tolist()}", tuple(rows.tolist()))
        return self._tensor(array)

    def _bool(self, array: np.ndarray) -> Tensor:
        return self._tensor(np.asarray(array, bool))

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Shares memory with the array where it can."""
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)


def _numbers(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """All at once, so that a GPU is waited for once."""
    return dict(zip(metrics, torch.stack([m.float() for m in metrics.values()]).tolist(), strict=True))


@torch.no_grad()
def _copy(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    """Fill every target from its namesake. Raises BadWeights before the first is touched."""
    odd = sorted(set(targets) ^ set(sources))
    if odd:
        raise BadWeights(f"{odd[0]}: {'missing' if odd[0] in targets else 'unknown'} ({len(odd)} such names)")
    for name, target in targets.items():
        if target.shape != sources[name].shape:
            raise BadWeights(f"{name}: shape {tuple(sources[name].shape)}, want {tuple(target.shape)}")
    for name, target in targets.items():
        target.copy_(sources[name])
