"""Damps a Go2 whose owner fell silent, see robots.legs.guard: `python -m robots.unitree_go2.guard DOMAIN INTERFACE
MESSAGE`, with the message in hexadecimal. It writes a line when the message has reached the robot once."""

from __future__ import annotations

import contextlib
import sys

from robots.legs.guard import watch
from robots.unitree_go2 import sdk

WAIT = 10.0  # s


def main(domain: str, interface: str, message: str) -> None:
    """Until the owner says farewell, or is gone and the robot was told for long enough."""
    sdk.join(int(domain), interface)
    writer, packet = sdk.Writer(sdk.COMMANDS), bytes.fromhex(message)
    writer.reach(packet, WAIT)
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    def damp() -> None:
        with contextlib.suppress(OSError):  # the network may come back
            writer.write(packet)

    watch(damp)


if __name__ == "__main__":
    main(*sys.argv[1:])
