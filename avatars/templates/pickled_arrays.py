"""What a pickled numpy array, scipy matrix or chumpy object comes down to: plain arrays, made from their checked parts.

Used by `restricted_pickle` only. Nothing here imports or calls what a file names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_DENSE_NUMBERS = 1 << 23
_DTYPE = re.compile(r"[biufcSUO]\d{0,4}")


class Refused(Exception):
    """The pickle asks for something that is not data."""


@dataclass(eq=False)
class Inert:
    """An object of a foreign class that is kept as its state and never made: what `read_pickle` could not unwrap."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Dtype:
    """A numpy type while it is being described."""

    text: str
    order: str = "<"

    def numpy(self) -> np.dtype[Any]:
        """The type itself. Raises Refused for structured and other unusual ones."""
        if not _DTYPE.fullmatch(self.text) or self.order not in "<>|=":
            raise Refused(f"numpy type {self.order}{self.text}"[:60])
        return np.dtype(self.text).newbyteorder(self.order)  # type: ignore[arg-type]


def expect(value: Any, kind: type[Any]) -> Any:
    """`value` if it is of exactly that kind. Raises ValueError."""
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__.strip('_')} was expected where a {type(value).__name__.strip('_')} is")
    return value


def latin1(text: Any) -> bytes:
    """Bytes that may have come as text (Python 2's, read as latin-1)."""
    return text if isinstance(text, bytes) else str(expect(text, str)).encode("latin-1")


def text_of(value: Any) -> str:
    """A text that may have come as bytes (Python 2)."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(expect(value, str))


def array_of(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    """An array from its described parts; one of objects becomes a list. Raises ValueError, Refused."""
    kind, sizes = expect(dtype, Dtype).numpy(), expect(shape, tuple)
    if len(sizes) > 16 or any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError(f"an array has the shape {sizes!r:.60}")
    count = 1
    for size in sizes:
        count *= size
    if kind.hasobject:  # texts and the like: kept as the list they are
        if len(expect(data, list)) != count:
            raise ValueError("an array's shape and content disagree")
        return data[0] if sizes == () else data
    if count == 0:
        return np.zeros(sizes, kind)
    raw = latin1(data)
    if count * kind.itemsize != len(raw):
        raise ValueError(f"an array of shape {sizes!r:.60} has {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(sizes, order=order)  # type: ignore[call-overload]


def unwrapped(value: Inert, spend: Callable[[int], None]) -> Any:
    """The array of a sparse matrix or a chumpy object; others stay. spend: told of bytes to be allocated."""
    state = value.state
    if value.kind.startswith("scipy."):
        return _dense(value, spend)
    if isinstance(state.get("x"), np.ndarray):
        return state["x"]
    source, rows, shape = state.get("a"), state.get("idxs"), state.get("preferred_shape")
    if isinstance(source, np.ndarray) and isinstance(rows, np.ndarray):  # chumpy.reordering.Select
        chosen = source.ravel()[rows.astype(np.int64)]
        return chosen.reshape(shape) if type(shape) is tuple else chosen
    return value


def _dense(value: Inert, spend: Callable[[int], None]) -> Any:
    """A scipy matrix in compressed rows or columns as a dense array, every index checked."""
    state, kind = value.state, value.kind.rpartition(".")[2]
    data, indices, starts = (np.asarray(state[key]) for key in ("data", "indices", "indptr"))
    shape = state["_shape"] if "_shape" in state else state["shape"]
    if kind not in ("csc_matrix", "csr_matrix", "csc_array", "csr_array") or len(shape) != 2:
        raise Refused(f"a sparse matrix of the kind {kind}"[:60])
    height, width = (int(size) for size in shape)
    major, minor = (width, height) if kind.startswith("csc") else (height, width)
    if min(height, width) < 0 or height * width > MAX_DENSE_NUMBERS:
        raise Refused(f"a sparse matrix of {height} x {width}"[:60])
    spend(8 * height * width)
    steps = np.diff(starts.astype(np.int64))
    if data.ndim != 1 or data.dtype.kind not in "fiub" or indices.shape != data.shape or starts.shape != (major + 1,):
        raise ValueError("a sparse matrix has parts of unequal length")
    if starts[0] != 0 or starts[-1] != len(data) or (steps < 0).any():
        raise ValueError("a sparse matrix has its rows out of order")
    if len(indices) and (indices.min() < 0 or indices.max() >= minor):
        raise ValueError("a sparse matrix points outside itself")
    table = np.zeros((major, minor), data.dtype)
    np.add.at(table, (np.repeat(np.arange(major), steps), indices.astype(np.int64)), data)
    return table.T if kind.startswith("csc") else table
