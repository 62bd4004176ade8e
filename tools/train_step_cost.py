"""What an update costs and what it could: operations, FLOPs and bytes of its pieces, and the limits of this machine.

    python tools/train_step_cost.py [--starts 128 0] [--precision bfloat16] [--out docs/results/train_step_cost.csv]

One thread. `gflop`: of matrix products, forward and backward. `mb`: what all operations together read and write, if
nothing stayed in a cache. `product_ms`: what the products would take at the rate measured for large ones, in float32;
`other_ms`: what is left of `cpu_ms`, the processor time measured. The pieces of a row that begins with `..` are part of
the row above it.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_train_step import ACTIONS, BURN_IN, LENGTH, SPACE, experience
from gymnasium import spaces
from measurement import Row, report
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from daydreamer.agent import Agent
from daydreamer.nn.memory import keep_freed_memory
from daydreamer.settings import PRECISIONS, AgentSettings

ORDER = ("update", "burn-in", "losses of the model", ".. posterior, step by step (with burn-in)",
         "losses of the behaviour", ".. imagination", ".. imagined reward", ".. imagined continuation",
         ".. critic, imagined and replayed", ".. slow critic, imagined and replayed", "backward and optimiser")


class Counting(TorchDispatchMode):
    """Adds up what happens inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
            self.found["operations"] += 1
            self.found["bytes"] += sum(x.numel() * x.element_size() for x in tensors)
        if (flops := flop_registry.get(operation.overloadpacket)) is not None:
            self.found["flops"] += flops(*args, **(kwargs or {}), out_val=result)
        return result


class Pieces:
    """The pieces of an update: wraps methods, and says what passes through them."""

    def __init__(self) -> None:
        self.now: Callable[[], Counter[str]] = Counter
        self.spent: dict[str, Counter[str]] = {}

    def wrap(self, owner: object, method: str, name: str) -> None:
        """From now on calls of `owner.method` count for `name`."""
        inner = getattr(owner, method)

        def outer(*args: object, **kwargs: object) -> object:
            before = self.now()
            result = inner(*args, **kwargs)
            self.spent.setdefault(name, Counter()).update({k: n - before[k] for k, n in self.now().items()})
            return result

        object.__setattr__(owner, method, outer)


def pieces_of(agent: Agent, batch: dict[str, np.ndarray]) -> tuple[Pieces, Callable[[], object]]:
    """The pieces, and a whole update."""
    pieces, model, behaviour = Pieces(), agent.model, agent.behaviour
    pieces.wrap(agent, "_warm_up", "burn-in")
    pieces.wrap(model, "loss", "losses of the model")
    pieces.wrap(model, "observe_sequence", ".. posterior, step by step (with burn-in)")
    pieces.wrap(behaviour, "loss", "losses of the behaviour")
    pieces.wrap(behaviour, "_imagine", ".. imagination")
    pieces.wrap(model, "reward", ".. imagined reward")
    pieces.wrap(model, "continuation", ".. imagined continuation")
    pieces.wrap(behaviour.critic, "forward", ".. critic, imagined and replayed")
    pieces.wrap(behaviour.slow_critic, "forward", ".. slow critic, imagined and replayed")
    pieces.wrap(agent.optimiser, "step", "backward and optimiser")
    pieces.wrap(agent, "train", "update")
    return pieces, lambda: agent.train(batch, BURN_IN)


def product_rate() -> float:
    """FLOP/s of a float32 product of [2048, 512] and [512, 128], the shape that most of the work has."""
    left, right = torch.randn(2048, 512), torch.randn(512, 128)
    return 2 * 2048 * 512 * 128 / _shortest(lambda: left @ right)


def bandwidth() -> float:
    """Bytes/s that a copy of 256 MiB reads and writes."""
    source, target = torch.zeros(2**26), torch.zeros(2**26)
    return 2 * 2**28 / _shortest(lambda: target.copy_(source))


def _shortest(work: Callable[[], object]) -> float:
    found = []
    for _ in range(20):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def measure(starts: int, precision: str, repeats: int, rate: float) -> list[Row]:
    """A row for each piece."""
    settings = replace(AgentSettings(), imagine_starts=starts, precision=precision, diagnose_every=0)
    agent = Agent(SPACE, spaces.Box(-1, 1, (ACTIONS,), np.float32), settings)
    pieces, update = pieces_of(agent, experience(BURN_IN + LENGTH))
    update()
    with Counting() as counting:
        pieces.spent, pieces.now = {}, lambda: Counter(counting.found)
        update()
    counted, times = pieces.spent, []
    pieces.now = lambda: Counter(seconds=time.process_time())
    for _ in range(repeats):
        pieces.spent = {}
        update()
        times.append(pieces.spent)
    rows = []
    for name in sorted(counted, key=ORDER.index):
        found, ms = counted[name], 1000 * min(spent[name]["seconds"] for spent in times)
        product = 1000 * found["flops"] / rate
        rows.append({"piece": name, "starts": starts or "all", "precision": precision,
                     "operations": found["operations"], "gflop": found["flops"] / 1e9, "mb": found["bytes"] / 1e6,
                     "cpu_ms": ms, "product_ms": product, "other_ms": ms - product})
    return rows


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", nargs="+", type=int, default=[128, 0])
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rate, copied = product_rate(), bandwidth()
    machine = {"piece": "this machine, per second", "gflop": rate / 1e9, "mb": copied / 1e6}
    report([machine] + [row for starts in given.starts
                        for row in measure(starts, given.precision, given.repeats, rate)], given.out)


if __name__ == "__main__":
    main()
