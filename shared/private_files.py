"""Small JSON files with something secret in them: readable by their owner only, from their first byte on."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from .errors import BadConfig, EnvironmentFailed

MAX_FILE_BYTES = 1024**2


def keys_folder() -> Path:
    """Where this user's own keys are: $EFFIGY_HOME/keys, or ~/.effigy/keys."""
    return Path(os.environ.get("EFFIGY_HOME") or Path.home() / ".effigy") / "keys"


def write_private(path: Path, document: Any, *, replace: bool = True) -> None:
    """Write JSON whole or not at all, readable by its owner only from its first byte on.

    Raises EnvironmentFailed, and FileExistsError where it must not replace one.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise EnvironmentFailed("A key file cannot be written", found=f"{path}: {error.strerror}") from error


def read_private(path: Path) -> Any:
    """JSON of a file that nobody else can read. Raises EnvironmentFailed, BadConfig."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailed("A key file cannot be read", found=f"{path}: {error.strerror}") from error
    if sys.platform != "win32" and mode & 0o077:
        raise EnvironmentFailed("Others can read this key file", found=str(path), do=f"Run: chmod 600 '{path}'")
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError("it is too long")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadConfig("A key file is damaged", found=f"{path}: {str(error)[:80]}") from error
