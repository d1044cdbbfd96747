"""A head with materials: an RGB head whose colours are albedo, with roughness, metallic, normals and occlusion."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatars.gaussians.binding import Anchors, smooth_normals
from avatars.gaussians.frames import triangle_frames
from avatars.gaussians.posed import PosedGaussians, PosedMaterial
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.lighting.prefilter import FilteredLight
from avatars.lighting.surface_probes import SurfaceProbes
from avatars.relit_head.priors import METALLIC, usual_roughness
from avatars.rgb_head.model import RgbHead, Surface

BRIGHTEST = 0.95
"""Display-encoded albedo of a Gaussian is held below this (0.89 linear): nothing on a person is whiter."""
MATERIALS = ("roughness", "metallic", "tilt")


class RelitHead(nn.Module):
    """N Gaussians bound and blended as in `head`, whose colour coefficients are display-encoded albedo.

    roughness, metallic: [N] before the sigmoid. tilt: [N, 3], added to the surface's normal in the triangle's frame.
    probes: what each Gaussian sees of the sky, None where that was not baked.
    """

    method = "relit_head"

    def __init__(self, head: RgbHead, probes: SurfaceProbes | None = None) -> None:
        super().__init__()
        self.head, self.probes = head, probes
        usual = usual_roughness(head.binding)
        self.roughness = nn.Parameter(torch.logit(usual))
        self.metallic = nn.Parameter(torch.logit(torch.full_like(usual, METALLIC)))
        self.tilt = nn.Parameter(torch.zeros(len(head), 3, device=usual.device))

    def __len__(self) -> int:
        return len(self.head)

    def moved_to(self, device: str) -> RelitHead:
        """This head with everything it holds on `device`."""
        self.head.moved_to(device)
        self.probes = None if self.probes is None else self.probes.to(device)
        self.to(device)
        return self

    def with_head(self, head: RgbHead, rows: Tensor) -> RelitHead:
        """Materials and probes for another set of Gaussians: those of rows [M] of mine; -1 takes the usual ones.

        Probes have to cover all of them, so a row of -1 leaves the result without.
        """
        found = RelitHead(head)
        known = rows >= 0
        with torch.no_grad():
            for name in MATERIALS:
                getattr(found, name)[known] = getattr(self, name)[rows[known]]
        found.probes = self.probes.kept(rows) if self.probes is not None and bool(known.all()) else None
        return found

    def driven(self, theta: Tensor) -> Tensor:
        """θ [B, D] as the probes take it: held inside the training range and standardised."""
        known = self.head.driving_range
        return (known.clipped(theta) - known.mean) / known.sigma.clamp_min(0.05)

    def frames(self, surface: Surface, vertices: Tensor) -> Tensor:
        """Axes [B, N, 3, 3] of the triangle under each Gaussian, a rotation whatever the binding's kind of frame."""
        binding = self.head.binding
        if isinstance(surface, Anchors) and self.head.frame == "orthonormal":
            return surface.frames
        return triangle_frames(vertices[:, binding.triangles], binding.uv_corners, "orthonormal")[:, binding.face]

    def smooth(self, vertices: Tensor) -> Tensor:
        """Normals [B, N, 3] of the posed surface, before they lean."""
        return smooth_normals(self.head.binding, vertices, self.head.skin_triangles)

    def dressed(
        self, placed: PosedGaussians, theta: Tensor, frames: Tensor, smooth: Tensor, light: FilteredLight | None = None
    ) -> PosedGaussians:
        """Placed Gaussians with materials and normals.

        placed: of `RgbHead.place`, colours are albedo; theta [B, D], not clipped; frames, smooth: as above.
        light: gives them the colours of their diffuse part in it; without it colours are the albedo.
        """
        batch, count = placed.frames, placed.count
        encoded = placed.colours.clamp(0, BRIGHTEST)
        albedo = linear_from_srgb(encoded)
        normals = normalize(smooth + (frames @ self.tilt[None, ..., None])[..., 0], dim=-1)
        metallic = torch.sigmoid(self.metallic)[None, :, None].expand(batch, count, 1)
        probes = None if self.probes is None else self.probes.posed(self.driven(theta), frames)
        if light is not None:
            shown = albedo * (1 - metallic) * light.diffuse_at(normals)
            if probes is not None:
                shown = shown * probes.visible(placed.means, normals, normals[:, :, None])[0]
            encoded = srgb_from_linear(shown)
        roughness = torch.sigmoid(self.roughness)[None, :, None].expand(batch, count, 1)
        material = PosedMaterial(albedo=albedo, roughness=roughness, metallic=metallic, probes=probes, flat=False)
        return replace(placed, colours=encoded, normals=normals, material=material)

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, light: FilteredLight | None = None
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        head = self.head
        vertices = head.head.posed_vertices(rotations, translations, expressions)
        theta = head.theta(rotations, translations, expressions)
        surface = head.surface(vertices)
        placed = head.place(surface, head.weights(theta), hide_unseen=True)
        return self.dressed(placed, theta, self.frames(surface, vertices), self.smooth(vertices), light)
