"""What an agent is made of, as values. The defaults are the A1's: small enough that two CPU cores keep up."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

MODELS = ("rssm", "jepa", "tiny")
BEHAVIOURS = ("actor_critic", "off_policy", "mpc")
LEARNING = ("actor_critic", "off_policy")  # behaviours that learn, which a planner may plan around
PLANNERS = ("mppi", "cem")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Size:
    """Widths of a model: `deter` recurrent units in `blocks` blocks, `hidden` units inside the recurrence, `units` in
    every other layer, `stoch` latents of `classes` classes, `depth` channels of the first image stage (times 2)."""

    deter: int
    hidden: int
    units: int
    stoch: int
    classes: int
    depth: int
    blocks: int = 8

    @property
    def wide(self) -> int:
        """The width of `jepa`'s latents and layers, and of the layers of `off_policy`."""
        return 2 * self.units


# `1m` to `400m` are DreamerV3's; `small` is for robots on two cores, `debug` for tests of everything around the agent.
SIZES = MappingProxyType({
    "debug": Size(deter=32, hidden=16, units=16, stoch=4, classes=4, depth=2),
    "small": Size(deter=256, hidden=128, units=128, stoch=16, classes=16, depth=8),
    "1m": Size(deter=512, hidden=64, units=64, stoch=32, classes=4, depth=4),
    "12m": Size(deter=2048, hidden=256, units=256, stoch=32, classes=16, depth=16),
    "25m": Size(deter=3072, hidden=384, units=384, stoch=32, classes=24, depth=24),
    "50m": Size(deter=4096, hidden=512, units=512, stoch=32, classes=32, depth=32),
    "100m": Size(deter=6144, hidden=768, units=768, stoch=32, classes=48, depth=48),
    "200m": Size(deter=8192, hidden=1024, units=1024, stoch=32, classes=64, depth=64),
    "400m": Size(deter=12288, hidden=1536, units=1536, stoch=32, classes=96, depth=96),
})


@dataclass(frozen=True)
class LossScales:
    """The weight of every loss term in the sum that is minimised."""

    decoder: float = 1.0
    reward: float = 1.0
    continuation: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1
    policy: float = 1.0
    value: float = 1.0
    replay_value: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _check(f"loss_scales.{name}", value, value >= 0, "at least 0")


@dataclass(frozen=True)
class PlannerSettings:
    """How `behaviour: mpc` plans, around the behaviour `around`, which learns.

    Each of `iterations` draws `candidates` plans of `horizon` steps and keeps the best `elites`; 0 iterations leave the
    acting to the actor. `proposals` of the first candidates follow the actor; 0 plans without it. `temperature` of
    MPPI: how far behind the best, in the elites' mean distance from it, a plan counts a third. Deviations are those of
    the actions drawn; of discrete actions, the share taken at random. `action_cost` is the price of an action's squared
    length, in rewards. `budget`: seconds after which the best plan so far is taken, 0: none; runs that must repeat
    bit for bit have none. The policy server ends planning before a robot's `action_deadline` in any case.
    """

    around: str = "actor_critic"
    method: str = field(default="mppi", metadata={"resume": True})
    candidates: int = field(default=64, metadata={"resume": True})
    horizon: int = field(default=4, metadata={"resume": True})
    iterations: int = field(default=2, metadata={"resume": True})
    elites: int = field(default=8, metadata={"resume": True})
    proposals: int = field(default=16, metadata={"resume": True})
    temperature: float = field(default=0.5, metadata={"resume": True})
    min_deviation: float = field(default=0.05, metadata={"resume": True})
    max_deviation: float = field(default=0.5, metadata={"resume": True})
    action_cost: float = field(default=0.0, metadata={"resume": True})
    budget: float = field(default=0.0, metadata={"resume": True})

    def __post_init__(self) -> None:
        _choice("around", self.around, LEARNING)
        _choice("method", self.method, PLANNERS)
        _check("candidates", self.candidates, self.candidates >= 2, "at least 2")
        _check("horizon", self.horizon, self.horizon >= 1, "at least 1")
        _check("iterations", self.iterations, self.iterations >= 0, "at least 0 (0: the actor acts)")
        _check("elites", self.elites, 1 <= self.elites <= self.candidates, "from 1 to `candidates`")
        _check("proposals", self.proposals, 0 <= self.proposals < self.candidates, "from 0 to `candidates` - 1")
        _check("temperature", self.temperature, self.temperature > 0, "more than 0")
        _check("min_deviation", self.min_deviation, self.min_deviation > 0, "more than 0")
        _check("max_deviation", self.max_deviation, self.max_deviation >= self.min_deviation, "`min_deviation` or more")
        _check("action_cost", self.action_cost, self.action_cost >= 0, "at least 0")
        _check("budget", self.budget, self.budget >= 0, "at least 0 seconds (0: none)")


