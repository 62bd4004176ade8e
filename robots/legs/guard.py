"""Damps a robot whose owner fell silent: a process of its own, because the robot goes on with the last command it got.

    python guard.py SOCKET HOST PORT DATAGRAM

`Guard` in network.py starts it, and writes a byte to its standard input every few commands. After SILENCE seconds
without one it damps the robot, again and again, until the next byte; if the input ends, because the owner was killed,
for another LAST seconds. The byte `q` is a farewell. As a script it sends a datagram, in hexadecimal, through a socket
that it inherits. It imports nothing but the standard library, so that it is ready at once and small.
"""

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable

SILENCE = 0.2  # s; a busy computer must not let a standing robot sink
EVERY = 0.01  # s
LAST = 3.0  # s
FAREWELL = b"q"


def watch(damp: Callable[[], None]) -> None:
    """Until the owner says farewell, or is gone and the robot was told for long enough. `damp` is called to do it."""
    wait, ends = SILENCE, None
    while ends is None or time.monotonic() < ends:
        heard = select.select([0], [], [], wait)[0] if ends is None else time.sleep(EVERY)
        word = os.read(0, 4096) if heard else None
        if word is not None and FAREWELL in word:
            return
        if word:
            wait = SILENCE
            continue
        if word == b"":
            ends = time.monotonic() + LAST
        wait = EVERY
        damp()


def main(descriptor: str, host: str, port: str, datagram: str) -> None:
    """Damps by the datagram."""
    sender, packet = socket.socket(fileno=int(descriptor)), bytes.fromhex(datagram)

    def damp() -> None:
        with contextlib.suppress(OSError):  # the network may come back
            sender.sendto(packet, (host, int(port)))

    watch(damp)


if __name__ == "__main__":
    main(*sys.argv[1:])
