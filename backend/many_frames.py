"""The pictures of one film from a server: as many under way as it has render workers, handed out in their order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from shared.client import BackendClient
from shared.desk_messages import GetStatus, Status
from shared.messages import RenderRequest
from shared.types import Frame

MOST_AT_ONCE = 32
ASK_EVERY_S = 2.0


def rendered_in_order(
    requests: Iterable[RenderRequest], new_client: Callable[[], BackendClient], *, timeout_s: float
) -> Iterator[Frame]:
    """The frames of `requests`, in their order.

    new_client: makes a connection; each picture under way has one of its own, so none takes another's place in the
    server's queue, and each is read as soon as it is there. A machine that joins or leaves the server's cluster is
    noticed within seconds. Raises what BackendClient.render raises for the first picture that failed.
    """
    made: list[BackendClient] = []
    own = threading.local()

    def render(request: RenderRequest) -> Frame:
        if not hasattr(own, "client"):
            own.client = new_client()
            made.append(own.client)
        frame: Frame = own.client.render(request, timeout_s=timeout_s)
        return frame

    under_way: deque[Future[Frame]] = deque()
    at_once, asked_s = 1, -ASK_EVERY_S
    pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="frames")
    asking = new_client()
    try:
        for request in requests:
            if time.monotonic() - asked_s >= ASK_EVERY_S:
                status: Status = asking.request(GetStatus(), timeout_s=timeout_s)
                at_once, asked_s = min(max(1, status.render_workers), MOST_AT_ONCE), time.monotonic()
            while len(under_way) >= at_once:
                yield under_way.popleft().result()
            under_way.append(pool.submit(render, request))
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)
        for client in (*made, asking):
            client.close()
