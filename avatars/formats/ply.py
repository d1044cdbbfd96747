"""PLY files of one `vertex` element with scalar properties, binary little-endian: all that Gaussian splats use.

Text and big-endian PLY are refused, as are lists and further elements: no trainer writes splats that way. Every size is
checked against the file's before anything is allocated, so a header that lies costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.files import disk_failure
from shared.errors import BadAvatar, nearest

MAX_HEADER_BYTES = 1 << 20
MAX_PROPERTIES = 8192
MAX_FILE_BYTES = 8 << 30
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4"},
    **{"float": "<f4", "double": "<f8", "float32": "<f4", "float64": "<f8"},
}
"""PLY's names of scalar types, both spellings -> numpy's."""
NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"} | {
    "f4": "float",
    "f8": "double",
}


def read_ply(path: Path) -> NDArray[Any]:
    """The vertices of a PLY file as a structured array [N], one field a property, in the file's order.

    Raises BadAvatar with one sentence that names the file: not there, not PLY, text, other elements, a size that is not
    what the header says.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header = stream.read(min(size, MAX_HEADER_BYTES))
            lines, start = _header_lines(path, header)
            dtype, count = _layout(path, lines)
            if size > MAX_FILE_BYTES:
                raise BadAvatar(
                    f"{path} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES} bytes"
                )
            if count * dtype.itemsize != size - start:
                raise BadAvatar(
                    f"{path} does not hold what its header says",
                    found=f"{size - start} bytes after the header",
                    expected=f"{count} vertices of {dtype.itemsize} bytes",
                    do="Copy or export the file again",
                )
            stream.seek(start)
            table = np.fromfile(stream, dtype, count)
    except OSError as error:
        raise BadAvatar(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if len(table) != count:
        raise BadAvatar(f"{path} changed while it was read", do="Try again")
    return table


def ply_properties(path: Path) -> tuple[str, ...]:
    """The names of a PLY's vertex properties, from its header alone. Raises BadAvatar."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            lines, _ = _header_lines(path, stream.read(MAX_HEADER_BYTES))
    except OSError as error:
        raise BadAvatar(f"{path} cannot be read", found=error.strerror or str(error)) from error
    return _layout(path, lines)[0].names or ()


def write_ply(path: Path, table: NDArray[Any], comments: Sequence[str] = ()) -> None:
    """Write a structured array [N] of scalar fields. The caller makes it atomic. Raises EnvironmentFailed."""
    fields = table.dtype.fields or {}
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    lines.append(f"element vertex {len(table)}")
    lines += [f"property {NAMES[fields[name][0].str[1:]]} {name}" for name in table.dtype.names or ()]
    lines.append("end_header")
    packed = np.dtype([(name, fields[name][0].newbyteorder("<")) for name in table.dtype.names or ()])
    try:
        with Path(path).open("wb") as stream:
            stream.write(("\n".join(lines) + "\n").encode("ascii"))
            stream.write(np.ascontiguousarray(table.astype(packed, copy=False)).tobytes())
    except OSError as error:
        raise disk_failure(Path(path), error) from error


def columns(table: NDArray[Any], names: Sequence[str], path: Path) -> NDArray[np.float32]:
    """Named float properties side by side, [N, len(names)] float32, bit for bit.

    Raises BadAvatar naming the file and the first property that is missing, of another type, or not finite.
    """
    fields = table.dtype.fields or {}
    out = np.empty((len(table), len(names)), np.float32)
    for index, name in enumerate(names):
        if name not in fields:
            raise BadAvatar(f"{path} lacks the property {name!r}{nearest(name, fields)}")
        if fields[name][0].kind != "f":
            raise BadAvatar(f"{path} holds {name!r} in another type", found=str(fields[name][0]), expected="float")
        out[:, index] = table[name]
    if not np.isfinite(out).all():
        worst = int(np.isfinite(out).all(0).argmin())
        raise BadAvatar(f"{path} holds values of {names[worst]!r} that are not finite")
    return out


def float_table(parts: Sequence[tuple[Sequence[str], NDArray[Any]]]) -> NDArray[Any]:
    """A structured array [N] of float32 fields from (names, values [N, len(names)]) parts in order; N of the first."""
    table = np.empty(len(parts[0][1]), [(name, "<f4") for names, _ in parts for name in names])
    for names, values in parts:
        for index, name in enumerate(names):
            table[name] = values[:, index]
    return table


def numbered(prefix: str, count: int) -> list[str]:
    """prefix_0, prefix_1, … prefix_{count-1}."""
    return [f"{prefix}_{number}" for number in range(count)]


def _header_lines(path: Path, header: bytes) -> tuple[list[str], int]:
    """The header's lines, and where the vertices start."""
    if not header.startswith((b"ply\n", b"ply\r\n")):
        raise BadAvatar(f"{path} is no PLY file", expected="'ply' in the first line")
    mark = header.find(b"\nend_header")
    end = header.find(b"\n", mark + 1)
    if mark < 0 or end < 0 or header[mark:end].strip() != b"end_header":
        raise BadAvatar(f"{path} is cut off in its header, or is no PLY file", expected="a line 'end_header'")
    try:
        text = header[:mark].decode("ascii")
    except UnicodeDecodeError as error:
        raise BadAvatar(f"{path} has a header that is no plain text") from error
    return [line.strip() for line in text.split("\n")[1:]], end + 1


def _layout(path: Path, lines: Sequence[str]) -> tuple[np.dtype[Any], int]:
    """The type of one vertex, and how many."""
    count, fields, form = -1, {}, ""
    for line in lines:
        words = line.split()
        match words:
            case [] | ["comment", *_] | ["obj_info", *_]:
                continue
            case ["format", kind, _]:
                form = kind
            case ["element", "vertex", number] if count < 0 and number.isascii() and number.isdigit():
                count = int(number)
            case ["element", *_]:
                raise BadAvatar(f"{path} holds more than one list of points", found=line[:60], expected="vertices only")
            case ["property", kind, name] if count >= 0 and kind in TYPES and name not in fields:
                fields[name] = TYPES[kind]
            case _:
                raise BadAvatar(f"{path} has a header line Effigy does not read", found=repr(line[:60]))
    if form != "binary_little_endian":
        raise BadAvatar(
            f"{path} is not a binary little-endian PLY",
            found=form or "no format line",
            expected="binary_little_endian",
            do="Export it as binary",
        )
    if count < 0 or not fields or len(fields) > MAX_PROPERTIES:
        raise BadAvatar(f"{path} describes no vertices", found=f"{len(fields)} properties", expected="element vertex")
    return np.dtype(list(fields.items())), count
