"""Read an .npz that came from somewhere else: no pickles, and every size checked before anything is allocated."""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .errors import EffigyError

MAX_UNPACKED_BYTES = 512 << 20
MAX_ARRAYS = 4096
MAX_CODE_POINT = 0x10FFFF
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SyntaxError),
    *(ValueError, TypeError, LookupError, ArithmeticError, EOFError, OSError, MemoryError),
    *(NotImplementedError, RuntimeError),  # RecursionError is one
)
"""What zipfile and numpy raise for a file that is none."""


def read_npz(
    content: bytes,
    name: str,
    error_class: type[EffigyError],
    *,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    only: Collection[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """All arrays in the bytes of an .npz. Raises `error_class` with one sentence that calls the file `name`.

    only: leave all other arrays unread; files of other programs may hold Python objects beside their numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > max_unpacked_bytes:
                raise error_class(f"{name} unpacks to too much", expected=f"at most {max_unpacked_bytes} bytes")
            if len(entries) > MAX_ARRAYS:
                raise error_class(f"{name} holds too many arrays", found=str(len(entries)), expected=f"{MAX_ARRAYS}")
            arrays = {}
            for entry in entries:
                if only is not None and entry.filename.removesuffix(".npy") not in only:
                    continue
                with archive.open(entry) as stream:
                    arrays[entry.filename.removesuffix(".npy")] = _read_array(stream, entry.file_size)
            return arrays
    except _DAMAGE as error:
        raise _damaged(name, error, error_class) from error


def read_npy(content: bytes, name: str, error_class: type[EffigyError]) -> NDArray[Any]:
    """The array in the bytes of an .npy. Raises `error_class` with one sentence that calls the file `name`."""
    try:
        return _read_array(io.BytesIO(content), len(content))
    except _DAMAGE as error:
        raise _damaged(name, error, error_class) from error


def _damaged(name: str, error: Exception, error_class: type[EffigyError]) -> EffigyError:
    return error_class(f"{name} is damaged", found=str(error)[:160], do="Replace the file by an intact copy")


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    payload = io.BytesIO(stream.read(size))
    version = np.lib.format.read_magic(payload)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(payload)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"an array of {dtype} is not read")
    if math.prod(shape) * dtype.itemsize != size - payload.tell():  # Python's integers do not wrap around
        raise ValueError("an array's header and length disagree")
    if math.prod(shape) == 0 and math.prod(max(1, length) for length in shape) > MAX_UNPACKED_BYTES:
        raise ValueError(f"an array of shape {shape} holds nothing and claims to be long")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    payload.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(payload, allow_pickle=False)
    if dtype.kind == "U" and array.size and dtype.itemsize:  # Python ends in a SystemError for such a character
        codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype("u4").newbyteorder(dtype.byteorder))
        if codes.max() > MAX_CODE_POINT:
            raise ValueError("a text holds what is no character")
    return array
