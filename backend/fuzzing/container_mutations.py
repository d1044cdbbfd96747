"""Damage inside of pickles and HDF5 files, which are packed again: what a stranger's program could have written."""

from __future__ import annotations

import io
import pickle
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**70, 1e308, float("nan"), "", "x" * 300, b"\xff", [], {}, (), [[1], [2, 3]], {"a": {}}),
    *(np.zeros((0, 3)), np.zeros(()), np.array("text"), np.array([1 + 2j]), np.array([b"x"]), np.zeros(3, "M8[s]")),
    *(np.full((3, 3), np.nan), np.zeros((1, 1, 1, 1, 1, 1)), np.array([None, 1], dtype=object), np.float16(2)),
)
"""What values are exchanged for."""
KINDS = ("f2", "f4", "f8", ">f4", "i1", "i8", "u4", "b1", "c16", "U3", "S3")


def other_array(array: NDArray[Any], random: Random) -> Any:
    """The array in another shape or type, with numbers that are none, or shorter."""
    match random.choice(("shape", "type", "numbers", "numbers", "short", "value")):
        case "shape":
            return random.choice((array.T, array[None], array.reshape(-1), array[..., :1], array[:0]))
        case "type" if array.dtype.kind in "fiub":
            return array.astype(random.choice(KINDS))
        case "numbers" if array.size and array.dtype.kind in "fiu":
            bad = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
            flat = bad.reshape(-1)
            chosen = (0.0, 1e300, -1e300, np.nan, np.inf) if array.dtype.kind == "f" else (0, -1, 2**31, -(2**62))
            for _ in range(random.choice((1, 5))):
                flat[random.randrange(len(flat))] = random.choice(chosen)
            return bad if random.random() < 0.5 else bad * 0
        case "short" if array.ndim:
            return array[: random.randrange(len(array) + 1)]
        case _:
            return random.choice(VALUES)


def pickled(content: bytes, random: Random) -> bytes:
    """A pickle of ours (a sample, never a stranger's) with something in it exchanged, in any protocol."""
    value = pickle.loads(content)  # noqa: S301 - made a moment ago by the samples
    for _ in range(random.choice((1, 1, 2))):
        value = _exchanged(value, random)
    if random.random() < 0.05:
        for _ in range(300):
            value = [value]
    return pickle.dumps(value, random.choice((0, 2, 4, 5)))


def _exchanged(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value:
        name = random.choice(sorted(value, key=str))
        match random.choice(("in", "in", "in", "remove", "rename")):
            case "in":
                return {**value, name: _exchanged(value[name], random)}
            case "remove":
                return {key: item for key, item in value.items() if key != name}
            case _:
                return {(7 if key == name else key): item for key, item in value.items()}
    if isinstance(value, list | tuple) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        return [*value[:at], _exchanged(value[at], random), *value[at + 1 :]]
    if isinstance(value, np.ndarray):
        return other_array(value, random)
    return random.choice(VALUES)


def object_npy(content: bytes, random: Random) -> bytes:
    """An .npy of one Python object, exchanged."""
    value = np.load(io.BytesIO(content), allow_pickle=True).item()  # made a moment ago by the samples
    packed = io.BytesIO()
    np.save(packed, np.array(_exchanged(value, random), dtype=object), allow_pickle=True)
    return packed.getvalue()


def hdf5(content: bytes, random: Random) -> bytes:
    """A dataset removed, exchanged, linked from elsewhere, of a giant shape, or of a giant chunk."""
    import h5py

    packed = io.BytesIO(content)
    with h5py.File(packed, "r+") as file:
        name = random.choice(sorted(file))
        before = np.asarray(file[name][()])
        del file[name]
        match random.choice(("remove", "exchange", "exchange", "external", "soft", "giant", "chunk", "group", "raw")):
            case "exchange":
                value = other_array(before, random)
                if isinstance(value, np.ndarray) and value.dtype.kind in "fiubS":
                    file[name] = value
                else:
                    file[name] = str(value)[:100]
            case "external":
                file[name] = h5py.ExternalLink("/etc/passwd", "/x")
            case "soft":
                file[name] = h5py.SoftLink(f"/{name}")
            case "giant":
                shape = (2**40, *before.shape[1:]) if random.random() < 0.5 else tuple(2**20 for _ in before.shape)
                file.create_dataset(name, shape, before.dtype, chunks=(1,) * before.ndim)
            case "chunk":
                chunk = (2**18, *before.shape[1:]) if before.ndim > 1 else (2**20,)
                file.create_dataset(name, before.shape, before.dtype, chunks=chunk, maxshape=(None,) * before.ndim)
            case "group":
                file.create_group(name)
            case "raw":
                file.create_dataset(name, before.shape, before.dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    return packed.getvalue()
