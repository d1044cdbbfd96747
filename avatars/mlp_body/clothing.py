"""A template of the dressed person from masks: the bare body pushed along its normals until its outlines fit.

Where the outline of the posed body lies beside the mask's, the vertices under it are due the distance between them, in
metres. What many pictures ask of a vertex is averaged, what no outline ever touches follows its neighbours, and that is
done again a few times. Clothes may stand off the body; they cannot bridge it (a skirt between the legs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import distance_transform_edt
from scipy.sparse.linalg import splu

from avatars.captures.capture import Capture
from avatars.captures.coverage import evenly
from avatars.captures.overlay import brightness, overlaid, overlap, projected, sheet, silhouette
from avatars.mlp_body.initial import surface_triangles
from avatars.mlp_body.settings import DENSITY
from avatars.mlp_body.skeleton import Canonical, hand_joints
from avatars.rendering.mesh import rasterise_mesh
from shared.errors import BadCapture
from shared.motions import MODEL_FROM_SMPL

Floats = NDArray[np.float64]
MASKED, NEAR_HAND = 128, 0.5
SHEET_PICTURES, SHEET_PX = 5, 512
FACING = 0.5
"""Cosine between a vertex's normal in the picture and the way to the mask's edge below which they do not belong
together."""


@dataclass(frozen=True)
class ClothingSettings:
    """pictures: how many are looked at, longest_px: at what size; rounds: how often outlines are compared.

    reach_m: clothes are looked for so far off the skin; step_m: most a vertex moves in a round; inwards_m: most that
    the body may shrink. stiffness: how much a vertex follows its neighbours; rest, hands_rest: how much it stays on the
    skin.
    """

    pictures: int = 64
    longest_px: int = 512
    rounds: int = 6
    reach_m: float = 0.12
    step_m: float = 0.04
    inwards_m: float = 0.02
    stiffness: float = 4.0
    rest: float = 1e-4
    hands_rest: float = 10.0


@dataclass(frozen=True, eq=False)
class ClothedBody:
    """vertices [V, 3] m in the big pose; triangles [F, 3] of them; offsets [V] m along the bare body's normals.

    before, after: mean overlap (intersection over union) of silhouettes and masks in the pictures used, and in held-out
    ones, bare and dressed.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    offsets: NDArray[np.float32]
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _View:
    """One picture. inside_px [H, W]: distance to the mask's edge, positive in the mask; transforms [V, 3, 4]."""

    inside_px: Floats
    mask: NDArray[np.bool_]
    K: Floats
    camera_from_world: Floats
    transforms: NDArray[np.float32]


