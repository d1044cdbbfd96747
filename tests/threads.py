"""A server in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def background(run: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """`run(stop)` in a thread while the with-block lasts."""
    ended = threading.Event()
    thread = threading.Thread(target=run, args=(ended.is_set,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
    assert not thread.is_alive()
