"""Captures that a machine of a cluster has been sent: a folder a digest, files verified as they come, old ones go."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from avatars.files import disk_failure
from backend.engines.capture_listing import Entry, as_bytes, capture_digest, entries_of, listed, with_digests
from backend.home import held
from shared.errors import BadMessage, EffigyError, EnvironmentFailed

FOLDER = "captures"
"""Within the cache of avatars."""
KEPT_BYTES = 100 * 1024**3
FREE_BYTES = 1024**3
"""Room that is left on the disk beside a capture."""
_DIGEST = re.compile("[0-9a-f]{64}")
_NAME = re.compile(r"[^/\\\x00:]{1,200}")


def is_there(path: str, entries: Sequence[Entry]) -> bool:
    """Whether this machine has the same files under a path: by name, size and time, else by content."""
    folder = Path(path).expanduser()
    try:
        here = listed(folder)
        if [(one.name, one.size) for one in here] != [(one.name, one.size) for one in entries]:
            return False
        if [one.modified_ns for one in here] == [one.modified_ns for one in entries]:
            return True
        digests = [one.digest for one in entries]
        return all(digests) and [one.digest for one in with_digests(folder, here, lambda: None)] == digests
    except (OSError, EffigyError):
        return False


class Arriving:
    """Files that come as one stream, in the order of `entries`, into a folder. Raises OSError, BadMessage."""

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        self.folder, self._coming = folder, deque(entries)
        self._file: IO[bytes] | None = None
        self._digest: Any = None
        self._entry, self._missing = Entry("", 0, 0), 0
        self._next()

    def write(self, piece: bytes) -> None:
        """Take the next piece of the stream."""
        rest = memoryview(piece)
        while rest:
            if self._file is None:
                raise BadMessage("More of a capture arrived than was announced")
            part = rest[: self._missing]
            self._file.write(part)
            self._digest.update(part)
            self._missing -= len(part)
            rest = rest[len(part) :]
            if not self._missing:
                self._next()

    def end(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            raise BadMessage("A capture was cut off on its way", do="Try again")

    def close(self) -> None:
        """Let go of the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next(self) -> None:
        """End the file at hand and begin the next that has content."""
        while not self._missing:
            if self._file is not None:
                self.close()
                if self._digest.hexdigest() != self._entry.digest:
                    raise BadMessage(f"{self._entry.name} of a capture arrived damaged", do="Try again")
            if not self._coming:
                return
            self._entry = self._coming.popleft()
            path = self.folder / self._entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._digest, self._missing = path.open("xb"), hashlib.sha256(), self._entry.size


