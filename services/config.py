"""The settings of a run: what they are, what they may be, and which may change when a run is resumed.

Frozen dataclasses stand next to the code that uses them; those of the services stand here. pydantic checks types, each
dataclass its own ranges. What is marked `metadata={"resume": True}` may differ when a run is resumed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, create_model

from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings
from robots.monitors import Threshold
from services import config_file
from services.config_file import ConfigError, Written

PORTS = ("control", "experience", "policy", "samples", "weights", "telemetry")
METERED = 70  # ports: of the coordinator, replay, policy, learner, supervisor, and of 65 robots
AUTO = "auto"  # `robot.speed` that follows the train ratio
CHANGEABLE = {"resume": True}  # metadata of a setting or a whole section that may differ when a run is resumed
DEVICES = re.compile(r"auto|cpu|cuda(:[0-9]+)?")


def _require(settings: Any, allowed: str, *names: str, when: Any) -> None:
    for name in names:
        if not when(value := getattr(settings, name)):
            raise ValueError(f"{name}: {value!r}: {allowed}")


@dataclass(frozen=True)
class RobotConfig:
    """One kind of robot and its task. `options` are the driver's own; `model_keys`: the signals that the model sees,
    all of them where none are named.

    `monitors`: by gauge, the `warn` and `stop` that differ from the driver's own (robots/monitors.py).
    `count`: robots that the run itself starts; others may join from outside (`daydreamer robot`), or all with 0.
    `speed`: how many times as fast as real time a double's clock runs; `auto`: as fast as lets the train ratio hold, so
    that a small machine is only slower. `action_deadline`: seconds the control loop waits for the policy's answer
    before it falls back. `context`: steps kept to rebuild the policy's carry. `spool_mib`: disk for experience that the
    replay has not acknowledged; when it is full, the robot is held.
    """

    driver: str
    task: str
    count: int = field(default=1, metadata=CHANGEABLE)
    control_hz: float = 20.0
    speed: float | Literal["auto"] = field(default=1.0, metadata=CHANGEABLE)
    action_deadline: float = field(default=0.03, metadata=CHANGEABLE)
    model_keys: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    monitors: Mapping[str, Threshold] = field(default_factory=dict, metadata=CHANGEABLE)
    spool_mib: int = field(default=2048, metadata=CHANGEABLE)
    context: int = field(default=32, metadata=CHANGEABLE)

    def __post_init__(self) -> None:
        _require(self, "from 0 to 64", "count", when=lambda v: 0 <= v <= 64)
        _require(self, "at least 1", "spool_mib", "context", when=lambda v: v >= 1)
        _require(self, "more than 0, at most 1000", "control_hz", when=lambda v: 0 < v <= 1000)
        _require(self, "more than 0, at most 100, or auto", "speed", when=lambda v: v == AUTO or 0 < v <= 100)
        _require(self, f"more than 0 and below the period of {1 / self.control_hz:g} s", "action_deadline",
                 when=lambda v: 0 < v < 1 / self.control_hz)

    @property
    def first_speed(self) -> float:
        """The speed that a double's clock begins with."""
        return 1.0 if self.speed == AUTO else self.speed


@dataclass(frozen=True)
class LearnerConfig:
    """How hard the learner works. `train_ratio`: replayed steps (batch x length) per collected step. `nice`: how far it
    steps back for the control loops; `prefetch`: batches asked for ahead; `keep`: checkpoints on disk."""

    train_ratio: float = 32.0
    device: str = "auto"
    threads: int = 2
    nice: int = 19
    publish_seconds: float = 2.0
    checkpoint_seconds: float = 60.0
    keep: int = 3
    prefetch: int = 2

    def __post_init__(self) -> None:
        _require(self, "more than 0", "train_ratio", "publish_seconds", "checkpoint_seconds", when=lambda v: v > 0)
        _require(self, "auto, cpu, cuda or cuda:N", "device", when=DEVICES.fullmatch)
        _require(self, "at least 1", "threads", "keep", "prefetch", when=lambda v: v >= 1)
        _require(self, "from 0 to 19", "nice", when=lambda v: 0 <= v <= 19)


