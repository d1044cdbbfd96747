"""The avatars on disk: NAME.avatar folders in one folder, described without loading their weights."""

from __future__ import annotations

import errno
import os
import re
import uuid
from pathlib import Path

from avatars.avatar_folder import describe_avatar
from shared.errors import EnvironmentFailed, NotFound, nearest
from shared.messages import AvatarSummary

SUFFIX = ".avatar"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class Library:
    """A folder of avatars. An avatar's id is its folder's name without `.avatar`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, avatar_id: str) -> Path:
        """The avatar's folder. Raises NotFound, also for ids that could lead out of the library."""
        path = self.folder / f"{avatar_id}{SUFFIX}"
        if not _ID.fullmatch(avatar_id) or not path.is_dir():
            known = self.ids()
            raise NotFound(
                f"There is no avatar {avatar_id[:80]!r} in the library{nearest(avatar_id, known)}",
                expected=", ".join(known[:5]) if known else "",
                do="Train one first" if not known else "Choose one of the library",
            )
        return path

    def ids(self) -> list[str]:
        """All ids, in order."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}") if path.is_dir())

    def summaries(self) -> tuple[AvatarSummary, ...]:
        """Every avatar's description; a damaged one says what is wrong in `problem`."""
        return tuple(describe_avatar(self.folder / f"{avatar_id}{SUFFIX}") for avatar_id in self.ids())

    def adopt(self, folder: Path, name: str) -> str:
        """Move a finished avatar folder into the library in one step and return its new id.

        folder: on the same file system as the library. Raises EnvironmentFailed where the disk refuses.
        """
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:60] or "avatar"
        for attempt in range(100):
            avatar_id = stem if attempt == 0 else f"{stem}-{uuid.uuid4().hex[:6]}"
            target = self.folder / f"{avatar_id}{SUFFIX}"
            if target.exists():
                continue
            try:
                os.rename(folder, target)  # never merges into a folder that has something in it
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue
                raise EnvironmentFailed(
                    "The avatar could not be moved into the library",
                    found=f"{target}: {error.strerror}",
                    do=f"It is complete at {folder}; copy it there by hand",
                ) from error
            return avatar_id
        raise EnvironmentFailed("The library has no free name for the avatar", found=name)
