"""A whole teacher: body, fields, occupancy and light, made anew from settings and a seed, and its tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from avatars.relit_field.body import CanonicalBody
from avatars.relit_field.fields import Fields
from avatars.relit_field.light import Light, learned_light
from avatars.relit_field.march import Person
from avatars.relit_field.occupancy import Occupancy
from avatars.relit_field.rays import uniform
from avatars.relit_field.settings import TeacherConfig
from avatars.templates.opening import TemplateReference
from avatars.training.adam import FusedAdam

OCCUPANCY = "occupancy"
START_RATE, START_POINTS = 5e-3, 1024


class TeacherModel:
    """person: what is marched through; light: what lights it. The same arguments make the same model."""

    def __init__(
        self, config: TeacherConfig, reference: TemplateReference, device: torch.device, seed: int = 0
    ) -> None:
        self.config, self.reference, self.device = config, reference, device
        generator = torch.Generator().manual_seed(seed)
        body = CanonicalBody(reference, config.articulation, config.fields.box_scale, device)
        fields = Fields(config.fields, body.centre.cpu(), body.half_m, generator).to(device)
        if config.fields.start == "template":
            fit_to_template(fields, body, config.fields.start_steps, generator)
        self.light: Light = learned_light(config.light, generator).to(device)
        self.person = Person(body, fields, Occupancy(config.march, device), config.march)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything learned, by name, in a fixed order."""
        found = {f"fields.{name}": value for name, value in self.person.fields.named_parameters()}
        return found | {f"light.{name}": value for name, value in self.light.named_parameters()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that must be stored."""
        found = {name: value.detach() for name, value in self.parameters().items()}
        return found | {OCCUPANCY: self.person.occupancy.opacity}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`. Raises KeyError for a missing one, RuntimeError for one of another shape."""
        with torch.no_grad():
            for name, value in self.parameters().items():
                value.copy_(tensors[name])
            self.person.occupancy.opacity = tensors[OCCUPANCY].to(self.device).view_as(self.person.occupancy.opacity)


def fit_to_template(fields: Fields, body: CanonicalBody, steps: int, generator: torch.Generator) -> None:
    """Begin with the template's surface: fit the distance to it at places in the box and near the surface."""
    from scipy.spatial import cKDTree

    corners = body.surface[body.surface_faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(body.surface)
    np.add.at(normals, body.surface_faces, across[:, None])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    tree = cKDTree(body.surface)
    surface = torch.from_numpy(body.surface).float()
    extent, centre = (body.volume.high - body.volume.low).cpu() / 2, fields.centre.cpu()
    parameters = list(fields.parameters())
    group = {"params": parameters, "lr": START_RATE, "betas": (0.9, 0.99), "weight_decay": 0.0}
    adam = FusedAdam([group], epsilon=1e-8)
    levels = fields.shape_grid.open_levels(0)
    with torch.enable_grad():
        for _ in range(steps):
            anywhere = (uniform((START_POINTS // 2, 3), generator, surface.device) * 2 - 1) * extent + centre
            rows = (uniform((START_POINTS // 2,), generator, surface.device) * len(surface)).long()
            near = surface[rows] + 0.03 * torch.randn(START_POINTS // 2, 3, generator=generator)
            places = torch.cat((anywhere, near))
            distance, index = tree.query(places.numpy().astype(np.float64), workers=-1)
            outwards = np.einsum("pc,pc->p", places.numpy() - body.surface[index], normals[index]) >= 0
            wanted = torch.from_numpy(np.where(outwards, distance, -distance)).float().to(fields.centre)
            loss = (fields.distance(places.to(fields.centre), levels)[0] - wanted).abs().mean()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            adam.step(list(zip(parameters, gradients, strict=True)))
