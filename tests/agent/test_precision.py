"""Rounding matrix products to bfloat16 changes figures a little, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.nn import precision as precisions
from daydreamer.settings import AgentSettings

SETTINGS = AgentSettings(size="debug", horizon=5, imagine_starts=0, warmup=0, learning_rate=3e-3)
SEEN, DONE = spaces.Dict(x=spaces.Box(-9, 9, (6,), np.float32)), spaces.Box(-1, 1, (3,), np.float32)


def batch():
    random, shape = np.random.default_rng(0), (4, 8)
    flags = {name: np.zeros(shape, bool) for name in ("is_first", "is_last", "is_terminal")}
    return flags | {"x": random.normal(size=(*shape, 6)).astype(np.float32),
                    "prev_action": random.uniform(-1, 1, (*shape, 3)).astype(np.float32),
                    "reward": random.normal(size=shape).astype(np.float32)}


def trained(precision, updates):
    agent = Agent(SEEN, DONE, replace(SETTINGS, precision=precision))
    return agent, [agent.train(batch()) for _ in range(updates)]


def test_the_first_losses_in_bfloat16_are_those_in_float32_but_for_rounding():
    rounded, exact = (trained(precision, 1)[1][0] for precision in ("bfloat16", "float32"))
    losses = [name for name in exact if name.startswith("loss/")] + ["gradient_norm"]
    assert {name: rounded[name] for name in losses} == pytest.approx({name: exact[name] for name in losses}, rel=0.03)


def test_weights_and_carries_stay_float32_while_products_are_bfloat16():
    agent, (first, *_, last) = trained("bfloat16", 30)
    assert last["loss/decoder"] < 0.8 * first["loss/decoder"], "it learns"
    assert all(tensor.dtype.itemsize == 4 for tensor in agent.acting_state().values())
    seen = {"x": batch()["x"][:2, 0]}
    action, carry = agent.act(agent.initial(2), seen, np.zeros((2, 3), np.float32), np.ones(2, bool))
    assert action.dtype == np.float32 and all(str(x.dtype) == "torch.float32" for x in carry.values())


@pytest.mark.parametrize("can, rounds", [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True),
                                         ({"bf16": True}, True), ({"avx2": True, "avx512_bf16": False}, False)])
def test_auto_rounds_only_where_the_processor_has_instructions_for_it(can, rounds, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert Agent(SEEN, DONE, replace(SETTINGS, precision="auto")).rounds == rounds
    assert precisions.rounds("auto", torch.device("cpu")) == rounds
    assert precisions.rounds("bfloat16", torch.device("cpu"))
    assert not precisions.rounds("float32", torch.device("cpu"))
