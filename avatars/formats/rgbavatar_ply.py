"""RGBAvatar's `model.ply` as arrays, bit for bit (method page 8; layout in docs/formats.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.formats.ply import columns, float_table, numbered, read_ply, write_ply
from shared.errors import BadAvatar

Float = NDArray[np.float32]
MAX_BLENDSHAPES = 512
UNSEEN_LOGIT = -9999.0
"""The opacity of a Gaussian that no training image showed: kept, invisible."""

POINT = ("x", "y", "z")
NORMAL = ("nx", "ny", "nz")
OPACITY = ("opacity",)
SCALE, ROTATION, COLOUR = numbered("scale", 3), numbered("rot", 4), numbered("f_dc", 3)
REST = numbered("f_rest", 45)
WEIGHTS = ("weight_module",)
FACE, BARYCENTRICS = "face_id", numbered("face_bary", 3)
PER_BASIS = {"xyz_b": 3, "rot_b": 4, "f_dc_b": 3}


@dataclass(frozen=True, eq=False)
class RgbAvatarFile:
    """What a model.ply holds, raw.

    positions [N, 3] m in the triangle's frame; opacities [N] logit; scales [N, 3] log m; rotations [N, 4] wxyz;
    colours [N, 3] SH degree-0 coefficients; position_deltas [K, N, 3], rotation_deltas [K, N, 4] and colour_deltas
    [K, N, 3]; packed [N] the network's numbers down the rows and zeros after them; face [N] int32 index into FLAME's
    faces with the teeth after them, barycentrics [N, 3] (both None in very old files).
    """

    positions: Float
    opacities: Float
    scales: Float
    rotations: Float
    colours: Float
    position_deltas: Float
    rotation_deltas: Float
    colour_deltas: Float
    packed: Float
    face: NDArray[np.int32] | None
    barycentrics: Float | None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def blendshapes(self) -> int:
        """K."""
        return len(self.position_deltas)


def read_rgbavatar_ply(path: Path) -> RgbAvatarFile:
    """The arrays of a model.ply. Raises BadAvatar for a file that is damaged or of another kind."""
    path = Path(path)
    table = read_ply(path)
    names = table.dtype.names or ()
    blendshapes = _blendshapes(path, names)
    packed = np.zeros((len(table), 1), np.float32)
    if "weight_module" in names:
        packed = columns(table, WEIGHTS, path)
    face = barycentrics = None
    if FACE in names:
        if table.dtype[FACE].kind not in "iu":
            raise BadAvatar(f"{path} holds {FACE!r} in another type", found=str(table.dtype[FACE]), expected="int")
        face = table[FACE].astype(np.int32)
        barycentrics = columns(table, BARYCENTRICS, path)

    def deltas(prefix: str) -> Float:
        width = PER_BASIS[prefix]
        rows = columns(table, numbered(prefix, width * blendshapes), path)
        return np.ascontiguousarray(rows.reshape(len(table), blendshapes, width).transpose(1, 0, 2))

    return RgbAvatarFile(
        positions=columns(table, POINT, path),
        opacities=columns(table, OPACITY, path)[:, 0],
        scales=columns(table, SCALE, path),
        rotations=columns(table, ROTATION, path),
        colours=columns(table, COLOUR, path),
        position_deltas=deltas("xyz_b"),
        rotation_deltas=deltas("rot_b"),
        colour_deltas=deltas("f_dc_b"),
        packed=packed[:, 0],
        face=face,
        barycentrics=barycentrics,
    )


def write_rgbavatar_ply(path: Path, file: RgbAvatarFile) -> None:
    """Write a model.ply, properties in RGBAvatar's order. Raises EnvironmentFailed."""
    count = len(file)

    def rows(deltas: Float) -> Float:
        return deltas.transpose(1, 0, 2).reshape(count, -1)

    parts = [
        (POINT, file.positions),
        (NORMAL, np.zeros((count, 3), np.float32)),
        (OPACITY, file.opacities[:, None]),
        (SCALE, file.scales),
        (ROTATION, file.rotations),
        (COLOUR, file.colours),
        (REST, np.zeros((count, len(REST)), np.float32)),
        *((numbered(name, PER_BASIS[name] * file.blendshapes), rows(deltas)) for name, deltas in _deltas(file)),
        (WEIGHTS, file.packed[:, None]),
    ]
    table = float_table(parts)
    if file.face is not None and file.barycentrics is not None:
        whole = np.empty(count, table.dtype.descr + [(FACE, "<i4")] + [(name, "<f4") for name in BARYCENTRICS])
        for name in table.dtype.names or ():
            whole[name] = table[name]
        whole[FACE] = file.face
        for index, name in enumerate(BARYCENTRICS):
            whole[name] = file.barycentrics[:, index]
        table = whole
    write_ply(path, table)


def _deltas(file: RgbAvatarFile) -> tuple[tuple[str, Float], ...]:
    return (
        ("xyz_b", file.position_deltas),
        ("rot_b", file.rotation_deltas),
        ("f_dc_b", file.colour_deltas),
    )


def _blendshapes(path: Path, names: tuple[str, ...]) -> int:
    """K, agreed on by the three kinds of delta columns."""
    found = {prefix: sum(name.startswith(f"{prefix}_") for name in names) for prefix in PER_BASIS}
    counts = {found[prefix] / width for prefix, width in PER_BASIS.items()}
    count = counts.pop()
    if counts or count != int(count) or not 1 <= count <= MAX_BLENDSHAPES:
        raise BadAvatar(
            f"{path} does not say how many blendshapes it has",
            found=", ".join(f"{number} columns {prefix}_*" for prefix, number in found.items()),
            expected="3 K, 4 K and 3 K of them for one K",
            do="Give a model.ply written by RGBAvatar",
        )
    return int(count)
