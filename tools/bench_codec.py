"""What a message costs: encoding, decoding, and one way through a loopback socket, each message as in a run.

    .venv/bin/python tools/bench_codec.py --out docs/results/bench_codec.csv
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from measurement import report

from services.wire import codec, sockets
from services.wire.messages import ActRequest, ChunkSent, Heartbeat, SampleReply

ID = bytes(16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with zmq.Context() as context:
        rows = [measure(name, message, context, arguments.seconds) for name, message in examples().items()]
    report(rows, arguments.out)


def examples() -> dict[str, Any]:
    """A small message, a robot's question, chunks of 64 steps, and batches of 16 windows of 32 steps."""
    return {
        "heartbeat": Heartbeat("robot-0", ID, 0, "armed"),
        "question": ActRequest("robot-0", ID, 0, True, steps((1,))),
        "chunk": ChunkSent(ID, 0, 0, steps((64,))),
        "chunk with images": ChunkSent(ID, 0, 0, steps((64,), image=True)),
        "batch": SampleReply(0, 0, steps((16, 36))),
        "batch with images": SampleReply(0, 0, steps((16, 36), image=True)),
    }


def steps(shape: tuple[int, ...], image: bool = False) -> dict[str, np.ndarray]:
    """What the model sees of a quadruped, with a camera if asked for."""
    arrays = {"joint_position": np.zeros((*shape, 12), "<f4"), "orientation": np.zeros((*shape, 2), "<f4"),
              "gyroscope": np.zeros((*shape, 2), "<f4"), "prev_action": np.zeros((*shape, 12), "<f4"),
              "is_first": np.zeros(shape, "?")}
    return arrays | ({"image": np.zeros((*shape, 64, 64, 3), "u1")} if image else {})


def measure(name: str, message: Any, context: zmq.Context, seconds: float) -> dict[str, object]:
    """One row: medians in microseconds, and the bytes per second that the way through the socket makes of them."""
    frames = codec.encode(message)
    size = sum(map(len, frames))
    server = sockets.Server(context, "tcp://127.0.0.1:0")
    client = sockets.Client(context, server.address)
    client.wait_connected(5.0)
    try:
        through = median(lambda: (client.send(message), server.receive(5.0)), seconds)
    finally:
        client.close()
        server.close()
    return {"message": name, "bytes": size, "encode_us": 1e6 * median(lambda: codec.encode(message), seconds),
            "decode_us": 1e6 * median(lambda: codec.decode(frames), seconds), "one_way_us": 1e6 * through,
            "one_way_MB_per_s": size / through / 1e6}


def median(call: Callable[[], object], seconds: float) -> float:
    """Of the durations of `call` within `seconds`."""
    durations, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


if __name__ == "__main__":
    main()
