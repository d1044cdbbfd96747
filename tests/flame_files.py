"""Writes FLAME's files as their owners get them, with true shapes and encoding, holding the head of `flame_head`.

The model is a protocol-2 pickle as Python 2 wrote it: byte strings, `numpy.core.multiarray`, a scipy csc matrix, and
(2020) arrays wrapped in chumpy objects. Nothing of it is the licensed data.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.flame_head import FlameHead, flame_head

PARENTS = (-1, 0, 1, 1, 1)
SHAPES, EXPRESSIONS = 300, 100
MAN = {"2020": 1.0, "2023": 0.6}
"""Each version holds another head."""
Z_UP_TO_FLAME = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y)


@dataclass(frozen=True)
class FlameFiles:
    """Where everything lies: the model's pickle, flame_uv.npz, eyelids (left, right), head_template_mesh.obj."""

    version: str
    model: Path
    uv: Path
    eyelids: tuple[Path, Path]
    mesh: Path


class Wrapped:
    """An array that is written inside a chumpy object."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array


class Sparse(dict[str, Any]):
    """The fields of a csc matrix."""


class Named:
    """A global that is written by name, whether or not it can be imported here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("only written, never called")


class Python2Pickler(pickle._Pickler):  # the pure-Python pickler: its parts can be overridden
    """Writes what Python 2's cPickle wrote with protocol 2."""

    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)

    def save_bytes(self, data: bytes) -> None:
        head = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + len(data).to_bytes(4, "little")
        self.write(head + data)
        self.memoize(data)

    def save_named(self, value: Named) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_object(self, value: Any, module: str, name: str, state: dict[bytes, Any]) -> None:
        self.save(Named(module, name))
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.memoize(value)
        self.save(state)
        self.write(pickle.BUILD)

    def save_wrapped(self, value: Wrapped) -> None:
        state = {b"x": value.array, b"_dirty_vars": {b"x"}, b"_itr": None, b"_make_dense": False, b"_status": b"new"}
        self.save_object(value, "chumpy.ch", "Ch", state)

    def save_sparse(self, value: Sparse) -> None:
        self.save_object(value, "scipy.sparse.csc", "csc_matrix", {name.encode(): part for name, part in value.items()})

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            flat = np.ascontiguousarray(value)
            state = (1, flat.shape, flat.dtype, False, flat.tobytes())
            return Named("numpy.core.multiarray", "_reconstruct"), (Named("numpy", "ndarray"), (0,), b"b"), state
        if isinstance(value, np.dtype):
            order = value.str[0].encode()
            return Named("numpy", "dtype"), (value.str[1:].encode(), 0, 1), (3, order, None, None, None, -1, -1, 0)
        return NotImplemented

    dispatch[bytes] = save_bytes
    dispatch[Named] = save_named
    dispatch[Wrapped] = save_wrapped
    dispatch[Sparse] = save_sparse


def python2_pickle(value: Any) -> bytes:
    """`value` as Python 2 would have pickled it with protocol 2. Keys and texts should be bytes."""
    file = io.BytesIO()
    Python2Pickler(file).dump(value)
    return file.getvalue()


def flame_arrays(version: str = "2020") -> dict[str, NDArray[Any]]:
    """The model's arrays in FLAME's axes (y up, facing +z), dense, by the names of the file."""
    head = flame_head(MAN[version])
    vertices = head.vertices @ Z_UP_TO_FLAME.T
    scale = 1.0 / np.sqrt(1.0 + np.arange(SHAPES + EXPRESSIONS))
    shapes, expressions = _filled(head, head.shapes, SHAPES, 0), _filled(head, head.expressions, EXPRESSIONS, 1)
    expressions[:, _eyeballs(head)] = 0
    directions = np.concatenate((shapes, 0.5 * expressions))
    directions[len(head.shapes) : SHAPES] *= scale[len(head.shapes) : SHAPES, None, None]
    directions[SHAPES + len(head.expressions) :] *= scale[: EXPRESSIONS - len(head.expressions), None, None]
    near = np.exp(-(((head.vertices - head.joints[2]) / 0.06) ** 2).sum(1))
    poses = 0.5 * _filled(head, np.zeros((0, *head.vertices.shape)), 36, 2) * near[None, :, None]
    regressor = _regressor(vertices, head.joints @ Z_UP_TO_FLAME.T)
    turned = directions @ Z_UP_TO_FLAME.T
    return {
        "v_template": vertices,
        "f": head.faces.astype(np.uint32),
        "shapedirs": np.ascontiguousarray(turned.transpose(1, 2, 0)),
        "posedirs": np.ascontiguousarray((poses @ Z_UP_TO_FLAME.T).transpose(1, 2, 0)),
        "J_regressor": regressor,
        "weights": head.weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(5)], np.int64),
        "J": regressor @ vertices,
    }


