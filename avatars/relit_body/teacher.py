"""What can be distilled into a relightable student: anything that answers these queries.

Canonical space: model axes (z up, m), the template in `canonical_rotations` with the root at its rest place and no
expression. Images are in the world axes of the cameras and poses they were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from avatars.captures.capture import Capture
from avatars.rendering.cameras import CameraBatch
from avatars.templates.opening import TemplateReference
from shared.types import Environment


@dataclass(frozen=True, eq=False)
class TeacherPoints:
    """Answers at P canonical points.

    distance_m: [P] signed distance to the surface, negative inside. normals: [P, 3] unit, outwards. albedo: [P, 3]
    linear, 0..1. roughness, metallic: [P] in 0..1 (GGX alpha is roughness squared).
    """

    distance_m: Tensor
    normals: Tensor
    albedo: Tensor
    roughness: Tensor
    metallic: Tensor


@dataclass(frozen=True, eq=False)
class TeacherImages:
    """B pictures of the teacher; every map but alpha is straight (not multiplied by alpha) and 0 where alpha is 0.

    radiance: [B, H, W, 3] the person in the light of the capture, display-encoded sRGB in 0..1. alpha: [B, H, W].
    normals: [B, H, W, 3] unit, world axes, facing the camera. albedo: [B, H, W, 3] linear. roughness, metallic:
    [B, H, W]. depth_m: [B, H, W] camera z. Floating point (any precision) on one device.
    """

    radiance: Tensor
    alpha: Tensor
    normals: Tensor
    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    depth_m: Tensor


class Teacher(Protocol):
    """A finished model of a person with materials. All calls are without gradients, on the teacher's device."""

    canonical_rotations: Tensor
    """[J, 3] axis-angle rad, the pose of its canonical space, joints in the template's order."""

    def template(self) -> TemplateReference:
        """The template its poses are of, with preset and shape."""

    def environment(self) -> Environment:
        """The light of the capture as the teacher learned or knows it, world axes."""

    def mesh(self) -> tuple[Tensor, Tensor]:
        """Its surface in canonical space: vertices [V, 3] m and triangles [F, 3] int64, outwards counter-clockwise."""

    def query(self, points: Tensor) -> TeacherPoints:
        """Shape and materials at canonical points [P, 3] m."""

    def images(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, cameras: CameraBatch
    ) -> TeacherImages:
        """Pictures of poses [B, J, 3] rad, [B, 3] m, [B, E] through B cameras."""


@runtime_checkable
class CorrectsPoses(Protocol):
    """A teacher that has learned where a recording's poses were wrong."""

    def recorded(self, capture: Capture) -> Capture:
        """The capture in the poses it was corrected to; another one as it is."""


def in_poses_of(teacher: Teacher, capture: Capture) -> Capture:
    """The capture in the poses in which the teacher fits its pictures."""
    return teacher.recorded(capture) if isinstance(teacher, CorrectsPoses) else capture


class PseudoTruth(Protocol):
    """Pictures a teacher was asked for ahead of the distillation, kept on disk.

    Rows 0 .. training-1 belong to the capture's training images, in the order of `capture.split("train")`; the rest
    shows poses the capture does not have (images only, no photograph beside them).
    """

    training: int

    def __len__(self) -> int:
        """All rows."""

    def pose(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rotations [B, J, 3], translations [B, 3], expressions [B, E] of rows [B] int64."""

    def cameras(self, rows: Tensor, longest_px: int) -> CameraBatch:
        """Their cameras, scaled so that the longer side has at most `longest_px`."""

    def images(self, rows: Tensor, longest_px: int) -> TeacherImages:
        """What was rendered, at that size."""
