"""The replay's sampling thread: learners ask for batches, the limiter says when, the sampler draws.

It owns its socket, so that gathering a large batch never delays an acknowledgement. The log's thread hands it the
sampler once there is a log, and nothing else: the sampler may be added to from there while it is drawn from here.
"""

from __future__ import annotations

import logging
import time

from daydreamer.replay.chunk import Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import NotEnough
from daydreamer.replay.limiter import Limiter
from daydreamer.replay.sampler import Sampler
from services.crew import Crew
from services.node import Node
from services.tempo import Demand
from services.wire import sockets
from services.wire.messages import LIMITS, Refused, SampleReply, SampleRequest, SampleWait

IDLE = 0.1  # seconds between looks at whether it is time to end
WAIT = {"prefill": 0.2, "ratio": 0.05}  # seconds after which a learner may ask again

log = logging.getLogger(__name__)


class Sampling:
    """Answers sample requests. `work` is the thread."""

    def __init__(self, server: sockets.Server, limiter: Limiter, demand: Demand, node: Node) -> None:
        self._server, self._limiter, self._demand, self._node = server, limiter, demand, node
        self._source: tuple[ChunkLog, Sampler] | None = None

    def draw_from(self, chunks: ChunkLog, sampler: Sampler) -> None:
        """There is a log now. From any thread, once."""
        self._source = chunks, sampler

    def work(self, crew: Crew) -> None:
        """Answer until the crew ends."""
        while not crew.ended:
            if (received := self._server.receive(IDLE)) is not None:
                self._server.send(received.peer, self._answer(received.message))

    def _answer(self, request: object) -> SampleReply | SampleWait | Refused:
        if not isinstance(request, SampleRequest):
            return Refused("malformed", f"the samples port takes SampleRequest, not {type(request).__name__}")
        if self._source is None:
            return self._wait(request, 0, "prefill")
        chunks, sampler = self._source
        if wrong := _wrong(request, chunks.schema):
            return Refused("malformed", wrong)
        inserted, steps = chunks.inserted, request.batch * request.length
        if why := self._limiter.wait_reason(inserted, request.replayed, steps):
            return self._wait(request, inserted, why)
        try:
            reply = self._draw(request, sampler, inserted)
        except NotEnough:  # collected, but in streams that are all shorter than a window
            return self._wait(request, inserted, "prefill")
        self._demand.asked(request.replayed, steps, "", time.monotonic())
        return reply

    def _draw(self, request: SampleRequest, sampler: Sampler, inserted: int) -> SampleReply:
        begun = time.perf_counter()
        arrays = sampler.sample(request.batch, request.length, request.burn_in, request.columns or None)
        self._node.observe("replay_sample_seconds", time.perf_counter() - begun)
        self._node.count("replay_sampled_steps_total", request.batch * request.length)
        return SampleReply(request.number, inserted, arrays)

    def _wait(self, request: SampleRequest, inserted: int, why: str) -> SampleWait:
        self._node.count("replay_limiter_waits_total", label=why)
        self._demand.asked(request.replayed, request.batch * request.length, why, time.monotonic())
        return SampleWait(request.number, inserted, why, WAIT[why])


def _wrong(request: SampleRequest, schema: Schema) -> str:
    """What is wrong with a request; empty: nothing. Its size is known before any memory is taken."""
    if not request.batch or not request.length:
        return f"batch {request.batch} x length {request.length}: both must be at least 1"
    columns = {column.name: column for column in schema.columns}
    unknown = sorted(set(request.columns) - set(columns))
    if unknown:
        return f"columns {', '.join(unknown)}: not in the log; it has {', '.join(columns)}"
    wanted = [*(request.columns or columns), "action"]  # `prev_action` is as large as `action`
    size = request.batch * (request.burn_in + request.length) * sum(columns[name].step_bytes for name in wanted)
    if size > LIMITS["samples"] - (1 << 20):
        return (f"a batch of {size} bytes: at most {LIMITS['samples']} fit in a message; "
                "lower replay.batch or replay.length")
    return ""
