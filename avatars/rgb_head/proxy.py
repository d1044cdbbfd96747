"""The rig and the light skinned mesh that stand for a head in Blender."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.binding import UvBinding
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.model import SH0, RgbHead
from avatars.templates.rig import rig_of
from shared.types import ProxyMesh, Rig

WEIGHTS_PER_VERTEX = 8
GREY = 0.5


def head_rig(model: RgbHead) -> Rig:
    """Joint names, parents and rest joints of the head's own shape."""
    return template_rig(model.head)


def head_proxy(model: RgbHead) -> ProxyMesh:
    """The template's faces that carry Gaussians, coloured by them."""
    with torch.no_grad():
        colours = (SH0 * model.colours + 0.5).clamp(0, 1)
        return bound_proxy(model.head, model.binding, colours, torch.sigmoid(model.opacities) * model.seen)


def template_rig(head: HeadTemplate) -> Rig:
    """Joint names, parents and rest joints of one person's template."""
    return rig_of(head.template.arrays, head.joints, head.shape)


def bound_proxy(head: HeadTemplate, binding: UvBinding, colours: Tensor, weight: Tensor) -> ProxyMesh:
    """The face groups of a template that carry Gaussians, coloured by them.

    colours [N, 3] display-encoded sRGB in 0..1; weight [N] how much each counts (its opacity, 0 where it is not seen).
    """
    arrays = head.template.arrays
    groups = tuple(dict.fromkeys(name.partition("/")[0] for name in binding.group_names))
    faces = np.concatenate([arrays.faces[name] for name in groups])
    group = np.concatenate([np.full(len(arrays.faces[name]), index) for index, name in enumerate(groups)])
    used, inverse = np.unique(faces, return_inverse=True)
    row = np.full(len(arrays.vertices), -1, np.int64)
    row[used] = np.arange(len(used))
    width = min(WEIGHTS_PER_VERTEX, arrays.weights.shape[1])
    joints = np.argsort(-arrays.weights[used], axis=1, kind="stable")[:, :width]
    weights = np.take_along_axis(arrays.weights[used], joints, 1)
    touched = row[arrays.expression_vertices] >= 0
    return ProxyMesh(
        vertices=head.vertices.cpu().numpy()[used],
        faces=inverse.reshape(faces.shape).astype(np.int32),
        group=group,
        group_names=groups,
        joints=joints.astype(np.int32),
        weights=weights / weights.sum(1, keepdims=True),
        colour=vertex_colours(len(head.vertices), binding, colours, weight)[used],
        expression_vertices=row[arrays.expression_vertices][touched],
        expression_offsets=arrays.expression_dirs[:, touched],
    )


def vertex_colours(count: int, binding: UvBinding, colours: Tensor, weight: Tensor) -> NDArray[np.float32]:
    """Linear RGB [count, 3] of the template's vertices: the mean of the Gaussians on their triangles, else grey."""
    with torch.no_grad():
        shares = binding.barycentrics * weight[:, None]
        vertices = binding.triangles[binding.face].flatten()
        total = torch.zeros(count, 4, device=colours.device)
        values = torch.cat((colours, torch.ones_like(colours[:, :1])), 1)
        total.index_add_(0, vertices, (shares[..., None] * values[:, None]).flatten(0, 1))
        encoded = torch.where(total[:, 3:] > 1e-6, total[:, :3] / total[:, 3:].clamp_min(1e-6), GREY)
    array = encoded.cpu().numpy().astype(np.float64)
    linear = np.where(array <= 0.04045, array / 12.92, ((array + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)
