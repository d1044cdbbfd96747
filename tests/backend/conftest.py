"""A running backend with a small avatar in its library, one for all tests of a module that only look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the servers and workers: tiny work is slower when it is shared out

from backend.launcher import RunningServer, running_server
from shared.client import BackendClient
from tests.tiny import tiny_avatar


@pytest.fixture(scope="session")
def avatar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.avatar, to be copied from."""
    return tiny_avatar(tmp_path_factory.mktemp("avatars"), gaussians=400)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, avatar_folder: Path) -> Iterator[RunningServer]:
    """A backend on the CPU, with a key, whose library holds tiny.avatar."""
    home = tmp_path_factory.mktemp("home with spaces é")
    shutil.copytree(avatar_folder, home / "library" / "tiny.avatar")
    with running_server(home=home, device="cpu") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[BackendClient]:
    """A client that knows the key."""
    with BackendClient(server.address, key=server.key, name="test") as connected:
        yield connected