def clothed_body(
    capture: Capture,
    settings: ClothingSettings | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> ClothedBody:
    """Fit the capture's template to its masks. tell: told rounds done, and all. Raises BadCapture, BadTemplate."""
    settings = settings or ClothingSettings()
    if capture.kind != "body":
        raise BadCapture(f"{capture.name} is a recording of a {capture.kind}", expected="a recording of a whole body")
    body = _Body(Canonical.of(capture.template))
    train = evenly(capture.split("train"), settings.pictures)
    held = evenly((*capture.split("val"), *capture.split("test")), settings.pictures // 2)
    views = [body.view(capture, index, settings.longest_px) for index in train]
    offsets = np.zeros(len(body.vertices))
    for done in range(settings.rounds):
        tell(done, settings.rounds)
        due, weight = np.zeros(len(offsets)), np.zeros(len(offsets))
        for view in views:
            body.compare(view, offsets, due, weight, settings)
        offsets = body.settled(offsets, due, weight, settings)
    tell(settings.rounds, settings.rounds)
    others = [body.view(capture, index, settings.longest_px) for index in held]
    bare = np.zeros_like(offsets)
    before, after = (
        (body.overlap(views, found), body.overlap(others, found) if others else 0.0) for found in (bare, offsets)
    )
    vertices = (body.vertices + offsets[:, None] * body.normals).astype(np.float32)
    return ClothedBody(vertices, body.triangles, offsets.astype(np.float32), before, after)


def clothing_sheet(capture: Capture, clothed: ClothedBody) -> NDArray[np.uint8]:
    """A few pictures with the bare and the dressed mesh over them, [H, W, 3]: meshes are edged red, masks green."""
    body, rows = _Body(Canonical.of(capture.template)), []
    held = (*capture.split("val"), *capture.split("test")) or capture.split("train")
    chosen = evenly(held, SHEET_PICTURES)
    for title, offsets in (("bare", np.zeros(len(body.vertices))), ("dressed", clothed.offsets.astype(np.float64))):
        cells = []
        for index in chosen:
            view = body.view(capture, index, SHEET_PX)
            world = body.world(view, offsets)
            pixels = projected(world, view.camera_from_world, view.K)
            lit = brightness(world, body.triangles, view.camera_from_world)
            height, width = view.mask.shape
            drawn = overlaid(capture.rgba(index, (width, height)), pixels, body.triangles, lit)
            share = overlap(silhouette(pixels, body.triangles, (width, height)), view.mask)
            cells.append((f"overlap {share:.3f}", drawn))
        rows.append((title, cells))
    about = f"Overlap in held-out pictures {clothed.before[1]:.3f} bare, {clothed.after[1]:.3f} dressed"
    return sheet((f"Clothed template of {capture.name}", about), rows)


def write_clothed_template(body: ClothedBody, path: Path) -> None:
    """The mesh as a `template.ply`, in SMPL-X's axes as other programs write it, put in place whole."""
    import trimesh  # half a second

    used, triangles = np.unique(body.triangles, return_inverse=True)
    mesh = trimesh.Trimesh(body.vertices[used] @ MODEL_FROM_SMPL, triangles.reshape(-1, 3), process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(mesh.export(file_type="ply"))
    beside.replace(path)


class _Body:
    """The bare body in the big pose. vertices, normals [V, 3]; triangles [F, 3]."""

    def __init__(self, canonical: Canonical) -> None:
        arrays = canonical.arrays
        self.canonical = canonical
        self.vertices = canonical.vertices.numpy().astype(np.float64)
        self.triangles = surface_triangles(arrays, DENSITY)[0].astype(np.int32)
        self.normals = _normals(self.vertices, self.triangles)
        skin = surface_triangles(arrays, {name: 1.0 for name in DENSITY if name.startswith("skin/")})[0]
        self.free = np.zeros(len(self.vertices), bool)
        self.free[skin] = True
        names = (*hand_joints("left"), *hand_joints("right"))
        columns = [arrays.joint_names.index(name) for name in names if name in arrays.joint_names]
        self.hands = canonical.weights.numpy()[:, columns].sum(1) > NEAR_HAND
        self.laplacian = _laplacian(self.triangles, len(self.vertices))
        self.posed: dict[int, NDArray[np.float32]] = {}

    def transforms(self, capture: Capture, frame: int) -> NDArray[np.float32]:
        """World from big pose of every vertex [V, 3, 4] in a frame."""
        if frame not in self.posed:
            motion = capture.motion
            parts = (motion.rotations, motion.translations, motion.expressions)
            one = (torch.from_numpy(np.array(part[frame : frame + 1], np.float32)) for part in parts)
            with torch.no_grad():
                skinning = self.canonical.skeleton.skinning(*one)[0].flatten(1)
                self.posed[frame] = (self.canonical.weights @ skinning).view(-1, 3, 4).numpy()
        return self.posed[frame]

    def view(self, capture: Capture, index: int, longest_px: int) -> _View:
        image = capture.images[index]
        full = capture.cameras[image.camera]
        factor = min(1.0, longest_px / max(full.width_px, full.height_px))
        size = max(1, round(full.width_px * factor)), max(1, round(full.height_px * factor))
        camera = capture.camera_of(index, size)
        mask = capture.rgba(index, size)[..., 3] >= MASKED
        if not mask.any() or mask.all():
            raise BadCapture(f"the mask of {image.file.name} is {'full' if mask.any() else 'empty'}")
        inside = np.where(mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask))
        transforms = self.transforms(capture, image.frame)
        return _View(inside, mask, camera.K, camera.camera_from_world(), transforms)

    def world(self, view: _View, offsets: Floats) -> Floats:
        """Vertices [V, 3] m as one picture saw them."""
        places = self.vertices + offsets[:, None] * self.normals
        found: Floats = (view.transforms[:, :, :3] @ places[:, :, None])[..., 0] + view.transforms[:, :, 3]
        return found

    def _drawn(self, view: _View, offsets: Floats) -> tuple[Floats, NDArray[np.int32], NDArray[np.float32]]:
        pixels = projected(self.world(view, offsets), view.camera_from_world, view.K)
        height, width = view.mask.shape
        face, shares, _ = rasterise_mesh(pixels, self.triangles, width, height)
        return pixels, face, shares

    def overlap(self, views: list[_View], offsets: Floats) -> float:
        """Mean overlap of silhouettes and masks."""
        return float(np.mean([overlap(self._drawn(view, offsets)[1] >= 0, view.mask) for view in views]))

    def compare(self, view: _View, offsets: Floats, due: Floats, weight: Floats, settings: ClothingSettings) -> None:
        """Add what one picture's outline asks of the vertices, m, and how much it has to say."""
        pixels, face, shares = self._drawn(view, offsets)
        rows, columns = np.nonzero(_edge(face >= 0))
        corners, share = self.triangles[face[rows, columns]], shares[rows, columns].astype(np.float64)
        off_px = view.inside_px[rows, columns] - 0.5  # the outline itself is half a pixel outside its pixels' centres
        depth_m = (pixels[corners, 2] * share).sum(1)
        off_m = off_px * depth_m / view.K[0, 0]
        normals = (self.normals[corners] * share[..., None]).sum(1)
        turned = (view.transforms[corners, :, :3] * share[..., None, None]).sum(1)
        seen = (view.camera_from_world[:3, :3] @ turned @ normals[..., None])[:, :2, 0]
        down, right = np.gradient(view.inside_px)
        out = -np.stack((right[rows, columns], down[rows, columns]), 1)
        cosine = (seen * out).sum(1) / np.maximum(np.linalg.norm(seen, axis=1) * np.linalg.norm(out, axis=1), 1e-9)
        good = (np.abs(off_m) < settings.reach_m) & (cosine > FACING)
        moved = np.clip(off_m[good], -settings.step_m, settings.step_m)
        for corner in range(3):
            np.add.at(due, corners[good, corner], share[good, corner] * moved)
            np.add.at(weight, corners[good, corner], share[good, corner])

    def settled(self, offsets: Floats, due: Floats, weight: Floats, settings: ClothingSettings) -> Floats:
        """Offsets [V] that follow what is due and their neighbours."""
        sure = weight / (weight + 1.0)
        wanted = offsets + due / np.maximum(weight, 1e-9)
        rest = np.where(self.hands, settings.hands_rest, settings.rest)
        rest = np.where(self.free, rest, 1e6)
        sure = np.where(self.free, sure, 0.0)
        bending = settings.stiffness * (self.laplacian.T @ self.laplacian)
        matrix = sparse.diags(sure + rest) + bending
        found = splu(matrix.tocsc()).solve(sure * wanted)
        return np.clip(found, -settings.inwards_m, settings.reach_m)


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels inside beside one that is not; the picture's border is no outline."""
    framed = np.pad(inside, 1, mode="edge")
    whole = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return inside & ~whole


def _normals(vertices: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Unit normals [V, 3]; zero at vertices of no triangle."""
    first, second, third = (vertices[triangles[:, k]] for k in range(3))
    across = np.cross(second - first, third - first)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, triangles[:, k], across)
    return total / np.maximum(np.linalg.norm(total, axis=1), 1e-12)[:, None]


def _laplacian(triangles: NDArray[np.int32], count: int) -> sparse.csr_matrix:
    """A vertex less the mean of its neighbours, [V, V]; nothing for vertices of no triangle."""
    ends = np.concatenate([triangles[:, pair] for pair in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2))])
    beside = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count)).tocsr()
    beside.data[:] = 1.0
    degree = np.asarray(beside.sum(1))[:, 0]
    share = np.where(degree > 0, 1 / np.maximum(degree, 1), 0.0)
    return sparse.diags((degree > 0).astype(float)) - sparse.diags(share) @ beside
