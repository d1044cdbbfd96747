"""What was thrown away and can be brought back: avatars of the library and folders of jobs, under HOME/trash.

An entry is the folder as it was, renamed to `NAME~WHEN`; moving it is one rename on one file system, so nothing is
ever half in the trash.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from avatars.avatar_folder import describe_avatar
from backend.library import SUFFIX, Library
from shared.errors import EnvironmentFailed, NotFound, nearest
from shared.messages import AvatarSummary

_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})~(?P<when>\d{8}T\d{6})-[0-9a-f]{6}")


class Trash:
    """The folder of what was thrown away. Its ids are those of `summaries`, such as 'anna~20261128T101500-1a2b3c'."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def summaries(self) -> tuple[AvatarSummary, ...]:
        """The avatars in it, newest first. avatar_id: the entry's id; created: when it was thrown away."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}") if self.folder.is_dir() else ():
            entry = _ENTRY.fullmatch(path.name.removesuffix(SUFFIX))
            if entry is not None and path.is_dir():
                when = datetime.strptime(entry["when"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                summary = describe_avatar(path)
                name = entry["name"] if summary.problem and summary.name == entry[0] else summary.name
                found.append(replace(summary, avatar_id=entry[0], name=name, created=when.isoformat()))
        return tuple(sorted(found, key=lambda item: item.created, reverse=True))

    def throw(self, folder: Path) -> str:
        """Move an avatar's or a job's folder into the trash and return its id there. Raises EnvironmentFailed."""
        suffix = SUFFIX if folder.name.endswith(SUFFIX) else ""
        entry = f"{folder.name.removesuffix(suffix)}~{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.rename(folder, self.folder / f"{entry}{suffix}")
        except OSError as error:
            raise EnvironmentFailed(
                f"{folder.name} could not be moved to the trash", found=f"{self.folder}: {error.strerror}"
            ) from error
        return entry

    def restore(self, entry: str, library: Library) -> str:
        """Put an avatar back and return its id: the one it had, unless that is taken. Raises NotFound."""
        path = self._path(entry)
        former = path.name.partition("~")[0]
        return library.adopt(path, former)

    def purge(self, entry: str) -> None:
        """Delete an avatar of the trash for good. Raises NotFound, EnvironmentFailed."""
        path = self._path(entry)
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise EnvironmentFailed(f"{entry} could not be deleted", found=str(error.strerror)) from error

    def empty(self) -> int:
        """Delete everything in it for good; how many entries that were. Raises EnvironmentFailed."""
        paths = list(self.folder.iterdir()) if self.folder.is_dir() else []
        try:
            for path in paths:
                shutil.rmtree(path)
        except OSError as error:
            raise EnvironmentFailed("The trash could not be emptied", found=str(error.strerror)) from error
        return len(paths)

    def _path(self, entry: str) -> Path:
        """The folder of an entry, named by its id or by that of the avatar where one alone was thrown away."""
        path = self.folder / f"{entry}{SUFFIX}"
        if not _ENTRY.fullmatch(entry) or not path.is_dir():
            known = [item.avatar_id for item in self.summaries()]
            same = [found for found in known if found.partition("~")[0] == entry]
            if len(same) == 1:
                return self.folder / f"{same[0]}{SUFFIX}"
            if same:
                raise NotFound(f"{entry!r} is in the trash {len(same)} times", expected=", ".join(same[:5]))
            raise NotFound(
                f"There is no {entry[:80]!r} in the trash{nearest(entry, known)}",
                expected=", ".join(known[:5]),
                do="List the trash" if known else "The trash is empty",
            )
        return path
