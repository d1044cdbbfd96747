"""Messages to bytes and back: one JSON header part, then one raw buffer part per array.

The header holds protocol version, message name, request id, server epoch, the message's plain fields and, for each
array, its dtype and shape. Everything is checked against the dataclass's type hints and against the part sizes before
an array is made; arrays are read-only views of the received buffers. Whatever does not fit raises BadMessage and
nothing of the message is used. Numbers for the limits: docs of `Limits`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadMessage, EffigyError, VersionMismatch, nearest
from .messages import MESSAGES, PROTOCOL_VERSION

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "uint32", "int32", "int64", "float16", "float32", "float64")
}
"""Array types that may be sent, little-endian on the wire."""
MAX_DIMENSIONS = 5
MAX_INTEGER = 2**63 - 1
MAX_LENGTH = 2**31 - 1
"""Of an empty array along its other axes: it costs no bytes, and what is made to fit it would."""
HEADER_KEYS = {"effigy", "name", "id", "epoch", "body", "arrays"}
Part = bytes | memoryview
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Limits:
    """What a receiver accepts. header_bytes: JSON part; parts: header and arrays; total_bytes: the whole message."""

    header_bytes: int
    parts: int
    total_bytes: int


FROM_CLIENT = Limits(header_bytes=64 * 1024, parts=128, total_bytes=64 * 1024**2)
"""What the server accepts: 128 parts are 25 avatars in one picture, 64 MiB a 4096 x 2048 environment and to spare."""
FROM_SERVER = Limits(header_bytes=1024**2, parts=128, total_bytes=1024**3)
"""What a client accepts: 1 MiB of text is a library of some thousand avatars, 1 GiB an 8K picture with its passes."""


@dataclass(frozen=True, eq=False)
class Header:
    """An opened but not yet read message. `body` is unchecked JSON; `arrays` are (dtype, shape) as declared."""

    name: str
    request_id: int
    epoch: str
    body: Any
    arrays: tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class Envelope:
    """A received message with the request it belongs to."""

    message: Any
    request_id: int
    epoch: str


def encode(message: Any, *, request_id: int = 0, epoch: str = "") -> list[Part]:
    """The parts of a message. Arrays are not copied where they are contiguous: leave them alone until they are sent.

    Raises BadMessage where a field does not fit its type hint, a number is not finite, or the message is not listed.
    """
    kind = type(message)
    if MESSAGES.get(kind.__name__) is not kind:
        raise BadMessage("This object is not a message of the protocol", found=kind.__name__)
    arrays: list[NDArray[Any]] = []
    body = _pack(message, kind, arrays, kind.__name__)
    described = [[_dtype_name(array.dtype), list(array.shape)] for array in arrays]
    text = _header_text(kind.__name__, request_id, epoch, body, described)
    # A zero-sized array has no buffer to view; an empty part says the same.
    return [text, *(array.reshape(-1).view(np.uint8).data if array.size else b"" for array in arrays)]


def open_header(parts: Sequence[Part], limits: Limits) -> Header:
    """Check sizes and header of a received message, not yet its fields. Raises BadMessage, VersionMismatch."""
    if not 1 <= len(parts) <= limits.parts:
        raise BadMessage("A message has too many parts or none", found=str(len(parts)), expected=f"1 to {limits.parts}")
    sizes = [_size(part) for part in parts]
    if sizes[0] > limits.header_bytes:
        raise BadMessage(
            "A message's header is too long", found=f"{sizes[0]} bytes", expected=f"<= {limits.header_bytes}"
        )
    if sum(sizes) > limits.total_bytes:
        raise BadMessage("A message is too long", found=f"{sum(sizes)} bytes", expected=f"<= {limits.total_bytes}")
    header = _parse(bytes(parts[0]))
    if not isinstance(header, dict):
        raise BadMessage("A message's header is not an object", found=type(header).__name__)
    version = header.get("effigy")
    if type(version) is not int:
        raise BadMessage("This is not an Effigy message", do="Check that both ends are Effigy's")
    if version != PROTOCOL_VERSION:
        raise VersionMismatch(
            "The add-on and the backend speak different versions of the protocol",
            found=f"version {version}",
            expected=f"version {PROTOCOL_VERSION}",
            do="Install the same release of both",
        )
    if set(header) != HEADER_KEYS:
        raise BadMessage(
            "A message's header has the wrong fields", found=_listed(header), expected=_listed(HEADER_KEYS)
        )
    name, request_id, epoch = header["name"], header["id"], header["epoch"]
    if type(name) is not str or name not in MESSAGES:
        known = nearest(name[:40], MESSAGES) if isinstance(name, str) else ""
        raise BadMessage(f"A message has an unknown name{known}", found=repr(name)[:80])
    if type(request_id) is not int or not 0 <= request_id <= MAX_INTEGER:
        raise BadMessage("A message's request id is not a natural number", found=repr(request_id)[:80])
    if type(epoch) is not str or len(epoch) > 64:
        raise BadMessage("A message's epoch is not a short text", found=repr(epoch)[:80])
    return Header(name, request_id, epoch, header["body"], _declared(header["arrays"], sizes[1:]))


def read_message(header: Header, parts: Sequence[Part]) -> Any:
    """The message of an opened header: typed, with read-only array views of the parts. Raises BadMessage."""
    arrays = _Arrays(header, parts[1:])
    message = _unpack(header.body, MESSAGES[header.name], arrays, header.name)
    if arrays.used != len(header.arrays):
        raise BadMessage(f"{header.name} holds arrays that no field names", found=str(len(header.arrays) - arrays.used))
    return message


def decode(parts: Sequence[Part], *, limits: Limits = FROM_CLIENT) -> Envelope:
    """Read a received message in one go. Raises BadMessage, VersionMismatch."""
    header = open_header(parts, limits)
    return Envelope(read_message(header, parts), header.request_id, header.epoch)


def readdress(header: Header, parts: Sequence[Part], *, request_id: int, epoch: str) -> list[Part]:
    """The same message under another request id and epoch, for whoever passes it on unread."""
    arrays = [[_dtype_name(dtype), list(shape)] for dtype, shape in header.arrays]
    return [_header_text(header.name, request_id, epoch, header.body, arrays), *parts[1:]]


def size_of(parts: Sequence[Part]) -> int:
    """Bytes of a whole message."""
    return sum(_size(part) for part in parts)


# --- header ---------------------------------------------------------------------------------------------------------
def _header_text(name: str, request_id: int, epoch: str, body: Any, arrays: list[list[Any]]) -> bytes:
    header = {
        "effigy": PROTOCOL_VERSION,
        "name": name,
        "id": request_id,
        "epoch": epoch,
        "body": body,
        "arrays": arrays,
    }
    try:
        return json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (ValueError, UnicodeEncodeError) as error:
        raise BadMessage(f"{name} cannot be written as text", found=str(error)) from error


def _parse(text: bytes) -> Any:
    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number that can be sent")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a field is named twice")
        return found

    try:
        return json.loads(text.decode("utf-8"), parse_constant=constant, object_pairs_hook=unique)
    except RecursionError as error:
        raise BadMessage("A message's header is nested too deep") from error
    except ValueError as error:
        raise BadMessage("A message's header is not JSON", found=str(error)[:120]) from error


def _declared(listed: Any, sizes: Sequence[int]) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]:
    """Array declarations, each proved to describe exactly the bytes that came. Python's integers cannot overflow."""
    if not isinstance(listed, list) or len(listed) != len(sizes):
        raise BadMessage("A message's arrays do not match its parts", expected=f"{len(sizes)} arrays")
    arrays = []
    for index, (entry, size) in enumerate(zip(listed, sizes)):
        if not (
            isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], list)
        ):
            raise BadMessage(f"Array {index} is not described by dtype and shape")
        name, shape = entry
        if name not in DTYPES:
            raise BadMessage(
                f"Array {index} has a dtype that may not be sent", found=name[:40], expected=_listed(DTYPES)
            )
        if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n <= MAX_INTEGER for n in shape):
            raise BadMessage(f"Array {index} has an impossible shape", found=repr(shape)[:80])
        if math.prod(shape) * DTYPES[name].itemsize != size:
            raise BadMessage(
                f"Array {index} is not as long as it says", found=f"{size} bytes", expected=f"{name} {shape}"[:80]
            )
        if size == 0 and math.prod(max(1, n) for n in shape) > MAX_LENGTH:
            raise BadMessage(f"Array {index} is empty and claims to be long", found=repr(shape)[:80])
        arrays.append((DTYPES[name], tuple(shape)))
    return tuple(arrays)