@dataclass(frozen=True)
class TrainingConfig:
    """`daydreamer train`: `steps` to collect in all. Episodes are cut after `episode_steps`; 0: where they end by
    themselves, those of a robot after 1000 steps. Every `evaluate_every` steps `evaluate_episodes` are played with the
    mode of the policy, 0: never; `video`: one of them is filmed. A checkpoint every `checkpoint_every` steps."""

    steps: int = 100_000
    episode_steps: int = 0
    evaluate_every: int = 10_000
    evaluate_episodes: int = 10
    checkpoint_every: int = 10_000
    video: bool = True

    def __post_init__(self) -> None:
        _require(self, "at least 1", "steps", "evaluate_episodes", when=lambda v: v >= 1)
        _require(self, "at least 0", "episode_steps", "evaluate_every", "checkpoint_every", when=lambda v: v >= 0)


@dataclass(frozen=True)
class PolicyConfig:
    """The policy server. `batch_window`: seconds it waits after a request for others to answer together with it;
    `poll_seconds`: how often it asks for newer weights."""

    device: str = "cpu"
    threads: int = 1
    batch_window: float = 0.002
    max_batch: int = 32
    poll_seconds: float = 0.5

    def __post_init__(self) -> None:
        _require(self, "auto, cpu, cuda or cuda:N", "device", when=DEVICES.fullmatch)
        _require(self, "at least 1", "threads", "max_batch", when=lambda v: v >= 1)
        _require(self, "from 0 to 0.1", "batch_window", when=lambda v: 0 <= v <= 0.1)
        _require(self, "more than 0", "poll_seconds", when=lambda v: v > 0)


@dataclass(frozen=True)
class NetworkConfig:
    """Where services bind: `port` is the control port, the others follow in the order of `PORTS`; 0 takes free ones.
    `keys`: a file of CURVE keys (`daydreamer keys new`); without it only loopback binds. `metrics`: the first of the
    ports where processes show their metrics to Prometheus, in the order of services/exporter.py; 0: none do."""

    host: str = "127.0.0.1"
    port: int = 5550
    keys: str = ""
    metrics: int = 0

    def __post_init__(self) -> None:
        highest = 65536 - len(PORTS)
        _require(self, f"0, or from 1024 to {highest}", "port", when=lambda v: v == 0 or 1024 <= v <= highest)
        highest = 65536 - METERED
        _require(self, f"0, or from 1024 to {highest}", "metrics", when=lambda v: v == 0 or 1024 <= v <= highest)
        overlap = self.port and -METERED < self.metrics - self.port < len(PORTS)
        _require(self, f"{METERED} ports from there on must leave out those from network.port on, {self.port}",
                 "metrics", when=lambda v: not v or not overlap)

    def addresses(self) -> dict[str, str]:
        """Port name -> address to bind, as `tcp://host:port`."""
        return {name: f"tcp://{self.host}:{self.port and self.port + n}" for n, name in enumerate(PORTS)}


@dataclass(frozen=True)
class Config:
    """Everything about a run. `name` is the run's, and of its folder."""

    name: str
    robot: RobotConfig
    seed: int = 0
    agent: AgentSettings = field(default_factory=AgentSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings, metadata=CHANGEABLE)
    learner: LearnerConfig = field(default_factory=LearnerConfig, metadata=CHANGEABLE)
    training: TrainingConfig = field(default_factory=TrainingConfig, metadata=CHANGEABLE)
    policy: PolicyConfig = field(default_factory=PolicyConfig, metadata=CHANGEABLE)
    network: NetworkConfig = field(default_factory=NetworkConfig, metadata=CHANGEABLE)

    def __post_init__(self) -> None:
        _require(self, "letters, digits, '.', '_' and '-', at most 64", "name",
                 when=re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch)
        _require(self, "from 0 to 2**32 - 1", "seed", when=lambda v: 0 <= v < 2**32)


@dataclass(frozen=True)
class Resolved:
    """A valid config, and for every dotted key that somebody wrote, where."""

    config: Config
    origins: Mapping[str, str]


def load(path: str | Path, changes: Iterable[str] = ()) -> Config:
    """The config in a file, with `--set` changes. The run's name is the file's where nobody says otherwise.
    Raises ConfigError."""
    return resolve(path, changes).config


def resolve(path: str | Path, changes: Iterable[str] = ()) -> Resolved:
    """As `load`, with the origin of every value."""
    named = Written({"name": Path(path).stem}, {"name": "the file's name"})
    written = named.then(config_file.read(path)).then(config_file.parse_changes(changes))
    return Resolved(_validated(written, str(path)), written.origins)


def from_mapping(values: Mapping[str, Any], where: str = "config") -> Config:
    """A config from nested plain values; `where` names them in errors. Raises ConfigError."""
    return _validated(Written(dict(values)), where)


