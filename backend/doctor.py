"""What works on this machine, what is missing, and what to do about it. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from backend.addresses import bind
from backend.devices import usable_cores
from backend.home import default_home, open_home
from backend.key_ring import ring_for
from shared import __version__
from shared.client import BackendClient
from shared.errors import EffigyError

MIN_FREE_BYTES = 4 * 1024**3
BODY_MODELS = {
    "FLAME": ("FLAME_PATH", "flame", "https://flame.is.tue.mpg.de"),
    "SMPL": ("SMPL_PATH", "smpl", "https://smpl.is.tue.mpg.de"),
    "SMPL-X": ("SMPLX_PATH", "smplx", "https://smpl-x.is.tue.mpg.de"),
}
"""Licensed models that users may own: (environment variable, folder under HOME/body_models, where to get it)."""


@dataclass(frozen=True)
class Finding:
    """One row. state: 'ok', 'optional' (missing, but nothing needs it) or 'missing'."""

    name: str
    state: str
    found: str
    do: str = ""


def examine(home: Path | None, address: str) -> list[Finding]:
    """All findings. home: None is the default data folder."""
    root = (home or default_home()).expanduser().absolute()
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        lambda: Finding("effigy", "ok", __version__),
        lambda: _package("torch"),
        lambda: _package("numba"),
        lambda: _package("pyzmq"),
        _cuda,
        lambda: _optional_package("gsplat", "CUDA rasteriser", "pip install 'effigy[cuda]' on a machine with CUDA"),
        lambda: _optional_package("nvdiffrast", "CUDA mesh rasteriser", "see its own page; its licence is its own"),
        lambda: _optional_package("tensorboard", "training log (train --log)", "pip install 'effigy[log]'"),
        lambda: _optional_package("imageio-ffmpeg", "films (render --video)", "pip install 'effigy[video]'"),
        lambda: _home(root),
        lambda: _disk(root),
        lambda: _port(address, root),
    )
    return [*(check() for check in checks), *(_body_model(name, root) for name in BODY_MODELS)]


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {usable_cores()} cores"
    good = sys.version_info >= (3, 11)
    return Finding("Python", "ok" if good else "missing", text, "" if good else "Install Python 3.11 or newer")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", f"pip install {name}")


def _optional_package(name: str, purpose: str, do: str) -> Finding:
    try:
        return Finding(name, "ok", f"{importlib.metadata.version(name)} ({purpose})")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "optional", f"not installed ({purpose})", do)


def _cuda() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("CUDA", "missing", f"torch does not load: {error}"[:200], "Install torch again")
    if not torch.cuda.is_available():
        return Finding(
            "CUDA", "optional", "no device; the CPU is used", "Needs an NVIDIA GPU, its driver, torch with CUDA"
        )
    properties = torch.cuda.get_device_properties(0)
    return Finding("CUDA", "ok", f"{properties.name}, {properties.total_memory >> 30} GiB, CUDA {torch.version.cuda}")


def _home(root: Path) -> Finding:
    if root.exists():
        try:
            open_home(root)
        except EffigyError as error:
            return Finding("data folder", "missing", error.found, error.do)
        return Finding("data folder", "ok", f"{root} (library and jobs can be written)")
    existing = next(folder for folder in root.parents if folder.exists())
    if os.access(existing, os.W_OK):
        return Finding("data folder", "ok", f"{root} (made at first use)")
    return Finding("data folder", "missing", f"{existing} cannot be written", "Set EFFIGY_HOME, or give --home")


def _disk(root: Path) -> Finding:
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1024**3:.1f} GiB free at {existing}"
    if free >= MIN_FREE_BYTES:
        return Finding("disk", "ok", text)
    return Finding("disk", "missing", text, f"Have {MIN_FREE_BYTES >> 30} GiB free: training keeps checkpoints")


def _port(address: str, home: Path) -> Finding:
    try:
        ring_for(home / "keys", address, encrypt=False)
    except EffigyError as error:
        return Finding("port", "missing", str(error), error.do)
    try:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            bind(socket, address)
        return Finding("port", "ok", f"{address} is free")
    except EffigyError as error:
        taken = error
    try:
        with BackendClient(address, key=os.environ.get("EFFIGY_KEY", ""), name="doctor") as client:
            welcome = client.connect(2.0)
        return Finding("port", "ok", f"a backend ({welcome.version}, {welcome.device}) answers at {address}")
    except EffigyError as error:
        return Finding("port", "missing", f"{taken.what}; {error.what}", taken.do)


def _body_model(name: str, root: Path) -> Finding:
    variable, folder, page = BODY_MODELS[name]
    path = Path(os.environ.get(variable) or root / "body_models" / folder).expanduser()
    files = sorted(item.name for item in path.glob("*") if item.suffix in (".pkl", ".npz")) if path.is_dir() else []
    if files:
        return Finding(f"{name} files", "ok", f"{', '.join(files[:4])} in {path}")
    return Finding(
        f"{name} files",
        "optional",
        "none",
        f"Not needed for the open template; licensed at {page}, then put into {path}",
    )
