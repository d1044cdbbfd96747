"""RGBAvatar's model.ply as one of our heads, and one of our heads as a model.ply (method page 2 and 8)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.formats.flame_faces import RGBAVATAR_FACES, between_teeth, numbered_faces
from avatars.formats.rgbavatar_network import (
    Network,
    RgbAvatarSettings,
    infer_inputs,
    linear_part,
    pack_network,
    unpack_network,
)
from avatars.formats.rgbavatar_ply import UNSEEN_LOGIT, RgbAvatarFile
from avatars.formats.rgbavatar_theta import folded, layout_of, widened, with_hidden
from avatars.gaussian_head.model import rows_of
from avatars.gaussians.binding import UvBinding, anchors, bind_uv_grid
from avatars.gaussians.posed import multiply_quaternions
from avatars.rgb_head.driving import open_range
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.model import RgbHead
from avatars.templates.opening import TemplateReference
from avatars.templates.template import Template
from shared.errors import BadAvatar
from shared.template import TemplateArrays

START_SCALE_M = 0.0008
JAW_TEST_RAD = 0.3


def settings_without_config(file: RgbAvatarFile, path: Path) -> RgbAvatarSettings:
    """What a model.ply says of itself when its config is lost. Raises BadAvatar when in doubt."""
    inputs = infer_inputs(file, path)
    settings = RgbAvatarSettings(inputs=inputs, blendshapes=file.blendshapes, use_pose_weight=inputs > 100)
    if inputs == 66:
        raise BadAvatar(
            f"{path} is of an avatar on a head model that was never published", found="66 inputs", expected="129 or 100"
        )
    return settings


def import_rgbavatar(
    file: RgbAvatarFile,
    settings: RgbAvatarSettings,
    reference: TemplateReference,
    path: Path,
    vertex_offset: NDArray[np.float32] | None = None,
) -> RgbHead:
    """A head that gives exactly RGBAvatar's Gaussians for every pose.

    reference: FLAME with RGBAvatar's teeth and the subject's shape; vertex_offset [V, 3] m, model axes. θ is neither
    clipped nor standardised. Raises BadAvatar or BadTemplate.
    """
    arrays = reference.open()
    network = unpack_network(file, settings, path)
    layout, inputs = layout_of(settings)
    if inputs < layout.size():
        network = widened(network, layout.size())
    missing = [name for field in layout.fields for name in field.names if name.startswith("eyelid")]
    if missing and not set(missing) <= set(arrays.expression_names):
        raise BadAvatar(
            f"{path} is driven by eyelids, which the template {arrays.template_id!r} lacks",
            do="Add the template again with its two eyelid files",
        )
    offset = None if vertex_offset is None else torch.as_tensor(np.array(vertex_offset, np.float32))
    head = HeadTemplate.make(Template(arrays), reference.preset, reference.shape, offset)
    model = RgbHead(
        head,
        _binding(file, settings, arrays, head.vertices, path),
        layout,
        blendshapes=file.blendshapes,
        frame="uv",
        driving_range=open_range(layout.size()),
        rest_pose=np.zeros((len(arrays.joint_names), 3), np.float32),
        hidden=network.hidden,
    )
    values = {
        "positions": file.positions,
        "rotations": file.rotations,
        "scales": file.scales,
        "opacities": file.opacities,
        "colours": file.colours,
        "position_deltas": file.position_deltas,
        "rotation_deltas": file.rotation_deltas,
        "colour_deltas": file.colour_deltas,
    }
    with torch.no_grad():
        for name, value in values.items():
            share = 0.0 if name.endswith("_deltas") and not settings.use_blend else 1.0
            getattr(model, name).copy_(torch.from_numpy(np.ascontiguousarray(value)) * share)
        for layer, (weight, bias) in zip((0, 2, 4), network.layers, strict=True):
            model.network[layer].weight.copy_(torch.from_numpy(np.array(weight)))
            model.network[layer].bias.copy_(torch.from_numpy(np.array(bias)))
        model.seen.copy_(torch.from_numpy(file.opacities > UNSEEN_LOGIT + 1))
    return model


def export_rgbavatar(model: RgbHead) -> tuple[RgbAvatarFile, RgbAvatarSettings, list[str]]:
    """A head as a model.ply and its settings, and a sentence for everything that could not go along.

    A head trained with frame 'uv' comes out exact. Raises BadAvatar where RGBAvatar has nothing of the kind.
    """
    notes: list[str] = []
    network = _network_of(model)
    linear = linear_part(network)
    first, shift, settings = folded(*(linear or network.layers[0]), model.layout, model.driving_range)
    settings = replace(settings, blendshapes=model.blendshapes)
    if linear is None:
        layers = with_hidden(Network(((first, shift), *network.layers[1:]))).layers
    else:
        bare = not shift.any() and np.array_equal(first, np.eye(len(first)))
        settings = replace(settings, use_mlp_proj=False, use_weight_proj=not bare)
        layers = () if bare else ((first, shift),)
    numbers = sum(part.size for layer in layers for part in layer)
    if (model.driving_range.high < 1e30).any():
        notes.append("RGBAvatar does not hold the driving vector inside the training range; expect spikes beyond it.")
    if model.captured_irradiance is not None:
        notes.append("The light of the capture has no place in the file: the copy cannot be relit.")
    face, barycentrics = _faces_of(model)
    positions, rotations, position_deltas, rotation_deltas = _in_uv_frames(model, notes)

    def array(value: Tensor) -> NDArray[np.float32]:
        return value.detach().cpu().numpy().astype(np.float32, copy=False)

    opacities = torch.where(model.seen, model.opacities, torch.full_like(model.opacities, UNSEEN_LOGIT))
    file = RgbAvatarFile(
        positions=array(positions),
        opacities=array(opacities),
        scales=array(model.scales),
        rotations=array(rotations),
        colours=array(model.colours),
        position_deltas=array(position_deltas),
        rotation_deltas=array(rotation_deltas),
        colour_deltas=array(model.colour_deltas),
        packed=np.zeros(len(model), np.float32),
        face=face.astype(np.int32),
        barycentrics=barycentrics,
    )
    if len(file) < numbers:
        notes.append(f"{numbers - len(file)} invisible Gaussians were added so that the network's numbers have room.")
        file = _padded(file, numbers)
    if layers:
        file = replace(file, packed=pack_network(layers, len(file)))
    return file, settings, notes


def _network_of(model: RgbHead) -> Network:
    parts = [model.network[index] for index in (0, 2, 4)]
    return Network(tuple((part.weight.detach().cpu().numpy(), part.bias.detach().cpu().numpy()) for part in parts))


def _binding(
    file: RgbAvatarFile, settings: RgbAvatarSettings, arrays: TemplateArrays, vertices: Tensor, path: Path
) -> UvBinding:
    """Where the file's Gaussians sit: as it says, or in the grid it was trained with."""
    faces, uv_faces, group = numbered_faces(arrays)
    if file.face is None or file.barycentrics is None:
        grid = bind_uv_grid(arrays, vertices.numpy(), settings.tex_size)
        if len(grid) != len(file):
            raise BadAvatar(
                f"{path} does not say where its Gaussians sit, and the UV grid has another number of texels",
                found=f"{len(file)} Gaussians",
                expected=f"{len(grid)} for tex_size {settings.tex_size}",
            )
        return grid
    if len(faces) != RGBAVATAR_FACES and file.face.max(initial=0) >= len(faces):
        raise BadAvatar(
            f"{path} needs FLAME with RGBAvatar's teeth",
            found=f"template {arrays.template_id!r} of {len(faces)} faces",
            expected=f"{RGBAVATAR_FACES} faces",
        )
    if file.face.size and (file.face.min() < 0 or file.face.max() >= len(faces)):
        raise BadAvatar(
            f"{path} binds Gaussians to faces that FLAME lacks",
            found=f"{file.face.min()} to {file.face.max()}",
            expected=f"0 to {len(faces) - 1}",
        )
    used, row = np.unique(file.face, return_inverse=True)
    uv_corners = np.asarray(arrays.uv, np.float64)[uv_faces[used]]
    corners = vertices.numpy().astype(np.float64)[faces[used]]
    edges = (uv_corners[:, 1:] - uv_corners[:, :1], corners[:, 1:] - corners[:, :1])
    per_uv = np.linalg.norm(np.linalg.pinv(edges[0]) @ edges[1], axis=2)  # metres along u and v
    return UvBinding(
        torch.from_numpy(faces[used]),
        torch.from_numpy(uv_corners.astype(np.float32)),
        torch.from_numpy(row.astype(np.int64)),
        torch.from_numpy(np.array(file.barycentrics)),
        torch.from_numpy(group[file.face]),
        tuple(arrays.faces),
        torch.from_numpy((per_uv[row] / settings.tex_size).astype(np.float32)),
    )


