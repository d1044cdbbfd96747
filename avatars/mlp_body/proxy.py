"""The rig and the light skinned mesh that stand for a body in Blender."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from avatars.gaussians.spherical_harmonics import SH0
from avatars.mlp_body.express import COLOUR
from avatars.mlp_body.model import MlpBody
from avatars.mlp_body.settings import DENSITY
from avatars.templates.rig import rig_of
from avatars.templates.template import Template
from shared.types import ProxyMesh, Rig

WEIGHTS_PER_VERTEX = 8
COLOUR_NEIGHBOURS = 4


def body_rig(model: MlpBody) -> Rig:
    """Joint names, parents and rest joints (in the template's own rest pose) of the body's shape."""
    canonical = model.canonical
    return rig_of(canonical.arrays, canonical.skeleton.joints, canonical.reference.shape)


def body_proxy(model: MlpBody) -> ProxyMesh:
    """The template's faces that carry Gaussians, in its rest pose, coloured by the Gaussians near each vertex."""
    canonical = model.canonical
    arrays = canonical.arrays
    known = dict.fromkeys(patch.partition("/")[0] for patch in DENSITY)
    groups = tuple(name for name in arrays.faces if name in known) or tuple(arrays.faces)
    faces = np.concatenate([arrays.faces[name] for name in groups])
    group = np.concatenate([np.full(len(arrays.faces[name]), index) for index, name in enumerate(groups)])
    used, inverse = np.unique(faces, return_inverse=True)
    row = np.full(len(arrays.vertices), -1, np.int64)
    row[used] = np.arange(len(used))
    width = min(WEIGHTS_PER_VERTEX, arrays.weights.shape[1])
    joints = np.argsort(-arrays.weights[used], axis=1, kind="stable")[:, :width]
    weights = np.take_along_axis(arrays.weights[used], joints, 1)
    touched = row[arrays.expression_vertices] >= 0
    reference = canonical.reference
    template = Template(arrays)
    shape = template.vertices.new_tensor([reference.shape]) if reference.shape else None
    rest, _ = template.rest(preset=reference.preset, shape=shape)
    _, near = cKDTree(model.points.xyz.cpu().numpy()).query(canonical.vertices.cpu().numpy()[used], k=COLOUR_NEIGHBOURS)
    encoded = (SH0 * model.neutral.detach()[COLOUR].T + 0.5).clamp(0, 1).cpu().numpy().astype(np.float64)[near].mean(1)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return ProxyMesh(
        vertices=rest[0].numpy()[used],
        faces=inverse.reshape(faces.shape).astype(np.int32),
        group=group,
        group_names=groups,
        joints=joints.astype(np.int32),
        weights=weights / weights.sum(1, keepdims=True),
        colour=linear.astype(np.float32),
        expression_vertices=row[arrays.expression_vertices][touched],
        expression_offsets=arrays.expression_dirs[:, touched],
    )
