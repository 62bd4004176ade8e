"""What the tests of planning share: a world whose best plan is known, and actors for it."""

import torch
from gymnasium import spaces

from daydreamer.behaviours.behaviour import Behaviour
from daydreamer.models.world_model import ModelSpec, WorldModel, stack_states
from daydreamer.planning.planner import Planner
from daydreamer.settings import PlannerSettings

GOAL = torch.tensor([0.4, -0.7])
PLANE = spaces.Box(-1, 1, (2,), "float32")


class Plane(WorldModel):
    """A point that an action moves by itself; reward is lost with the squared distance to GOAL. So the best plan goes
    there in one step and stays. `spoil` changes rewards [..., H] where they are told; `imagined` counts rollouts."""

    def __init__(self, seed=0, spoil=lambda reward, place: reward):
        super().__init__()
        self.spec = ModelSpec.of(spaces.Dict(), PLANE).offering(feature_size=2)
        self.generator = torch.Generator().manual_seed(seed)
        self.spoil, self.imagined = spoil, 0

    def noise(self, *batch):
        return torch.zeros(*batch, 0)

    def imagine_step(self, state, action, noise=None):
        return {"place": state["place"] + action}

    def imagine(self, state, actions, noise=None):
        self.imagined += 1
        states = []
        for action in actions.unbind(1):
            state = self.imagine_step(state, action)
            states.append(state)
        return stack_states(states)

    def features(self, state):
        return state["place"]

    def reward(self, state):
        return self.spoil(-(state["place"] - GOAL).square().sum(-1), state["place"])

    def continuation(self, state):
        return torch.ones(state["place"].shape[:-1])


class Fixed(Behaviour):
    """An actor that always does the same, scattered by its noise, and values everything alike."""

    def __init__(self, action=(0.0, 0.0), value=0.0, scatter=0.1):
        super().__init__()
        self.action, self.worth, self.scatter = torch.tensor(action), value, scatter
        self.generator = torch.Generator().manual_seed(9)

    def noise(self, *batch):
        return torch.randn(*batch, len(self.action), generator=self.generator)

    def propose(self, features, noise=None):
        return self.action.expand(*features.shape[:-1], -1) + (0.0 if noise is None else self.scatter * noise)

    def value(self, model, state):
        return torch.full(model.features(state).shape[:-1], self.worth)


def planner(clock=lambda: 0.0, discount=0.9, **settings):
    return Planner(PlannerSettings(**settings), discount, discrete=False, clock=clock)


def at(*places):
    """The state of points at these places."""
    return {"place": torch.tensor(places)}


def still(batch=1, horizon=4):
    """A plan that does nothing."""
    return torch.zeros(batch, horizon, 2)
