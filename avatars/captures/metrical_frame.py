"""One `.frame` file of metrical-tracker: a dict of numpy arrays written by `torch.save` (method page 9.1)."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared.errors import BadCapture

MAX_FRAME_BYTES = 4 << 20
"""A real one has about 10 kB."""
SHAPES: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("flame", "exp"): (1, 100),
    ("flame", "shape"): (1, 300),
    ("flame", "eyes"): (1, 12),
    ("flame", "eyelids"): (1, 2),
    ("flame", "jaw"): (1, 6),
    ("opencv", "R"): (1, 3, 3),
    ("opencv", "t"): (1, 3),
    ("opencv", "K"): (1, 3, 3),
}
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
WHO = "metrical-tracker with FLAME 2020 (100 expression and 300 shape numbers)"


@dataclass(frozen=True, eq=False)
class MetricalFrame:
    """What we use of a `.frame`, in FLAME's axes and the tracker's own camera axes.

    expression [100], shape [300], eyes [12] (two 6D rotations, left then right), eyelids [2] (left, right), jaw [6];
    R [3, 3] and t [3] m (camera from world, OpenCV axes), K [3, 3] px; height and width px.
    """

    path: Path
    expression: NDArray[np.float64]
    shape: NDArray[np.float64]
    eyes: NDArray[np.float64]
    eyelids: NDArray[np.float64]
    jaw: NDArray[np.float64]
    R: NDArray[np.float64]
    t: NDArray[np.float64]
    K: NDArray[np.float64]
    height_px: int
    width_px: int


def read_metrical_frame(path: Path) -> MetricalFrame:
    """Read one `.frame`, of either of torch's two file formats.

    Only numpy arrays of numbers, torch tensors, texts and numbers can come out of it: everything else a pickle could
    name or call is refused. Raises BadCapture.
    """
    document = _document(path)
    arrays = {key: _array(path, document, key, shape) for key, shape in SHAPES.items()}
    height, width = _size(path, document)
    flame = {name: arrays["flame", name][0] for name in ("exp", "shape", "eyes", "eyelids", "jaw")}
    return MetricalFrame(
        path,
        *(flame[name] for name in ("exp", "shape", "eyes", "eyelids", "jaw")),
        arrays["opencv", "R"][0],
        arrays["opencv", "t"][0],
        arrays["opencv", "K"][0],
        height,
        width,
    )


def _document(path: Path) -> Mapping[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_FRAME_BYTES:
            raise BadCapture(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FRAME_BYTES}")
        with torch.serialization.safe_globals(_admitted()):
            document = torch.load(path, map_location="cpu", weights_only=True)
    except BadCapture:
        raise
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise BadCapture(
                f"{path.name} asks for {refused[1]}, which no tracked frame needs, and is not opened",
                expected="a dict of numpy arrays written by torch.save",
                do="Use the tracker's own file; this one could run a program",
            ) from error
        raise BadCapture(
            f"{path.name} is damaged or no file of torch.save",
            found=_short(error),
            do="Copy the checkpoint folder again",
        ) from error
    if not isinstance(document, Mapping):
        raise BadCapture(f"{path.name} holds no tracked frame", found=type(document).__name__, expected="a dict")
    return document


def _short(error: BaseException) -> str:
    """The first line of what went wrong, without torch's advice to open the file all the same."""
    if isinstance(error, pickle.UnpicklingError):
        return "a pickle with parts that no tracked frame has"
    return str(error).partition("\n")[0][:100] or type(error).__name__


def _admitted() -> list[Any]:
    """What a pickle may name beside torch's own harmless list: arrays of numbers, empty until filled, and their types.

    The two names of each maker are numpy's before and since version 2.
    """
    makers = [
        (maker, f"{module}.multiarray.{name}")
        for module in ("numpy.core", "numpy._core")
        for maker, name in ((_empty_array, "_reconstruct"), (np.float64(0).__reduce__()[0], "scalar"))
    ]
    return [*makers, np.ndarray, np.dtype, *{type(np.dtype(name)) for name in NUMBERS}]


def _empty_array(kind: Any, shape: Any, typecode: Any) -> NDArray[Any]:
    """numpy's `_reconstruct`, for the one use that an array's own pickle makes of it."""
    if kind is not np.ndarray or tuple(shape) != (0,) or typecode not in (b"b", "b"):
        raise ValueError("an array made in an unusual way")
    return np.ndarray((0,), "b")


def _array(
    path: Path, document: Mapping[str, Any], key: tuple[str, str], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    group, name = key
    part = document.get(group)
    value = part.get(name) if isinstance(part, Mapping) else None
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if value is None:
        raise BadCapture(f"{path.name} lacks {group}.{name}", expected=f"a checkpoint of {WHO}")
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.shape != shape:
        found = list(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise BadCapture(
            f"{group}.{name} of {path.name} has the wrong shape",
            found=str(found),
            expected=f"{list(shape)}, as written by {WHO}",
            do="Track with that version; other trackers need a converter",
        )
    array = value.astype(np.float64)
    if not np.isfinite(array).all():
        raise BadCapture(
            f"{group}.{name} of {path.name} holds values that are not finite",
            expected="finite numbers",
            do="Track that frame again, or delete it with its picture",
        )
    return array


def _size(path: Path, document: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width px, in the order the tracker stores them."""
    value = document.get("img_size")
    try:
        numbers = [int(number) for number in np.asarray(value).reshape(-1)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 2 or not all(0 < number <= 16384 for number in numbers):
        raise BadCapture(
            f"img_size of {path.name} is no image size", found=repr(value)[:80], expected="height and width"
        )
    return numbers[0], numbers[1]
