"""A client that draws one view as fast as its backend allows, and tells when each picture came and how long it took.

    python -m backend.sharing_client NAME ADDRESS AVATAR SIZE_PX        with the server's key in EFFIGY_KEY

A line `MONOTONIC_S MILLISECONDS` for each picture on standard output; ends with its standard input.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from backend.benchmark_start import front_view
from shared.client import BackendClient
from shared.errors import EffigyError

TIMEOUT_S = 60.0


def main(words: list[str]) -> int:
    """Draw until standard input ends."""
    name, address, avatar_id, size_px = words
    over = threading.Event()
    threading.Thread(target=_end_with_input, args=(over,), daemon=True).start()
    with BackendClient(address, key=os.environ.get("EFFIGY_KEY", ""), name=name) as client:
        request = front_view(client, avatar_id, int(size_px))
        while not over.is_set():
            begun = time.perf_counter()
            try:
                client.render(request, timeout_s=TIMEOUT_S, cancelled=over.is_set)
            except EffigyError as error:
                if over.is_set():
                    break
                sys.stderr.write(f"{error}\n")
                return 1
            sys.stdout.write(f"{time.monotonic():.4f} {(time.perf_counter() - begun) * 1000:.3f}\n")
            sys.stdout.flush()
    return 0


def _end_with_input(over: threading.Event) -> None:
    while os.read(0, 64):
        pass
    over.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
