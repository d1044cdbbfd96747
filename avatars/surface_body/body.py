"""A person's template in the star pose: its distance grid, its skinning everywhere, and where it is in a pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.relit_body.person import Person
from avatars.relit_field.inverse_skinning import make_guide, part_of_joints
from avatars.relit_field.settings import ArticulationSettings
from avatars.relit_field.skinning_volume import skinning_volume
from avatars.skinning.affine import inverse_affine
from avatars.surface_body.base_distance import distance_grid
from avatars.surface_body.mesh_state import vertex_normals
from avatars.surface_body.settings import SurfaceConfig
from avatars.surface_body.trilinear import Lattice
from avatars.templates.big_pose import SURFACE_GROUPS, surface_triangles
from avatars.templates.opening import TemplateReference
from shared.errors import BadTemplate

SEED = 7
CLOSED = ("skin", "eye_l", "eye_r")
"""Groups of the open template that are closed surfaces; other templates are taken whole."""
BAND_M = 0.01
"""Beyond the shell, so far is the distance grid exact as well."""


def star_rotations(joint_names: tuple[str, ...], hips_deg: float) -> Tensor:
    """[J, 3] rad of the star pose: both legs turned outwards. Raises BadTemplate for what is no body.

    SMPL turns hips by +-45 degrees about its z axis, which is -y in Effigy's axes.
    """
    rotations = torch.zeros(len(joint_names), 3)
    for name, sign in (("left_hip", 1.0), ("right_hip", -1.0)):
        if name not in joint_names:
            raise BadTemplate("this template is no whole body", found=f"no joint {name!r}", expected="both hips")
        rotations[joint_names.index(name), 1] = -sign * float(np.radians(hips_deg))
    return rotations


@dataclass(frozen=True, eq=False)
class Guide:
    """Where a posed template is. distance: [S^3, 1] signed m at the nodes of `lattice` (x fastest); starts: [S^3, K]
    int64 guide vertices of the nearest parts, in the same order; low, high: [3] m of its box."""

    distance: Tensor
    starts: Tensor
    lattice: Lattice
    low: Tensor
    high: Tensor


class StarBody:
    """Constants only. vertices [V, 3] m and faces [F, 3] of the visible skin; skin: [V, J] its weights; low, high
    [3] m: the canonical box; base: the template's signed distance; weights: [1, J, Z, Y, X] over the box. Raises
    BadTemplate."""

    def __init__(self, reference: TemplateReference, config: SurfaceConfig, device: torch.device) -> None:
        self.reference, self.config, self.device = reference, config, device
        arrays = reference.open()
        self.person = Person(reference, star_rotations(arrays.joint_names, config.star.hips_deg)).to(device)
        whole: list[tuple[str, ...]] = [(name,) for name in CLOSED if name in arrays.faces] or [SURFACE_GROUPS]
        pieces = [surface_triangles(arrays, groups) for groups in whole]
        triangles = np.concatenate(pieces)
        used = np.unique(triangles)
        self.vertices: NDArray[np.float64] = self.person.vertices.double().cpu().numpy()[used]
        self.faces: NDArray[np.int64] = np.searchsorted(used, triangles)
        low, high = (end(0) for end in (self.vertices.min, self.vertices.max))
        low, high = low - config.star.margin_m, high + config.star.margin_m
        self.low, self.high = (torch.from_numpy(end).float().to(device) for end in (low, high))
        band = config.sampling.shell_m + BAND_M
        pieces = [np.searchsorted(used, piece) for piece in pieces]
        self.base = distance_grid(self.vertices, pieces, low, high, config.star.base_spacing_m, band, device)
        weights = arrays.weights[used]
        self.skin = torch.from_numpy(weights).float().to(device)
        skinning = ArticulationSettings(
            volume=config.deformation.cells, neighbours=12, smoothings=config.deformation.smoothings
        )
        self.weights = skinning_volume(self.vertices, weights, low, high, skinning, device).weights
        self._make_guide_vertices(weights)

    def _make_guide_vertices(self, weights: NDArray[np.float32]) -> None:
        """Some vertices, by the part of the body they belong to."""
        names = self.person.arrays.joint_names
        parents = [int(parent) for parent in self.person.arrays.parents]
        count = self.config.deformation.guide_vertices
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(weights))[:count])
        owner = np.array(part_of_joints(names, parents))[weights[chosen].argmax(1)]
        self.guide_parts = [
            torch.from_numpy(np.flatnonzero(owner == part)).to(self.device) for part in np.unique(owner)
        ]
        self.guide_places = torch.from_numpy(self.vertices[chosen]).float().to(self.device)
        self.guide_weights = torch.from_numpy(weights[chosen]).to(self.device)
        surface = torch.from_numpy(self.vertices)[None], torch.from_numpy(self.faces)
        self.guide_normals = vertex_normals(*surface)[0, torch.from_numpy(chosen)].float().to(self.device)

    def transforms(self, rotations: Tensor, translations: Tensor, expressions: Tensor | None = None) -> Tensor:
        """Posed from canonical [B, J, 3, 4] for rotations [B, J, 3] rad and translations [B, 3] m; differentiable."""
        nothing = rotations.new_zeros(len(rotations), 0)
        return self.person.moved(rotations, translations, nothing if expressions is None else expressions)[..., :3, :]

    def back_at_guide(self, transforms: Tensor) -> Tensor:
        """Canonical from posed [B, N, 3, 4] at the guide's vertices, of transforms [B, J, 3, 4]. Without gradients."""
        with torch.no_grad():
            blended = torch.einsum("nj,bjrc->bnrc", self.guide_weights, transforms)
            return inverse_affine(blended)

    def guide(self, transforms: Tensor) -> Guide:
        """Where the template is in one pose, transforms [J, 3, 4]. Without gradients."""
        with torch.no_grad():
            blended = torch.einsum("nj,jrc->nrc", self.guide_weights, transforms)
            places = (blended[..., :3] @ self.guide_places[..., None])[..., 0] + blended[..., 3]
            side, margin = self.config.deformation.guide, 1.5 * self.config.sampling.shell_m
            low, high = places.amin(0) - margin, places.amax(0) + margin
            found = make_guide(places, self.guide_parts, low, high, side, self.config.deformation.starts)
            cell = (high - low) / side
            lattice = Lattice(low + cell / 2, 1 / cell, (side, side, side))
            starts = found.starts.view(side, side, side, -1).permute(2, 1, 0, 3).reshape(side**3, -1).long()
            far = found.closest_m.view(side, side, side).permute(2, 1, 0).reshape(-1)
            nearest, nodes = starts[:, 0], lattice.places()
            back = inverse_affine(blended)[nearest]
            canonical = (back[..., :3] * nodes[:, None]).sum(-1) + back[..., 3]
            # One part's transform may take a place outside into another part: the skin there must face away as well.
            normals = (blended[..., :3] * self.guide_normals[:, None]).sum(-1)
            behind = ((nodes - places[nearest]) * normals[nearest]).sum(-1) < 0
            signed = torch.where(behind & (self.base.at(canonical) < 0), -far, far)
            return Guide(signed[:, None].contiguous(), starts, lattice, low, high)
