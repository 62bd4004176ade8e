"""The recurrent state-space model of DreamerV3 (Hafner et al. 2023, section 2; constants as in the code of 2025).

A state is a deterministic part `deter` [B, D], carried by a block GRU, and a stochastic part `stoch` [B, S * C], S
one-hot vectors of C classes. The prior guesses `stoch` from `deter` alone, the posterior also sees the observation;
the distance between the two is how surprised the model is. Everything that does not depend on time is computed for a
sequence at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daydreamer.losses.kl import balanced_kl
from daydreamer.models.rssm_sequence import Norm, Weights, posterior_sequence
from daydreamer.models.world_model import Losses, ModelSpec, Prediction, State, WorldModel, stack_states
from daydreamer.nn.distributions import categorical_kl, sample_one_hot, unimix
from daydreamer.nn.heads import BinaryHead, ScalarHead
from daydreamer.nn.layers import Activation, BlockGru, Linear, as_products_take, mlp
from daydreamer.nn.perception import Decoder, Encoder
from daydreamer.settings import AgentSettings


class Rssm(WorldModel):
    """See the module's docstring. Noise is uniform in [0, 1), [..., S]: it decides the samples of `stoch`.

    Loss terms: `decoder`, `reward`, `continuation`, `dynamics` (the prior follows the posterior) and `representation`
    (the posterior follows the prior), both at least `free_nats`.
    """

    training_only = ("decoder", "reward_head", "continuation_head")

    def __init__(self, spec: ModelSpec, settings: AgentSettings) -> None:
        super().__init__()
        size = self.size = settings.widths
        self.settings = settings
        stoch = size.stoch * size.classes
        self.spec = spec.offering(feature_size=size.deter + stoch, offers_decoder=True)
        features = self.spec.feature_size
        self.encoder = Encoder(spec.observation_space, size)
        self.recurrence = BlockGru(size.deter, stoch, spec.action_size, size.hidden, size.blocks)
        self.prior_head = nn.Sequential(mlp(size.deter, size.hidden, 2), Linear(size.hidden, stoch))
        self.posterior_deter = Linear(size.deter, size.hidden, bias=False, scale=0.5 ** 0.5)
        self.posterior_embed = Linear(self.encoder.outputs, size.hidden, scale=0.5 ** 0.5)
        self.posterior_head = nn.Sequential(Activation(size.hidden), Linear(size.hidden, stoch))
        self.decoder = Decoder(features, spec.observation_space, size)
        self.reward_head = ScalarHead(features, size.units, 1)
        self.continuation_head = BinaryHead(features, size.units, 1)

    def initial(self, batch: int) -> State:
        device = self.posterior_embed.weight.device
        stoch = self.size.stoch * self.size.classes
        return {"deter": torch.zeros(batch, self.size.deter, device=device),
                "stoch": torch.zeros(batch, stoch, device=device)}

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        return self.encoder(obs)

    def noise(self, *batch: int) -> Tensor:
        device = self.posterior_embed.weight.device
        return torch.rand(*batch, self.size.stoch, generator=self.generator, device=device)

    def observe(self, state: State, prev_action: Tensor, embed: Tensor, is_first: Tensor,
                noise: Tensor | None = None) -> tuple[State, Prediction]:
        noise = self.noise(len(embed)) if noise is None else noise
        keep = (~is_first).float().unsqueeze(-1)
        terms = self.recurrence.action_term(prev_action * keep), self.posterior_embed(embed)
        state, posterior = self._correct(state, *terms, keep, noise)
        return state, {"prior": self._prior(state["deter"]), "posterior": posterior}

    def observe_sequence(self, state: State, prev_actions: Tensor, embeds: Tensor, is_first: Tensor,
                         noise: Tensor | None = None) -> tuple[State, Prediction]:
        """See WorldModel. Only the posterior needs its turn: the terms of actions and embeddings are computed for all
        T before it, and the priors for all T behind it."""
        noise = self.noise(*embeds.shape[:2]) if noise is None else noise
        keep = (~is_first).float().unsqueeze(-1)
        terms = self.recurrence.action_term(prev_actions * keep), self.posterior_embed(embeds)
        deter, stoch, posterior = posterior_sequence((state["deter"], state["stoch"]), *terms, keep, noise,
                                                     self._posterior_weights(), self.settings.unimix)
        return {"deter": deter, "stoch": stoch}, {"prior": self._prior(deter), "posterior": posterior}

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None = None) -> State:
        noise = self.noise(len(action)) if noise is None else noise
        return self._predict(state, self.recurrence.action_term(action), noise)

    def imagine(self, state: State, actions: Tensor, noise: Tensor | None = None) -> State:
        noise = self.noise(*actions.shape[:2]) if noise is None else noise
        states = []
        for term, step_noise in zip(self.recurrence.action_term(actions).unbind(1), noise.unbind(1), strict=True):
            state = self._predict(state, term, step_noise)
            states.append(state)
        return stack_states(states)

    def features(self, state: State) -> Tensor:
        return torch.cat([as_products_take(state["deter"]), as_products_take(state["stoch"])], -1)

    def reward(self, state: State) -> Tensor:
        return self.reward_head.mean(self.reward_head(self.features(state)))

    def continuation(self, state: State) -> Tensor:
        return self.continuation_head(self.features(state))

    def decode(self, state: State) -> dict[str, Tensor]:
        return self.decoder(self.features(state))

    def surprise(self, prediction: Prediction, state: State) -> Tensor:
        return categorical_kl(prediction["posterior"], prediction["prior"])

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Losses, State]:
        """See WorldModel. Terms: `decoder`, `reward`, `continuation`, and the two sides of the balanced KL, `dynamics`
        (the prior learns) and `representation` (the posterior learns)."""
        embeds = self.encode(batch)
        states, prediction = self.observe_sequence(state, batch["prev_action"], embeds, batch["is_first"])
        features = self.features(states)
        dynamics, representation = balanced_kl(prediction["posterior"], prediction["prior"], self.settings.free_nats)
        return {
            "decoder": self.decoder.loss(features, batch),
            "reward": self.reward_head.loss(self.reward_head(features), batch["reward"]),
            "continuation": self.continuation_head.loss(features, (~batch["is_terminal"]).float()),
            "dynamics": dynamics,
            "representation": representation,
        }, states

    def _correct(self, state: State, action_term: Tensor, embed_term: Tensor, keep: Tensor,
                 noise: Tensor) -> tuple[State, Tensor]:
        """One step of the posterior, and its probabilities: terms [B, .], keep [B, 1] zero where an episode starts."""
        deter = self.recurrence(state["deter"] * keep, state["stoch"] * keep, action_term)
        hidden = torch.addmm(embed_term, deter, self.posterior_deter.weight.T)
        probs = self._probs(self.posterior_head(hidden))
        return {"deter": deter, "stoch": sample_one_hot(probs, noise).flatten(-2)}, probs

    def _posterior_weights(self) -> Weights:
        """Those of `_correct`."""
        gru, (active, logits) = self.recurrence, self.posterior_head
        (from_deter, deter_active), (from_stoch, stoch_active) = gru.from_deter[0], gru.from_stoch[0]
        norms = [Norm(x.norm.weight, x.norm.bias) for x in (deter_active, stoch_active, gru.activation, active)]
        return Weights(from_deter.weight, norms[0], from_stoch.weight, norms[1], gru.state_in.weight,
                       gru.deter_in.weight, norms[2], gru.gates.weight, gru.gates_bias, self.posterior_deter.weight,
                       norms[3], logits.weight, logits.bias)

    def _predict(self, state: State, action_term: Tensor, noise: Tensor) -> State:
        """One step of the prior."""
        deter = self.recurrence(state["deter"], state["stoch"], action_term)
        return {"deter": deter, "stoch": sample_one_hot(self._prior(deter), noise).flatten(-2)}

    def _prior(self, deter: Tensor) -> Tensor:
        return self._probs(self.prior_head(deter))

    def _probs(self, logits: Tensor) -> Tensor:
        """[..., S * C] to probabilities [..., S, C]."""
        return unimix(logits.unflatten(-1, (self.size.stoch, self.size.classes)), self.settings.unimix)
