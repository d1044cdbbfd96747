"""The template of one person: preset, shape and a static offset evaluated once, then posed for every frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avatars.templates.opening import TemplateReference
from avatars.templates.rotations import matrices_from_axis_angle
from avatars.templates.template import Template
from shared.errors import BadTemplate


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """The template of one person.

    base vertices [V, 3] and joints [J, 3] m already hold preset, shape and vertex_offset. vertex_offset: [V, 3] m, the
    subject's static offset from the shaped template (GaussianAvatars' `static_offset`), or None.
    """

    template: Template
    preset: str
    shape: tuple[float, ...]
    vertices: Tensor = field(repr=False)
    joints: Tensor = field(repr=False)
    vertex_offset: Tensor | None = field(default=None, repr=False)

    @staticmethod
    def make(
        template: Template, preset: str, shape: tuple[float, ...], vertex_offset: Tensor | None = None
    ) -> HeadTemplate:
        """Evaluate preset, shape and offset once, out of place. Raises BadTemplate.

        The joints follow the offset where the template has a joint regressor (method page 10.2).
        """
        coefficients = template.vertices.new_tensor([shape]) if shape else None
        vertices, joints = template.rest(preset=preset, shape=coefficients)
        if vertex_offset is None:
            return HeadTemplate(template, preset, shape, vertices[0], joints[0])
        if vertex_offset.shape != vertices[0].shape:
            raise BadTemplate(
                "the static offset does not fit the template",
                found=str(list(vertex_offset.shape)),
                expected=str(list(vertices[0].shape)),
            )
        offset = vertex_offset.to(vertices)
        moved = joints[0] if template.joint_regressor is None else joints[0] + template.joint_regressor @ offset
        return HeadTemplate(template, preset, shape, vertices[0] + offset, moved, offset)

    def reference(self) -> TemplateReference:
        """Which template it is, and whose shape of it, as avatars write it down."""
        arrays = self.template.arrays
        return TemplateReference(arrays.template_id, arrays.digest, arrays.view, self.preset, self.shape)

    def to(self, device: str | torch.device) -> HeadTemplate:
        """The same on another device; the template's buffers move with it."""
        self.template.to(device)
        offset = self.vertex_offset
        return replace(
            self,
            vertices=self.vertices.to(device),
            joints=self.joints.to(device),
            vertex_offset=None if offset is None else offset.to(device),
        )

    def posed_vertices(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """[B, V, 3] m for rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E].

        Pose correctives are added before skinning where the template has them (FLAME, method page 9.3).
        """
        template, batch = self.template, len(rotations)
        vertices, joints = self.vertices.expand(batch, -1, -1), self.joints.expand(batch, -1, -1)
        if expressions.shape[1]:
            moved = torch.einsum("be,emc->bmc", expressions, template.expression_dirs)
            vertices = vertices.index_add(1, template.expression_vertices, moved)
            joints = joints + torch.einsum("be,ejc->bjc", expressions, template.joint_expression_dirs)
        matrices = matrices_from_axis_angle(rotations)
        vertices = vertices + template.pose_corrections(matrices) if template.has_pose_dirs else vertices
        skinning, _ = template.joint_transforms(matrices, joints, translations)
        return template.skin(vertices, skinning).vertices
