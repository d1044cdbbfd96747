"""What a capture's folder holds, file by file, so that another machine can tell whether it has the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.errors import BadCapture, BadMessage

PIECE_BYTES = 8 * 1024**2
MOST_FILES = 1_000_000
MOST_LISTING_BYTES = 512 * 1024**2
MOST_NAME_BYTES = 1024
_DIGEST = re.compile("([0-9a-f]{64})?")


@dataclass(frozen=True)
class Entry:
    """A file. name: relative to the capture's folder, with slashes. digest: SHA-256 of its content, '' where it was not
    read yet. modified_ns: says no more than whether the content need be looked at."""

    name: str
    size: int
    modified_ns: int
    digest: str = ""


def listed(folder: Path) -> tuple[Entry, ...]:
    """Every file in a folder and below, links followed, by name; contents are not read. Raises OSError, BadCapture."""
    entries, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        facts = os.stat(place)
        if (facts.st_dev, facts.st_ino) in entered:  # a link that leads back
            folders.clear()
            continue
        entered.add((facts.st_dev, facts.st_ino))
        for name in files:
            path = Path(place, name)
            if path.is_file():
                facts = path.stat()
                entries.append(Entry(path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns))
        if len(entries) > MOST_FILES:
            raise BadCapture(f"{folder} holds too many files to be a capture", expected=f"at most {MOST_FILES:,}")
    return tuple(sorted(entries, key=lambda entry: entry.name))


def with_digests(folder: Path, entries: Sequence[Entry], heed: Callable[[], None]) -> tuple[Entry, ...]:
    """The same with the digests of the contents. heed: called every few MiB. Raises OSError."""
    found = []
    for entry in entries:
        digest = hashlib.sha256()
        with (folder / entry.name).open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                digest.update(piece)
                heed()
        found.append(replace(entry, digest=digest.hexdigest()))
    return tuple(found)


def capture_digest(name: str, entries: Iterable[Entry]) -> str:
    """What tells one capture from another: its folder's name, by which trainings know it, and its files' contents."""
    return hashlib.sha256(json.dumps([name, [[e.name, e.size, e.digest] for e in entries]]).encode()).hexdigest()


def as_bytes(entries: Iterable[Entry]) -> bytes:
    """A listing to be sent or kept."""
    return json.dumps([[e.name, e.size, e.modified_ns, e.digest] for e in entries]).encode()


def entries_of(listing: bytes) -> tuple[Entry, ...]:
    """The entries of `as_bytes`. Raises BadMessage for what none of ours holds, such as names that lead elsewhere."""
    try:
        if len(listing) > MOST_LISTING_BYTES:
            raise ValueError("it is too long")
        entries = tuple(Entry(*row) for row in json.loads(listing))
        if len(entries) > MOST_FILES or len({entry.name for entry in entries}) != len(entries):
            raise ValueError("too many files, or one of them twice")
        for entry in entries:
            if not (_is_inside(entry.name) and _is_count(entry.size) and _is_count(abs(entry.modified_ns))):
                raise ValueError(f"no file is like {entry.name!r}"[:120])
            if not _DIGEST.fullmatch(entry.digest):
                raise ValueError("a digest that is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise BadMessage("A capture's listing from another machine is damaged", found=str(error)[:200]) from error
    return entries


def pieces(folder: Path, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The contents of files one after the other, cut every PIECE_BYTES. Raises OSError, and BadCapture for a file that
    has another size than it had."""
    piece = bytearray()
    for entry in entries:
        left = entry.size
        with (folder / entry.name).open("rb") as stream:
            while left:
                part = stream.read(min(left, PIECE_BYTES - len(piece)))
                if not part:
                    raise BadCapture(f"{entry.name} of the capture changes while it is sent", do="Try again")
                piece += part
                left -= len(part)
                if len(piece) == PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
    if piece:
        yield bytes(piece)


def _is_inside(name: str) -> bool:
    if not isinstance(name, str):
        return False
    parts = name.split("/")
    plain = not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)
    return plain and ":" not in parts[0] and len(name) <= MOST_NAME_BYTES


def _is_count(number: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63
