"""An actor and a critic that learn in the model's imagination (DreamerV3, section 3; constants as in the code of 2025).

The actor learns by REINFORCE, for continuous and discrete actions alike. That needs no gradient through the imagined
dynamics: the rollout runs without a graph, and the actor and critic are evaluated once more on everything imagined, in
one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.losses.actor_critic import actor_loss
from daydreamer.losses.returns import ReturnScale, lambda_return
from daydreamer.models.world_model import Losses, State, WorldModel
from daydreamer.nn.distributions import BoundedNormal, Categorical, unimix
from daydreamer.nn.heads import ScalarHead
from daydreamer.nn.layers import Linear, mlp
from daydreamer.settings import AgentSettings

LAYERS = 3


class ActorCritic(Behaviour):
    """Acts from features, and learns from the states that a model's loss returned."""

    training_only = ("critic", "slow_critic", "return_scale")

    def __init__(self, model: WorldModel, settings: AgentSettings) -> None:
        super().__init__()
        spec, size = model.spec, settings.widths
        self.settings = settings
        self.discrete = not spec.action_space.shape
        self.action_size = spec.action_size
        outputs = spec.action_size * (1 if self.discrete else 2)
        self.actor = nn.Sequential(mlp(spec.feature_size, size.units, LAYERS), Linear(size.units, outputs, scale=0.01))
        self.critic = ScalarHead(spec.feature_size, size.units, LAYERS)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.return_scale = ReturnScale()

    def policy(self, features: Tensor) -> BoundedNormal | Categorical:
        """The distribution of actions at features [..., F]."""
        raw = self.actor(features)
        return Categorical(unimix(raw, self.settings.unimix)) if self.discrete else BoundedNormal.of(raw)

    def noise(self, *batch: int) -> Tensor:
        """See Behaviour: uniform [*batch] where discrete, else normal [*batch, A]."""
        device = self.slow_critic.two_hot.bins.device
        if self.discrete:
            return torch.rand(*batch, generator=self.generator, device=device)
        return torch.randn(*batch, self.action_size, generator=self.generator, device=device)

    def propose(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        policy = self.policy(features)
        return policy.mode() if noise is None else policy.sample(noise)

    def value(self, model: WorldModel, state: State) -> Tensor:
        return self.critic.mean(self.critic(model.features(state)))

    def loss(self, model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        """Named, unweighted terms `policy`, `value`, `replay_value`, and metrics, all scalars.

        states [B, T, ...] as the model's loss returned them, batch as the model's loss got it, with `is_last` bool
        [B, T]. Only `replay_value` sends gradients into the model.
        """
        features = model.features(states)
        starts = self._starts(features.shape[0] * features.shape[1], features.device)
        with torch.no_grad():
            begin = {key: x.flatten(0, 1)[starts] for key, x in states.items()}
            imagined, actions = self._imagine(model, begin)
            ahead, reward = model.features(imagined), model.reward(imagined)
            discount = self.settings.discount * model.continuation(imagined)
        logits = self.critic(ahead)
        value = self.critic.mean(logits.detach())
        returns = lambda_return(reward.T, discount.T, value.T, self.settings.return_lambda).T
        weight = discount.cumprod(0)[:-1] / self.settings.discount
        policy = self.policy(ahead[:-1])
        advantage = (returns - value[:-1]) / self.return_scale.value()
        entropy = policy.entropy()
        losses = {
            "policy": actor_loss(policy.log_prob(actions), entropy, advantage, weight, self.settings.entropy).mean(),
            "value": self._critic_loss(ahead[:-1], logits[:-1], returns, weight).mean(),
            "replay_value": self._replay_loss(features, batch, starts, returns[0]).mean(),
        }
        low, high = self.return_scale.range(returns)
        metrics = {"imagined_return": returns.mean(), "return_low": low, "return_high": high,
                   "imagined_reward": reward[1:].mean(), "value": value.mean(),
                   "return_scale": self.return_scale.value(), "entropy": entropy.mean(), "advantage": advantage.mean(),
                   "advantage_deviation": advantage.std(unbiased=False)}
        return losses, {name: metric.detach() for name, metric in metrics.items()}

    @torch.no_grad()
    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Let the slow critic and the return scale follow an update that was made; `metrics` are those of `loss`."""
        self.return_scale.update(metrics["return_low"], metrics["return_high"])
        slow, fast = list(self.slow_critic.parameters()), list(self.critic.parameters())
        torch._foreach_lerp_(slow, fast, self.settings.slow_rate)

    def _starts(self, states: int, device: torch.device) -> Tensor:
        """Indices of the states that imagination starts from."""
        count = self.settings.imagine_starts
        if not 0 < count < states:
            return torch.arange(states, device=device)
        return torch.randperm(states, generator=self.generator, device=device)[:count]

    def _imagine(self, model: WorldModel, state: State) -> tuple[State, Tensor]:
        """Follow the policy for H steps from N states: states [H+1, N, ...] with the start, actions [H, N, A].

        Time comes first here, so that all steps but the last are one piece of memory and need no copy.
        """
        states, actions = [state], []
        count, horizon = len(next(iter(state.values()))), self.settings.horizon
        model_noise, noise = model.noise(horizon, count), self.noise(horizon, count)
        for step in range(horizon):
            actions.append(self.policy(model.features(state)).sample(noise[step]))
            state = model.imagine_step(state, actions[-1], model_noise[step])
            states.append(state)
        return {key: torch.stack([state[key] for state in states]) for key in state}, torch.stack(actions)

    def _critic_loss(self, features: Tensor, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Follow the return, and stay near the slowly moving copy of oneself: [...] from the critic's logits
        [..., bins] at these features and the returns that it should have told [...]."""
        with torch.no_grad():
            slow = self.slow_critic.mean(self.slow_critic(features))
        return weight * self.critic.loss(logits, target, slow)

    def _replay_loss(self, features: Tensor, batch: Mapping[str, Tensor], starts: Tensor, imagined: Tensor) -> Tensor:
        """The critic on what really happened, [B, T-1]: lambda returns over the recorded rewards.

        Behind a state they bootstrap from the return imagined from it, where imagination started there, else from its
        value. Nothing is learned about an episode's last step, whose next step belongs to another episode.
        """
        logits = self.critic(features)
        bootstrap = self.critic.mean(logits.detach())
        bootstrap.view(-1)[starts] = imagined
        discount = self.settings.discount * (~batch["is_terminal"]).float()
        mix = self.settings.return_lambda * (~batch["is_last"]).float()
        returns = lambda_return(batch["reward"], discount, bootstrap, mix)
        weight = (~batch["is_last"]).float()[:, :-1]
        return self._critic_loss(features[:, :-1].detach(), logits[:, :-1], returns, weight)
