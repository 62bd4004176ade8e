"""Every message that flows between processes, once.

A message is a frozen dataclass of plain values; `arrays`, where a message has it, travels as raw frames behind the
envelope. `codec.py` checks fields against the annotations below before anything else sees them. Streams and boots are
16 random bytes. Times are monotonic nanoseconds of the sender. How long or large a field may be stands in its type.

| port | socket of the service | messages |
|---|---|---|
| control 5550 | coordinator ROUTER | Hello Welcome Heartbeat HeartbeatReply Order OrderDone Ask Answer Refused |
| experience 5551 | replay ROUTER | OpenStream StreamOpened ChunkSent ChunkStored ChunkRefused Refused |
| policy 5552 | policy ROUTER | ActRequest ActReply ActRefused Refused |
| samples 5553 | replay ROUTER | SampleRequest SampleReply SampleWait Refused |
| weights 5554 | learner ROUTER | WeightsRequest WeightsPart NoNewWeights Refused |
| telemetry 5555 | coordinator SUB, services PUB | Telemetry |
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.wire.fields import Arrays, Count, Id, Text

VERSION = (1, 1)  # major: must be equal; minor: fields that only the newer side knows are ignored

PORTS = ("control", "experience", "policy", "samples", "weights", "telemetry")  # consecutive from network.port
LIMITS = {  # bytes of one message, by port; both ends of a port use the same number
    "control": 1 << 20,
    "experience": 64 << 20,
    "policy": 16 << 20,
    "samples": 256 << 20,
    "weights": 16 << 20,
    "telemetry": 1 << 20,
}


@dataclass(frozen=True)
class Hello:
    """A service or robot introduces itself, and again after any silence. `addresses`: what it binds, by port name."""

    kind: str  # robot | replay | learner | policy | supervisor
    name: str
    boot: Id
    pid: Count
    run: str  # the run it belongs to; empty: whichever runs here
    schema: str = ""  # digest of the step schema, robots and replay
    addresses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Welcome:
    """The coordinator's answer: where everything is, by port name."""

    run: str
    addresses: dict[str, str]


@dataclass(frozen=True)
class Heartbeat:
    """Sent twice a second. `state`: starting | waiting | running | armed | disarmed | paused | stopping |
    stopped | fault."""

    name: str
    boot: Id
    time: int
    state: str
    detail: str = ""


@dataclass(frozen=True)
class HeartbeatReply:
    """`time` is the heartbeat's own, `coordinator_time` the coordinator's clock: one probe of clock offset and round
    trip. `known` is False when the coordinator restarted: say Hello again. `addresses` as in Welcome. `speed`: that of
    a double's clock at `speed: auto`; 0: it keeps its own (and 1.0 of the protocol does not know it)."""

    time: int
    coordinator_time: int
    known: bool
    addresses: dict[str, str]
    speed: float = 0.0


@dataclass(frozen=True)
class Order:
    """Coordinator to robot: arm | disarm | pause | resume | stop | estop | clear_fault. `token` names the operator."""

    order: str
    number: Count
    token: str = ""


@dataclass(frozen=True)
class OrderDone:
    """A robot's answer to an Order."""

    number: Count
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Ask:
    """Operator to coordinator: status | pause | resume | stop | estop | clear_fault. `robot` empty: all robots."""

    command: str
    robot: str = ""
    token: str = ""


@dataclass(frozen=True)
class Answer:
    """`text` is JSON for status, a sentence otherwise."""

    ok: bool
    text: Text


@dataclass(frozen=True)
class Refused:
    """Any service to any client: the message was not accepted, and nothing was changed. `text` names the way out."""

    code: str  # version | schema | run | identity | malformed | unknown_stream | disk_full | internal
    text: str


@dataclass(frozen=True)
class OpenStream:
    """A robot is about to send a stream, or goes on with it after a reconnect. `schema` is Schema.to_json()."""

    robot: str
    stream: Id
    schema: Text


@dataclass(frozen=True)
class StreamOpened:
    """`durable`: number of chunks of this stream that are on disk; the next one wanted."""

    stream: Id
    durable: Count


@dataclass(frozen=True)
class ChunkSent:
    """One chunk of a stream; `arrays` are its columns."""

    stream: Id
    sequence: Count
    first_step: Count
    arrays: Arrays


@dataclass(frozen=True)
class ChunkStored:
    """All chunks below `durable` are on disk (fsynced)."""

    stream: Id
    durable: Count


@dataclass(frozen=True)
class ChunkRefused:
    """A chunk was not stored, and `expected` is the one wanted. `code`: gap | unknown_stream (open it first) |
    disk_full | internal (these pass), or malformed | schema | identity (these do not)."""

    stream: Id
    sequence: Count
    expected: Count
    code: str
    text: str


@dataclass(frozen=True)
class ActRequest:
    """The last K steps of one robot, the newest is `step`; K is 1 while nothing was missed.

    `arrays`: the model's observation keys [K, ...], `prev_action` [K, A] (int64 [K] for discrete actions), `is_first`
    bool [K]. The server goes on from its carry if that stands at step - K, else it rebuilds the carry from these K.
    `complete`: there is no older context to send.
    """

    robot: str
    boot: Id
    step: Count
    complete: bool
    arrays: Arrays


@dataclass(frozen=True)
class ActReply:
    """`arrays`: `actions` [H, A] (int64 [H] for discrete actions); entry i is for step + i."""

    step: Count
    weights_version: int
    arrays: Arrays


@dataclass(frozen=True)
class ActRefused:
    """`reason`: no_weights (explore at random) | need_context (send more steps) | bad_observation."""

    step: Count
    reason: str
    text: str = ""


@dataclass(frozen=True)
class SampleRequest:
    """One batch of windows. `replayed`: steps replayed so far by this learner, those in flight included; the limiter
    compares it with what was collected. `columns`: those wanted (empty: all)."""

    number: Count
    batch: Count
    length: Count
    burn_in: Count
    replayed: Count
    columns: list[str]


@dataclass(frozen=True)
class SampleReply:
    """`arrays`: the columns [B, burn_in + length, ...] and `prev_action`; `inserted`: steps in the replay's history."""

    number: Count
    inserted: Count
    arrays: Arrays


@dataclass(frozen=True)
class SampleWait:
    """Not yet: `why` is prefill or ratio; ask again after `seconds`."""

    number: Count
    inserted: Count
    why: str
    seconds: float


@dataclass(frozen=True)
class WeightsRequest:
    """Anything newer than `have`? (-1: nothing yet). `part` > 0 asks for a further part of `version`."""

    have: int
    version: int = -1
    part: Count = 0


@dataclass(frozen=True)
class WeightsPart:
    """One part of an immutable version; the parts joined are safetensors bytes with this sha256. `created`: wall clock
    [s]; `updates`: learner updates behind it. `arrays`: `data` uint8 [n]."""

    version: int
    part: Count
    parts: Count
    digest: str
    created: float
    updates: Count
    arrays: Arrays


@dataclass(frozen=True)
class NoNewWeights:
    """There is nothing newer than `version` (-1: nothing at all yet)."""

    version: int


@dataclass(frozen=True)
class Telemetry:
    """Lossy, cumulative since `boot`: a lost message costs nothing. `values` are numbers by metric name;
    `histograms` are sparse counts by bucket index (services/quantiles.py)."""

    kind: str
    name: str
    boot: Id
    time: int
    values: dict[str, float]
    histograms: dict[str, dict[int, int]] = field(default_factory=dict)
