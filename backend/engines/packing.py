"""What travels between the machines of a cluster is one string of bytes: Ray passes those on as they are, unpickled.

A bundle is a list of parts, a parcel a folder's files in a bundle. Both are checked before anything of them is used.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from shared.errors import BadMessage

MOST_PARTS = 4096
MOST_NAMES_BYTES = 1024**2
_COUNT, _LENGTH = struct.Struct("<I"), struct.Struct("<Q")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){0,3}")


def pack(parts: Iterable[bytes | memoryview]) -> bytes:
    """One string of bytes of many."""
    listed = list(parts)
    lengths = [_LENGTH.pack(len(part) if isinstance(part, bytes) else part.nbytes) for part in listed]
    return b"".join((_COUNT.pack(len(listed)), *lengths, *listed))


def unpack(bundle: bytes) -> list[memoryview]:
    """The parts of `pack`, as views. Raises BadMessage where the lengths are not those of the content."""
    whole = memoryview(bundle)
    try:
        (count,) = _COUNT.unpack_from(whole)
        start = _COUNT.size + count * _LENGTH.size
        if count > MOST_PARTS or start > len(whole):
            raise ValueError("its count of parts is wrong")
        parts = []
        for index in range(count):
            (length,) = _LENGTH.unpack_from(whole, _COUNT.size + index * _LENGTH.size)
            if length > len(whole) - start:
                raise ValueError("a part is cut off")
            parts.append(whole[start : start + length])
            start += length
        if start != len(whole):
            raise ValueError("something follows its last part")
    except (struct.error, ValueError) as error:
        raise BadMessage("A bundle from another machine is damaged", found=str(error)) from error
    return parts


def pack_folder(folder: Path) -> bytes:
    """A parcel of every file in a folder and below. Raises OSError where one is gone meanwhile."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = [path.relative_to(folder).as_posix() for path in files]
    fit = [(name, path) for name, path in zip(names, files, strict=True) if _NAME.fullmatch(name)]
    return pack([json.dumps([name for name, _ in fit]).encode(), *(path.read_bytes() for _, path in fit)])


def write_parcel(parcel: bytes, folder: Path) -> None:
    """Write a parcel's files into a folder that exists. Raises BadMessage for names that lead elsewhere, OSError."""
    head, *contents = unpack(parcel) or [memoryview(b"")]
    names = _names(head)
    if len(names) != len(contents) or len(set(names)) != len(names):
        raise BadMessage("A parcel from another machine is damaged", found="names and files differ in number")
    for name, content in zip(names, contents, strict=True):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _names(head: memoryview) -> Sequence[str]:
    try:
        if len(head) > MOST_NAMES_BYTES:
            raise ValueError("too many names")
        names = json.loads(bytes(head))
        if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ValueError("a name that no file of ours has")
    except (ValueError, RecursionError) as error:
        raise BadMessage("A parcel from another machine is damaged", found=str(error)[:120]) from error
    return names
