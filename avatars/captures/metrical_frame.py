"""One `.frame` file of metrical-tracker: a dict of numpy arrays written by `torch.save` (method page 9.1)."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.options import small_file
from avatars.templates.restricted_pickle import read_pickle
from shared.errors import BadCapture, EffigyError

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
STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8", "IntStorage": "<i4"}
LARGEST = 1e6
"""No metre, pixel or coefficient is larger."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
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
    zlib.error,
    NotImplementedError,
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

    `restricted_pickle` runs nothing of it: arrays and tensors of numbers, texts and numbers come out, everything else
    is refused. (torch.load with weights_only=True would not do: numpy crashes on a damaged array's state.) Raises
    BadCapture.
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
    content = small_file(path, MAX_FRAME_BYTES)
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            document = _from_zip(path, content)
        else:
            document = read_pickle(_fourth_pickle(content), path.name, BadCapture)
    except (*_DAMAGE, EffigyError) as error:
        if isinstance(error, BadCapture):
            raise
        raise BadCapture(
            f"{path.name} is damaged or no file of torch.save",
            found=str(error).partition("\n")[0][:100] or type(error).__name__,
            do="Copy the checkpoint folder again",
        ) from error
    if not isinstance(document, Mapping):
        raise BadCapture(f"{path.name} holds no tracked frame", found=type(document).__name__, expected="a dict")
    return document


def _from_zip(path: Path, content: bytes) -> Any:
    """The object of torch's present format: a zip of data.pkl and one file for each tensor's numbers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        name = next((entry for entry in entries if entry.endswith("/data.pkl")), "")
        if not name:
            raise ValueError("no data.pkl in it")
        if sum(entry.file_size for entry in entries.values()) > MAX_FRAME_BYTES:
            raise ValueError("it unpacks to too much")

        def storage(key: Any) -> NDArray[Any]:
            mark, kind, number, _, count = key
            numbers = np.frombuffer(
                archive.read(f"{name.removesuffix('data.pkl')}data/{number}"), STORAGES[str(kind).rpartition(".")[2]]
            )
            if mark != "storage" or len(numbers) != count:
                raise ValueError("a tensor and its numbers disagree")
            return numbers

        builders = {("torch", kind): _never for kind in STORAGES} | {("torch._utils", "_rebuild_tensor_v2"): _tensor}
        return read_pickle(archive.read(name), path.name, BadCapture, builders=builders, persistent=storage)


def _never(*_: Any) -> Any:
    raise ValueError("a storage that is called")


def _tensor(numbers: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    """A contiguous tensor as an array."""
    count = int(np.prod(shape, dtype=np.int64))
    steps = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    if tuple(strides) != steps or not 0 <= offset <= offset + count <= len(numbers):
        raise ValueError("a tensor that is not contiguous")
    return numbers[offset : offset + count].reshape(shape)


def _fourth_pickle(content: bytes) -> bytes:
    """The object in torch's older format: after a magic number, a version and the machine's byte order."""
    stream = io.BytesIO(content)
    for turn in range(4):
        start = stream.tell()
        for opcode, argument, _ in pickletools.genops(stream):
            if turn == 0 and opcode.name.startswith("LONG") and argument != LEGACY_MAGIC:
                raise ValueError("neither of torch's two formats")
    return content[start : stream.tell()]


def _array(
    path: Path, document: Mapping[str, Any], key: tuple[str, str], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    group, name = key
    part = document.get(group)
    value = part.get(name) if isinstance(part, Mapping) else None
    if value is None:
        raise BadCapture(f"{path.name} lacks {group}.{name}", expected=f"a checkpoint of {WHO}")
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.shape != shape:
        found = f"{list(value.shape)} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BadCapture(
            f"{group}.{name} of {path.name} does not fit",
            found=found,
            expected=f"{list(shape)} numbers, as written by {WHO}",
            do="Track with that version; other trackers need a converter",
        )
    array = value.astype(np.float64)
    if not (np.abs(array) < LARGEST).all():
        raise BadCapture(
            f"{group}.{name} of {path.name} holds values that are not finite, or beyond any measure",
            expected=f"numbers below {LARGEST:.0e}",
            do="Track that frame again, or delete it with its picture",
        )
    return array


def _size(path: Path, document: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width px, in the order the tracker stores them."""
    value = document.get("img_size")
    try:
        numbers = [int(number) for number in np.asarray(value).reshape(-1)]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 2 or not all(0 < number <= 16384 for number in numbers):
        raise BadCapture(
            f"img_size of {path.name} is no image size", found=repr(value)[:80], expected="height and width"
        )
    return numbers[0], numbers[1]
