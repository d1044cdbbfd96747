"""Distillation of a relightable student, as the shared loop asks for it (method page E)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatars.captures.capture import Capture
from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.latlong import resampled
from avatars.lighting.prefilter import FilteredLight, filtered
from avatars.lit_pixels import FIXED, eye_directions, lit_pictures, seen_normals, shade_gaussians, surface_rows
from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.densify import FAINT, densify
from avatars.relit_body.initial import first_surfels, part_probes
from avatars.relit_body.person import Person
from avatars.relit_body.surfels import PARAMETERS, Surfels
from avatars.relit_body.teacher import TeacherImages
from avatars.relit_body.teachers import find_teacher
from avatars.rendering import CameraBatch, Rasterised, SurfelImage, rasterise_surfels
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.trainer import RatedParameter

KEPT_PICTURES = 2048
Pose = tuple[Tensor, Tensor, Tensor]


class RelitBodyTrainer:
    """A `Trainer` of one relightable person from one capture and a teacher of it. Raises BadConfig, BadTemplate."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.wanted, self.device = config, config.relit, torch.device(device)
        self.teacher = find_teacher(self.wanted.teacher, capture, device)
        self.vertices, self.faces = self.teacher.mesh()
        person = Person(capture.template, self.teacher.canonical_rotations)
        relit = self.wanted
        self.surfels = first_surfels(
            person, self.vertices, self.faces, relit.surfels, spare=relit.spare, seed=config.seed
        ).moved_to(self.device)
        self.probes = part_probes(person, self.vertices, self.faces, relit.probe_side).to(self.device)
        light = self.teacher.environment()
        radiance = torch.from_numpy(np.array(light.radiance)).clamp(min=0) * light.strength
        columns = round(light.rotation_rad / (2 * np.pi) * radiance.shape[1])
        rows = relit.environment_rows
        self.taught_light = resampled(radiance.roll(-columns, 1), rows, 2 * rows).to(self.device)
        self.environment = nn.Parameter(self.taught_light.clone())
        motion = capture.motion
        self.pose: Pose = tuple(  # type: ignore[assignment]
            torch.from_numpy(np.array(part)).to(self.device)
            for part in (motion.rotations, motion.translations, motion.expressions)
        )
        self.frames = torch.tensor(capture.training_frames(), device=self.device)
        self.kept: dict[tuple[int, int, bytes], TeacherImages] = {}
        self.densified = 0

    def gaussians(self) -> int:
        """How many surfels are in use."""
        return int(self.surfels.alive.sum())

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, with their rates."""
        rates, total = self.wanted.rates, self.config.schedule.images
        table = {"positions": rates.position, "quats": rates.rotation, "scales": rates.scale}
        table |= {"opacities": rates.opacity}
        found = []
        for name in PARAMETERS:
            rate = table.get(name, rates.material)
            last = rates.position_final if name == "positions" else rates.final
            found.append(RatedParameter(name, getattr(self.surfels, name), rate, rate * last, total))
        rate = rates.environment
        return (*found, RatedParameter("environment", self.environment, rate, rate * rates.final, total))

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """As they are."""
        return pictures

    def light(self) -> FilteredLight:
        """The learned light, differentiable."""
        return filtered(self.environment, height=self.wanted.environment_rows)

    def _posed(self, pose: Pose) -> PosedGaussians:
        return self.surfels.pose(*pose, probes=self.probes)

    def _of(self, frames: Tensor) -> Pose:
        rotations, translations, expressions = self.pose
        return rotations[frames], translations[frames], expressions[frames]

    def _drawn(
        self, posed: PosedGaussians, cameras: CameraBatch, light: FilteredLight | None, distortion: bool
    ) -> tuple[dict[str, Tensor], SurfelImage]:
        """Straight maps [B, H, W, C] of what is blended: linear radiance (with a light), materials and normals."""
        material = posed.material
        assert material is not None
        assert posed.normals is not None
        positions = cameras.positions()
        normals = seen_normals(posed.normals, eye_directions(posed, positions))
        parts = {"albedo": material.albedo, "roughness": material.roughness, "normal": normals}
        if light is not None:
            parts["radiance"] = shade_gaussians(posed, positions, light).total
        image = rasterise_surfels(posed, cameras, torch.cat(list(parts.values()), dim=-1), distortion=distortion)
        straight = image.features / image.alpha.clamp(min=1e-3)[..., None]
        widths = [part.shape[-1] for part in parts.values()]
        return dict(zip(parts, straight.split(widths, dim=-1), strict=True)), image

    def _taught(self, frames: Tensor, cameras: CameraBatch) -> TeacherImages:
        """The teacher's pictures of training frames, asked for once each."""
        found = []
        for row, frame in enumerate(frames.tolist()):
            one = cameras.one(row)
            lens = one.camera_from_world.cpu().numpy().tobytes()
            key = (frame, cameras.width_px, lens)
            if key not in self.kept:
                with torch.no_grad():
                    images = self.teacher.images(*self._of(frames[row : row + 1]), one)
                if len(self.kept) >= KEPT_PICTURES:
                    self.kept.clear()
                self.kept[key] = images
            found.append(self.kept[key])
        names = TeacherImages.__dataclass_fields__
        return TeacherImages(*(torch.cat([getattr(one, name) for one in found]) for name in names))

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted."""
        weights, share = self.wanted.losses, at / max(self.config.schedule.images, 1)
        posed = self._posed(self._of(batch.frames))
        spread = weights.distortion > 0 and share >= weights.distortion_from
        maps, image = self._drawn(posed, batch.cameras, self.light(), spread)
        alpha = image.alpha[..., None]
        shown = srgb_from_linear(maps["radiance"].clamp(1e-4, 1)) * alpha
        shown = shown + (1 - alpha) * batch.backgrounds[:, None, None]
        terms = {
            "picture": weights.picture * (shown - batch.target()).abs().mean(),
            "mask": weights.mask * (image.alpha - batch.alpha()).abs().mean(),
            "environment": weights.environment * (self.environment - self.taught_light).square().mean(),
        }
        if spread:
            terms["distortion"] = weights.distortion * image.distortion.mean()
        terms |= self._against(maps, image, self._taught(batch.frames, batch.cameras))
        terms |= self._points(at) | self._held(posed, batch.cameras)
        every = self.wanted.novel_every * self.config.schedule.batch
        if every and int(at) % every < self.config.schedule.batch:
            terms |= self._novel(batch.cameras.one(0), at)
        return terms

    def _against(
        self, maps: dict[str, Tensor], image: SurfelImage, taught: TeacherImages, name: str = ""
    ) -> dict[str, Tensor]:
        """Image distillation: normals, albedo and roughness where both show the person."""
        weights = self.wanted.losses
        both = (taught.alpha * (image.alpha.detach() > 0.5))[..., None]
        count = both.sum().clamp(min=1)
        normals = (normalize(maps["normal"], dim=-1) - taught.normals).abs()
        albedo = (maps["albedo"] - taught.albedo).abs()
        roughness = (maps["roughness"] - taught.roughness[..., None]).square()
        return {
            f"{name}normal": weights.normal * (normals * both).sum() / (3 * count),
            f"{name}albedo": weights.albedo * (albedo * both).sum() / (3 * count),
            f"{name}roughness": weights.roughness * (roughness * both).sum() / count,
        }

    def _novel(self, camera: CameraBatch, at: float) -> dict[str, Tensor]:
        """A pose the capture does not have: each joint from one of two of its frames, with the first one's place."""
        draw = self._generator(at)
        first, second = self.frames[torch.randint(len(self.frames), (2,), generator=draw)]
        rotations, translations, expressions = self._of(first[None])
        other = self.pose[0][second][None]
        swap = torch.rand(rotations.shape[1], generator=draw).to(self.device) < 0.5
        swap[0] = False  # the root stays where the camera expects it
        pose = (torch.where(swap[None, :, None], other, rotations), translations, expressions)
        maps, image = self._drawn(self._posed(pose), camera, None, False)
        with torch.no_grad():
            taught = self.teacher.images(*pose, camera)
        mask = self.wanted.losses.mask * (image.alpha - taught.alpha).abs().mean()
        return self._against(maps, image, taught, "novel_") | {"novel_mask": mask}

    def _generator(self, at: float) -> torch.Generator:
        return torch.Generator().manual_seed((1_000_003 * self.config.seed + int(at)) % 2**32)

    def _points(self, at: float) -> dict[str, Tensor]:
        """Point distillation: what the teacher says of surfels drawn at random."""
        weights, model = self.wanted.losses, self.surfels
        living = model.alive.nonzero()[:, 0]
        drawn = torch.randint(len(living), (self.wanted.points,), generator=self._generator(at))
        chosen = living[drawn.to(living.device)]
        places = model.positions[chosen]
        with torch.no_grad():
            known = self.teacher.query(places)
            surface = places - known.distance_m[:, None] * known.normals
        albedo, roughness, metallic = (part[chosen] for part in model.materials())
        material = (albedo - known.albedo).square().mean() + (roughness[:, 0] - known.roughness).square().mean()
        material = material + (metallic[:, 0] - known.metallic).square().mean()
        return {
            "point_normal": -weights.point_normal * (model.normals()[chosen] * known.normals).sum(-1).mean(),
            "point_position": weights.point_position * (100 * (places - surface)).square().sum(-1).mean(),
            "point_material": weights.point_material * material,
        }

    def _held(self, posed: PosedGaussians, cameras: CameraBatch) -> dict[str, Tensor]:
        weights, model = self.wanted.losses, self.surfels
        assert posed.normals is not None
        scales = model.scales.exp()
        ratio = scales.amax(-1) / scales.amin(-1).clamp(min=1e-6)
        to_eye = eye_directions(posed, cameras.positions())
        away = (-(seen_normals(posed.normals, to_eye) * to_eye).sum(-1)).clamp(min=0)
        _, roughness, metallic = model.materials()
        return {
            "size": weights.size * (scales - weights.size_limit_m).clamp(min=0).mean(),
            "anisotropy": weights.anisotropy * (ratio.clamp(min=3) - 3).mean(),
            "orientation": weights.orientation * away.mean(),
            "prior": weights.prior * ((1 - roughness) + metallic).mean(),
        }

    def after_step(self, batch: Batch, at: float) -> None:
        """Fill gaps when their time has come, and keep the learned light from going dark below zero."""
        with torch.no_grad():
            self.environment.clamp_(min=0)
        marks = self.wanted.densify_at
        while self.densified < len(marks) and at >= marks[self.densified] * self.config.schedule.images:
            densify(self.surfels, self.vertices, self.faces, self.config.seed + self.densified)
            self.densified += 1

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras, deferred shading, display-encoded, without background."""
        with torch.no_grad():
            posed = self._posed(self._of(batch.frames))
            light, positions = self.light(), batch.cameras.positions()
            image = rasterise_surfels(posed, batch.cameras, surface_rows(posed, positions, None))
            lit = lit_pictures(image.features, image.alpha, batch.cameras, light, surface=0, normal=FIXED)
            alpha = image.alpha[..., None]
            linear = (lit[..., :3] + lit[..., 3:]) / alpha.clamp(min=1e-6)
            shown = srgb_from_linear(linear.clamp(0, 1)) * alpha
            return Rasterised(shown, image.alpha, image.depth)

    def state(self) -> Mapping[str, Tensor]:
        """Which surfels are in use, what they follow, and how often gaps were filled."""
        skin = self.surfels.skin
        return {
            "alive": self.surfels.alive.to(torch.uint8),
            "densified": torch.tensor([self.densified]),
            "skin_joints": skin.joints,
            "skin_weights": skin.weights,
            "skin_expression_dirs": skin.expression_dirs,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.surfels.alive.copy_(state["alive"].bool())
        self.densified = int(state["densified"])
        skin = self.surfels.skin
        skin.joints.copy_(state["skin_joints"])
        skin.weights.copy_(state["skin_weights"])
        skin.expression_dirs.copy_(state["skin_expression_dirs"])

    def finish(self) -> RelitAvatar:
        """The avatar without spare and faint surfels."""
        self.surfels = self._strong(self.surfels)
        return RelitAvatar(self.surfels, self.probes, self.environment.detach().clone())

    @staticmethod
    def _strong(surfels: Surfels) -> Surfels:
        return surfels.kept(surfels.alive & (torch.sigmoid(surfels.opacities.detach()) >= FAINT))
