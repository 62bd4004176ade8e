"""A deterministic actor and a few critics that learn from what really happened, whoever acted (TD3, Fujimoto et al.
2018, on the latents of a world model as in MR.Q, Fujimoto et al. 2025).

The critics judge an action by what the world model says it leads to. They learn lambda returns over replayed rewards,
which bootstrap from the least of slow copies of themselves at the actor's action. The actor follows the critics'
gradient in its action (deterministic policy gradient, Silver et al. 2014). Nothing is imagined while learning: an
update costs a fraction of one in imagination. The world model gives the state its shape, and planners their future.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daydreamer.behaviours.behaviour import Behaviour, Mode
from daydreamer.losses.returns import ReturnScale, lambda_return
from daydreamer.models.world_model import Losses, State, WorldModel
from daydreamer.nn.heads import ScalarHead
from daydreamer.nn.layers import Linear, mlp
from daydreamer.settings import AgentSettings

SMOOTHING, SMOOTHING_LIMIT = 0.2, 0.3  # deviation and bound of the noise on the actions that critics bootstrap from
CENTRE = 1e-3  # weight of the squared actions before tanh: what is saturated gets no gradient


class OffPolicy(Behaviour):
    """See the module's docstring. Continuous actions only: raises ValueError for others.

    Exploring adds normal noise to the actor's action, correlated from step to step: carry `noise` [B, A]. Its deviation
    `spread` shrinks while the actor learns: what balances only without noise cannot be learned with much of it.
    """

    training_only = ("critics", "slow_critics", "return_scale")
    planning_only = ("critics",)

    def __init__(self, model: WorldModel, settings: AgentSettings) -> None:
        super().__init__()
        spec, width = model.spec, settings.widths.wide
        if not spec.action_space.shape:
            raise ValueError(f"behaviour: off_policy: {spec.action_space} is discrete; actor_critic is for those")
        self.settings, self.action_size = settings, spec.action_size
        self.actor = nn.Sequential(mlp(spec.feature_size, width, 2), Linear(width, spec.action_size, scale=0.01))
        self.critics = nn.ModuleList(ScalarHead(spec.feature_size, width, 2) for _ in range(settings.critics))
        self.slow_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.return_scale = ReturnScale()
        self.register_buffer("spread", torch.tensor(settings.noise))

    def initial(self, batch: int) -> State:
        return {"noise": torch.zeros(batch, self.action_size, device=self.actor[-1].weight.device)}

    def act(self, model: WorldModel, state: State, carry: State, mode: Mode,
            deadline: float = math.inf) -> tuple[Tensor, State]:
        features = model.features(state)
        if mode == "mode":
            return self.propose(features), carry
        kept = self.settings.noise_correlation
        noise = kept * carry["noise"] + math.sqrt(1 - kept ** 2) * self.noise(len(features))
        return self.propose(features, noise), carry | {"noise": noise}

    def noise(self, *batch: int) -> Tensor:
        return torch.randn(*batch, self.action_size, generator=self.generator, device=self.actor[-1].weight.device)

    def propose(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        action = torch.tanh(self.actor(features).float())
        return action if noise is None else (action + self.spread * noise).clamp(-1, 1)

    def value(self, model: WorldModel, state: State) -> Tensor:
        return _judge(self.critics, model.outcome(state, self.propose(model.features(state)))).mean(0)

    def loss(self, model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        """Terms `policy` and `value`. Nothing here sends gradients into the model."""
        states = {key: x.detach() for key, x in states.items()}
        returns = self._returns(model, states, batch)
        with torch.no_grad():
            taken = model.outcome({key: x[:, :-1] for key, x in states.items()}, batch["prev_action"][:, 1:])
        counts = (~batch["is_last"]).float()[:, :-1]
        value = sum(critic.loss(critic(taken), returns) for critic in self.critics) / len(self.critics)
        policy, metrics = self._policy_loss(model, states)
        metrics |= {"return": returns.mean()}
        return {"policy": policy, "value": (counts * value).mean()}, metrics

    @torch.no_grad()
    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Let the slow critics, the return scale and the noise follow an update that was made."""
        self.spread.lerp_(self.spread.new_tensor(self.settings.noise_least), 1 / self.settings.noise_updates)
        self.return_scale.update(metrics["value_low"], metrics["value_high"])
        torch._foreach_lerp_(list(self.slow_critics.parameters()), list(self.critics.parameters()),
                             self.settings.slow_rate)

    @torch.no_grad()
    def _returns(self, model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> Tensor:
        """What the critics should have told of steps 0 .. T-2: [B, T-1]. Behind an episode's last step they rely on
        the slow critics alone, behind a terminal one on nothing."""
        action = self.propose(model.features(states))
        noise = (SMOOTHING * self.noise(*action.shape[:2])).clamp(-SMOOTHING_LIMIT, SMOOTHING_LIMIT)
        bootstrap = _judge(self.slow_critics, model.outcome(states, (action + noise).clamp(-1, 1))).amin(0)
        discount = self.settings.discount * (~batch["is_terminal"]).float()
        mix = self.settings.return_lambda * (~batch["is_last"]).float()
        return lambda_return(batch["reward"], discount, bootstrap, mix)

    def _policy_loss(self, model: WorldModel, states: State) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss in some of the states [B, T, ...], and metrics."""
        some = self._some(states)
        raw = self.actor(model.features(some)).float()
        action = torch.tanh(raw)
        with torch.enable_grad():
            tried = action.detach().requires_grad_()
            value = _judge(self.critics, model.outcome(some, tried)).mean(0)
            (slope,) = torch.autograd.grad(value.sum(), tried)
        loss = -(slope / self.return_scale.value() * action).sum(-1) + CENTRE * raw.square().mean(-1)
        low, high = self.return_scale.range(value)
        return loss.mean(), {"value": value.mean(), "value_low": low, "value_high": high,
                             "return_scale": self.return_scale.value(), "noise": self.spread.clone()}

    def _some(self, states: State) -> State:
        """`imagine_starts` of the states [B, T, ...], drawn at random: [N, ...]."""
        flat, count = {key: x.flatten(0, 1) for key, x in states.items()}, self.settings.imagine_starts
        total, device = len(next(iter(flat.values()))), next(iter(flat.values())).device
        if not 0 < count < total:
            return flat
        drawn = torch.randperm(total, generator=self.generator, device=device)[:count]
        return {key: x[drawn] for key, x in flat.items()}


def _judge(critics: nn.ModuleList, outcome: Tensor) -> Tensor:
    """What each critic holds of an outcome [..., F]: [critics, ...]."""
    return torch.stack([critic.mean(critic(outcome)) for critic in critics])
