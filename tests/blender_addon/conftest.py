"""Fixtures of the add-on's tests. They run inside the bpy module's own environment, never beside torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

HAS_BPY = find_spec("bpy") is not None
if HAS_BPY:  # puts bpy_extras, mathutils and gpu on the path as well
    import bpy

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.blender)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Elsewhere than beside bpy there is nothing to test here; `python install.py test` runs both halves."""
    return None if HAS_BPY else True


@pytest.fixture
def addon() -> Iterator[object]:
    """The add-on registered from source in an empty file."""
    import blender_addon

    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    yield bpy
    blender_addon.unregister()
    sys.stdout.flush()


@dataclass(frozen=True)
class RealBackend:
    """A backend process of its own, with an avatar 'tiny' in its library."""

    address: str
    python: str
    home: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def backend_python() -> str:
    """The interpreter the backend is installed in, named by EFFIGY_BACKEND_PYTHON; skips the test where none is."""
    python = os.environ.get("EFFIGY_BACKEND_PYTHON", "")
    if not python:
        pytest.skip("EFFIGY_BACKEND_PYTHON does not name the backend's Python (python install.py test sets it)")
    return python


def start_backend(home: Path, address: str = "tcp://127.0.0.1:0", *options: str) -> RealBackend:
    """Start a real backend on the CPU and wait until it listens."""
    python = backend_python()
    command = [python, "-m", "backend", "serve", "--address", address, "--home", str(home), "--device", "cpu"]
    command += ["--parent-pid", str(os.getpid()), "--even-training", *options]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    line = process.stdout.readline()
    assert line, (home / "server.log").read_text()
    return RealBackend(json.loads(line)["address"], python, home, process)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose library holds an untrained but coloured head, made in the backend's Python."""
    home = tmp_path_factory.mktemp("home")
    (home / "library").mkdir()
    code = "import sys; from pathlib import Path; from tests.tiny import tiny_avatar; tiny_avatar(Path(sys.argv[1]))"
    command = [backend_python(), "-c", code, str(home / "library")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(library: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own with the same avatar: a folder belongs to one backend at a time."""
    return Path(shutil.copytree(library, tmp_path / "home"))


@pytest.fixture(scope="session")
def backend(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBackend]:
    """One real backend for all tests that only use it."""
    running = start_backend(Path(shutil.copytree(library, tmp_path_factory.mktemp("used") / "home")))
    yield running
    running.stop()


@pytest.fixture
def scene_with_avatar(addon: object, backend: RealBackend, monkeypatch: pytest.MonkeyPatch) -> object:
    """bpy with the avatar 'tiny' in the scene, a camera in front of it, and the EFFIGY engine chosen."""
    from . import shots

    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    shots.set_up(addon)
    return addon
