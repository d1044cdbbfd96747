"""A mesh of the dressed person in the canonical pose, to put Gaussians on instead of the bare body.

Recordings prepared for MMLPHuman or AnimatableGaussians bring one as `template.ply`: SMPL-X's axes, the big pose, no
root rotation or translation. Weights come from the body beneath (`avatars.skinning.transfer`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.skinning.closest_points import ClosestPoints, closest_points
from avatars.skinning.transfer import NEAR_SHARE, transfer_weights
from shared.errors import BadTemplate
from shared.motions import MODEL_FROM_SMPL

NAMES = ("gaussian/template.ply", "template.ply")
MAX_FILE_BYTES, MOST_VERTICES = 256 << 20, 1_000_000
FARTHEST_SHARE = 0.1
"""Of the body's height: a mesh whose middle vertex is farther from the skin is in another pose or unit."""


@dataclass(frozen=True, eq=False)
class ClothedTemplate:
    """vertices [T, 3] m in the big pose, Effigy's axes; triangles [F, 3]; weights [T, J]; copied: share of vertices
    whose weights are those of skin nearby."""

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int64]
    weights: NDArray[np.float32]
    copied: float


def find_clothed_template(folders: tuple[Path, ...]) -> Path | None:
    """The template.ply that lies in one of the folders, the first found."""
    return next((folder / name for folder in folders for name in NAMES if (folder / name).is_file()), None)


def read_clothed_template(
    path: Path,
    body_vertices: NDArray[np.floating],
    body_triangles: NDArray[np.integer],
    body_weights: NDArray[np.floating],
) -> ClothedTemplate:
    """The mesh in a .ply with weights from a body in the big pose: [V, 3] m, [G, 3], [V, J]. Raises BadTemplate."""
    vertices, triangles = read_mesh_ply(path)
    vertices = vertices @ MODEL_FROM_SMPL.T
    height = float(np.ptp(np.asarray(body_vertices)[np.unique(body_triangles), 2]))
    away = float(
        np.median(closest_points(vertices[:: max(1, len(vertices) // 2000)], body_vertices, body_triangles).distance_m)
    )
    if away > FARTHEST_SHARE * height:
        raise BadTemplate(
            f"{path.name} is not in the body's canonical pose",
            found=f"half of it more than {away:.2f} m from the body",
            expected="metres, y up, hips 25 degrees outwards, no root rotation or translation",
            do="Use the template made for this subject, or take it away to train on the bare body",
        )
    found = transfer_weights(vertices, triangles, body_vertices, body_triangles, body_weights)
    return ClothedTemplate(vertices.astype(np.float32), triangles, found.weights, float(found.copied.mean()))


def on_the_body(
    points: NDArray[np.floating], body_vertices: NDArray[np.floating], body_triangles: NDArray[np.integer]
) -> tuple[ClosestPoints, NDArray[np.bool_]]:
    """The nearest place of the body to points [N, 3], and which lie near enough to move with its expressions."""
    found = closest_points(points, body_vertices, body_triangles)
    height = float(np.ptp(np.asarray(body_vertices)[:, 2]))
    return found, found.distance_m < NEAR_SHARE * height / 2


DAMAGE = (
    *(ValueError, LookupError, TypeError, AttributeError, NameError, EOFError),
    *(MemoryError, ArithmeticError, RuntimeError, SyntaxError, OSError),
)
"""What trimesh has raised for damaged files."""


def read_mesh_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices [V, 3] and triangles [F, 3] of a PLY file as its axes are. Raises BadTemplate."""
    import trimesh  # half a second

    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadTemplate(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if size > MAX_FILE_BYTES:
        raise BadTemplate(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}")
    try:
        mesh = trimesh.load(io.BytesIO(content), file_type="ply", process=False)
        vertices, triangles = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except DAMAGE as error:
        raise BadTemplate(f"{path.name} is no mesh in PLY", found=str(error)[:120], do="Copy the file again") from error
    if not len(triangles) or len(vertices) > MOST_VERTICES or not np.isfinite(vertices).all():
        raise BadTemplate(
            f"{path.name} is no usable mesh",
            found=f"{len(vertices)} vertices, {len(triangles)} triangles",
            expected=f"triangles, at most {MOST_VERTICES} vertices, finite numbers",
        )
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise BadTemplate(f"faces of {path.name} point outside its vertices", found=f"up to {triangles.max()}")
    return vertices, triangles
