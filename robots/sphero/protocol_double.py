"""A Sphero and the camera above it in a process of their own: what is at the far end of `link.protocol`.

The ball is that of the direct double. Its firmware reads what comes in frames over TCP in place of the air, and a
camera stream (MJPEG over HTTP, as telephones and network cameras give it) shows the arena. Everything from spherov2 and
OpenCV's capture upwards is as with a toy.

Orders, each for `seconds`: `loss` loses each packet to and from the toy with probability `share`; `stall` leaves
everything the toy hears waiting; `corrupt` spoils one byte of each answer with probability `share`; `drop` breaks the
connection and refuses new ones; `hide` takes the ball out of sight; `freeze` stops the pictures.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from robots.protocol import serve
from robots.sphero.double import PIXELS, Arena
from robots.sphero.firmware import Firmware
from robots.sphero.loopback import HEAD, HOST, framed, opened
from robots.sphero.packets import PIECE, V1, V2

HZ, CAMERA_HZ = 100.0, 10.0
LATENCY = 0.02  # s until an answer, of the order of Bluetooth's connection interval
NAMES = {"sprk": "SK-D0B1", "bolt": "SB-D0B1", "mini": "SM-D0B1"}


class Faults:
    """What is played now, and until when."""

    def __init__(self, seed: int) -> None:
        self._until: dict[str, float] = {}
        self._share: dict[str, float] = {}
        self._random = np.random.default_rng(seed)

    def order(self, fault: str, seconds: float, share: float = 1.0) -> None:
        """See the module."""
        self._until[fault], self._share[fault] = time.monotonic() + seconds, share

    def on(self, fault: str) -> bool:
        """Whether it is played now, and to this packet."""
        playing = time.monotonic() < self._until.get(fault, 0.0)
        return playing and self._random.random() < self._share[fault]


class SpheroProcess:
    """Ball, firmware, air and camera."""

    def __init__(self, model: str, start: str, seed: int) -> None:
        self.arena, self.faults = Arena(), Faults(seed)
        if start == "random":
            self.arena.put_anywhere(np.random.default_rng(seed))
        else:
            self.arena.put(np.array([0.5, 0.5]), 0.0)
        self.firmware = Firmware(V1 if model == "sprk" else V2)
        self._camera = self.arena.camera(CAMERA_HZ)
        self._camera.keep_pace()
        self.picture = self._camera.frame(self.arena.data.qpos)["image"]
        self._air = socket.create_server((HOST, 0))
        self._connection: socket.socket | None = None
        self._stream = ThreadingHTTPServer((HOST, 0), _streaming(self))
        self._stream.daemon_threads = True
        for work in (self._listen, self._stream.serve_forever):
            threading.Thread(target=work, daemon=True).start()
        self.said = {"port": self._air.getsockname()[1], "name": NAMES[model], "size": [PIXELS, PIXELS],
                     "camera": f"http://{HOST}:{self._stream.server_port}/arena.mjpg"}
        self._ticks = 0

    def order(self, order: dict[str, Any]) -> None:
        """Play a fault."""
        self.faults.order(**order)
        if order["fault"] == "drop" and (connection := self._connection):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def tick(self) -> None:
        """One period of physics."""
        self._ticks += 1
        self.firmware.tick(time.monotonic())
        self.arena.advance(self.firmware.powers, 1 / HZ)
        if self._ticks % round(HZ / CAMERA_HZ) == 0:
            self.arena.show(not self.faults.on("hide"))
            picture = self._camera.frame(self.arena.data.qpos)["image"]
            if not self.faults.on("freeze"):
                self.picture = picture

    def close(self) -> None:
        """Let go of the camera's context."""
        self._camera.close()

    def _listen(self) -> None:
        while True:
            self._connection, _ = self._air.accept()
            with self._connection, contextlib.suppress(OSError, EOFError):
                if not self.faults.on("drop"):
                    self._converse(self._connection)

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.firmware.connected()
        while True:
            characteristic, size = opened(_received(connection, HEAD))
            data = _received(connection, size)
            while self.faults.on("stall"):
                time.sleep(0.01)
            if self.faults.on("loss"):
                continue
            answers = self.firmware.receive(characteristic, data, time.monotonic())
            time.sleep(LATENCY)
            for answer in answers:
                self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        if self.faults.on("loss"):
            return
        if self.faults.on("corrupt"):
            middle = len(answer) // 2
            answer = answer[:middle] + bytes([answer[middle] ^ 0x10]) + answer[middle + 1:]
        for start in range(0, len(answer), PIECE):
            connection.sendall(framed(self.firmware.version.ANSWERS, answer[start:start + PIECE]))


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _streaming(process: SpheroProcess) -> type[BaseHTTPRequestHandler]:
    """What answers to whoever opens the stream."""

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            shown = None
            with contextlib.suppress(OSError):
                while True:
                    if (picture := process.picture) is shown or not picture.any():
                        time.sleep(0.01)
                        continue
                    shown = picture
                    jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
                    self.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                                     % (len(jpeg), jpeg))

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    return Stream


def main(settings: Mapping[str, Any]) -> None:
    """Serve until the parent closes our input."""
    process = SpheroProcess(**settings)
    try:
        serve(process.said, process.order, process.tick, HZ)
    finally:
        process.close()


if __name__ == "__main__":
    import json
    import sys

    main(json.loads(sys.argv[1]))
