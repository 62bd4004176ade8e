"""Each figure of a diagnosis, where the answer is known."""

import math

import pytest
import torch
from torch import nn

from daydreamer.diagnostics.actions import action_usage
from daydreamer.diagnostics.gradients import gradient_norms
from daydreamer.diagnostics.latents import class_usage, latent_usage
from daydreamer.diagnostics.values import value_error


def batch_of(reward, last=(), terminal=()):
    shape = 1, len(reward)
    flags = {name: torch.zeros(shape, dtype=torch.bool) for name in ("is_last", "is_terminal")}
    flags["is_last"][0, [*last, *terminal]] = flags["is_terminal"][0, [*terminal]] = True
    return flags | {"reward": torch.tensor([reward])}


def test_gradient_norms_are_those_of_the_parts_and_zero_where_nothing_arrives():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
            self.head, self.frozen = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)

    model = Model()
    norms = gradient_norms(model.encoder(torch.ones(3)).square().sum(), [model])
    model.encoder(torch.ones(3)).square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.encoder.parameters()]).norm()
    assert norms.keys() == {"gradient/encoder", "gradient/head"}
    torch.testing.assert_close(norms["gradient/encoder"], expected)
    assert norms["gradient/head"] == 0


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("rows, width", [(5000, 8), (9, 500)], ids=["many rows", "many dimensions"])
def test_the_effective_rank_counts_the_directions_in_which_latents_vary(rank, rows, width):
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, 8)).Q[:, :rank]
    spread = torch.randn(rows, rank)
    whitened = torch.linalg.qr(spread - spread.mean(0)).Q  # the same variance in each direction
    found = latent_usage((5 + whitened @ basis.T).unflatten(0, (rows, 1)))["latent/effective_rank"]
    assert found.item() == pytest.approx(rank, rel=1e-3)


def test_dimensions_that_never_change_are_dead():
    features = torch.randn(4, 6, 10)
    features[..., :3] = 0.7
    usage = latent_usage(features)
    assert usage["latent/dead"].item() == pytest.approx(0.3)
    assert 0.5 < usage["latent/deviation"] < 1.5


def test_latents_that_are_all_the_same_have_no_deviation():
    same = latent_usage(torch.ones(4, 6, 10))
    assert same["latent/deviation"] == 0 and torch.isfinite(torch.stack(list(same.values()))).all()
    assert latent_usage(1 + 1e-4 * torch.randn(4, 6, 10))["latent/deviation"] < 1e-3


def test_the_perplexity_is_the_share_of_classes_in_use():
    hot = torch.eye(8)[torch.arange(96).reshape(4, 3, 8) % 2]  # [B, T, S, C]: two of eight, equally often
    hot[..., 1:, :] = torch.eye(8)[torch.arange(12).reshape(4, 3, 1) % 4]  # but the first latent: four of eight
    usage = class_usage(hot)
    assert usage["latent/classes"].item() == pytest.approx((1 + 7 * 4) / 64)
    assert usage["latent/perplexity"].item() == pytest.approx((1 + 7 * 4) / 64)
    assert usage["latent/information"].item() == pytest.approx(7 * math.log(4) / 8)


def test_latents_that_are_noise_use_all_classes_and_tell_nothing():
    usage = class_usage(torch.full((4, 3, 8, 8), 1 / 8))
    assert usage["latent/perplexity"].item() == pytest.approx(1)
    assert usage["latent/information"].item() == pytest.approx(0, abs=1e-6)


def test_the_value_is_held_against_the_return_that_came():
    batch = batch_of([99.0, 1.0, 2.0, 3.0])
    right = torch.tensor([[1 + 0.5 * (2 + 0.5 * (3 + 0.5 * 8)), 2 + 0.5 * (3 + 0.5 * 8), 3 + 0.5 * 8, 8.0]])
    told = value_error(right, batch, 0.5)
    assert all(abs(figure.item()) < 1e-6 for figure in told.values())
    told = value_error(right + torch.tensor([[1.0, 1.0, 1.0, 0.0]]), batch, 0.5)
    assert told["value/bias"].item() == pytest.approx(1)
    came = right[0, :3]
    assert told["value/error"].item() == pytest.approx((1 / came.square().mean().sqrt()).item())
    assert told["value/unexplained"].item() == pytest.approx((1 / came.var(unbiased=False)).item())


def test_behind_a_terminal_step_nothing_is_owed_and_behind_a_cut_its_value():
    value = torch.tensor([[7.0, 5.0, 100.0, 50.0]])
    ends = value_error(value, batch_of([0.0, 2.0, 5.0, 0.0], terminal=[2]), 1.0)
    assert ends["value/bias"].item() == 0, "7 = 2 + 5 and 5 = 5; the last step of the episode is not judged"
    cut = value_error(value, batch_of([0.0, 2.0, 5.0, 0.0], last=[2]), 1.0)
    assert cut["value/bias"].item() == -100


def test_a_window_of_nothing_but_ends_has_no_value_error():
    assert value_error(torch.zeros(1, 3), batch_of([0.0, 0.0, 0.0], last=[0, 1, 2]), 0.9) == {}


def test_actions_at_the_edge_are_saturated_and_those_that_do_not_move_are_constant():
    actions = torch.tensor([[0.99, 0.0, 0.3], [-0.99, 0.0, 0.5]]).unsqueeze(0)
    usage = {name: x.item() for name, x in action_usage(actions, discrete=False).items()}
    assert usage["action/saturated"] == pytest.approx(1 / 3) and usage["action/constant"] == pytest.approx(1 / 3)
    assert usage["action/deviation"] == pytest.approx((0.99 + 0 + 0.1) / 3)


def test_a_discrete_policy_is_constant_where_it_always_chooses_the_same():
    always = torch.eye(3)[torch.zeros(4, 5, dtype=torch.long)]
    usage = action_usage(always, discrete=True)
    assert usage["action/constant"] == 1 and "action/saturated" not in usage
    assert action_usage(torch.eye(3)[torch.arange(6) % 3], discrete=True)["action/constant"] == 0
