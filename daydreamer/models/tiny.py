"""The smallest world model that is one: a deterministic recurrence, corrected by what was seen.

It is the example of `docs/world_models.md` and keeps the laws honest: nothing in the project may assume latents that
are sampled, a second tensor in the state, or a likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daydreamer.models.world_model import Losses, ModelSpec, Prediction, State, WorldModel, stack_states
from daydreamer.nn.heads import BinaryHead, ScalarHead
from daydreamer.nn.layers import Linear, mlp
from daydreamer.nn.perception import Decoder, Encoder
from daydreamer.settings import AgentSettings, Size


class Tiny(WorldModel):
    """State: `hidden` [B, D]. Prediction: `hidden` as it was before the observation. Noise: none, [..., 0].

    Loss terms: `decoder` (what is believed explains what was seen), `dynamics` (so does what was predicted), `reward`,
    `continuation`.
    """

    training_only = ("decoder", "reward_head", "continuation_head")

    def __init__(self, spec: ModelSpec, settings: AgentSettings) -> None:
        super().__init__()
        size = settings.widths
        self.spec = spec.offering(feature_size=size.deter, offers_decoder=True, offers_goals=True)
        self.encoder = Encoder(spec.observation_space, size)
        self.forward_model = self._network(size, size.deter + spec.action_size)
        self.correction = self._network(size, size.deter + self.encoder.outputs)
        self.decoder = Decoder(size.deter, spec.observation_space, size)
        self.reward_head = ScalarHead(size.deter, size.units, 1)
        self.continuation_head = BinaryHead(size.deter, size.units, 1)

    def initial(self, batch: int) -> State:
        return {"hidden": self.correction[-1].bias.new_zeros(batch, self.spec.feature_size)}

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        return self.encoder(obs)

    def noise(self, *batch: int) -> Tensor:
        return self.correction[-1].bias.new_zeros(*batch, 0)

    def observe(self, state: State, prev_action: Tensor, embed: Tensor, is_first: Tensor,
                noise: Tensor | None = None) -> tuple[State, Prediction]:
        keep = (~is_first).float().unsqueeze(-1)
        predicted = self.imagine_step({"hidden": state["hidden"] * keep}, prev_action * keep)
        hidden = torch.tanh(predicted["hidden"] + self.correction(torch.cat([predicted["hidden"], embed], -1)))
        return {"hidden": hidden}, predicted

    def observe_sequence(self, state: State, prev_actions: Tensor, embeds: Tensor, is_first: Tensor,
                         noise: Tensor | None = None) -> tuple[State, Prediction]:
        states, predictions = [], []
        for inputs in zip(prev_actions.unbind(1), embeds.unbind(1), is_first.unbind(1), strict=True):
            state, prediction = self.observe(state, *inputs)
            states.append(state)
            predictions.append(prediction)
        return stack_states(states), stack_states(predictions)

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None = None) -> State:
        hidden = state["hidden"]
        return {"hidden": torch.tanh(hidden + self.forward_model(torch.cat([hidden, action.clamp(-1, 1)], -1)))}

    def imagine(self, state: State, actions: Tensor, noise: Tensor | None = None) -> State:
        states = []
        for action in actions.unbind(1):
            state = self.imagine_step(state, action)
            states.append(state)
        return stack_states(states)

    def features(self, state: State) -> Tensor:
        return state["hidden"]

    def reward(self, state: State) -> Tensor:
        return self.reward_head.mean(self.reward_head(state["hidden"]))

    def continuation(self, state: State) -> Tensor:
        return self.continuation_head(state["hidden"])

    def decode(self, state: State) -> dict[str, Tensor]:
        return self.decoder(state["hidden"])

    def distance(self, state: State, goal: State) -> Tensor:
        return (state["hidden"] - goal["hidden"]).square().sum(-1).sqrt()

    def surprise(self, prediction: Prediction, state: State) -> Tensor:
        return (prediction["hidden"] - state["hidden"]).square().sum(-1)

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Losses, State]:
        """See WorldModel. Terms: `decoder`, `reward`, `continuation`, and `dynamics`: the decoder's loss on what was
        predicted before looking."""
        states, predictions = self.observe_sequence(state, batch["prev_action"], self.encode(batch), batch["is_first"])
        features = self.features(states)
        return {
            "decoder": self.decoder.loss(features, batch),
            "dynamics": self.decoder.loss(self.features(predictions), batch),
            "reward": self.reward_head.loss(self.reward_head(features), batch["reward"]),
            "continuation": self.continuation_head.loss(features, (~batch["is_terminal"]).float()),
        }, states

    @staticmethod
    def _network(size: Size, inputs: int) -> nn.Sequential:
        return nn.Sequential(mlp(inputs, size.units, 1), Linear(size.units, size.deter))
