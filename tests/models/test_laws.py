"""What every world model promises, whatever is inside (the laws in daydreamer/models/world_model.py)."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.models import BY_NAME, build_model
from daydreamer.nn.layers import initialise
from daydreamer.settings import AgentSettings

B, T = 3, 5
VECTOR = spaces.Dict(angles=spaces.Box(-4, 4, (6,), np.float32), speed=spaces.Box(-np.inf, np.inf, (), np.float32))
IMAGE = spaces.Dict(image=spaces.Box(0, 255, (16, 16, 3), np.uint8), depth=spaces.Box(0, 4000, (16, 16, 1), np.uint16),
                    angles=spaces.Box(-4, 4, (2,), np.float32))
CONTINUOUS, DISCRETE = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(5)
WORLDS = {"vector": (VECTOR, CONTINUOUS), "image": (IMAGE, CONTINUOUS), "discrete": (VECTOR, DISCRETE)}


@pytest.fixture(params=[(model, world) for model in BY_NAME for world in WORLDS], ids=lambda p: "-".join(p))
def case(request):
    """A model whose heads are not zero and whose terms all pull, and a batch for it."""
    torch.manual_seed(0)
    name, world = request.param
    model = build_model(*WORLDS[world], AgentSettings(model=name, size="debug", free_nats=0.0))
    model.generator = torch.Generator().manual_seed(1)
    for head in (model.reward_head, model.continuation_head):
        initialise(head.body[-1].weight, 16)
    return model, batch_of(*WORLDS[world])


def batch_of(observation_space, action_space):
    observation_space.seed(0), action_space.seed(0)
    rows = [[observation_space.sample() for _ in range(T)] for _ in range(B)]
    batch = {key: torch.from_numpy(np.stack([[np.clip(step[key], -9, None) for step in row] for row in rows]))
             for key in observation_space}
    actions = torch.from_numpy(np.stack([[action_space.sample() for _ in range(T)] for _ in range(B)]))
    if isinstance(action_space, spaces.Discrete):
        actions = torch.nn.functional.one_hot(actions, int(action_space.n)).float()
    first = torch.zeros(B, T, dtype=torch.bool)
    first[0, 2] = first[1, 0] = True
    return batch | {"prev_action": actions, "reward": torch.randn(B, T), "is_first": first,
                    "is_terminal": torch.zeros(B, T, dtype=torch.bool)}


def observe(model, batch, noise, state=None):
    inputs = batch["prev_action"], model.encode(batch), batch["is_first"]
    return model.observe_sequence(state or model.initial(B), *inputs, noise)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        torch.testing.assert_close(left[key], right[key], atol=1e-5, rtol=1e-4, msg=key)


def at(states, t):
    return {key: x[:, t] for key, x in states.items()}


def test_a_sequence_equals_its_steps_one_by_one(case):
    model, batch = case
    noise = model.noise(B, T)
    states, predictions = observe(model, batch, noise)
    state, embeds = model.initial(B), model.encode(batch)
    for t in range(T):
        inputs = (x[:, t] for x in (batch["prev_action"], embeds, batch["is_first"], noise))
        state, prediction = model.observe(state, *inputs)
        assert_same(state, at(states, t))
        assert_same(prediction, at(predictions, t))


def test_imagine_equals_repeated_imagine_step(case):
    model, batch = case
    noise, start = model.noise(B, T), at(observe(model, batch, model.noise(B, T))[0], -1)
    states, state = model.imagine(start, batch["prev_action"], noise), start
    for t in range(T):
        state = model.imagine_step(state, batch["prev_action"][:, t], noise[:, t])
        assert_same(state, at(states, t))


def test_is_first_erases_the_past(case):
    model, batch = case
    noise = model.noise(B, T)
    other = copy.deepcopy(batch)
    for key in set(batch) - {"is_first", "is_terminal"}:
        other[key][0, :2] = batch[key][0, :2].flip(0)
    other["prev_action"][0, 2] = -batch["prev_action"][0, 2]
    before = {key: torch.ones_like(x) for key, x in model.initial(B).items()}
    states, others = observe(model, batch, noise)[0], observe(model, other, noise, before)[0]
    assert_same({key: x[0, 2:] for key, x in states.items()}, {key: x[0, 2:] for key, x in others.items()})
    assert_same({key: x[1] for key, x in states.items()}, {key: x[1] for key, x in others.items()})


def test_without_is_first_the_past_is_remembered(case):
    model, batch = case
    noise, before = model.noise(B, T), {key: torch.ones_like(x) for key, x in model.initial(B).items()}
    states, others = observe(model, batch, noise)[0], observe(model, batch, noise, before)[0]
    assert not all(torch.equal(states[key][2], others[key][2]) for key in states)


def test_candidates_do_not_influence_one_another(case):
    model, batch = case
    noise = model.noise(B, T)
    states = observe(model, batch, noise)[0]
    alone = {key: x[1:2] for key, x in batch.items()}
    single, _ = observe(model, alone, noise[1:2], model.initial(1))
    assert_same(single, {key: x[1:2] for key, x in states.items()})
    imagined = model.imagine(at(states, -1), batch["prev_action"], noise)
    single = model.imagine({key: x[1:2, -1] for key, x in states.items()}, batch["prev_action"][1:2], noise[1:2])
    assert_same(single, {key: x[1:2] for key, x in imagined.items()})


def test_the_future_does_not_leak_into_the_past(case):
    model, batch = case
    noise = model.noise(B, T)
    states = observe(model, batch, noise)[0]
    changed = {key: torch.cat([x[:, :-1], x[:, :1]], 1) for key, x in batch.items()}
    others = observe(model, changed, noise)[0]
    assert_same({key: x[:, :-1] for key, x in states.items()}, {key: x[:, :-1] for key, x in others.items()})


def test_a_saved_and_restored_state_continues_identically(case):
    model, batch = case
    noise = model.noise(B, T)
    whole = observe(model, batch, noise)[0]
    half = observe(model, {key: x[:, :2] for key, x in batch.items()}, noise[:, :2])[0]
    saved = {key: torch.from_numpy(x[:, -1].detach().numpy().copy()) for key, x in half.items()}
    rest = observe(model, {key: x[:, 2:] for key, x in batch.items()}, noise[:, 2:], saved)[0]
    assert_same(rest, {key: x[:, 2:] for key, x in whole.items()})


def test_gradients_reach_the_actions_where_the_spec_says_so(case):
    model, batch = case
    assert model.spec.action_gradients
    actions = batch["prev_action"].clone().requires_grad_()
    states = model.imagine(model.initial(B), actions, model.noise(B, T))
    gradient, = torch.autograd.grad(model.reward(states)[:, -1].sum(), actions)
    assert (gradient.abs().flatten(2).sum(-1) > 0).all(), "every action before the reward matters"


def test_every_parameter_learns_from_the_loss(case):
    model, batch = case
    losses, states = model.loss(batch, model.initial(B))
    assert all(loss.shape in {(B, t + 1) for t in range(T)} and loss.isfinite().all() for loss in losses.values())
    sum(loss.sum() for loss in losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []
    assert model.features(states).shape == (B, T, model.spec.feature_size)


def test_what_a_model_offers_has_the_promised_shape(case):
    model, batch = case
    states, predictions = observe(model, batch, model.noise(B, T))
    assert model.reward(states).shape == model.surprise(predictions, states).shape == (B, T)
    chance = model.continuation(states)
    assert chance.shape == (B, T) and ((chance >= 0) & (chance <= 1)).all()
    if model.spec.offers_decoder:
        seen = {key: batch[key].shape for key in model.spec.observation_space}
        assert {key: x.shape for key, x in model.decode(states).items()} == seen
    if model.spec.offers_goals:
        assert not model.distance(states, states).any()


def test_who_only_acts_needs_none_of_the_training_only_parts(case):
    model, batch = case
    expected = observe(model, batch, noise := model.noise(B, T))[0]
    for name in model.training_only:
        delattr(model, name)
    assert_same(observe(model, batch, noise)[0], expected)
