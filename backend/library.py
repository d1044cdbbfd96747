"""The avatars on disk: NAME.avatar folders in one folder, described without loading their weights."""

from __future__ import annotations

import errno
import math
import os
import re
import uuid
from dataclasses import replace
from pathlib import Path

from avatars.avatar_folder import describe_avatar, rename_avatar
from shared import wire
from shared.errors import BadConfig, BadMessage, EnvironmentFailed, NotFound, nearest
from shared.file_names import problem_with, safe_stem, taken
from shared.messages import AvatarList, AvatarSummary

SUFFIX = ".avatar"
Stamp = tuple[tuple[str, int, int], ...]
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


def check_name(name: str) -> None:
    """Raises BadConfig for a name that cannot be an avatar's."""
    problem = problem_with(name)
    if problem:
        raise BadConfig(
            f"This name cannot be an avatar's: it {problem}",
            found=repr(name[:80]),
            expected="a name that a folder can have on every system",
        )


def avatar_place(text: str, library: Path) -> tuple[Path, str]:
    """Folder and id of an avatar given as a NAME.avatar folder, or as an id of the library in folder `library`."""
    folder = Path(text).expanduser()
    if folder.name.endswith(SUFFIX):
        return folder.parent, folder.name.removesuffix(SUFFIX)
    return library, text


class Library:
    """A folder of avatars. An avatar's id is its folder's name without `.avatar`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[Stamp, AvatarSummary]] = {}

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
        """Every avatar's description, read again only where its files changed. A damaged one says so in `problem`."""
        self._known = {avatar_id: self._described(avatar_id) for avatar_id in self.ids()}
        return tuple(summary for _, summary in self._known.values())

    def summary(self, avatar_id: str) -> AvatarSummary:
        """One avatar's description. Raises NotFound."""
        self.path(avatar_id)
        self._known[avatar_id] = self._described(avatar_id)
        return self._known[avatar_id][1]

    def newest(self) -> Path | None:
        """The folder that was written to last; None where there is none."""
        folders = [path for path in self.folder.glob(f"*{SUFFIX}") if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime_ns, default=None)

    def rename(self, avatar_id: str, name: str) -> None:
        """Show an avatar by another name; its id and digest, which scenes hold on to, stay.

        Raises NotFound, BadConfig, EnvironmentFailed.
        """
        check_name(name)
        rename_avatar(self.path(avatar_id), name)

    def _described(self, avatar_id: str) -> tuple[Stamp, AvatarSummary]:
        folder = self.folder / f"{avatar_id}{SUFFIX}"
        stamp = tuple(sorted((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in folder.glob("*.*")))
        known = self._known.get(avatar_id)
        if known is not None and known[0] == stamp:
            return known
        summary = describe_avatar(folder)
        summary = replace(summary, metrics={k: v for k, v in summary.metrics.items() if math.isfinite(v)})
        try:
            wire.encode(summary_list := AvatarList((summary,)))
        except BadMessage as error:  # texts that cannot be sent must not hide the rest of the library
            problem = f"avatar {avatar_id} is damaged: {error.what}"
            return stamp, AvatarSummary(avatar_id, avatar_id, "", "", "", "", problem=problem)
        return stamp, summary_list.avatars[0]

    def adopt(self, folder: Path, name: str) -> str:
        """Move a finished avatar folder into the library in one step and return its new id.

        folder: on the same file system as the library. Raises EnvironmentFailed where the disk refuses.
        """
        stem = safe_stem(name, "avatar")
        for attempt in range(100):
            avatar_id = stem if attempt == 0 else f"{stem}-{uuid.uuid4().hex[:6]}"
            target = self.folder / f"{avatar_id}{SUFFIX}"
            if target.exists() or taken(avatar_id, self.ids()):
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
