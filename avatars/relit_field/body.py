"""A person's fields on a skeleton: the canonical template, its box, and the body in one pose (method page C.1, C.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.relit_field.blend_volume import BlendVolume
from avatars.relit_field.fields import Fields
from avatars.relit_field.inverse_skinning import Guide, canonical_roots, make_guide, part_of_joints
from avatars.relit_field.settings import ArticulationSettings
from avatars.relit_field.skinning_volume import skinning_volume
from avatars.skinning.affine import inverse_affine
from avatars.templates.big_pose import SURFACE_GROUPS, surface_triangles
from avatars.templates.opening import TemplateReference
from avatars.templates.rotations import matrices_from_axis_angle
from avatars.templates.template import Template
from shared.errors import BadTemplate

HIPS_RAD, SHOULDERS_RAD = 0.2, 0.8
SEED = 7


def a_pose(joint_names: tuple[str, ...]) -> Tensor:
    """[J, 3] rad of the canonical pose: legs a little apart, arms down. Raises BadTemplate for what is no body.

    SMPL turns hips by ±0.2 and shoulders by ∓0.8 about its z axis, which is -y in Effigy's axes.
    """
    rotations = torch.zeros(len(joint_names), 3)
    for name, about_z in (
        ("left_hip", HIPS_RAD),
        ("right_hip", -HIPS_RAD),
        ("left_shoulder", -SHOULDERS_RAD),
        ("right_shoulder", SHOULDERS_RAD),
    ):
        if name not in joint_names:
            raise BadTemplate("this template is no whole body", found=f"no joint {name!r}", expected="hips, shoulders")
        rotations[joint_names.index(name), 1] = -about_z
    return rotations


@dataclass(frozen=True, eq=False)
class PosedBody:
    """One pose. transforms: [J, 3, 4] posed from canonical; volume: the same everywhere, None where it was put aside;
    inverse: [N, 3, 4] canonical from posed at the guide's vertices; low, high: [3] m of the posed box; learned: the
    transforms again where they are differentiated."""

    transforms: Tensor
    volume: BlendVolume | None
    inverse: Tensor
    guide: Guide
    low: Tensor
    high: Tensor
    learned: Tensor | None = None

    @property
    def blend(self) -> BlendVolume:
        """The volume, which must be there."""
        assert self.volume is not None
        return self.volume


class CanonicalBody:
    """The template in its canonical pose, and what carries it into others. Constants only; nothing here is learned."""

    def __init__(
        self, reference: TemplateReference, settings: ArticulationSettings, box_scale: float, device: torch.device
    ) -> None:
        self.reference, self.settings, self.device = reference, settings, device
        self.template = Template(reference.open()).to(device)
        arrays = self.template.arrays
        self.rotations = a_pose(arrays.joint_names).to(device)
        shape = torch.tensor(reference.shape, device=device)
        nothing = torch.zeros(1, 3, device=device)
        with torch.no_grad():
            vertices, joints = self.template.rest(preset=reference.preset, shape=shape[None] if len(shape) else None)
            self.joints = joints[0]
            skinning, _ = self.template.joint_transforms(self.rotations[None], joints, nothing)
            self.from_rest = torch.linalg.inv(skinning[0].double())
            placed = self.template.skin(vertices, skinning).vertices[0]
        self.triangles = surface_triangles(arrays, ("skin",) if "skin" in arrays.faces else SURFACE_GROUPS)
        used = np.unique(self.triangles)
        self.surface: NDArray[np.float64] = placed[torch.from_numpy(used).to(device)].double().cpu().numpy()
        self.surface_faces = np.searchsorted(used, self.triangles)
        low, high = self.surface.min(0), self.surface.max(0)
        centre, half = (low + high) / 2, (high - low) / 2 * box_scale
        self.centre = torch.from_numpy(centre).float().to(device)
        self.half_m, self.diagonal_m = float(half.max()), float(np.linalg.norm(2 * half))
        self.volume = skinning_volume(
            self.surface, arrays.weights[used], centre - half, centre + half, settings, device
        )
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(used))[: settings.guide_vertices])
        parts = part_of_joints(arrays.joint_names, self.template.parents)
        owner = np.array(parts)[arrays.weights[used][chosen].argmax(1)]
        self.guide_parts = [torch.from_numpy(np.flatnonzero(owner == part)).to(device) for part in np.unique(owner)]
        self.guide_places = torch.from_numpy(self.surface[chosen]).float().to(device)
        self.guide_weights = torch.from_numpy(arrays.weights[used][chosen]).to(device)

    def blended(self, pose: PosedBody) -> PosedBody:
        """A pose whose volume was put aside, with its volume."""
        with torch.no_grad():
            return replace(pose, volume=self.volume.posed(pose.transforms))

    def posed(self, rotations: Tensor, translations: Tensor, guide: Guide | None = None) -> PosedBody:
        """The body in one pose: rotations [J, 3] rad, translations [3] m; `learned` where those are differentiated.

        guide: that of nearly the same pose, which saves making one.
        """
        matrices = matrices_from_axis_angle(rotations[None].to(self.device))
        skinning, _ = self.template.joint_transforms(matrices, self.joints[None], translations[None].to(self.device))
        learned = (skinning[0].double() @ self.from_rest)[:, :3].float()
        with torch.no_grad():
            transforms = learned.detach()
            blended = (self.guide_weights @ transforms.flatten(1)).view(-1, 3, 4)
            if guide is None:
                places = (blended[..., :3] @ self.guide_places[..., None])[..., 0] + blended[..., 3]
                margin = self.settings.near_template_m
                low, high = places.amin(0) - margin, places.amax(0) + margin
                guide = make_guide(places, self.guide_parts, low, high, self.settings.guide, self.settings.parts)
            inverse, volume = inverse_affine(blended), self.volume.posed(transforms)
        kept = learned if learned.requires_grad else None
        return PosedBody(transforms, volume, inverse, guide, guide.low, guide.high, kept)

    def following(self, pose: PosedBody, canonical: Tensor) -> Tensor:
        """The same canonical places [P, 3], with the slope that a change of the pose gives them.

        Where a fixed posed place comes from moves against the skin's motion. Blending weights count as constants.
        """
        if pose.learned is None:
            return canonical
        with torch.no_grad():
            weights, back = self.volume.at(canonical), inverse_affine(pose.blend.at(canonical))[..., :3]
        blended = (weights @ pose.learned.flatten(1)).view(-1, 3, 4)
        skinned = (blended[..., :3] * canonical[:, None]).sum(-1) + blended[..., 3]
        return canonical - (back * (skinned - skinned.detach())[:, None]).sum(-1)

    def canonical(self, pose: PosedBody, places: Tensor, fields: Fields, levels: int | None) -> tuple[Tensor, Tensor]:
        """Canonical place [P, 3] of each posed one (the innermost where several exist), and which have one [P] bool."""
        roots = canonical_roots(places, pose.blend, pose.inverse, pose.guide, self.settings)
        real = roots.real & fields.inside(roots.places.flatten(0, 1)).view_as(roots.real)
        chosen = torch.argmax(real.int(), dim=1)  # the first real one
        crowded = torch.nonzero(real.sum(1) > 1)[:, 0]
        if len(crowded):
            with torch.no_grad():
                several = roots.places[crowded]
                distance = fields.distance(several.flatten(0, 1), levels)[0].view(several.shape[:2])
                distance = distance.masked_fill(~real[crowded], torch.inf)
                chosen[crowded] = distance.argmin(1)
        row = torch.arange(len(places), device=places.device)
        return roots.places[row, chosen], real.any(1)

    def turned(self, pose: PosedBody, places: Tensor, vectors: Tensor) -> Tensor:
        """Canonical vectors [P, 3] at canonical places in the posed body's axes, by the blended bone rotations."""
        return (pose.blend.at(places)[..., :3] * vectors[:, None]).sum(-1)