def _faces_of(model: RgbHead) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Face numbers [N] in FLAME with RGBAvatar's teeth, and barycentrics [N, 3]."""
    faces, _, _ = numbered_faces(model.head.template.arrays)
    found = rows_of(faces, model.binding.triangles.cpu().numpy())
    mapped = between_teeth(found, len(faces), RGBAVATAR_FACES)[model.binding.face.cpu().numpy()]
    if (mapped < 0).any():
        raise BadAvatar(
            "the avatar has Gaussians on teeth that RGBAvatar's FLAME lacks",
            found=f"{int((mapped < 0).sum())} of them",
            do="Train it on FLAME with RGBAvatar's teeth",
        )
    return mapped, model.binding.barycentrics.cpu().numpy()


def _in_uv_frames(model: RgbHead, notes: list[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions, rotations and their deltas in RGBAvatar's frames: as they are, or converted at rest with a note."""
    if model.frame == "uv":
        return model.positions, model.rotations, model.position_deltas, model.rotation_deltas
    vertices = model.head.vertices[None]
    ours, theirs = (anchors(model.binding, vertices, kind) for kind in (model.frame, "uv"))
    change = torch.linalg.solve(theirs.frames[0].double(), ours.frames[0].double())  # theirs from ours, at rest
    conjugate = theirs.quats[0].double() * theirs.quats.new_tensor([1.0, -1, -1, -1]).double()
    turn = multiply_quaternions(conjugate, ours.quats[0].double())
    with torch.no_grad():
        positions = (change @ model.positions.double()[..., None])[..., 0]
        position_deltas = (change @ model.position_deltas.double()[..., None])[..., 0]
        rotations = multiply_quaternions(turn, model.rotations.double())
        rotation_deltas = multiply_quaternions(turn, model.rotation_deltas.double())
        arrays = model.head.template.arrays
        pose = torch.zeros(1, len(arrays.joint_names), 3, device=vertices.device)
        pose[:, arrays.joint("jaw"), 0] = JAW_TEST_RAD
        still = torch.zeros(1, 3, device=vertices.device)
        opened = model.head.posed_vertices(pose, still, still.new_zeros(1, len(arrays.expression_names)))
        placed = [
            anchors(model.binding, opened, kind).frames[0].double() @ local[..., None]
            for kind, local in ((model.frame, model.positions.double()), ("uv", positions))
        ]
        worst_m = float((placed[0] - placed[1]).norm(dim=1).max()) if len(model) else 0.0
    notes.append(
        f"Its triangles' frames ({model.frame}) were turned into RGBAvatar's at rest, exact there and close to it in "
        f"other poses (Gaussians moved by at most {1000 * worst_m:.3f} mm with the jaw open)."
    )
    return positions.float(), rotations.float(), position_deltas.float(), rotation_deltas.float()


def _padded(file: RgbAvatarFile, rows: int) -> RgbAvatarFile:
    """The file with invisible Gaussians up to `rows`."""
    extra = rows - len(file)

    def pad(value: NDArray[np.float32], fill: float = 0.0, axis: int = 0) -> NDArray[np.float32]:
        shape = list(value.shape)
        shape[axis] = extra
        return np.concatenate((value, np.full(shape, fill, value.dtype)), axis)

    rotations = pad(file.rotations)
    rotations[-extra:, 0] = 1
    assert file.face is not None
    assert file.barycentrics is not None
    return RgbAvatarFile(
        positions=pad(file.positions),
        opacities=pad(file.opacities, UNSEEN_LOGIT),
        scales=pad(file.scales, float(np.log(START_SCALE_M))),
        rotations=rotations,
        colours=pad(file.colours),
        position_deltas=pad(file.position_deltas, axis=1),
        rotation_deltas=pad(file.rotation_deltas, axis=1),
        colour_deltas=pad(file.colour_deltas, axis=1),
        packed=pad(file.packed),
        face=np.concatenate((file.face, np.zeros(extra, np.int32))),
        barycentrics=pad(file.barycentrics, 1 / 3),
    )
