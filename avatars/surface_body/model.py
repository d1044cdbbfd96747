"""Everything volumetric of one person: body, field and skinning, made anew from settings and a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatars.surface.extract import Extracted, extract_surface, largest_piece
from avatars.surface_body.body import StarBody
from avatars.surface_body.field import HashField, SurfaceField
from avatars.surface_body.network_weights import NetworkWeights
from avatars.surface_body.plane_field import PlaneField
from avatars.surface_body.settings import SurfaceConfig
from avatars.surface_body.weights import GridWeights, SkinWeights
from avatars.templates.opening import TemplateReference

SLOPE = 1.5
"""Learned distances change faster than true ones in places."""


class SurfaceModel(nn.Module):
    """body: constants; field and weights: what is learned. The same arguments make the same model."""

    field: SurfaceField
    weights: SkinWeights

    def __init__(
        self, config: SurfaceConfig, reference: TemplateReference, device: torch.device, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.reference, self.device = config, reference, device
        self.body = StarBody(reference, config, device)
        generator = torch.Generator().manual_seed(seed)
        self.field = make_field(config, self.body, generator).to(device)
        self.weights = make_weights(config, self.body, generator).to(device)

    @property
    def shell_m(self) -> float:
        """How far from the template pictures were looked at."""
        parity = self.config.parity
        return parity.sampling.shell_m if parity.wanted else self.config.sampling.shell_m

    def distance(self, places: Tensor, levels: float | None = None) -> Tensor:
        """Signed distance [P] m at canonical places [P, 3] m. Beyond the shell that pictures look at, where nothing was
        learned, it is outside whatever the field says."""
        beyond = self.field.base(places) - self.shell_m
        return torch.maximum(self.field.distance(places, levels), beyond)

    def mesh(self, resolution: int, levels: float | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Vertices [V, 3] m, canonical, and triangles [F, 3], outwards counter-clockwise: the largest piece.

        resolution: cells along the canonical box's longest side. Raises EffigyError where there is no surface.
        """
        return largest_piece(*self.extracted(resolution, levels).numpy())

    def extracted(
        self, resolution: int, levels: float | None = None, *, threshold_m: float = 0.0, at_box: str = "close"
    ) -> Extracted:
        """Every piece of the surface at distance threshold_m, as it was evaluated. at_box: as in `extract_surface`."""
        with torch.no_grad():
            self.field.begin()
        return extract_surface(
            lambda places: self.distance(places, levels) - threshold_m,
            self.body.low.cpu().numpy(),
            self.body.high.cpu().numpy(),
            resolution,
            slope=SLOPE,
            at_box=at_box,
            device=self.device,
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take learned tensors by name. Raises KeyError for a missing one, RuntimeError for one of another shape."""
        with torch.no_grad():
            for name, value in self.named_parameters():
                value.copy_(tensors[name])


def make_field(config: SurfaceConfig, body: StarBody, generator: torch.Generator) -> HashField | PlaneField:
    """The field that the configuration asks for."""
    if config.parity.wanted:
        return PlaneField(config.parity.networks, config.planes, config.fields.delta_max_m, body, generator)
    return HashField(config.fields, config.planes, body, generator)


def make_weights(config: SurfaceConfig, body: StarBody, generator: torch.Generator) -> GridWeights | NetworkWeights:
    """The kind of skinning that the configuration asks for."""
    if config.parity.wanted or config.deformation.weights == "network":
        return NetworkWeights(config.parity.networks, body, generator)
    return GridWeights(body)