class _Arrays:
    """Hands out each declared array once, in order."""

    def __init__(self, header: Header, parts: Sequence[Part]) -> None:
        self.declared, self.parts, self.used = header.arrays, parts, 0

    def take(self, index: Any, scalar: Any, where: str) -> NDArray[Any]:
        if type(index) is not int or index != self.used or index >= len(self.parts):
            raise BadMessage(f"{where} does not name the next array", found=repr(index)[:40], expected=str(self.used))
        self.used += 1
        dtype, shape = self.declared[index]
        if scalar is not Any and dtype.type is not scalar:
            raise BadMessage(f"{where} has the wrong dtype", found=dtype.name, expected=np.dtype(scalar).name)
        if math.prod(shape) == 0:
            array = np.zeros(shape, dtype)
        else:
            array = np.frombuffer(self.parts[index], dtype).reshape(shape)
            if not array.flags.aligned:  # a part inside a larger network read can start anywhere
                array = array.copy()
        array.setflags(write=False)
        return array


# --- fields ---------------------------------------------------------------------------------------------------------
@cache
def _fields(kind: type[Any]) -> dict[str, Any]:
    """Field name -> type hint, in order."""
    hints = typing.get_type_hints(kind)
    return {field.name: _expanded(hints[field.name]) for field in dataclasses.fields(kind)}


