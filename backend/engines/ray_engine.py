"""The engine of many machines: pictures and trainings are computed by actors of a Ray cluster, wherever it has room.

The server's side of them stays what it is on one host: a process that speaks the wire's messages and is tied to the
server's life (`ray_render`, one for all pictures; `ray_train`, one for each running job). The server does not load Ray.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from backend.engines.placement import Shares
from backend.engines.ray_cluster import LOCAL, LOOPBACK, QUIET, require_ray
from backend.home import Home
from backend.workers import Worker

TRAININGS = 8
"""Jobs handed to the cluster at once; those it has no room for wait there."""
NODE_GRACE_S = 10.0


class RayEngine:
    """address: HOST:PORT of the cluster; this host must be part of it. Empty: one of this host alone is started, which
    listens on 127.0.0.1 and takes a token that nobody else is told. Raises EnvironmentFailed where Ray is missing."""

    def __init__(
        self, home: Home, device: str, address: str = "", *, shares: Shares | None = None, trainings: int = TRAININGS
    ) -> None:
        require_ray()
        self.home, self.device, self.trainings = home, device, trainings
        self.shares = shares or Shares()
        self.address = address or f"{LOCAL}{home.root / 'ray.address'}"
        self._variables: Mapping[str, str] = QUIET
        self._node: Worker | None = None
        self._loading: Worker | None = None
        if not address:
            self._variables = {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def load_ahead(self) -> None:
        """Start Ray, where there is none yet, and the renderer, before there is a server."""
        if self.address.startswith(LOCAL):
            path = Path(self.address.removeprefix(LOCAL))
            path.unlink(missing_ok=True)
            arguments = ("--address-file", str(path))
            log_path = self.home.logs / "ray.log"
            self._node = Worker("backend.engines.ray_node", "ray", "", arguments, log_path, self._variables)
        self._loading = self._relay("ray_render", "render", self.home.logs / "render.log", "", self.shares.render)

    def renderer(self, server: str) -> Worker:
        """See `Engine`."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.tell_server(server)
            return loading
        if self._node is not None and self._node.ended() is not None:
            self.load_ahead()  # the cluster of this host went: the new one has another address
            return self.renderer(server)
        return self._relay("ray_render", "render", self.home.logs / "render.log", server, self.shares.render)

    def trainer(self, name: str, log_path: Path, server: str) -> Worker:
        """See `Engine`."""
        return self._relay("ray_train", name, log_path, server, self.shares.train)

    def assistant(self, module: str, name: str, log_path: Path, server: str) -> Worker:
        """See `Engine`."""
        return Worker(module, name, server, ("--home", str(self.home.root), "--device", self.device), log_path)

    def close(self) -> None:
        """End what is left: a renderer nobody asked for, and the cluster of this host."""
        for worker, wait_s in ((self._loading, 0.0), (self._node, NODE_GRACE_S)):
            if worker is not None:
                worker.stop(wait_s)
        self._loading = self._node = None

    def _relay(self, module: str, name: str, log_path: Path, server: str, share: float) -> Worker:
        arguments = ["--home", str(self.home.root), "--device", self.device, "--ray", self.address]
        arguments += ["--share", str(share)]
        return Worker(f"backend.engines.{module}", name, server, arguments, log_path, self._variables)
