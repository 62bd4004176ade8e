"""Keys: who may connect, and as whom.

```
keys/
  server.key_secret   the services' own pair: stays on their machines
  server.key          what a client must know to be sure of the services
  NAME.key_secret     a client's pair: goes to that robot's computer, with server.key
  NAME.key
  allowed/NAME.key    the public keys that may connect; taking a file away shuts its owner out of new connections
```
CurveZMQ encrypts and proves both ends; the name of a client is the name of its file in `allowed`, never what it says of
itself. The owner of `server.key_secret` may speak as anybody.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from services.wire.errors import SecurityError

log = logging.getLogger(__name__)

SERVER = "server"
DOMAIN = "daydreamer"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def new_keys(name: str, folder: Path | str) -> Path:
    """Make a pair for `name`, let it in, and return its secret file (mode 0600).

    Makes the services' pair where it is missing. Raises SecurityError where `name` cannot name a file or has keys.
    """
    folder = Path(folder)
    if not _NAME.fullmatch(name):
        raise SecurityError(f"{name!r}: a name has 1 to 64 letters, digits, '-', '_' or '.'")
    (folder / "allowed").mkdir(mode=0o700, parents=True, exist_ok=True)
    if name != SERVER and not _secret_file(SERVER, folder).exists():
        _write_pair(SERVER, folder)
    return _write_pair(name, folder)


def may_speak_as(user: str, name: str) -> bool:
    """Whether an authenticated `user` may act as robot `name`. Without keys nobody has one, and loopback is trusted."""
    return user in ("", SERVER, name)


@dataclass(frozen=True)
class Security:
    """One side's keys, read from its secret file."""

    name: str
    public: bytes
    secret: bytes
    server: bytes
    allowed: Path

    @classmethod
    def load(cls, keys_file: Path | str) -> Security:
        """From `NAME.key_secret`, with `server.key` beside it. Raises SecurityError."""
        file = Path(keys_file)
        if not zmq.has("curve"):
            raise SecurityError("this pyzmq was built without CURVE; install the wheel from PyPI")
        public, secret = _read(file)
        if not secret:
            raise SecurityError(f"{file}: holds no secret key; "
                                "want the NAME.key_secret that `daydreamer keys new` wrote")
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecurityError(f"{file}: others may read this secret key; run `chmod 600 {file}`")
        return cls(file.stem, public, secret, _read(file.with_name(f"{SERVER}.key"))[0], file.with_name("allowed"))

    def names(self) -> dict[bytes, str]:
        """The name of every public key that may connect, as the folder says now. The services' own key always may."""
        names = {}
        for file in sorted(self.allowed.glob("*.key")):
            if file.stem == SERVER:  # nobody else may have that name
                continue
            try:
                names[_read(file)[0]] = file.stem
            except SecurityError as error:  # one torn file must not lock everybody out
                log.warning("%s", error)
        return names | {self.server: SERVER}

    def guard(self, socket: zmq.Socket) -> Gate:
        """Make `socket` a CURVE server that asks the returned, running gate about every client.

        Close the gate after it. One guarded socket per context: a context has room for one gate.
        """
        if self.public != self.server:
            raise SecurityError(f"the keys of {self.name} are a client's; a service needs {SERVER}.key_secret")
        gate = Gate(socket.context, self)
        gate.start()
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        # With a domain that is enforced, a gate that died lets nobody in; without, libzmq would let in everybody.
        socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return gate

    def identify(self, socket: zmq.Socket) -> None:
        """Make `socket` a CURVE client of the services."""
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self.public, self.secret, self.server


class Gate(ThreadAuthenticator):
    """Answers libzmq's question whether a key may connect; the name of its owner becomes the messages' User-Id."""

    def __init__(self, context: zmq.Context, security: Security) -> None:
        super().__init__(context)
        self._security = security
        self.configure_curve_callback(domain=DOMAIN, credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether `key` (z85) may connect now; the folder is read again for each new connection."""
        return key in self._security.names()

    def curve_user_id(self, client_public_key: bytes) -> str:
        """The name behind a key that was just let in; `?`, which nobody has, where it was taken away meanwhile."""
        return self._security.names().get(z85.encode(client_public_key), "?")


def _secret_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.key_secret"


def _write_pair(name: str, folder: Path) -> Path:
    public, secret = zmq.curve_keypair()
    text = f'curve\n    public-key = "{public.decode()}"\n'
    _write(_secret_file(name, folder), text + f'    secret-key = "{secret.decode()}"\n', 0o600)
    _write(folder / f"{name}.key", text, 0o644)
    if name != SERVER:
        _write(folder / "allowed" / f"{name}.key", text, 0o644)
    return _secret_file(name, folder)


def _write(file: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise SecurityError(f"{file}: exists; remove it first to make new keys") from error
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(descriptor)


def _read(file: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(file)
        for key in filter(None, (public, secret)):
            if len(z85.decode(key)) != 32:
                raise ValueError("a key has 32 bytes")
        return public, secret
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise SecurityError(f"{file}: not a key file ({error}); `daydreamer keys new NAME` makes one") from error
