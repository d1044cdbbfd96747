"""The student: surfels in canonical space with materials, posed by skinning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians, PosedMaterial, quaternion_from_matrix
from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.prefilter import FilteredLight
from avatars.lighting.probes import Probes
from avatars.relit_body.person import Person, Skin
from avatars.rendering.reference import rotation_from_quaternion

ALBEDO = (0.77, 0.03)
ROUGHNESS = (0.9, 0.09)
"""Factor and offset of the sigmoid: what materials can be."""
THIN = 1e-3
"""Third scale of a surfel, of its smaller one, where it has to be drawn as a Gaussian."""
PARAMETERS = ("positions", "quats", "scales", "opacities", "albedo", "roughness", "metallic")


def logit(values: Tensor) -> Tensor:
    """Inverse of the sigmoid, kept finite."""
    return torch.logit(values.clamp(1e-4, 1 - 1e-4))


class Surfels(nn.Module):
    """N surfels of one person. positions [N, 3] m canonical; quats [N, 4], third axis outwards; scales [N, 2] log m;
    opacities [N], albedo [N, 3], roughness and metallic [N] before the sigmoid. alive [N] bool: the others are spare.
    """

    alive: Tensor

    def __init__(self, person: Person, skin: Skin, values: dict[str, Tensor], alive: Tensor | None = None) -> None:
        super().__init__()
        self.person, self.skin = person, skin
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(values[name].detach().float().clone()))
        count = len(self.positions)
        self.register_buffer("alive", torch.ones(count, dtype=torch.bool) if alive is None else alive.clone())

    def __len__(self) -> int:
        return len(self.positions)

    def moved_to(self, device: torch.device | str) -> Surfels:
        """The same model, now on that device."""
        self.person, self.skin = self.person.to(device), self.skin.to(device)
        return self.to(device)

    def materials(self) -> tuple[Tensor, Tensor, Tensor]:
        """albedo [N, 3] linear, roughness [N, 1], metallic [N, 1]."""
        albedo = ALBEDO[0] * torch.sigmoid(self.albedo) + ALBEDO[1]
        roughness = ROUGHNESS[0] * torch.sigmoid(self.roughness) + ROUGHNESS[1]
        return albedo, roughness[:, None], torch.sigmoid(self.metallic)[:, None]

    @torch.no_grad()
    def set_materials(self, albedo: Tensor, roughness: Tensor, metallic: Tensor) -> None:
        """Materials [N, 3] linear, [N], [N], as near as surfels can have them."""
        self.albedo.copy_(logit((albedo - ALBEDO[1]) / ALBEDO[0]))
        self.roughness.copy_(logit((roughness - ROUGHNESS[1]) / ROUGHNESS[0]))
        self.metallic.copy_(logit(metallic))

    def normals(self) -> Tensor:
        """Canonical normals [N, 3], outwards."""
        return rotation_from_quaternion(self.quats)[..., 2]

    def pose(
        self,
        rotations: Tensor,
        translations: Tensor,
        expressions: Tensor,
        *,
        probes: Probes | None = None,
        light: FilteredLight | None = None,
    ) -> PosedGaussians:
        """Surfels in model axes for rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E].

        light: gives them the colours of their diffuse part in it; without it colours are the albedo.
        """
        moved = self.person.moved(rotations, translations, expressions)
        frames = len(rotations)
        skin = self.skin
        blended = (moved[:, skin.joints] * skin.weights[None, ..., None, None]).sum(2)  # [B, N, 4, 4]
        place = self.positions[None]
        if expressions.shape[1] and skin.expression_dirs.shape[0]:
            place = place + torch.einsum("be,enc->bnc", expressions, skin.expression_dirs[: expressions.shape[1]])
        linear = blended[..., :3, :3]
        # Sums rather than products of matrices: tens of thousands of small ones are slow as a batch.
        means = (linear * place[..., None, :]).sum(-1) + blended[..., :3, 3]
        axes = (linear[..., None] * rotation_from_quaternion(self.quats)[:, None, :, :2]).sum(-2)
        first = torch.nn.functional.normalize(axes[..., 0], dim=-1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(first, axes[..., 1]), dim=-1)
        turned = torch.stack([first, torch.linalg.cross(normals, first), normals], dim=-1)
        scales = self.scales.exp()
        scales = torch.cat([scales, THIN * scales.amin(dim=-1, keepdim=True)], dim=-1)
        opacities = torch.sigmoid(self.opacities) * self.alive
        albedo, roughness, metallic = self.materials()
        shown = albedo[None].expand(frames, -1, -1)
        if light is not None:
            shown = shown * (1 - metallic) * light.diffuse_at(normals)
        count = len(self)
        return PosedGaussians(
            means=means,
            quats=quaternion_from_matrix(turned),
            scales=scales.expand(frames, count, 3),
            opacities=opacities.expand(frames, count),
            colours=srgb_from_linear(shown),
            normals=normals,
            material=PosedMaterial(
                albedo=albedo.expand(frames, count, 3),
                roughness=roughness.expand(frames, count, 1),
                metallic=metallic.expand(frames, count, 1),
                probes=None if probes is None else probes.posed(moved),
                flat=True,
            ),
        )

    def kept(self, chosen: Tensor) -> Surfels:
        """A model of those `chosen` [N] bool alone."""
        index = chosen.nonzero()[:, 0]
        skin = Skin(self.skin.joints[index], self.skin.weights[index], self.skin.expression_dirs[:, index])
        values = {name: getattr(self, name)[index] for name in PARAMETERS}
        return Surfels(self.person, skin, values, self.alive[index]).to(self.positions.device)
