"""RGBAvatar's kind of head as GaussianAvatars' kind, frozen at one pose (method page 10.5)."""

from __future__ import annotations

import numpy as np
import torch

from avatars.formats.flame_faces import between_teeth, numbered_faces
from avatars.formats.splats import INVISIBLE
from avatars.gaussian_head.avatar import make_gaussian_head
from avatars.gaussian_head.model import GaussianHead, rows_of
from avatars.gaussians.binding import anchors
from avatars.gaussians.frames import triangle_scales
from avatars.gaussians.posed import multiply_quaternions
from avatars.rgb_head.model import RgbHead
from avatars.templates.opening import TemplateReference
from shared.types import Pose


def gaussian_head_of(model: RgbHead, reference: TemplateReference, pose: Pose) -> tuple[GaussianHead, list[str]]:
    """The head's Gaussians as they are at `pose`, bound to the faces of another FLAME, and what was lost, in sentences.

    reference: FLAME with GaussianAvatars' teeth; the head's shape and static offset are taken over. At `pose` both show
    the same Gaussians. Raises BadTemplate where either template is not FLAME, BadAvatar for another rig.
    """
    notes = [
        f"The {model.blendshapes} blendshapes have no place in GaussianAvatars' files: the head keeps the look of one "
        "pose, and its skin no longer changes with the expression."
    ]
    arrays, target = model.head.template.arrays, reference.open()
    faces, _, _ = numbered_faces(arrays)
    target_faces, _, _ = numbered_faces(target)
    own = rows_of(faces, model.binding.triangles.cpu().numpy())[model.binding.face.cpu().numpy()]
    face = between_teeth(own, len(faces), len(target_faces))
    rotations, translation, expressions = (
        torch.from_numpy(np.array(value, np.float32))[None].to(model.positions)
        for value in (pose.rotations, pose.translation, pose.expression)
    )
    offset = None
    if model.head.vertex_offset is not None:
        offset = torch.zeros(len(target.vertices), 3)
        rows = min(len(offset), len(model.head.vertex_offset))
        offset[:rows] = model.head.vertex_offset[:rows].cpu()
    with torch.no_grad():
        posed = model.pose(rotations, translation, expressions)
        _, _, colours = model.blended(model.weights(model.theta(rotations, translation, expressions)), 1)
        shown = (posed.opacities[0].cpu() >= INVISIBLE) & torch.from_numpy(face >= 0)
        lost = int((face < 0).sum())
        if lost:
            notes.append(f"{lost} Gaussians sit on teeth that {target.template_id!r} lacks and were left out.")
        raw = {
            "positions": posed.means[0].cpu()[shown],
            "rotations": posed.quats[0].cpu()[shown],
            "scales": posed.scales[0].cpu()[shown],
            "opacities": model.opacities.cpu()[shown],
            "sh": colours[0].cpu()[shown, None],
            "face": torch.from_numpy(face)[shown],
        }
        head = make_gaussian_head(reference, raw, offset, np.array(model.rest_pose))
        by_name = _expressions(arrays.expression_names, target.expression_names, expressions.cpu(), notes)
        vertices = head.head.posed_vertices(rotations.cpu(), translation.cpu(), by_name)
        surface = anchors(head.binding, vertices, "edge")
        size = triangle_scales(vertices[:, head.binding.triangles])[0, head.binding.face, None].double()
        local = surface.frames[0].double().transpose(1, 2) @ (raw["positions"] - surface.points[0]).double()[..., None]
        conjugate = surface.quats[0].double() * torch.tensor([1.0, -1, -1, -1], dtype=torch.float64)
        raw |= {
            "positions": (local[..., 0] / size).float(),
            "rotations": multiply_quaternions(conjugate, raw["rotations"].double()).float(),
            "scales": (raw["scales"].double() / size).log().float(),
        }
    if model.captured_irradiance is not None:
        notes.append("The light of the capture has no place in the files: the copy cannot be relit.")
    return make_gaussian_head(reference, raw, offset, np.array(model.rest_pose)), notes


def _expressions(
    names: tuple[str, ...], wanted: tuple[str, ...], weights: torch.Tensor, notes: list[str]
) -> torch.Tensor:
    """Weights [1, E] of one rig for another, by name."""
    found = torch.zeros(1, len(wanted))
    for index, name in enumerate(names):
        if name in wanted:
            found[0, wanted.index(name)] = weights[0, index]
        elif weights[0, index] != 0:
            notes.append(f"The pose uses {name!r}, which the other template lacks.")
    return found
