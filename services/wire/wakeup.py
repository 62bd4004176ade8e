"""How one thread ends another one's `sockets.wait`."""

from __future__ import annotations

import os


class Wakeup:
    """Ends another thread's `wait`, of which it is one entry."""

    def __init__(self) -> None:
        self.socket, self._end = os.pipe()
        os.set_blocking(self.socket, False)
        os.set_blocking(self._end, False)

    def set(self) -> None:
        """Make this readable; from any thread."""
        try:
            os.write(self._end, b"\0")
        except BlockingIOError:
            pass  # full of wake-ups already

    def clear(self) -> None:
        """Make this unreadable again; call it before looking at what was handed over, so that nothing is missed."""
        try:
            while os.read(self.socket, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.socket)
        os.close(self._end)
