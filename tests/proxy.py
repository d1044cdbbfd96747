"""A TCP proxy of one connection's bytes: it can listen in, and be as slow as a bad network."""

from __future__ import annotations

import socket
import threading
import time


class Proxy:
    """Passes bytes between its own port and `port` of this machine. heard: all of them. bytes_per_s: 0 is at once."""

    def __init__(self, port: int, bytes_per_s: float = 0.0) -> None:
        self.target, self.bytes_per_s, self.heard = port, bytes_per_s, bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything."""
        for one in (self._listener, *self._open):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(16_384):
                self.heard += chunk
                if self.bytes_per_s:
                    time.sleep(len(chunk) / self.bytes_per_s)
                sink.sendall(chunk)
        except OSError:
            pass  # one side has gone; so has the other below
        for one in (source, sink):
            one.close()
