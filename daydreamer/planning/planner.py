"""The loop that all planners share: draw plans, imagine them, keep the best, fit the distribution to those, again.

It plans for B robots at once, N candidates each, as one batch [B * N] of the world model. The first candidates follow
the actor through the model, as in TD-MPC2 (Hansen et al. 2024, section 3.2). Where latents are sampled, all candidates
share the noise, so that the comparison is fair; therefore a plan's return does not change from iteration to iteration,
and the best plans stay among the elites without being imagined again. What is returned is the best plan that was
imagined, so it is never worse, in the model's eyes, than the actor or the plan it started from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.models.world_model import State, WorldModel, stack_states
from daydreamer.planning.objective import plan_return
from daydreamer.planning.pace import Pace
from daydreamer.planning.plans import Categorical, Gaussian, Plans
from daydreamer.planning.refit import METHODS
from daydreamer.settings import PlannerSettings


@dataclass(frozen=True)
class Found:
    """The best plan [B, H, A], the distribution it came from, and after how many iterations and seconds."""

    plan: Tensor
    plans: Plans
    iterations: int
    seconds: float


@dataclass(frozen=True)
class Elites:
    """The best plans so far, best first: `actions` [B, K, H, A], `scores` [B, K]."""

    actions: Tensor
    scores: Tensor

    @classmethod
    def none(cls, plan: Tensor) -> Elites:
        """No elites yet; a plan [B, H, A] tells how they will be shaped."""
        return cls(plan.unsqueeze(1)[:, :0], plan[:, :0, 0])

    def joined(self, actions: Tensor, scores: Tensor, count: int) -> Elites:
        """The best `count` of these and of N others."""
        scores, best = torch.cat([self.scores, scores], 1).topk(count, 1)
        actions = torch.cat([self.actions, actions], 1)
        return Elites(actions.gather(1, best[..., None, None].expand(-1, -1, *actions.shape[2:])), scores)


class Planner:
    """Plans with a method of `METHODS`. `discount`: what a reward one step later is worth. Belongs to one thread."""

    def __init__(self, settings: PlannerSettings, discount: float, discrete: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.discount, self._clock = settings, discount, clock
        self._family = Categorical if discrete else Gaussian
        self._weigh = METHODS[settings.method]
        self._pace = Pace()

    @torch.no_grad()
    def plan(self, model: WorldModel, actor: Behaviour, state: State, start: Tensor,
             deadline: float = math.inf) -> Found:
        """The best plan from `state` [B, ...] that is found around `start` [B, H, A] before `deadline`, a time of the
        planner's clock. Without the time for one iteration it is `start`."""
        begin, settings, batch = self._clock(), self.settings, len(start)
        deadline = min(deadline, begin + (settings.budget or math.inf))
        plans, elites = self._family.around(start, settings), Elites.none(start)
        noise = model.noise(1, start.shape[1])
        noise = noise.expand(batch * settings.candidates, *noise.shape[1:])
        state = {key: x.repeat_interleave(settings.candidates, 0) for key, x in state.items()}
        now, done = begin, 0
        while done < settings.iterations and deadline - now > self._pace.expected(batch):
            actions = plans.draw(settings.candidates, model.generator)
            imagine = self._imagine if done or not settings.proposals else self._follow
            scores = self._judge(model, actor, imagine(model, actor, state, actions, noise), actions)
            elites = elites.joined(actions, scores, settings.elites)
            plans = plans.refit(elites.actions, self._weigh(elites.scores, settings.temperature), settings)
            earlier, now, done = now, self._finished(scores, deadline), done + 1
            self._pace.took(batch, now - earlier)
        if not done:
            self._pace.left_out(batch)
        return Found(elites.actions[:, 0] if done else start, plans, done, now - begin)

    def _imagine(self, model: WorldModel, actor: Behaviour, state: State, actions: Tensor, noise: Tensor) -> State:
        """The states [B * N, H, ...] that `actions` [B, N, H, A] lead to."""
        return model.imagine(state, actions.flatten(0, 1), noise)

    def _follow(self, model: WorldModel, actor: Behaviour, state: State, actions: Tensor, noise: Tensor) -> State:
        """The same where the first candidates follow the actor, one without exploring; they are filled in."""
        batch, count, horizon = actions.shape[:3]
        proposals, states = self.settings.proposals, []
        explore = actor.noise(horizon, proposals)
        for t in range(horizon):
            first = {key: x.unflatten(0, (batch, count))[:, :proposals] for key, x in state.items()}
            features = model.features(first)
            actions[:, :proposals, t] = _sane(actor.propose(features, explore[t].expand(batch, *explore[t].shape)))
            actions[:, 0, t] = _sane(actor.propose(features[:, 0]))
            state = model.imagine_step(state, actions[:, :, t].flatten(0, 1), noise[:, t])
            states.append(state)
        return stack_states(states)

    def _judge(self, model: WorldModel, actor: Behaviour, states: State, actions: Tensor) -> Tensor:
        """The scores [B, N] of `actions` [B, N, H, A], which led to `states` [B * N, H, ...]."""
        score = plan_return(model, actor, states, actions.flatten(0, 1), self.discount, self.settings.action_cost)
        return score.unflatten(0, actions.shape[:2])

    def _finished(self, scores: Tensor, deadline: float) -> float:
        """When an iteration was done. Only a deadline is worth waiting for a GPU."""
        if scores.is_cuda and deadline < math.inf:
            torch.cuda.synchronize(scores.device)
        return self._clock()


def _sane(actions: Tensor) -> Tensor:
    """Actions as a plan may have them, whatever the actor's weights gave."""
    return actions.nan_to_num(0.0).clamp(-1, 1)
