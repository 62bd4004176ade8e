"""The backward pass written by hand against the one that autograd makes of single steps."""

import pytest
import torch
from gymnasium import spaces

from daydreamer.models.rssm import Rssm
from daydreamer.models.world_model import ModelSpec, stack_states
from daydreamer.settings import AgentSettings

B, T = 3, 4


@pytest.fixture
def model():
    torch.manual_seed(0)
    seen, done = spaces.Dict(x=spaces.Box(-1, 1, (5,))), spaces.Box(-1, 1, (2,))
    model = Rssm(ModelSpec.of(seen, done), AgentSettings(size="debug"))
    for parameter in model.parameters():  # norms and biases that are not one and zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def step_by_step(model, state, actions, embeds, first, noise):
    states, posteriors = [], []
    for inputs in zip(actions.unbind(1), embeds.unbind(1), first.unbind(1), noise.unbind(1), strict=True):
        state, prediction = model.observe(state, *inputs)
        states.append(state)
        posteriors.append(prediction["posterior"])
    return stack_states(states), torch.stack(posteriors, 1)


def gradients(model, run):
    """Of a number that depends on every result, by every weight of the posterior and by every input."""
    torch.manual_seed(1)
    start = {key: torch.rand_like(x).requires_grad_() for key, x in model.initial(B).items()}
    actions, embeds = torch.randn(B, T, 2, requires_grad=True), torch.randn(B, T, 16, requires_grad=True)
    first = torch.zeros(B, T, dtype=torch.bool)
    first[0, 0] = first[1, 2] = True
    states, posterior = run(start, actions, embeds, first, torch.rand(B, T, 4))
    number = sum((x * torch.randn(x.shape)).sum() for x in (states["deter"], states["stoch"], posterior))
    names = ("recurrence", "posterior")
    by = {name: p for name, p in model.named_parameters() if name.startswith(names)}
    by |= start | {"actions": actions, "embeds": embeds}
    return dict(zip(by, torch.autograd.grad(number, list(by.values()))))


def test_gradients_of_a_sequence_are_those_of_its_steps(model):
    def at_once(*inputs):
        states, prediction = model.observe_sequence(*inputs)
        return states, prediction["posterior"]

    found = gradients(model, at_once)
    expected = gradients(model, lambda *inputs: step_by_step(model, *inputs))
    assert found.keys() == expected.keys() and all(g.any() for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m: f"{name}: {m}")
