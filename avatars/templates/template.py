"""The torch twin of `shared.template`: one linear-blend-skinned human, batched and differentiable.

vertices = LBS(template + shape_dirs·shape + expression_dirs·expression + pose_dirs·(R − I)). FLAME, SMPL, SMPL-X and
the embedded human differ only in their arrays, so this one class serves all of them and no size is written down here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import BadTemplate, nearest
from shared.template import TemplateArrays


@dataclass(frozen=True, eq=False)
class Skinned:
    """Posed vertices [B, V, 3] m and the blended transform of each vertex [B, V, 3, 4] (model from rest)."""

    vertices: Tensor
    transforms: Tensor


@dataclass(frozen=True, eq=False)
class Posed:
    """Everything one call of the template gives.

    vertices [B, V, 3] and joints [B, J, 3] in m, model axes; skinning and model_from_joint [B, J, 4, 4];
    vertex_transforms [B, V, 3, 4]; rest_vertices [B, V, 3] before skinning.
    """

    vertices: Tensor
    joints: Tensor
    skinning: Tensor
    model_from_joint: Tensor
    vertex_transforms: Tensor
    rest_vertices: Tensor


class Template(nn.Module):
    """A `TemplateArrays` as torch buffers. It has no parameters; `.to(device)` moves it."""

    vertices: Tensor
    joints: Tensor
    shape_dirs: Tensor
    joint_shape_dirs: Tensor
    expression_dirs: Tensor
    joint_expression_dirs: Tensor
    weights: Tensor
    expression_vertices: Tensor
    pose_dirs: Tensor
    joint_regressor: Tensor | None

    def __init__(self, arrays: TemplateArrays) -> None:
        super().__init__()
        self.arrays = arrays
        self.parents: tuple[int, ...] = tuple(int(parent) for parent in arrays.parents)
        for name in (
            "vertices",
            "joints",
            "shape_dirs",
            "joint_shape_dirs",
            "expression_dirs",
            "joint_expression_dirs",
            "weights",
        ):
            self._constant(name, np.asarray(getattr(arrays, name), np.float32))
        self._constant("expression_vertices", np.asarray(arrays.expression_vertices, np.int64))
        if arrays.pose_dirs is not None:
            self._constant("pose_dirs", arrays.pose_dirs)
        if arrays.joint_regressor is None:
            self.joint_regressor = None
        else:
            self._constant("joint_regressor", arrays.joint_regressor)

    def _constant(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(array)), persistent=False)

    def rest(
        self,
        *,
        preset: str = "",
        shape: Tensor | None = None,
        expressions: Tensor | None = None,
        rotation_matrices: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Unposed vertices [B, V, 3] and joints [B, J, 3], m.

        shape [B, S'] and expressions [B, E'] may be shorter than the template's; preset names a fixed offset.
        rotation_matrices [B, J, 3, 3] add the pose correctives where the template has them. Raises BadTemplate.
        """
        given = [tensor for tensor in (shape, expressions, rotation_matrices) if tensor is not None]
        batch = given[0].shape[0] if given else 1
        vertices, joints = self.vertices, self.joints
        if preset:
            if preset not in self.arrays.presets:
                known = self.arrays.presets
                raise BadTemplate(f"no preset {preset!r}{nearest(preset, known)}", expected=", ".join(known))
            vertex_offsets, joint_offsets = self.arrays.presets[preset]
            vertices = vertices + torch.from_numpy(np.array(vertex_offsets, np.float32)).to(vertices)
            joints = joints + torch.from_numpy(np.array(joint_offsets, np.float32)).to(joints)
        vertices, joints = vertices.expand(batch, -1, -1), joints.expand(batch, -1, -1)
        if shape is not None and shape.shape[1]:
            self._fits("shape", shape, len(self.shape_dirs))
            vertices = vertices + torch.einsum("bs,svc->bvc", shape, self.shape_dirs[: shape.shape[1]])
            joints = joints + torch.einsum("bs,sjc->bjc", shape, self.joint_shape_dirs[: shape.shape[1]])
        if expressions is not None and expressions.shape[1]:
            self._fits("expressions", expressions, len(self.expression_dirs))
            count = expressions.shape[1]
            moved = torch.einsum("be,emc->bmc", expressions, self.expression_dirs[:count])
            vertices = vertices.index_add(1, self.expression_vertices, moved)
            joints = joints + torch.einsum("be,ejc->bjc", expressions, self.joint_expression_dirs[:count])
        if rotation_matrices is not None and self.has_pose_dirs:
            vertices = vertices + self.pose_corrections(rotation_matrices)
        return vertices, joints

    @property
    def has_pose_dirs(self) -> bool:
        """Whether joint rotations bend the surface beyond skinning."""
        return self.arrays.pose_dirs is not None

    def pose_corrections(self, rotation_matrices: Tensor) -> Tensor:
        """Offsets [B, V, 3] m before skinning for rotation_matrices [B, J, 3, 3] (SMPL's R - I of all but the root)."""
        identity = torch.eye(3, dtype=rotation_matrices.dtype, device=rotation_matrices.device)
        feature = (rotation_matrices[:, 1:] - identity).reshape(len(rotation_matrices), -1)
        return (feature @ self.pose_dirs.flatten(1)).reshape(len(feature), -1, 3)

    @staticmethod
    def _fits(name: str, values: Tensor, most: int) -> None:
        if values.shape[1] > most:
            raise BadTemplate(f"too many {name} coefficients", found=str(values.shape[1]), expected=f"at most {most}")

    def joint_transforms(self, rotations: Tensor, joints: Tensor, translations: Tensor) -> tuple[Tensor, Tensor]:
        """Skinning matrices and model_from_joint, both [B, J, 4, 4].

        rotations [B, J, 3] rad or [B, J, 3, 3] matrices, joints [B, J, 3] m at rest, translations [B, 3] m of the root.
        """
        matrices = rotations if rotations.dim() == 4 else matrices_from_axis_angle(rotations)
        turned: list[Tensor] = []
        placed: list[Tensor] = []
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                turned.append(matrices[:, joint])
                placed.append(joints[:, joint])
            else:
                offset = (joints[:, joint] - joints[:, parent])[..., None]
                placed.append(placed[parent] + (turned[parent] @ offset)[..., 0])
                turned.append(turned[parent] @ matrices[:, joint])
        rotation, place = torch.stack(turned, 1), torch.stack(placed, 1)
        shifted = place - (rotation @ joints[..., None])[..., 0] + translations[:, None]
        return self._homogeneous(rotation, shifted), self._homogeneous(rotation, place + translations[:, None])

    @staticmethod
    def _homogeneous(rotation: Tensor, translation: Tensor) -> Tensor:
        last = torch.zeros_like(rotation[..., :1, :])
        last = torch.cat((last, torch.ones_like(last[..., :1])), -1)
        return torch.cat((torch.cat((rotation, translation[..., None]), -1), last), -2)

    def skin(self, vertices: Tensor, skinning: Tensor) -> Skinned:
        """Pose vertices [B, V, 3] by skinning [B, J, 4, 4] with the template's weights (linear blend)."""
        batch, joints = skinning.shape[:2]
        blended = self.weights @ skinning[:, :, :3].reshape(batch, joints, 12)
        transforms = blended.reshape(batch, -1, 3, 4)
        posed = (transforms[..., :3] @ vertices[..., None])[..., 0] + transforms[..., 3]
        return Skinned(posed, transforms)

    def forward(
        self,
        rotations: Tensor,
        translations: Tensor,
        expressions: Tensor | None = None,
        *,
        preset: str = "",
        shape: Tensor | None = None,
    ) -> Posed:
        """Posed vertices and all transforms. rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E].

        shape [S] or [B, S]. Model axes throughout (z up).
        """
        matrices = matrices_from_axis_angle(rotations)
        if shape is not None:
            shape = shape.expand(len(rotations), -1) if shape.dim() == 1 else shape
        vertices, joints = self.rest(preset=preset, shape=shape, expressions=expressions, rotation_matrices=matrices)
        skinning, model_from_joint = self.joint_transforms(matrices, joints, translations)
        skinned = self.skin(vertices, skinning)
        place = model_from_joint[..., :3, 3]
        return Posed(skinned.vertices, place, skinning, model_from_joint, skinned.transforms, vertices)


def triangles_of(quads: np.ndarray, uv_quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split quads [F, 4] and their UV quads into triangles [F', 3]; a quad repeating its last index is one triangle."""
    is_quad = quads[:, 2] != quads[:, 3]
    first, second = (0, 1, 2), (0, 2, 3)
    faces = np.concatenate((quads[:, first], quads[is_quad][:, second])).astype(np.int32)
    uv_faces = np.concatenate((uv_quads[:, first], uv_quads[is_quad][:, second])).astype(np.int32)
    return faces, uv_faces


def template_triangles(arrays: TemplateArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triangles [F, 3] of a template, their UV triangles, and which face group each belongs to [F] int64.

    Groups follow each other in the template's order. For FLAME that is its own numbering of faces, the teeth last.
    """
    parts = [triangles_of(arrays.faces[name], arrays.uv_faces[name]) for name in arrays.faces]
    owner = np.repeat(np.arange(len(parts)), [len(faces) for faces, _ in parts])
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), owner
