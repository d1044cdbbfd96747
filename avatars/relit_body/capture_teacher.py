"""A teacher that is a synthetic capture's own ground truth: its maps for pictures, the template's surface for points.

For captures that bring albedo, normals and roughness beside (some of) their pictures. Materials are gathered at the
template's vertices from every map that sees them. Clothes stand off the template, so a point within `BAND_M` of it
counts as on the surface: how far off is for the pictures to say.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.relit_body.mesh_teacher import MeshTeacher
from avatars.relit_body.teacher import TeacherImages, TeacherPoints
from avatars.rendering import CameraBatch, rasterise_mesh
from shared.errors import BadCapture
from shared.types import Environment

BAND_M = 0.02
HIDDEN_M = 0.03
"""A vertex this far behind the nearest surface of its pixel is not seen."""
GATHERED_PX = 512
MAPS = ("albedo", "normal", "roughness")


def has_truth(capture: Capture, index: int) -> bool:
    """Whether picture `index` brings the maps a student can learn from."""
    return all(name in capture.images[index].aovs for name in MAPS)


class CaptureTeacher(MeshTeacher):
    """A `Teacher` from a capture's ground truth. canonical_rotations: [J, 3] rad. Raises BadCapture without any."""

    def __init__(self, capture: Capture, canonical_rotations: Tensor) -> None:
        light = capture.environment or Environment(np.full((16, 32, 3), 0.6, np.float32))
        super().__init__(capture.template, canonical_rotations, light)
        self.capture = capture
        rows = [index for index in capture.split("train") if has_truth(capture, index)]
        if not rows:
            raise BadCapture(
                f"capture {capture.name!r} has no ground truth beside its training pictures",
                expected="albedo, normal and roughness maps of some of them",
                do="Train a teacher with 'effigy relight teacher', or synthesise a capture for relighting",
            )
        self._gather(rows)

    def query(self, points: Tensor) -> TeacherPoints:
        """As of the template, but whatever lies within BAND_M of it is on the surface."""
        found = super().query(points)
        off = found.distance_m.sign() * (found.distance_m.abs() - BAND_M).clamp(min=0)
        return replace(found, distance_m=off)

    def _gather(self, rows: list[int]) -> None:
        total, weight = torch.zeros(len(self.vertices), 5), torch.zeros(len(self.vertices))
        size = self.capture.train_size(GATHERED_PX)
        for index in rows:
            frame = self.capture.images[index].frame
            motion = self.capture.motion
            pose = (
                torch.from_numpy(np.array(part[frame : frame + 1], np.float32))
                for part in (motion.rotations, motion.translations, motion.expressions)
            )
            vertices = self.posed(*pose)[0]
            camera = CameraBatch.from_cameras([self.capture.camera_of(index, size)])
            place = self.on_image(vertices, camera)
            _, _, depth = rasterise_mesh(place.numpy(), self.faces, camera.width_px, camera.height_px)
            column, row = (place[:, axis].floor().long() for axis in (0, 1))
            inside = (column >= 0) & (column < camera.width_px) & (row >= 0) & (row < camera.height_px)
            column, row = column.clamp(0, camera.width_px - 1), row.clamp(0, camera.height_px - 1)
            cover = torch.from_numpy(self.capture.rgba(index, size)[..., 3].astype(np.float32) / 255)[row, column]
            seen = inside & (place[:, 2] < torch.from_numpy(depth)[row, column] + HIDDEN_M) & (cover > 0.99)
            maps = torch.from_numpy(_materials(self.capture, index, size))[row, column]
            total[seen] += maps[seen]
            weight[seen] += 1
        known = weight > 0
        mean = total / weight.clamp(min=1)[:, None]
        if known.any() and not known.all():
            near = cKDTree(self.vertices[known].numpy()).query(self.vertices[~known].numpy())[1]
            mean[~known] = mean[known][torch.from_numpy(near)]
        self.albedo, self.roughness, self.metallic = mean[:, :3], mean[:, 3], mean[:, 4]


def _materials(capture: Capture, index: int, size: tuple[int, int]) -> np.ndarray:
    """albedo 3, roughness, metallic (0 where the capture has no such map) [H, W, 5]."""
    albedo, roughness = capture.aov(index, "albedo", size), capture.aov(index, "roughness", size)
    assert albedo is not None
    assert roughness is not None
    metallic = capture.aov(index, "metallic", size)
    return np.concatenate([albedo, roughness, np.zeros_like(roughness) if metallic is None else metallic], -1)


class CaptureTruth:
    """A capture's own maps as a `PseudoTruth`: training pictures only, alpha 0 everywhere in those without maps."""

    def __init__(self, capture: Capture, device: torch.device | str = "cpu") -> None:
        self.capture, self.device = capture, torch.device(device)
        self.index = capture.split("train")
        self.training = len(self.index)

    def __len__(self) -> int:
        return self.training

    def pose(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rotations [B, J, 3], translations [B, 3], expressions [B, E] of rows [B] int64."""
        frames = [self.capture.images[self.index[row]].frame for row in rows.tolist()]
        motion = self.capture.motion
        parts = (motion.rotations, motion.translations, motion.expressions)
        found = [torch.from_numpy(np.array(part[frames], np.float32)).to(self.device) for part in parts]
        return found[0], found[1], found[2]

    def cameras(self, rows: Tensor, longest_px: int) -> CameraBatch:
        """Their cameras, scaled so that the longer side has at most `longest_px`."""
        size = self.capture.train_size(longest_px)
        cameras = [self.capture.camera_of(self.index[row], size) for row in rows.tolist()]
        return CameraBatch.from_cameras(cameras, self.device)

    def images(self, rows: Tensor, longest_px: int) -> TeacherImages:
        """The maps, at that size. Raises BadCapture for damaged files."""
        found = [self._one(self.index[row], self.capture.train_size(longest_px)) for row in rows.tolist()]
        return TeacherImages(*(torch.stack(parts).to(self.device) for parts in zip(*found, strict=True)))

    def _one(self, index: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        picture = torch.from_numpy(self.capture.rgba(index, size).astype(np.float32) / 255)
        alpha = picture[..., 3]
        if not has_truth(self.capture, index):
            nothing = torch.zeros(*alpha.shape, 3)
            return nothing, nothing[..., 0], nothing, nothing, *(nothing[..., 0] for _ in range(3))
        normals = self.capture.aov(index, "normal", size)
        assert normals is not None
        maps, facing = torch.from_numpy(_materials(self.capture, index, size)), torch.from_numpy(normals)
        known = alpha * (facing.norm(dim=-1) > 0.5)  # hair has no normal
        colour = picture[..., :3] / alpha.clamp(min=1e-3)[..., None]
        shown = (known > 0)[..., None]
        parts = [torch.where(shown, part, torch.zeros_like(part)) for part in (colour, facing, maps)]
        return parts[0], known, parts[1], parts[2][..., :3], parts[2][..., 3], parts[2][..., 4], torch.zeros_like(alpha)
