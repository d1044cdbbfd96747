"""Pictures turned into files beside the drawing of the next ones, in order for whoever takes them after."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
MOST_WRITERS, WAITING_EACH = 8, 2


class PictureWriter:
    """`add` hands over what makes one picture and writes it; `then` gets them in the order they were added, on the
    caller's thread. At most WAITING_EACH a writer wait, so memory is bounded. writers 0: everything at once, here.

    What a picture's writing raises is raised by a later `add`, or at the end; what is not begun then is left out.
    """

    def __init__(self, writers: int, then: Callable[[Picture], None] = lambda picture: None) -> None:
        self.writers, self.then = writers, then
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="writer") if writers else None
        self._waiting: deque[Future[Picture]] = deque()

    def add(self, write: Callable[[], Picture]) -> None:
        """Have one more written, when a writer is free."""
        if self._pool is None:
            self.then(write())
            return
        self._waiting.append(self._pool.submit(write))
        while len(self._waiting) > WAITING_EACH * self.writers:
            self.then(self._waiting.popleft().result())

    def finish(self) -> None:
        """Wait for all."""
        while self._waiting:
            self.then(self._waiting.popleft().result())

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
