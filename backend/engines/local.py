"""The engine without Ray: every worker computes in its own process of this host."""

from __future__ import annotations

from pathlib import Path

from backend.home import Home
from backend.workers import Worker


class LocalEngine:
    """home, device: for all workers. Trainings run one after the other, since they share one device."""

    trainings = 1

    def __init__(self, home: Home, device: str) -> None:
        self.home, self.device = home, device
        self._loading: Worker | None = None

    def load_ahead(self) -> None:
        """Start the renderer before there is a server: it has seconds to import, on another core."""
        self._loading = self._start("backend.render_worker", "render", self.home.logs / "render.log", "")

    def renderer(self, server: str) -> Worker:
        """See `Engine`."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.tell_server(server)
            return loading
        return self._start("backend.render_worker", "render", self.home.logs / "render.log", server)

    def trainer(self, name: str, log_path: Path, server: str) -> Worker:
        """See `Engine`."""
        return self._start("backend.train_worker", name, log_path, server)

    def assistant(self, module: str, name: str, log_path: Path, server: str) -> Worker:
        """See `Engine`."""
        return self._start(module, name, log_path, server)

    def close(self) -> None:
        """End a renderer that nobody asked for."""
        if self._loading is not None:
            self._loading.stop(wait_s=0.0)
            self._loading = None

    def _start(self, module: str, name: str, log_path: Path, server: str) -> Worker:
        return Worker(module, name, server, ("--home", str(self.home.root), "--device", self.device), log_path)