def _expanded(hint: Any) -> Any:
    """The hint with `type` aliases spelled out: from numpy 2.5 on NDArray is one, and hides that it is an array."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    alias = getattr(origin, "__value__", None)
    if alias is not None:
        return alias[arguments]
    if origin in (tuple, dict):
        return origin[tuple(_expanded(argument) for argument in arguments)]
    return hint


@cache
def _scalar_type(hint: Any) -> Any:
    """The element type an NDArray hint asks for, or Any."""
    return typing.get_args(typing.get_args(hint)[1])[0]


@cache
def _optional(hint: Any) -> Any:
    """T of `T | None`, or None where the hint is not of that form."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [option for option in typing.get_args(hint) if option is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return None


@cache
def _dtype_name(dtype: np.dtype[Any]) -> str:
    return str(dtype.name)  # numpy makes it anew each time, which takes longer than all else here


@cache
def _origin(hint: Any) -> Any:
    return typing.get_origin(hint)


@cache
def _is_message(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _pack(value: Any, hint: Any, arrays: list[NDArray[Any]], where: str) -> Any:
    if _is_message(hint):
        if value.__class__ is not hint:
            raise _wrong(where, value, hint)
        fields = _fields(hint)
        return {name: _pack(getattr(value, name), kind, arrays, f"{where}.{name}") for name, kind in fields.items()}
    if (inner := _optional(hint)) is not None:
        return None if value is None else _pack(value, inner, arrays, where)
    origin = _origin(hint)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise _wrong(where, value, hint)
        element = typing.get_args(hint)[0]
        return [_pack(item, element, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(where, value, hint)
        element = typing.get_args(hint)[1]
        return {_text(key, where): _pack(item, element, arrays, f"{where}[{key}]") for key, item in value.items()}
    if origin is np.ndarray:
        scalar = _scalar_type(hint)
        if not isinstance(value, np.ndarray) or _dtype_name(value.dtype) not in DTYPES or value.ndim > MAX_DIMENSIONS:
            raise _wrong(where, value, hint)
        if scalar is not Any and value.dtype.type is not scalar:
            raise _wrong(where, value, hint)
        arrays.append(np.asarray(value, DTYPES[_dtype_name(value.dtype)], order="C"))
        return len(arrays) - 1
    if hint is float and isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool):
        return _finite(float(value), where)
    if hint is int and isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return _bounded(int(value), where)
    if hint is str and isinstance(value, str):
        return _text(value, where)
    if hint is bool and isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise _wrong(where, value, hint)


def _unpack(data: Any, hint: Any, arrays: _Arrays, where: str) -> Any:
    if _is_message(hint):
        fields = _fields(hint)
        if not isinstance(data, dict) or set(data) != set(fields):
            found = _listed(data) if isinstance(data, dict) else type(data).__name__
            raise BadMessage(f"{where} has the wrong fields", found=found, expected=_listed(fields))
        values = {name: _unpack(data[name], kind, arrays, f"{where}.{name}") for name, kind in fields.items()}
        try:
            return hint(**values)
        except EffigyError as error:  # the value types check their own shapes and indices
            raise BadMessage(
                f"{where} is not valid: {error.what}", found=error.found, expected=error.expected
            ) from error
    if (inner := _optional(hint)) is not None:
        return None if data is None else _unpack(data, inner, arrays, where)
    origin = _origin(hint)
    if origin is tuple and isinstance(data, list):
        element = typing.get_args(hint)[0]
        return tuple(_unpack(item, element, arrays, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is dict and isinstance(data, dict):
        element = typing.get_args(hint)[1]
        return {_text(key, where): _unpack(item, element, arrays, f"{where}[{key[:40]}]") for key, item in data.items()}
    if origin is np.ndarray:
        return arrays.take(data, _scalar_type(hint), where)
    if hint is float and type(data) in (int, float):
        return _finite(float(_bounded(data, where) if type(data) is int else data), where)
    if hint is int and type(data) is int:
        return _bounded(data, where)
    if hint is str and type(data) is str:
        return _text(data, where)
    if hint is bool and type(data) is bool:
        return data
    raise _wrong(where, data, hint)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise BadMessage(f"{where} is not a finite number", found=str(value))
    return value


def _bounded(value: int, where: str) -> int:
    if abs(value) > MAX_INTEGER:
        raise BadMessage(f"{where} is too large a number", expected="64 bits")
    return value


def _text(value: str, where: str) -> str:
    """Texts end up in paths, logs and terminals, so NUL and unpaired surrogates stop here."""
    if _UNWRITABLE.search(value):
        raise BadMessage(f"{where} holds characters that cannot be written")
    return value


def _wrong(where: str, value: Any, hint: Any) -> BadMessage:
    found = f"{value.dtype.name} array" if isinstance(value, np.ndarray) else type(value).__name__
    return BadMessage(f"{where} has the wrong type", found=found, expected=str(getattr(hint, "__name__", hint)))


def _size(part: Part) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def _listed(names: Any) -> str:
    return ", ".join(sorted(str(name)[:40] for name in list(names)[:24]))
