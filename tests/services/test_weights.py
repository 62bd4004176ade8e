"""Weights arrive whole and as they were sent, or not at all; a version number never names two of them."""

import dataclasses

import numpy as np
import pytest
import torch

from services.learner.weights import BadWeights, Fetcher, Shelf, Versions, Weights, pack, unpack
from services.wire.messages import NoNewWeights, WeightsPart

TENSORS = {"actor": torch.arange(600.0).reshape(20, 30), "bias": torch.zeros(5)}


def fetch(fetcher: Fetcher, shelf: Shelf, now: float = 0.0) -> Weights | None:
    """Let the two talk until nothing is due."""
    got = None
    while (request := fetcher.due(now)) is not None:
        got = fetcher.receive(shelf.answer(request), now) or got
    return got


def shelf_with(*versions: int) -> Shelf:
    shelf = Shelf(part_bytes=500)  # so that TENSORS takes six parts
    for version in versions:
        shelf.put(pack(TENSORS, version, updates=10 * version))
    return shelf


def new_fetcher() -> Fetcher:
    return Fetcher(poll=0.5, limit=10_000)


def test_a_version_arrives_in_parts_and_unchanged():
    weights = fetch(new_fetcher(), shelf_with(3))
    assert (weights.version, weights.updates) == (3, 30)
    assert torch.equal(unpack(weights, TENSORS)["actor"], TENSORS["actor"])


def test_whoever_is_up_to_date_hears_that_there_is_nothing_newer():
    fetcher, shelf = new_fetcher(), shelf_with(3)
    fetch(fetcher, shelf)
    assert fetcher.due(0.4) is None, "the next poll comes after half a second"
    assert shelf.answer(fetcher.due(0.6)) == NoNewWeights(3)


def test_before_the_first_version_there_is_nothing():
    assert Shelf().answer(new_fetcher().due(0.0)) == NoNewWeights(-1)


def test_a_version_can_be_finished_after_the_next_one_was_published():
    fetcher, shelf = new_fetcher(), shelf_with(3)
    fetcher.receive(shelf.answer(fetcher.due(0.0)), 0.0)
    shelf.put(pack(TENSORS, 4, 40))
    assert fetch(fetcher, shelf).version == 3


def test_a_version_that_is_gone_half_way_gives_place_to_the_newest():
    fetcher, shelf = new_fetcher(), shelf_with(3)
    fetcher.receive(shelf.answer(fetcher.due(0.0)), 0.0)
    shelf.put(pack(TENSORS, 4, 40))
    shelf.put(pack(TENSORS, 5, 50))
    assert fetch(fetcher, shelf).version == 5


def test_a_lost_part_is_asked_for_again():
    fetcher, shelf = new_fetcher(), shelf_with(3)
    fetcher.receive(shelf.answer(fetcher.due(0.0)), 0.0)
    lost = fetcher.due(0.0)
    assert fetcher.due(1.0) is None
    assert fetcher.due(2.1) == lost
    assert fetcher.receive(shelf.answer(lost), 2.1) is None
    assert fetch(fetcher, shelf, 2.1).version == 3


def test_a_part_that_comes_twice_is_taken_once():
    fetcher, shelf = new_fetcher(), shelf_with(3)
    fetcher.receive(shelf.answer(fetcher.due(0.0)), 0.0)
    second = shelf.answer(fetcher.due(0.0))
    fetcher.receive(second, 0.0)
    fetcher.receive(second, 0.0)
    assert torch.equal(unpack(fetch(fetcher, shelf), TENSORS)["actor"], TENSORS["actor"])


def test_a_learner_that_began_anew_is_followed_though_its_numbers_are_lower():
    fetcher = new_fetcher()
    fetch(fetcher, shelf_with(3000))
    assert fetch(fetcher, shelf_with(2), now=0.6) is None, "first it says that it has nothing newer than 3000"
    assert fetch(fetcher, shelf_with(2), now=1.2).version == 2


def test_tampered_bytes_are_refused():
    weights = fetch(new_fetcher(), shelf_with(3))
    data = bytearray(weights.data)
    data[-1] ^= 1
    with pytest.raises(BadWeights, match="digest"):
        unpack(dataclasses.replace(weights, data=bytes(data)), TENSORS)


@pytest.mark.parametrize("like, named", [
    ({"actor": torch.zeros(20, 31), "bias": torch.zeros(5)}, "actor: got torch.float32"),
    ({"actor": TENSORS["actor"], "bias": torch.zeros(5, dtype=torch.float64)}, "bias: got torch.float32"),
    ({"actor": TENSORS["actor"]}, "bias: missing"),
    ({**TENSORS, "scale": torch.zeros(1)}, "scale: missing"),
])
def test_weights_of_another_agent_are_refused_by_name(like, named):
    with pytest.raises(BadWeights, match=named):
        unpack(pack(TENSORS, 1, 1), like)


def test_weights_with_nan_are_refused():
    with pytest.raises(BadWeights, match="bias is not finite"):
        unpack(pack({**TENSORS, "bias": torch.full((5,), torch.nan)}, 1, 1), TENSORS)


def test_bytes_that_are_not_safetensors_are_refused():
    import hashlib
    data = b"\xff" * 100
    with pytest.raises(BadWeights, match="not safetensors"):
        unpack(Weights(1, 1, 0.0, hashlib.sha256(data).hexdigest(), data), TENSORS)


def test_an_endless_version_is_cut_off_at_the_limit():
    fetcher = new_fetcher()
    fetcher.due(0.0)
    with pytest.raises(BadWeights, match="more than 10000 bytes"):
        for part in range(100):
            data = {"data": np.zeros(1000, np.uint8)}
            fetcher.receive(WeightsPart(1, part, 10**9, "", 0.0, 1, data), 0.0)
    assert fetcher.have == 1, "it is not asked for again"


def test_version_numbers_grow_over_restarts_and_crashes(tmp_path):
    file, taken = tmp_path / "versions", []
    for _ in range(3):
        versions = Versions(file, block=4)
        taken += [versions.take() for _ in range(6)]
    assert taken == sorted(set(taken))
