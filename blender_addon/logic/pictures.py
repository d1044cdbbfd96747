"""Whether a picture file is whole: what a killed render leaves looks like a file, but ends too early."""

from __future__ import annotations

import struct
from pathlib import Path

PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG_BEGIN, JPEG_END = b"\xff\xd8", b"\xff\xd9"
EXR_BEGIN = b"\x76\x2f\x31\x01"
BEGINS = {".png": PNG_BEGIN, ".jpg": JPEG_BEGIN, ".jpeg": JPEG_BEGIN, ".exr": EXR_BEGIN, ".webp": b"RIFF"}
SMALLEST = 12  # bytes; no format of pictures has less than its own name and a size
MAX_HEADER = 1 << 20
MAX_CHUNKS = 1 << 20
EXR_ROWS = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256, 10: 32, 11: 256}
"""OpenEXR's compression -> rows in a chunk (its page "File Layout")."""


def is_whole(path: Path) -> bool:
    """Whether a file is there and complete, as far as can be told: PNG, JPEG, OpenEXR and WebP are looked into."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(12)
            file.seek(max(0, size - 12))
            end = file.read()
            if size < SMALLEST:
                return False
            if not begin.startswith(BEGINS.get(path.suffix.lower(), b"")):
                return False
            if begin.startswith(PNG_BEGIN):
                return end == PNG_END
            if begin.startswith(JPEG_BEGIN):
                return end.endswith(JPEG_END)
            if begin.startswith(EXR_BEGIN):
                file.seek(0)
                return _whole_exr(file.read(MAX_HEADER), size)
            if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
                return struct.unpack("<I", begin[4:8])[0] + 8 <= size
    except (OSError, struct.error, IndexError):
        return False
    return True


def _whole_exr(data: bytes, size: int) -> bool:
    """The offsets to all chunks are written last, so in a file that was cut off they are zero or point outside."""
    (flags,) = struct.unpack_from("<I", data, 4)
    several = bool(flags & 0x1000)
    place, chunks = 8, []
    while data[place] or not chunks:
        attributes: dict[bytes, bytes] = {}
        while data[place]:
            name, place = _text(data, place)
            _, place = _text(data, place)
            (length,) = struct.unpack_from("<i", data, place)
            attributes[name] = data[place + 4 : place + 4 + length]
            place += 4 + length
            if length < 0 or place >= len(data):
                return len(data) == MAX_HEADER  # a header longer than what was read says nothing
        place += 1
        chunks.append(_chunks(attributes, tiled=bool(flags & 0x200)))
        if not several:
            break
    else:
        place += 1  # an empty header ends the list of several
    if None in chunks or sum(count or 0 for count in chunks) > MAX_CHUNKS:
        return True
    total = sum(count or 0 for count in chunks)
    if place + 8 * total > len(data):
        return len(data) == MAX_HEADER
    offsets = struct.unpack_from(f"<{total}Q", data, place)
    return total > 0 and all(place + 8 * total <= offset < size for offset in offsets)


def _chunks(attributes: dict[bytes, bytes], *, tiled: bool) -> int | None:
    """How many chunks a part has; None where only a full reader could tell."""
    if b"chunkCount" in attributes:
        return int(struct.unpack("<i", attributes[b"chunkCount"])[0])
    rows = EXR_ROWS.get(attributes.get(b"compression", b"\xff")[0])
    if b"dataWindow" not in attributes:
        return 0
    if tiled or rows is None:
        return None
    _, top, _, bottom = struct.unpack("<4i", attributes[b"dataWindow"])
    return int(-(-(bottom - top + 1) // rows))


def _text(data: bytes, place: int) -> tuple[bytes, int]:
    end = data.find(b"\0", place)
    if end < 0:
        raise struct.error("a name does not end")
    return data[place:end], end + 1
