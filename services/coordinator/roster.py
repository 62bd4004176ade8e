"""Who belongs to the run: every service and robot that said Hello, what it last said of itself, and whether it lives.

Sans-IO, one thread; times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.wire.errors import SocketError
from services.wire.liveness import Liveness
from services.wire.messages import Heartbeat, Hello, Refused
from services.wire.ports import host_of
from services.wire.security import SERVER, may_speak_as


@dataclass
class Member:
    """A service or robot. `peer` is where the control socket reaches it."""

    hello: Hello
    peer: bytes
    state: str = "starting"
    detail: str = ""
    heard: float = 0.0


@dataclass
class Roster:
    """The members of run `run`, by name."""

    run: str
    members: dict[str, Member] = field(default_factory=dict)
    liveness: Liveness = field(default_factory=Liveness)

    def hello(self, hello: Hello, peer: bytes, user: str, now: float) -> Refused | None:
        """Let a member in, or say why not; then nothing was changed."""
        if (refused := self._objection(hello, user, now)) is not None:
            return refused
        self.members[hello.name] = Member(hello, peer, heard=now)
        self.liveness.heard(hello.name, now)
        return None

    def heartbeat(self, beat: Heartbeat, peer: bytes, user: str, now: float) -> bool:
        """Note that a member lives; False for one that has to say Hello first."""
        member = self.members.get(beat.name)
        if member is None or member.hello.boot != beat.boot or not _may_speak(user, member.hello):
            return False
        member.peer, member.state, member.detail, member.heard = peer, beat.state, beat.detail, now
        self.liveness.heard(beat.name, now)
        return True

    def by_peer(self, peer: bytes) -> str:
        """The name of the member behind a peer; "" for a stranger."""
        return next((name for name, member in self.members.items() if member.peer == peer), "")

    def of_kind(self, kind: str) -> list[str]:
        """Names of this kind, sorted."""
        return sorted(name for name, member in self.members.items() if member.hello.kind == kind)

    def alive(self, name: str, now: float) -> str:
        """alive | suspect | dead"""
        return str(self.liveness.state(name, now))

    def addresses(self) -> dict[str, str]:
        """Where everything is, by port name."""
        return {port: address for member in self.members.values() for port, address in member.hello.addresses.items()}

    def _objection(self, hello: Hello, user: str, now: float) -> Refused | None:
        if not _may_speak(user, hello):
            return Refused("identity", f"the key of {user} may not speak as {hello.kind} {hello.name}; it needs "
                                       + (f"its own (`daydreamer keys new {hello.name}`)" if hello.kind == "robot"
                                          else f"{SERVER}.key_secret, the services' own"))
        if hello.run not in ("", self.run):
            return Refused("run", f"{hello.name} belongs to run {hello.run}, here runs {self.run}; start it with the "
                                  f"configuration of {self.run}, or connect it elsewhere")
        if wrong := _wrong_addresses(hello.addresses):
            return Refused("malformed", f"{hello.name}: addresses: {wrong}")
        other = self.members.get(hello.name)
        if other and other.hello.kind != hello.kind:
            return Refused("identity", f"{hello.name} is a {other.hello.kind} here; give the {hello.kind} another name")
        return self._schema_objection(hello, now)

    def _schema_objection(self, hello: Hello, now: float) -> Refused | None:
        """All robots and the replay hold steps of one schema."""
        for name, member in self.members.items():
            differs = hello.schema and member.hello.schema not in ("", hello.schema) and name != hello.name
            if differs and self.alive(name, now) != "dead":
                return Refused("schema", f"{hello.name} has schema {hello.schema}, {name} has {member.hello.schema}; "
                                         f"another robot or task needs a run of its own (--name)")
        return None


def _wrong_addresses(addresses: Mapping[str, str]) -> str:
    """What is wrong with what a service says of its ports; everybody will connect there. Empty: nothing."""
    for port, address in addresses.items():
        try:
            host_of(address)
        except SocketError as error:
            return f"{port}: {error}"
    return ""


def _may_speak(user: str, hello: Hello) -> bool:
    """Robots speak with their own key; what is not a robot speaks with the services' key."""
    return may_speak_as(user, hello.name if hello.kind == "robot" else SERVER)