def write_flame_files(folder: Path, *, version: str = "2020") -> FlameFiles:
    """Write all files of FLAME '2020' or '2023' into `folder`; the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    head, files = flame_head(MAN[version]), files_in(folder, version)
    files.model.write_bytes(python2_pickle(model_fields(flame_arrays(version), chumpy=version == "2020")))
    np.savez(files.uv, vt=head.uv, ft=head.uv_faces.astype(np.uint32))
    for path, field in zip(files.eyelids, head.eyelids, strict=True):
        np.save(path, field @ Z_UP_TO_FLAME.T)
    lines = ["v " + " ".join(f"{x:.9g}" for x in row) for row in (head.vertices @ Z_UP_TO_FLAME.T).tolist()]
    lines += [f"vt {u:.17g} {v:.17g}" for u, v in head.uv.tolist()]
    corners = np.stack((head.faces, head.uv_faces), -1) + 1
    lines += ["f " + " ".join(f"{a}/{b}" for a, b in face) for face in corners.tolist()]
    files.mesh.write_text("\n".join(lines) + "\n", encoding="ascii")
    return files


def files_in(folder: Path, version: str) -> FlameFiles:
    """Where `write_flame_files` writes them."""
    model = folder / ("generic_model.pkl" if version == "2020" else "flame2023.pkl")
    lids = folder / "l_eyelid.npy", folder / "r_eyelid.npy"
    return FlameFiles(version, model, folder / "flame_uv.npz", lids, folder / "head_template_mesh.obj")


def model_fields(arrays: Mapping[str, NDArray[Any]], *, chumpy: bool) -> dict[bytes, Any]:
    """The pickle's dictionary: the regressor sparse, and with `chumpy` the arrays wrapped that the 2020 file wraps."""
    fields: dict[bytes, Any] = {name.encode(): array for name, array in arrays.items()}
    regressor = arrays["J_regressor"]
    columns, rows = np.nonzero(regressor.T)
    fields[b"J_regressor"] = Sparse(
        format=b"csc",
        data=regressor[rows, columns],
        indices=rows.astype(np.int32),
        indptr=np.searchsorted(columns, np.arange(regressor.shape[1] + 1)).astype(np.int32),
        _shape=regressor.shape,
        maxprint=50,
    )
    if chumpy:
        for name in (b"v_template", b"shapedirs", b"posedirs", b"weights", b"J"):
            if name in fields:
                fields[name] = Wrapped(fields[name])
    return fields | {b"bs_style": b"lbs", b"bs_type": b"lrotmin"}


def _filled(head: FlameHead, own: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """[count, V, 3] m: the open template's fields, then smooth waves of about a millimetre."""
    rng = np.random.default_rng(seed)
    missing = count - len(own)
    points = head.vertices.copy()
    for rows in (head.weights[:, 3] == 1, head.weights[:, 4] == 1):
        points[rows] = points[rows].mean(0)  # eyeballs move as one
    waves = rng.normal(0, 12.0, (3, missing * 3))
    field = np.cos(points @ waves + rng.uniform(0, 2 * np.pi, missing * 3)) * 1e-3
    return np.concatenate((own[:count], field.reshape(len(points), missing, 3).transpose(1, 0, 2)))


def _eyeballs(head: FlameHead) -> NDArray[np.bool_]:
    return (head.weights[:, 3:] == 1).any(1)


def _regressor(vertices: NDArray[np.float64], joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """[5, V]: each joint from 40 vertices around it, rows summing to 1."""
    table = np.zeros((len(joints), len(vertices)))
    for row, joint in enumerate(joints):
        near = np.argsort(((vertices - joint) ** 2).sum(1), kind="stable")[:120:3]
        conditions = np.concatenate(((vertices[near] - joint).T, np.ones((1, len(near)))))
        table[row, near] = np.linalg.lstsq(conditions, np.array([0, 0, 0, 1.0]), rcond=None)[0]
    return table
