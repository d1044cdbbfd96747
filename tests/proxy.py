"""A TCP proxy of one port's connections: it can listen in, and be as slow, late, broken or mute as a bad network."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Sequence


class Proxy:
    """Passes bytes between its own port and `port` of this machine.

    heard: all of them. bytes_per_s: 0 is at once. delay_s: so much later does each byte arrive, whatever else is on the
    way. cut_after: the first connection is cut once so many bytes have gone to the client, the next one after the next
    number, and so on; later ones stay. mute: while set, nothing arrives, though all connections stay open. accepted:
    connections until now. at: the address and port to listen at, a free one of 127.0.0.1 by default.
    """

    def __init__(
        self,
        port: int,
        bytes_per_s: float = 0.0,
        *,
        delay_s: float = 0.0,
        cut_after: Sequence[int] = (),
        at: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.target, self.bytes_per_s, self.delay_s, self.heard = port, bytes_per_s, delay_s, bytearray()
        self.cut_after, self.mute, self.accepted = list(cut_after), threading.Event(), 0
        self._listener = socket.create_server(at)
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything."""
        for one in (self._listener, *self._open):
            _end(one)

    def cut(self) -> None:
        """Cut what is open; who connects again is served."""
        for one in self._open:
            _end(one)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.accepted += 1
            self._open += [near, far]
            limit = self.cut_after.pop(0) if self.cut_after else 0
            for source, sink, most in ((near, far, 0), (far, near, limit)):
                waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._take, args=(source, waiting), daemon=True).start()
                threading.Thread(target=self._give, args=(source, sink, waiting, most), daemon=True).start()

    def _take(self, source: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        try:
            while chunk := source.recv(16_384):
                self.heard += chunk
                if self.bytes_per_s:
                    time.sleep(len(chunk) / self.bytes_per_s)
                waiting.put((time.monotonic() + self.delay_s, chunk))
        except OSError:
            pass  # one side has gone; so does the other below
        waiting.put((0.0, b""))

    def _give(
        self, source: socket.socket, sink: socket.socket, waiting: queue.SimpleQueue[tuple[float, bytes]], most: int
    ) -> None:
        """most: bytes after which the connection is cut, 0 for never."""
        given = 0
        try:
            while True:
                due_s, chunk = waiting.get()
                if not chunk:
                    break
                time.sleep(max(0.0, due_s - time.monotonic()))
                while self.mute.is_set():
                    time.sleep(0.01)
                part = chunk[: most - given] if most else chunk
                sink.sendall(part)
                given += len(part)
                if most and given >= most:
                    break
        except OSError:
            pass
        for one in (source, sink):
            _end(one)


def _end(one: socket.socket) -> None:
    """Close it also for a thread that waits at it."""
    with contextlib.suppress(OSError):  # nobody is connected
        one.shutdown(socket.SHUT_RDWR)
    one.close()
