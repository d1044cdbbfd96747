"""A body's surface against the true one, in poses that were recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.captures.true_surfaces import HAIR, read_true_surfaces
from avatars.evaluation.posed_surfaces import Mesh, PosedSurface, surface_of
from avatars.files import write_atomically
from avatars.rendering.mesh import rasterise_mesh
from avatars.surface.metrics import SurfaceMetrics, compare_surfaces, distances_to
from avatars.surface.sources import avatar_source
from avatars.surface.unwrap import smooth_normals, unit
from avatars.training.figures import stacked_sheet
from shared.errors import BadCapture, BadConfig
from shared.types import Pose

WORST_M = 0.02
SIDES = (0.0, 90.0, 180.0, 270.0)
MESHES = (".ply", ".obj", ".off", ".stl", ".glb")
SHOWN = ("chamfer_m", "accuracy_m", "completeness_m", "normal_error_deg", "shaded_error_deg", "normal_consistency")
Floats = NDArray[np.float64]


class Truth(Protocol):
    """True surfaces of some frames."""

    frames: tuple[int, ...]

    def mesh(self, frame: int, without: Sequence[str] = ()) -> Mesh:
        """Vertices [V, 3] m in the world and triangles [F, 3] of one frame."""


@dataclass(frozen=True)
class MeshFolder:
    """Meshes in files that end in a number: `first` is that of frame 0 (ARAH counts from 1). Raises BadCapture."""

    files: Mapping[int, Path]
    read: Callable[[Path], Mesh]

    @property
    def frames(self) -> tuple[int, ...]:
        """Those there is a file for."""
        return tuple(sorted(self.files))

    def mesh(self, frame: int, without: Sequence[str] = ()) -> Mesh:
        """The file's mesh; parts are not known."""
        return self.read(self.files[frame])


def mesh_folder(folder: Path, read: Callable[[Path], Mesh], first: int = 0) -> MeshFolder:
    """The numbered meshes in a folder. Raises BadCapture where there are none."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        digits = "".join(reversed([c for c in _while_digit(reversed(path.stem))]))
        if path.suffix.lower() in MESHES and digits:
            found[int(digits) - first] = path
    if not found:
        raise BadCapture(
            f"there are no numbered meshes in {folder}", expected=f"files like 000012.ply ({', '.join(MESHES)})"
        )
    return MeshFolder(found, read)


def _while_digit(characters: Any) -> list[str]:
    kept = []
    for one in characters:
        if not one.isdecimal():
            break
        kept.append(one)
    return kept


def truth_of(capture: Capture) -> Truth:
    """The true surfaces that lie beside a capture. Raises BadCapture where it has none."""
    if capture.true_surfaces is None:
        raise BadCapture(
            f"capture {capture.name!r} has no true surfaces",
            expected="surfaces.npz beside capture.json",
            do="Name a folder with a mesh for each frame with --truth",
        )
    return read_true_surfaces(capture.true_surfaces)


@dataclass(frozen=True)
class FrameGeometry:
    """One frame. part: 'train' or 'unseen'. whole: against all of the truth; bald: without its hair, None where the
    truth does not tell hair apart."""

    frame: int
    part: str
    whole: SurfaceMetrics
    bald: SurfaceMetrics | None


def measure_geometry(
    surface: PosedSurface,
    capture: Capture,
    truth: Truth,
    frames: Sequence[int] = (),
    samples: int = 50_000,
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[FrameGeometry, ...]:
    """Compare in `frames` (all with a truth where none are named). Raises BadConfig for a frame without one.

    Distances go both ways over whole surfaces, nothing is aligned. Without hair, what lies near the truth's hair is
    left out of both.
    """
    chosen = tuple(frames) or truth.frames
    wrong = [frame for frame in chosen if frame not in truth.frames or not 0 <= frame < len(capture.motion)]
    if wrong or not chosen:
        raise BadConfig(
            f"there is no true surface of frame {wrong[0] if wrong else 'any'}",
            expected=", ".join(str(frame) for frame in truth.frames) or "some frames",
        )
    trained = set(capture.training_frames())
    found = []
    for number, frame in enumerate(chosen):
        mesh = surface(capture.motion.at(frame))
        whole = truth.mesh(frame)
        compared = compare_surfaces(mesh, whole, samples)
        bald = None
        if HAIR in getattr(truth, "part_names", ()):
            hairless = truth.mesh(frame, (HAIR,))
            bald = compare_surfaces(_away_from_hair(mesh, whole, hairless), hairless, samples)
        found.append(FrameGeometry(frame, "train" if frame in trained else "unseen", compared, bald))
        tell(number + 1)
    return tuple(found)


def _away_from_hair(mesh: Mesh, whole: Mesh, hairless: Mesh) -> Mesh:
    """The triangles that lie nearer to the rest of the truth than to its hair."""
    vertices, faces = mesh
    middles = vertices[faces].mean(1)
    kept = distances_to(middles, whole) > distances_to(middles, hairless) - 1e-6
    return vertices, faces[kept] if kept.any() else faces


def geometry_means(rows: Sequence[FrameGeometry]) -> dict[str, dict[str, float]]:
    """Part -> means: 'train', 'unseen' and 'all', each also without hair ('… without hair')."""
    found: dict[str, dict[str, float]] = {}
    for part in ("train", "unseen", "all"):
        mine = [row for row in rows if part in (row.part, "all")]
        for name, measured in (
            (part, [row.whole for row in mine]),
            (f"{part} without hair", [row.bald for row in mine if row.bald is not None]),
        ):
            if measured:
                found[name] = {key: float(np.mean([getattr(one, key) for one in measured])) for key in SHOWN}
    return found


def write_geometry(
    folder: Path, surface: PosedSurface, capture: Capture, truth: Truth, rows: Sequence[FrameGeometry], kind: str
) -> None:
    """geometry.json, and geometry.png: truth, surface and error (red from 20 mm on) of two frames from four sides."""
    document = {
        "capture": capture.name,
        "surface": kind,
        "means": geometry_means(rows),
        "frames": [
            {"frame": row.frame, "part": row.part, "whole": row.whole.as_json()}
            | ({"without_hair": row.bald.as_json()} if row.bald is not None else {})
            for row in rows
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "geometry.json", (json.dumps(document, indent=1) + "\n").encode())
    columns = []
    for row in [*[one for one in rows if one.part == "train"][:1], *[one for one in rows if one.part == "unseen"][:1]]:
        mesh, true = surface(capture.motion.at(row.frame)), truth.mesh(row.frame)
        share = np.clip(distances_to(mesh[0], true) / WORST_M, 0, 1)[:, None]
        error = (1 - share) * (1.0, 1.0, 1.0) + share * (0.85, 0.05, 0.05)
        label = (
            f"frame {row.frame} ({row.part}): {row.whole.chamfer_m * 1000:.1f} mm, {row.whole.normal_error_deg:.1f} deg"
        )
        for side in SIDES:
            drawn = [shaded(true, true, side), shaded(mesh, true, side), shaded(mesh, true, side, error)]
            columns.append((label if side == SIDES[0] else f"{side:.0f} degrees", drawn))
    stacked_sheet(folder / "geometry.png", columns, per_row=len(SIDES) * 2)


def write_four_sides(path: Path, avatar: Avatar) -> None:
    """An avatar's mesh from four sides as it was captured first, in its colours and, below, bare."""
    expressions = np.zeros(len(avatar.rig().expression_names), np.float32)
    surface, _ = surface_of(avatar)
    mesh = surface(Pose(np.asarray(avatar.rest_pose), np.zeros(3, np.float32), expressions))
    source = avatar_source(avatar)
    places = source.vertices if len(source.vertices) == len(mesh[0]) else mesh[0]
    colours = source.look_at(places, np.zeros_like(places)).colour
    columns = [
        (f"{side:.0f} degrees", [shaded(mesh, mesh, side, colours, 640), shaded(mesh, mesh, side, None, 640)])
        for side in SIDES
    ]
    stacked_sheet(path, columns)


