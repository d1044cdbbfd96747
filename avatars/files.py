"""Write files and folders so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import EnvironmentFailed

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEAL_BYTES = 4096


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_seal(path: Path) -> None:
    """Put a file's digest beside it as NAME.sha256, in the form `sha256sum -c` checks. Raises OSError."""
    _seal(path).write_text(f"{sha256_of(path)}  {path.name}\n", encoding="utf-8")


def check_seal(path: Path) -> None:
    """Compare a file with the digest beside it; files of earlier versions have none. Raises ValueError, OSError."""
    seal = _seal(path)
    if not seal.exists():
        return
    with seal.open("rb") as stream:
        found = stream.read(MAX_SEAL_BYTES)
    if found != f"{sha256_of(path)}  {path.name}\n".encode():
        raise ValueError(f"{path.name} is not what was written: {seal.name} says another digest")


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Wait until a folder's entries are on the disk (not possible, and not needed, on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write contiguous tensors as safetensors. Raises OSError where the disk refuses, which that library tells by an
    error of its own."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), str(path))
    except SafetensorError as error:
        raise OSError(errno.ENOSPC, str(error), str(path)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it. Raises EnvironmentFailed."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(content)
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_failure(path, error) from error


def write_folder_atomically(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a temporary sibling, sync it, then put it in place of `folder`. Raises EnvironmentFailed."""
    token = uuid.uuid4().hex[:8]
    temporary = folder.with_name(f".{folder.name}.{token}.tmp")
    retired = folder.with_name(f".{folder.name}.{token}.old")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # safetensors writes for the owner alone
                sync_file(path)
        sync_folder(temporary)
        if folder.exists():
            folder.replace(retired)
        temporary.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if retired.exists() and not folder.exists():
            retired.replace(folder)
        raise disk_failure(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def disk_failure(path: Path, error: OSError) -> EnvironmentFailed:
    """The error a user sees when the disk refuses."""
    return EnvironmentFailed(
        f"{path} cannot be written", found=error.strerror or str(error), do="Free some space or choose another folder"
    )
