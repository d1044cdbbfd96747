"""Where the backend keeps its things: the avatar library, the jobs and the logs, all under one folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import EnvironmentFailed


@dataclass(frozen=True)
class Home:
    """The data folder. library: avatars; jobs: one folder per job and the journal; logs: text; trash: deleted."""

    root: Path

    @property
    def library(self) -> Path:
        """Holds NAME.avatar folders."""
        return self.root / "library"

    @property
    def jobs(self) -> Path:
        """Holds journal.jsonl and one folder per job."""
        return self.root / "jobs"

    @property
    def trash(self) -> Path:
        """Holds what was thrown away; made when something is."""
        return self.root / "trash"

    @property
    def keys(self) -> Path:
        """Holds the backend's key pair and its clients' public keys; made by `effigy keys`."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        """Holds server.log and one log per worker."""
        return self.root / "logs"


def default_home() -> Path:
    """$EFFIGY_HOME, or ~/.effigy."""
    return Path(os.environ.get("EFFIGY_HOME") or Path.home() / ".effigy")


def open_home(root: Path | None = None) -> Home:
    """The data folder with its parts made. Raises EnvironmentFailed where it cannot be written."""
    home = Home((root or default_home()).expanduser().absolute())
    try:
        for folder in (home.library, home.jobs, home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        probe = home.root / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise EnvironmentFailed(
            "The data folder cannot be written",
            found=f"{home.root}: {error.strerror}",
            do="Give another one with --home or EFFIGY_HOME",
        ) from error
    return home


def lock_home(home: Home) -> IO[bytes]:
    """Hold the data folder until the returned file is closed, so that two servers never write one journal.

    Raises EnvironmentFailed when another server holds it.
    """
    try:
        return held(home.root / "server.lock")
    except OSError as error:
        raise EnvironmentFailed(
            "Another backend already uses this data folder",
            found=str(home.root),
            do="Stop that one, or give another folder with --home",
        ) from error


def held(path: Path) -> IO[bytes]:
    """A file, made where it is not there, that nobody else holds until it is closed or its process ends.

    Raises OSError while another one holds it.
    """
    file = path.open("a+b")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
