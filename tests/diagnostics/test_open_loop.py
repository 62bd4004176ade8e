"""What the model is said to foresee, with models that foresee exactly, or nothing."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.diagnostics.open_loop import open_loop
from daydreamer.models.world_model import ModelSpec, WorldModel

B, T = 6, 20


class Counter(WorldModel):
    """Knows that the position grows by the action; `shift` is its mistake per step, `deaf` ignores the actions."""

    def __init__(self, decodes=True, shift=0.0, deaf=False):
        super().__init__()
        space = spaces.Dict(position=spaces.Box(-np.inf, np.inf, (2,), np.float32))
        self.spec = ModelSpec.of(space, spaces.Box(-1, 1, (2,), np.float32)).offering(
            feature_size=2, offers_decoder=decodes)
        self.shift, self.deaf = shift, deaf

    def noise(self, *batch):
        return torch.zeros(*batch, 0)

    def imagine(self, state, actions, noise=None):
        moves = actions * (not self.deaf) + self.shift
        return {"position": state["position"].unsqueeze(1) + moves.cumsum(1)}

    def features(self, state):
        return state["position"]

    def decode(self, state):
        return {"position": state["position"]}

    def reward(self, state):
        return state["position"].sum(-1)


def walk(**flags):
    torch.manual_seed(0)
    actions = torch.randn(B, T, 2)
    position = actions.cumsum(1)
    batch = {"prev_action": actions, "position": position, "reward": position.sum(-1),
             "is_first": torch.zeros(B, T, dtype=torch.bool)}
    return {"position": position}, batch | flags


@pytest.mark.parametrize("decodes, what", [(True, "vectors"), (False, "features")])
def test_a_model_that_knows_makes_no_error(decodes, what):
    told = open_loop(Counter(decodes), *walk())
    names = {f"open_loop/{w}_{h}" for h in (1, 5, 15) for w in (what, "reward")}
    assert told.keys() == names | {"open_loop/action_use"}
    assert all(told[name] < 1e-9 for name in names)
    assert told["open_loop/action_use"] > 1e3


def test_a_mistake_that_adds_up_shows_more_the_farther_one_looks():
    told = open_loop(Counter(decodes=False, shift=0.2), *walk())
    states = walk()[0]["position"]
    spread = states.flatten(0, 1).var(0, unbiased=False).mean()
    for horizon in (1, 5, 15):
        torch.testing.assert_close(told[f"open_loop/features_{horizon}"], (0.2 * horizon) ** 2 / spread)


def test_a_model_that_does_not_look_at_the_actions_is_found_out():
    assert open_loop(Counter(deaf=True), *walk())["open_loop/action_use"] == 1


@pytest.mark.parametrize("length, horizons", [(1, ()), (2, (1,)), (6, (1, 5)), (15, (1, 5)), (16, (1, 5, 15))])
def test_horizons_beyond_the_window_are_left_out(length, horizons):
    states, batch = walk()
    told = open_loop(Counter(), {k: x[:, :length] for k, x in states.items()},
                     {k: x[:, :length] for k, x in batch.items()})
    errors = {name: error for name, error in told.items() if "vectors" in name}
    assert errors.keys() == {f"open_loop/vectors_{h}" for h in horizons} and all(e < 1e-9 for e in errors.values())


def test_what_lies_in_another_episode_is_not_held_against_the_model():
    states, batch = walk()
    first = batch["is_first"].clone()
    first[:3, -3] = True
    jumped = {**batch, "position": batch["position"].clone(), "is_first": first}
    jumped["position"][:3, -3:] += 50
    told = open_loop(Counter(), states, jumped)
    assert told["open_loop/vectors_15"] < 1e-9
    first[:] = False
    assert open_loop(Counter(), states, jumped)["open_loop/vectors_15"] > 0.1
    first[:, -3] = True
    assert "open_loop/vectors_15" not in open_loop(Counter(), states, jumped), "no window is left to judge by"


def test_a_reward_that_never_changes_says_nothing():
    told = open_loop(Counter(), *walk(reward=torch.ones(B, T)))
    assert not any("reward" in name for name in told)
