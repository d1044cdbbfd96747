"""The backend's key as this user keeps it: in a file that nobody else can read, never in a .blend file."""

from __future__ import annotations

from pathlib import Path

from .._shared import errors, private_files

NAME = "backend_key.json"


class KeyFile:
    """path: None is keys/backend_key.json of this user's own folder. Read anew only when the file has changed."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._text = ""

    def text(self) -> str:
        """The key; empty where there is none, or where the file cannot be used."""
        try:
            status = self._place().stat()
        except OSError:
            return ""
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                stored = private_files.read_private(self._place())
                self._text = str(stored["key"]) if isinstance(stored, dict) and "key" in stored else ""
            except errors.EffigyError:
                self._text = ""
        return self._text

    def put(self, text: str) -> None:
        """Keep another key; an empty one leaves no file. Raises EnvironmentFailed."""
        if text:
            private_files.write_private(self._place(), {"key": text})
        else:
            self._place().unlink(missing_ok=True)

    def _place(self) -> Path:
        return self._path or private_files.keys_folder() / NAME
