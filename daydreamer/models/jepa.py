"""A joint-embedding predictive world model: it predicts what it will see in its own terms, and decodes nothing.

A state is what an encoder makes of one observation, `latent` [B, L]; the dynamics predict the next latent from latent
and action, and from the same features the reward and whether the episode goes on. The targets are latents of a slowly
moving copy of the encoder, which keeps them from collapsing, together with the rewards they have to explain (MR.Q,
Fujimoto et al. 2025, section 4; TD-MPC2, Hansen et al. 2024, section 3.1). Acting and behaviours see the slow latents
too: what they learn from moves slowly.

There is no memory: the signals must say all there is to know, velocities and the state of filters included. In return
nothing in a training step is sequential but the few steps of the unroll, and a step costs a fraction of an RSSM's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from daydreamer.models.world_model import Losses, ModelSpec, Prediction, State, WorldModel, stack_states
from daydreamer.nn.heads import BinaryHead, ScalarHead
from daydreamer.nn.layers import Linear, mlp
from daydreamer.nn.perception import Encoder
from daydreamer.settings import AgentSettings

JUDGED = ("reward", "is_terminal")  # what a predicted step is held to, beside the next latent


class Jepa(WorldModel):
    """See the module's docstring. Noise: none, [..., 0].

    State: `latent` [B, L], and `arrival` [B, L], the dynamics' features of the step that led there (zero where an
    episode starts), from which the reward is read. Prediction: `latent` as the dynamics foretold it, and `known` bool
    [B], false where an episode starts.

    Loss terms [B, T - K]: `dynamics`, `reward`, `continuation`, each the mean over an unroll of K steps from every step
    that has so many behind it in the window. Across the end of an episode nothing is learned.
    """

    training_only = ("encoder", "reward_head", "continuation_head")

    def __init__(self, spec: ModelSpec, settings: AgentSettings) -> None:
        super().__init__()
        self.settings, width = settings, settings.widths.wide
        self.spec = spec.offering(feature_size=width, offers_goals=True)
        perception = Encoder(spec.observation_space, replace(settings.widths, units=width))
        self.encoder = nn.Sequential(perception, mlp(perception.outputs, width, 1))
        self.slow_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.from_action = mlp(spec.action_size, settings.widths.units, 1, raw=True)
        self.dynamics = mlp(width + settings.widths.units, width, 2)
        self.next_latent = Linear(width, width)
        self.reward_head = ScalarHead(width, width, 0)
        self.continuation_head = BinaryHead(width, width, 0)

    def initial(self, batch: int) -> State:
        empty = torch.zeros(batch, self.spec.feature_size, device=self.next_latent.weight.device)
        return {"latent": empty, "arrival": empty.clone()}

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        return self.slow_encoder(obs)

    def noise(self, *batch: int) -> Tensor:
        return torch.zeros(*batch, 0, device=self.next_latent.weight.device)

    def observe(self, state: State, prev_action: Tensor, embed: Tensor, is_first: Tensor,
                noise: Tensor | None = None) -> tuple[State, Prediction]:
        predicted = self.imagine_step(state, prev_action)
        arrival = predicted["arrival"].masked_fill(is_first.unsqueeze(-1), 0.0)
        return {"latent": embed, "arrival": arrival}, {"latent": predicted["latent"], "known": ~is_first}

    def observe_sequence(self, state: State, prev_actions: Tensor, embeds: Tensor, is_first: Tensor,
                         noise: Tensor | None = None) -> tuple[State, Prediction]:
        """See WorldModel. Nothing is sequential here: what came before a step is its predecessor's embedding."""
        before = torch.cat([state["latent"].unsqueeze(1), embeds[:, :-1]], 1)
        return self.observe({"latent": before}, prev_actions, embeds, is_first)

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None = None) -> State:
        return self._advance(state["latent"], self.from_action(_bounded(action)))

    def imagine(self, state: State, actions: Tensor, noise: Tensor | None = None) -> State:
        states = []
        for term in self.from_action(_bounded(actions)).unbind(1):
            state = self._advance(state["latent"], term)
            states.append(state)
        return stack_states(states)

    def features(self, state: State) -> Tensor:
        return state["latent"]

    def outcome(self, state: State, action: Tensor) -> Tensor:
        """What the dynamics make of state and action, before the next latent is read from it."""
        return self.imagine_step(state, action)["arrival"]

    def reward(self, state: State) -> Tensor:
        return self.reward_head.mean(self.reward_head(state["arrival"]))

    def continuation(self, state: State) -> Tensor:
        return self.continuation_head(state["arrival"])

    def distance(self, state: State, goal: State) -> Tensor:
        return _squared(state["latent"], goal["latent"])

    def surprise(self, prediction: Prediction, state: State) -> Tensor:
        """Mean squared error of the predicted latent: [...]; zero where an episode starts."""
        return _squared(prediction["latent"], state["latent"]) * prediction["known"]

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Losses, State]:
        """See WorldModel, and the class for the terms. The states are those of the slow encoder, without gradients."""
        with torch.no_grad():
            embeds = self.encode(batch).float()
            states, _ = self.observe_sequence(state, batch["prev_action"], embeds, batch["is_first"])
        unroll = min(self.settings.unroll, embeds.shape[1] - 1)
        starts = embeds.shape[1] - unroll
        latent = self.encoder({key: batch[key][:, :starts] for key in self.spec.observation_space})
        terms = self.from_action(_bounded(batch["prev_action"]))
        alive, steps = torch.ones_like(batch["reward"][:, :starts]), []
        for ahead in range(1, unroll + 1):
            seen = slice(ahead, ahead + starts)
            predicted = self._advance(latent, terms[:, seen])
            latent = predicted["latent"]
            alive = alive * ~batch["is_first"][:, seen]
            losses = self._missed(predicted, embeds[:, seen], {key: batch[key][:, seen] for key in JUDGED})
            steps.append({name: alive * loss for name, loss in losses.items()})
        return {name: sum(step[name] for step in steps) / unroll for name in steps[0]}, states

    @torch.no_grad()
    def after_update(self) -> None:
        slow, fast = list(self.slow_encoder.parameters()), list(self.encoder.parameters())
        torch._foreach_lerp_(slow, fast, self.settings.slow_rate)

    def _missed(self, predicted: State, embed: Tensor, happened: Mapping[str, Tensor]) -> Losses:
        """How far a predicted step is from what happened, [B, S] each."""
        arrival = predicted["arrival"]
        return {"dynamics": _squared(predicted["latent"], embed),
                "reward": self.reward_head.loss(self.reward_head(arrival), happened["reward"]),
                "continuation": self.continuation_head.loss(arrival, (~happened["is_terminal"]).float())}

    def _advance(self, latent: Tensor, action_term: Tensor) -> State:
        """One step of the dynamics, [..., L] and [..., units]."""
        arrival = self.dynamics(torch.cat([latent, action_term], -1))
        return {"latent": self.next_latent(arrival), "arrival": arrival}


def _bounded(action: Tensor) -> Tensor:
    """Whatever is beyond one in any coordinate counts as one."""
    return action / action.abs().clamp(min=1.0)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over the last axis: [...]."""
    return (a.float() - b.float()).square().mean(-1)