def to_mapping(config: Config) -> dict[str, Any]:
    """Nested plain values that `from_mapping` takes back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: Config) -> str:
    """YAML that `load` gives back as the same config."""
    return config_file.dump(to_mapping(config))


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in nested plain values, in order."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def check_resume(old: Config, new: Config) -> None:
    """Whether a run started as `old` may go on as `new`. Raises ConfigError that names every setting in the way."""
    before, after = ({key: value for key, value in leaves(to_mapping(c)) if value != {}} for c in (old, new))
    options = _driver_options(new.robot.driver)
    differing = [key for key in before | after if before.get(key) != after.get(key) and not may_change(key, options)]
    if differing:
        raise ConfigError("\n".join(
            f"{key}: {after.get(key)!r}: this run was started with {before.get(key)!r}, which cannot change on resume; "
            "keep it, or start another run with --name" for key in differing))


def may_change(key: str, options: type | None = None) -> bool:
    """Whether the setting with this dotted key is marked as changeable on resume; `options`: those of the driver."""
    section: Any = Config
    for word in key.split("."):
        setting = _settings(section).get(word)
        if setting is None:
            return False
        if setting.metadata.get("resume"):
            return True
        section = options if key.startswith("robot.options.") and word == "options" else _section(section, word)
    return False


def _driver_options(driver: str) -> type | None:
    """The options of a robot's driver, where it can be found here."""
    from robots import registry  # most commands need no robot

    try:
        return registry.driver_class(driver).Options
    except registry.UnknownRobot:
        return None


_Holder = create_model("_Holder", __config__=ConfigDict(extra="forbid", strict=True), config=(Config, ...))


def _settings(section: Any) -> dict[str, dataclasses.Field]:
    """The fields of a section; of anything else none."""
    return {f.name: f for f in fields(section)} if is_dataclass(section) else {}


def _section(section: Any, word: str) -> Any:
    """The type of one field of a section."""
    return typing.get_type_hints(section)[word] if word in _settings(section) else None


def _validated(written: Written, where: str) -> Config:
    try:
        # By way of JSON, whose lists are tuples where tuples are wanted and whose strings never pass for numbers.
        return _Holder.model_validate_json(json.dumps({"config": written.values})).config
    except ValidationError as error:
        raise ConfigError("\n".join(_mistake(e, written, where) for e in _united(error.errors()))) from error


def _united(errors: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """pydantic says of each type of `float | Literal[...]` that a value is not of it; here that is one mistake."""
    errors = list(errors)
    others = {error["loc"][:-1]: error for error in errors if error["type"] == "literal_error"}
    for error in errors:
        if (other := others.get(error["loc"][:-1])) is None:
            yield error
        elif other is not error:
            also = other["msg"].removeprefix("Input should be ")
            yield {**error, "loc": error["loc"][:-1], "msg": f"{error['msg']} or {also}"}


def _mistake(error: Mapping[str, Any], written: Written, where: str) -> str:
    """One of pydantic's errors, said as `place: key: value: what is allowed`."""
    words = [str(word) for word in error["loc"][1:]]
    if error["type"] == "value_error":  # a dataclass's own: "name: value: allowed"
        name, _, problem = str(error["ctx"]["error"]).partition(": ")
        words.append(name)
    elif error["type"] == "unexpected_keyword_argument":
        problem = "unknown key" + _suggestion(words)
    elif error["type"] == "missing":
        problem = "must be given"
    else:
        wanted = error["msg"].removeprefix("Input should be ").replace("array", "list")
        problem = f"{error['input']!r}: must be {wanted.replace('an object', 'a section of settings')}"
    return f"{_place(words, written, where)}: {'.'.join(words)}: {problem}"


def _place(words: list[str], written: Written, where: str) -> str:
    """The nearest place that is known: the key's, else its section's file, else the whole."""
    exact = written.origins.get(".".join(words))
    return exact or where


def _suggestion(words: list[str]) -> str:
    """The section where a key of that name belongs, else the nearest key of the same section, else all keys."""
    section: Any = Config
    for word in words[:-1]:
        section = _section(section, word)
    near = difflib.get_close_matches(words[-1], _settings(section), n=1, cutoff=0.6)
    elsewhere = [f"{name}.{words[-1]}" for name in _settings(Config) if words[-1] in _settings(_section(Config, name))]
    if near or elsewhere:
        return f", did you mean {(elsewhere or near)[0]}?"
    return f"; there are {', '.join(known)}" if (known := _settings(section)) else ""