@dataclass(frozen=True)
class AgentSettings:
    """One world model, one behaviour, one optimiser.

    `horizon`: imagined steps H. `imagine_starts`: from how many of a batch's states imagination starts, drawn at
    random; 0 is all of them. `discount_horizon`: steps over which the discount falls to 1/e. `precision`: bfloat16
    rounds what enters matrix products, `auto` does so where the device has instructions for it, which makes it faster
    (docs/results/performance.md); weights, states and losses stay float32.

    `reward_offset` is taken off every reward before anything is learned from it. Where episodes never terminate it
    changes no policy, and a critic that need not climb to `reward_offset * discount_horizon` first is right much
    sooner.

    `unroll`: steps that `jepa` predicts ahead. `off_policy` has so many `critics`; its actor learns in `imagine_starts`
    states of a batch, and it imagines nothing. It explores with normal noise of the deviation `noise`, which nears
    `noise_least` with a time constant of `noise_updates`; of the noise the share `noise_correlation` stays from step to
    step.

    `diagnose_every`: updates between two looks at how learning goes (docs/diagnostics.md); 0: never.
    """

    model: str = "rssm"
    behaviour: str = "actor_critic"
    size: str = "small"
    horizon: int = 15
    imagine_starts: int = 128
    discount_horizon: float = 333.0
    reward_offset: float = 0.0
    return_lambda: float = 0.95
    entropy: float = field(default=3e-4, metadata={"resume": True})
    learning_rate: float = field(default=3e-4, metadata={"resume": True})
    warmup: int = field(default=200, metadata={"resume": True})  # updates until the full learning rate
    clip: float = field(default=0.3, metadata={"resume": True})  # gradient norm over parameter norm, per tensor
    free_nats: float = 1.0
    unimix: float = 0.01
    slow_rate: float = 0.02
    unroll: int = 3
    critics: int = 2
    noise: float = 0.3
    noise_least: float = field(default=0.1, metadata={"resume": True})
    noise_updates: float = field(default=10_000.0, metadata={"resume": True})
    noise_correlation: float = field(default=0.8, metadata={"resume": True})
    loss_scales: LossScales = field(default_factory=LossScales)
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    precision: str = field(default="float32", metadata={"resume": True})
    diagnose_every: int = field(default=200, metadata={"resume": True})

    def __post_init__(self) -> None:
        _choice("model", self.model, MODELS)
        _choice("behaviour", self.behaviour, BEHAVIOURS)
        _choice("size", self.size, tuple(SIZES))
        _choice("precision", self.precision, PRECISIONS)
        _check("horizon", self.horizon, self.horizon >= 1, "at least 1")
        _check("imagine_starts", self.imagine_starts, self.imagine_starts >= 0, "at least 0 (0: from every state)")
        _check("discount_horizon", self.discount_horizon, self.discount_horizon > 1, "more than 1 step")
        _check("return_lambda", self.return_lambda, 0 <= self.return_lambda <= 1, "from 0 to 1")
        _check("entropy", self.entropy, self.entropy >= 0, "at least 0")
        _check("learning_rate", self.learning_rate, 0 < self.learning_rate < 1, "more than 0, less than 1")
        _check("warmup", self.warmup, self.warmup >= 0, "at least 0 updates")
        _check("clip", self.clip, self.clip > 0, "more than 0")
        _check("free_nats", self.free_nats, self.free_nats >= 0, "at least 0")
        _check("unimix", self.unimix, 0 < self.unimix < 1, "more than 0, less than 1")
        _check("diagnose_every", self.diagnose_every, self.diagnose_every >= 0, "at least 0 (0: never)")
        _check("unroll", self.unroll, self.unroll >= 1, "at least 1 step")
        _check("critics", self.critics, self.critics >= 1, "at least 1")
        _check("noise", self.noise, self.noise >= 0, "at least 0")
        _check("noise_least", self.noise_least, 0 <= self.noise_least <= self.noise, "from 0 to `noise`")
        _check("noise_updates", self.noise_updates, self.noise_updates >= 1, "at least 1")
        _check("noise_correlation", self.noise_correlation, 0 <= self.noise_correlation < 1, "at least 0, less than 1")
        _check("slow_rate", self.slow_rate, 0 < self.slow_rate <= 1, "more than 0, at most 1")

    @property
    def widths(self) -> Size:
        """The widths that `size` names."""
        return SIZES[self.size]

    @property
    def discount(self) -> float:
        """What a reward one step later is worth."""
        return 1 - 1 / self.discount_horizon


def _check(name: str, value: object, good: bool, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name}: {value}: {allowed}")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(name, value, value in allowed, "one of " + ", ".join(allowed))