def shaded(mesh: Mesh, framed_by: Mesh, yaw_deg: float, colours: Floats | None = None, side_px: int = 420) -> Any:
    """A mesh from the side in even light, [H, W, 3] uint8 over white; seen so that `framed_by` fits the picture."""
    turn = np.radians(yaw_deg)
    back = np.array((np.sin(turn), np.cos(turn), 0.0))  # away from the eye: a person faces -y
    across = np.array((np.cos(turn), -np.sin(turn), 0.0))
    view = np.stack((across, (0.0, 0.0, -1.0), back))
    vertices, faces = mesh
    around = framed_by[0] @ view.T
    low, high = around[:, :2].min(0), around[:, :2].max(0)
    scale = 0.94 * side_px / (high - low).max()
    width = int(np.ceil((high - low)[0] * scale)) + 24
    placed = vertices @ view.T
    pixels = (placed[:, :2] - (low + high) / 2) * scale + (width / 2, side_px / 2)
    depth = 10 + placed[:, 2:] - around[:, 2].min()
    face, shares, _ = rasterise_mesh(np.concatenate((pixels, depth), 1), faces, width, side_px)
    rows, columns = np.nonzero(face >= 0)
    corners, mixed = faces[face[rows, columns]], shares[rows, columns][..., None]
    normals = unit((smooth_normals(vertices, faces)[corners] * mixed).sum(1))
    light = unit((-back - 0.35 * across + np.array((0, 0, 0.5)))[None])[0]
    bright = 0.3 + 0.7 * np.clip(normals @ light, 0, 1)
    tint = np.full((len(rows), 3), 0.82) if colours is None else (colours[corners] * mixed).sum(1)
    found = np.full((side_px, width, 3), 255, np.uint8)
    found[rows, columns] = np.clip(tint * bright[:, None] * 255, 0, 255).astype(np.uint8)
    return found
