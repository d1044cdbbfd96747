"""Avatars that a machine of a cluster has been sent: a folder a digest, verified when they come, the oldest go."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from avatars.avatar_folder import DESCRIPTION, PREVIEW, WEIGHTS, avatar_digest, read_description
from avatars.files import sha256_of, write_folder_atomically
from backend.engines.packing import pack, write_parcel
from backend.library import SUFFIX, Library
from shared.errors import BadAvatar, EnvironmentFailed, NotFound

KEPT_BYTES = 20 * 1024**3
FOLDER_VARIABLE = "EFFIGY_NODE_CACHE"
FILES = (DESCRIPTION, f"{DESCRIPTION}.sha256", WEIGHTS, PREVIEW)
"""What an avatar's digest answers for, and its seal."""
_DIGEST = re.compile("[0-9a-f]{64}")


def default_cache() -> Path:
    """$EFFIGY_NODE_CACHE, or a folder of the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "effigy" / "avatars")


def avatar_parcel(folder: Path) -> bytes:
    """The files of an avatar that a picture needs. Raises BadAvatar."""
    try:
        present = [name for name in FILES if (folder / name).is_file()]
        return pack([json.dumps(present).encode(), *((folder / name).read_bytes() for name in present)])
    except OSError as error:
        raise BadAvatar(f"avatar {folder.name} cannot be read", found=str(error.strerror)) from error


class NodeCache:
    """folder: of this machine, shared by its workers. kept_bytes: what it may grow to."""

    def __init__(self, folder: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.folder, self.kept_bytes = folder, kept_bytes

    def digests(self) -> frozenset[str]:
        """Of the avatars that are here."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return frozenset(path.name for path in found if _DIGEST.fullmatch(path.name))

    def keep(self, digest: str, parcel: bytes) -> None:
        """Write an avatar down, if it is not here, once its files are what the digest says. Raises BadAvatar,
        BadMessage, EnvironmentFailed."""
        if not _DIGEST.fullmatch(digest):
            raise BadAvatar("An avatar was sent under something else than a digest", found=digest[:80])
        if (self.folder / digest).is_dir():
            return

        def fill(place: Path) -> None:
            write_parcel(parcel, place)
            document = read_description(place)
            for name in (WEIGHTS, PREVIEW):
                if sha256_of(place / name) != document["files"][name]["sha256"]:
                    raise BadAvatar(f"{name} of an avatar arrived damaged", do="Send it again")
            if avatar_digest(place) != digest:
                raise BadAvatar("Another avatar arrived than was announced", expected=f"digest {digest[:12]}")

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            write_folder_atomically(self.folder / digest, fill)
        except EnvironmentFailed:
            if not (self.folder / digest).is_dir():  # another worker of this machine may have been quicker
                raise
        self._trim(digest)

    def path(self, digest: str) -> Path:
        """The folder of an avatar that is here, now the one used last. Raises NotFound."""
        path = self.folder / digest
        if not _DIGEST.fullmatch(digest) or not path.is_dir():
            raise NotFound("This machine has not been sent an avatar that it is to draw", found=digest[:12])
        os.utime(path)
        return path

    def _trim(self, newest: str) -> None:
        """Drop the avatars not used for longest, until the rest fits. `newest` stays."""
        used = {digest: _bytes_in(self.folder / digest) for digest in self.digests()}
        for digest in sorted(used, key=lambda one: (self.folder / one).stat().st_mtime_ns):
            if sum(used.values()) <= self.kept_bytes:
                return
            if digest != newest:
                shutil.rmtree(self.folder / digest, ignore_errors=True)
                del used[digest]


class PlacedLibrary(Library):
    """A library whose ids are those of the server, each pinned to the digest it has there now."""

    def __init__(self, cache: NodeCache) -> None:
        super().__init__(cache.folder)
        self.cache = cache
        self.placed: Mapping[str, str] = {}
        """Avatar id -> digest, for the request at hand."""

    def path(self, avatar_id: str) -> Path:
        """See Library. Raises NotFound."""
        return self.cache.path(self.placed.get(avatar_id, avatar_id.removesuffix(SUFFIX)))


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
