"""Damage done to valid files, from a seed: bytes flipped, cut, spliced, lengths exchanged; and inside containers.

A byte changed within a zip is caught by its checksum before any parser of ours sees it. So containers are opened, one
entry is changed, and they are packed again, with checksums that are right.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from random import Random
from types import MappingProxyType
from typing import Any

from backend.fuzzing.container_mutations import hdf5, object_npy, pickled

LENGTHS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1)
"""What length fields are overwritten with."""
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 300, [], {}, [[[]]]),
    *("../../etc/passwd", "/dev/zero", "C:\\Windows\\x", "CON", "a\0b", "\ud800", "1e999", [0] * 50),
)
"""What JSON values are exchanged for."""
SHAPES = (
    "(100000000000000,)",
    "(-1,)",
    "(0, 9000000000000000000)",
    "()",
    "(4294967296, 4294967296)",
    "(1, 1, 1, 1, 1)",
)
KINDS = ("|O", "<f2", "<f4", "<f8", "|u1", "|b1", "<c16", "<U4", "|V8", "<M8[s]", "<i8", ">f4")
NUMBERS = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff" * 4, b"\xff\xff\x7f\x7f", b"\0\0\0\x80")
"""NaN, the infinities and the largest numbers of float32 and int32."""


def mutated(content: bytes, random: Random, kind: str = "bytes") -> bytes:
    """A damaged copy. kind: a key of `INSIDE` for files whose inner structure is damaged half of the time."""
    inside = INSIDE.get(kind)
    if inside is not None and random.random() < 0.6:
        return inside(content, random)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        content = random.choice(PLAIN)(content, random)
    return content


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return b"\0"
    at = _place(content, random)
    return content[:at] + bytes((content[at] ^ (1 << random.randrange(8)),)) + content[at + 1 :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _splice(content: bytes, random: Random) -> bytes:
    if not content:
        return random.randbytes(16)
    start = random.randrange(len(content))
    part = content[start : start + random.choice((1, 4, 16, 64, 1024))]
    at = random.randrange(len(content))
    over = random.choice((0, len(part)))
    return content[:at] + part + content[at + over :]


def _length(content: bytes, random: Random) -> bytes:
    if len(content) < 8:
        return content + b"\xff" * 8
    form = random.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    at = min(_place(content, random), len(content) - size)
    return content[:at] + struct.pack(form, random.choice(LENGTHS) & (256**size - 1)) + content[at + size :]


def _noise(content: bytes, random: Random) -> bytes:
    at = _place(content, random) if content else 0
    new = random.randbytes(random.choice((1, 2, 8, 64)))
    return content[:at] + new + content[at + len(new) :]


def _number(content: bytes, random: Random) -> bytes:
    at = _place(content, random) // 4 * 4 if content else 0
    return content[:at] + random.choice(NUMBERS) + content[at + 4 :]


def _remove(content: bytes, random: Random) -> bytes:
    at = _place(content, random) if content else 0
    return content[:at] + content[at + random.choice((1, 2, 4, 100)) :]


def _digits(content: bytes, random: Random) -> bytes:
    """A number in a text header becomes another."""
    places = [at for at in range(min(len(content), 4096)) if chr(content[at]).isdigit()]
    if not places:
        return _flip(content, random)
    at = random.choice(places)
    end = at
    while end < len(content) and chr(content[end]).isdigit():
        end += 1
    new = random.choice(("0", "-1", "99999999999999999999", "1e9", "nan", "", "2147483648", "3"))
    return content[:at] + new.encode() + content[end:]


def _place(content: bytes, random: Random) -> int:
    """Somewhere; half of the time in the first 512 bytes, where headers are."""
    return random.randrange(min(len(content), 512) if random.random() < 0.5 else len(content))


PLAIN: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _truncate, _splice, _length, _noise, _number, _remove, _digits),
)


def _json(content: bytes, random: Random) -> bytes:
    try:
        document = json.loads(content)
    except ValueError:
        return _flip(content, random)
    if random.random() < 0.05:
        return b"[" * 100_000 + content
    for _ in range(random.choice((1, 1, 2))):
        _exchange(document, random)
    return json.dumps(document).encode()


def _exchange(document: Any, random: Random) -> None:
    """Walk down to a random value and exchange, remove or double it."""
    at = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and random.random() < 0.75:
            at = at[key]
            continue
        match random.choice(("value", "value", "remove", "more")):
            case "value":
                at[key] = deepcopy(random.choice(VALUES))  # changed in turn, perhaps
            case "remove":
                del at[key]
            case "more" if isinstance(at, list):
                at.append(deepcopy(at[key]))
            case _:
                at[str(key) + "x"] = at.pop(key)
        return


def _npy(content: bytes, random: Random) -> bytes:
    """Another shape or type in the header, or other numbers; or something else within a pickled object."""
    if b"|O" in content[:128]:
        return object_npy(content, random)
    end = content.find(b"\n")
    if end < 0 or not content.startswith(b"\x93NUMPY"):
        return _flip(content, random)
    header, data = content[10:end].decode("latin1"), content[end + 1 :]
    match random.choice(("shape", "kind", "numbers", "numbers", "short", "syntax")):
        case "shape":
            start = header.find("(")
            header = header[:start] + random.choice(SHAPES) + header[header.find(")") + 1 :]
        case "kind":
            start = header.find("'descr': '") + len("'descr': '")
            header = header[:start] + random.choice(KINDS) + header[header.find("'", start) :]
        case "numbers":
            for _ in range(random.choice((1, 5))):
                data = random.choice((_number, _noise, _flip))(data, random)
        case "short":  # fewer rows, header and data in agreement
            start = header.find("(") + 1
            stop = min(place for place in (header.find(",", start), header.find(")", start)) if place >= 0)
            if header[start:stop].strip().isdigit() and int(header[start:stop]):
                rows = int(header[start:stop])
                kept = random.randrange(rows + 1)
                header = header[:start] + str(kept) + header[stop:]
                data = data[: len(data) // rows * kept]
        case _:
            header = header[: random.randrange(len(header) + 1)] + random.choice(("(" * 300, "{", "'", "__import__"))
    text = header.rstrip().encode("latin1") + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) & 0xFFFF) + text + data


def _zip(content: bytes, random: Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return _flip(content, random)
    name = random.choice(sorted(entries))
    match random.choice(("entry", "entry", "entry", "entry", "remove", "name", "exchange")):
        case "entry":
            change = _npy if name.endswith(".npy") and random.random() < 0.85 else random.choice(PLAIN)
            entries[name] = change(entries[name], random)
        case "remove":
            del entries[name]
        case "name":
            entries[random.choice(("../x.npy", "/x.npy", "x" * 300 + ".npy"))] = entries.pop(name)
        case _:
            entries[name] = entries[random.choice(sorted(entries))]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for entry, data in entries.items():
            archive.writestr(zipfile.ZipInfo(entry), data)
    return packed.getvalue()


def _gzip(content: bytes, random: Random) -> bytes:
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return _flip(content, random)
    return gzip.compress(random.choice(PLAIN)(inner, random), 1, mtime=0)


def _png(content: bytes, random: Random) -> bytes:
    """One chunk changed, its checksum right again; sizes among them."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _flip(content, random)
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    which = random.randrange(len(chunks))
    mark, data = chunks[which]
    chunks[which] = mark, random.choice(PLAIN)(data, random)
    body = (
        struct.pack(">I", len(data)) + mark + data + struct.pack(">I", zlib.crc32(mark + data)) for mark, data in chunks
    )
    return content[:8] + b"".join(body)


def _safetensors(content: bytes, random: Random) -> bytes:
    """Its JSON header changed, with a length that fits again; or its numbers."""
    if len(content) < 8:
        return _flip(content, random)
    (size,) = struct.unpack_from("<Q", content)
    header, data = content[8 : 8 + size], content[8 + size :]
    if random.random() < 0.4:
        return content[: 8 + size] + random.choice((_number, _flip, _noise))(data, random)[: len(data)]
    text = _json(header, random)
    return struct.pack("<Q", len(text)) + text + data


INSIDE: Mapping[str, Callable[[bytes, Random], bytes]] = MappingProxyType(
    {"json": _json, "zip": _zip, "npy": _npy, "gzip": _gzip, "png": _png, "safetensors": _safetensors}
    | {"pickle": pickled, "hdf5": hdf5}
)
"""What is known of a file's inner structure -> how to damage it and close it again."""
BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {".json": "json", ".npz": "zip", ".zip": "zip", ".frame": "zip", ".npy": "npy", ".spz": "gzip", ".png": "png"}
    | {".safetensors": "safetensors", ".pkl": "pickle", ".hdf5": "hdf5"}
)
