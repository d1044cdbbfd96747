"""The render worker of a cluster: an actor on some machine that draws what it is sent.

Called with bytes, it answers bytes. Importing this loads no torch: the actor sets its process up first.
"""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

from backend.engines.node_cache import NodeCache, PlacedLibrary, default_cache
from backend.engines.packing import pack, unpack
from backend.engines.ray_cluster import prepare_process
from shared import __version__, wire
from shared.errors import EffigyError
from shared.messages import PROTOCOL_VERSION, Failure
from shared.pixel_memory import PixelWriter

if TYPE_CHECKING:
    from backend.rendering import Studio

BROKEN_DEVICE_EXIT = 4


class RenderActor:
    """device: 'cpu' or 'cuda', of which Ray shows it its own. threads: 0 for all cores."""

    def __init__(self, device: str, threads: int) -> None:
        prepare_process(threads)
        self._wanted = device
        self._cache = NodeCache(default_cache())
        self._library = PlacedLibrary(self._cache)
        self._studio: Studio | None = None
        self._problems: dict[str, EffigyError] = {}

    def ready(self) -> bytes:
        """Load everything a picture needs; then what is known of this worker (see `_facts`)."""
        from avatars.warm_up import load_drawing_kernels
        from backend.devices import resolve_device, usable_cores, use_cores
        from backend.rendering import Studio

        device = resolve_device(self._wanted)
        use_cores(usable_cores())
        self._studio = Studio(self._library, device)
        if device == "cpu":
            load_drawing_kernels()
        return pack([self._facts("")])

    def put_environment(self, bundle: bytes) -> bytes:
        """Keep an environment map for the requests that follow."""
        message = wire.decode(unpack(bundle), limits=wire.FROM_SERVER).message
        self._here().put_environment(message)
        return b""

    def keep(self, digest: str, parcel: bytes) -> bytes:
        """Keep an avatar in this machine's cache. What is wrong with it is told when it is to be drawn."""
        self._problems.pop(digest, None)
        try:
            self._cache.keep(digest, parcel)
        except EffigyError as error:
            self._problems[digest] = error
        return b""

    def ask(self, bundle: bytes) -> bytes:
        """A request's answer, or the failure that stands for it, after the facts; the facts alone where an avatar is
        not here. The same bundle, the same pixels."""
        from backend.render_worker import encoded_answer

        head, *parts = unpack(bundle)
        note = json.loads(bytes(head))
        self._library.placed = note["avatars"]
        problem = next((self._problems[one] for one in note["avatars"].values() if one in self._problems), None)
        if problem is not None:
            return pack([self._facts(note["key"]), *wire.encode(Failure.of(problem))])
        if not set(note["avatars"].values()) <= self._cache.digests():
            return pack([self._facts(note["key"])])  # one made room for another: whoever asked sends it again
        message = wire.decode(parts, limits=wire.FROM_SERVER).message
        answer, broken = encoded_answer(self._here(), PixelWriter(), message)
        if broken:
            os._exit(BROKEN_DEVICE_EXIT)  # whoever asked finds this actor dead and asks another one
        return pack([self._facts(note["key"]), *answer])

    def _here(self) -> Studio:
        assert self._studio is not None, "ready() comes first"
        return self._studio

    def _facts(self, key: str) -> bytes:
        """For the relay. key: of the request that was answered."""
        from backend.devices import device_memory, device_name, rasteriser_name

        studio = self._here()
        used, total = device_memory(studio.device)
        facts: dict[str, Any] = {
            "key": key,
            "protocol": PROTOCOL_VERSION,
            "version": __version__,
            "host": platform.node(),
            "device": device_name(studio.device),
            "rasteriser": rasteriser_name(studio.device),
            "used_bytes": used,
            "total_bytes": total,
            "loaded": studio.loaded,
            "stored": sorted(self._cache.digests()),
        }
        return json.dumps(facts).encode()
