"""Which way to an A1 its options mean. MuJoCo is imported only where it runs in this process."""

from __future__ import annotations

from typing import Any

from robots.unitree_a1.link import A1Link
from robots.unitree_a1.options import A1Options
from robots.unitree_a1.udp import CLIENT_PORT, UdpLink


def make_link(options: A1Options, control_hz: float, seed: int) -> A1Link:
    """The link, not yet open."""
    deadman = options.deadman == "remote"
    if options.link == "hardware":
        return UdpLink(*options.endpoint, local_port=CLIENT_PORT, deadman=deadman)
    if options.link == "protocol":
        return UdpLink(double=_world(options, seed), deadman=deadman)
    from robots.unitree_a1.double import A1Double

    return A1Double(**_world(options, seed), camera_hz=control_hz if options.camera == "chase" else 0.0)


def _world(options: A1Options, seed: int) -> dict[str, Any]:
    """Arguments of A1Double."""
    return {"pose": options.pose, "noise": options.noise, "latency": options.latency, "payload": options.payload,
            "friction": options.friction, "seed": seed, "turn_every": options.turn_every,
            "push_every": options.push_every, "force": options.push, "lift_after": options.lift_after}