class CaptureCache:
    """folder: of this machine, shared by its trainings. kept_bytes: what it may grow to."""

    def __init__(self, folder: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.folder, self.kept_bytes = folder, kept_bytes

    def path(self, name: str, entries: Sequence[Entry]) -> Path | None:
        """A capture that is here, whole and now the one used last; None where it is not."""
        _check_name(name)
        digest = capture_digest(name, entries)
        kept = self.folder / digest / name
        if not kept.is_dir():
            return None
        if [(e.name, e.size) for e in listed(kept)] != [(e.name, e.size) for e in entries]:
            shutil.rmtree(self.folder / digest, ignore_errors=True)  # the machine was lost before it was on the disk
            return None
        os.utime(self.folder / digest)
        return kept

    def use(self, digest: str) -> IO[bytes]:
        """Keep a capture from being dropped until the returned file is closed, also by the end of this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._is_used(digest)  # takes the marks of those who have ended away
        while True:
            path = self.folder / f"{digest}.used-{uuid.uuid4().hex}"
            mark = held(path)
            if path.exists():  # nobody took it for one that was left behind
                return mark
            mark.close()

    def receive(self, name: str, entries: Sequence[Entry]) -> Receiving | None:
        """Begin to take a capture; None while another process does. Raises EnvironmentFailed where there is no room,
        BadMessage."""
        _check_name(name)
        if not all(entry.digest for entry in entries):
            raise BadMessage("A capture was announced without its files' digests")
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = capture_digest(name, entries)
        try:
            lock = held(self.folder / f"{digest}.lock")
        except OSError:
            return None
        try:
            for left in self.folder.glob(f".{digest}.*"):
                shutil.rmtree(left, ignore_errors=True)  # whoever began it is gone: the lock is ours
            return Receiving(self, digest, name, entries, lock)
        except BaseException as error:
            lock.close()
            if isinstance(error, OSError):
                raise disk_failure(self.folder, error) from error
            raise

    def known(self) -> dict[str, Path]:
        """Where contents are that came with other captures, by digest."""
        found: dict[str, Path] = {}
        for listing in self.folder.glob("*.json"):
            with contextlib.suppress(OSError, BadMessage):
                for folder in (self.folder / listing.stem).iterdir():
                    for entry in entries_of(listing.read_bytes()):
                        path = folder / entry.name
                        if path.is_file() and path.stat().st_size == entry.size:
                            found[entry.digest] = path
        return found

    def make_room(self, needed_bytes: int) -> None:
        """Drop the captures not used for longest until another one fits. Raises EnvironmentFailed where it cannot."""
        here = [path for path in self.folder.iterdir() if _DIGEST.fullmatch(path.name)]
        used = {path: _bytes_in(path) for path in here}
        for path in sorted(used, key=_last_use_ns):
            free = shutil.disk_usage(self.folder).free
            if sum(used.values()) + needed_bytes <= self.kept_bytes and needed_bytes + FREE_BYTES <= free:
                return
            if not self._is_used(path.name):
                shutil.rmtree(path, ignore_errors=True)
                path.with_suffix(".json").unlink(missing_ok=True)
                del used[path]
        free = shutil.disk_usage(self.folder).free
        if needed_bytes + FREE_BYTES > free:
            raise EnvironmentFailed(
                "A machine of the cluster has no room for the capture",
                found=f"{free / 1e9:.1f} GB free in {self.folder}",
                expected=f"{(needed_bytes + FREE_BYTES) / 1e9:.1f} GB",
                do="Free some space there, or put the capture where every machine sees it under the same path",
            )

    def _is_used(self, digest: str) -> bool:
        """Whether a process works with a capture; the marks of those that have ended go."""
        used = False
        for mark in self.folder.glob(f"{digest}.used-*"):
            try:
                held(mark).close()
                mark.unlink(missing_ok=True)
            except OSError:
                used = True
        return used


class Receiving:
    """A capture on its way into the cache. Files that came with other captures are not needed again."""

    def __init__(self, cache: CaptureCache, digest: str, name: str, entries: Sequence[Entry], lock: IO[bytes]) -> None:
        self._cache, self._digest, self._entries, self._lock = cache, digest, entries, lock
        known = cache.known()
        self.wanted = tuple(entry for entry in entries if entry.digest not in known)
        """What has to be sent, in this order."""
        cache.make_room(sum(entry.size for entry in self.wanted))
        self._place = cache.folder / f".{digest}.{uuid.uuid4().hex[:8]}"
        folder = self._place / name
        folder.mkdir(parents=True)
        for entry in entries:
            if entry.digest in known:
                (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
                _same_file(known[entry.digest], folder / entry.name)
        self._arriving = Arriving(folder, self.wanted)

    def write(self, piece: bytes) -> None:
        """Take the next piece. Raises EnvironmentFailed where the disk refuses, BadMessage for what is damaged."""
        try:
            self._arriving.write(piece)
        except OSError as error:
            raise disk_failure(self._cache.folder, error) from error

    def end(self) -> Path:
        """Put it into its place. Raises EnvironmentFailed, BadMessage."""
        self._arriving.end()
        target = self._cache.folder / self._digest
        try:
            target.with_suffix(".json").write_bytes(as_bytes(self._entries))
            shutil.rmtree(target, ignore_errors=True)
            self._place.replace(target)
        except OSError as error:
            raise disk_failure(target, error) from error
        return next(target.iterdir())

    def close(self) -> None:
        """Let go of what is not in its place, and of the right to send it."""
        self._arriving.close()
        shutil.rmtree(self._place, ignore_errors=True)
        self._lock.close()


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise BadMessage("A capture was announced under a name that no folder of it has", found=name[:80])


def _bytes_in(folder: Path) -> int:
    try:
        return sum(entry.size for entry in listed(folder))
    except OSError:  # another process drops it just now
        return 0


def _last_use_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _same_file(known: Path, target: Path) -> None:
    try:
        os.link(known, target)
    except OSError:  # another disk, or one without such links
        shutil.copyfile(known, target)
