"""Distillation of a relightable student, as the shared loop asks for it (method page E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatars.captures.capture import Capture
from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.latlong import resampled
from avatars.lighting.prefilter import FilteredLight, filtered
from avatars.lit_pixels import (
    FIXED,
    eye_directions,
    lit_pictures,
    pixel_rays,
    seen_normals,
    shade_gaussians,
    surface_rows,
)
from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.densify import FAINT, densify, grow, stray
from avatars.relit_body.initial import first_surfels, part_probes
from avatars.relit_body.objective import (
    as_isometric_as_possible,
    edge_aware_variation,
    map_variation,
    neighbours_of,
    normal_consistency,
)
from avatars.relit_body.person import Person
from avatars.relit_body.surfels import PARAMETERS
from avatars.relit_body.taught import LiveTruth, Pose, TaughtPictures
from avatars.relit_body.teacher import TeacherImages, in_poses_of
from avatars.relit_body.teachers import find_teacher, find_truth
from avatars.rendering import CameraBatch, Rasterised, SurfelImage, rasterise_surfels
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.losses import l1_loss
from avatars.training.lpips import find_lpips
from avatars.training.trainer import RatedParameter

ASKED_AT_ONCE = 8192
EVERY_MAP = ("albedo", "roughness", "metallic", "normal")


class RelitBodyTrainer:
    """A `Trainer` of one relightable person from one capture and a teacher of it. Raises BadConfig, BadTemplate."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.wanted, self.device = config, config.relit, torch.device(device)
        relit = self.wanted
        self.teacher = find_teacher(relit.teacher, capture, device)
        capture = in_poses_of(self.teacher, capture)
        self.truth = find_truth(relit, self.teacher, capture, config.seed, device)
        self.vertices, self.faces = self.teacher.mesh()
        person = Person(capture.template, self.teacher.canonical_rotations)
        self.surfels = first_surfels(
            person, self.vertices, self.faces, relit.surfels, spare=relit.spare, opacity=relit.opacity, seed=config.seed
        ).moved_to(self.device)
        if relit.begin == "teacher":
            self._begin_as_taught()
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
        self.capture = capture
        self.row_of = torch.zeros(len(motion), len(capture.cameras), dtype=torch.int64)
        for row, index in enumerate(capture.split("train")):
            self.row_of[capture.images[index].frame, capture.images[index].camera] = row
        self.row_of = self.row_of.to(self.device)
        self.taught: TaughtPictures | None = None
        self.further: TaughtPictures | None = None
        self.lpips = find_lpips(config.losses.lpips_folder, device) if relit.losses.lpips > 0 else None
        self.densified, self.grown = 0, 0
        self.pull = torch.zeros(2, len(self.surfels), device=self.device)
        self.pulled = torch.zeros_like(self.pull)  # since the last step, by this process's pictures
        self.neighbours = neighbours_of(self.surfels.positions)
        self.living = self.surfels.alive.nonzero()[:, 0]

    def _begin_as_taught(self) -> None:
        """Materials as the teacher answers; not quite at the ends, where a sigmoid would hardly learn."""
        with torch.no_grad():
            known = [self.teacher.query(part) for part in self.surfels.positions.split(ASKED_AT_ONCE)]
            albedo, roughness, metallic = (
                torch.cat([getattr(part, name).to(self.device) for part in known]) for name in EVERY_MAP[:3]
            )
        self.surfels.set_materials(albedo.clamp(0.05, 0.78), roughness.clamp(0.12, 0.96), metallic.clamp(0.03, 0.97))

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
        """As they are, with the camera of each; the teacher's pictures of that size are made ready."""
        longest = max(pictures.cameras.width_px, pictures.cameras.height_px)
        count = self.truth.training
        size = (pictures.cameras.width_px, pictures.cameras.height_px)
        self.taught = None
        if count:
            self.taught = TaughtPictures(self.truth, range(count), longest, self.device, size_px=size)
        self.further = None
        if len(self.truth) > count and self.wanted.novel_every:
            self.further = TaughtPictures(self.truth, range(count, len(self.truth)), longest, self.device)
        for store in (self.taught, self.further):
            if store is not None and not isinstance(self.truth, LiveTruth):
                store.read_all()
        lenses = torch.tensor([self.capture.images[index].camera for index in images], device=self.device)
        return replace(pictures, lenses=lenses)

    def light(self) -> FilteredLight:
        """The learned light, differentiable."""
        return filtered(self.environment, height=self.wanted.environment_rows)

    def _posed(self, pose: Pose) -> PosedGaussians:
        return self.surfels.pose(*pose, probes=self.probes)

    def _of(self, frames: Tensor) -> Pose:
        rotations, translations, expressions = self.pose
        return rotations[frames], translations[frames], expressions[frames]

    def _drawn(
        self, posed: PosedGaussians, cameras: CameraBatch, light: FilteredLight, distortion: bool
    ) -> tuple[dict[str, Tensor], SurfelImage]:
        """Straight maps [B, H, W, C] of what is blended: linear radiance, materials and normals."""
        material = posed.material
        assert material is not None
        assert posed.normals is not None
        positions = cameras.positions()
        normals = seen_normals(posed.normals, eye_directions(posed, positions))
        parts = dict(zip(EVERY_MAP, (material.albedo, material.roughness, material.metallic, normals), strict=True))
        parts["radiance"] = shade_gaussians(posed, positions, light).total
        image = rasterise_surfels(posed, cameras, torch.cat(list(parts.values()), dim=-1), distortion=distortion)
        straight = image.features / image.alpha.clamp(min=1e-3)[..., None]
        widths = [part.shape[-1] for part in parts.values()]
        return dict(zip(parts, straight.split(widths, dim=-1), strict=True)), image

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted."""
        weights, share = self.wanted.losses, at / max(self.config.schedule.images, 1)
        pose, light = self._of(batch.frames), self.light()
        posed = self._posed(pose)
        self._watch(posed.means, batch.cameras, share)
        spread = weights.distortion > 0 and share >= weights.distortion_from
        maps, image = self._drawn(posed, batch.cameras, light, spread)
        target = batch.target()
        shown = _over(maps["radiance"], image.alpha, batch.backgrounds)
        terms = {
            "picture": weights.picture * l1_loss(shown, target),
            "mask": weights.mask * (image.alpha - batch.alpha()).abs().mean(),
            "environment": weights.environment * (self.environment - self.taught_light).square().mean(),
            "environment_variation": weights.environment_variation * map_variation(self.environment),
        }
        if spread:
            terms["distortion"] = weights.distortion * image.distortion.mean()
        if self.lpips is not None and share >= weights.shading_from:
            terms["lpips"] = weights.lpips * self.lpips(shown, target).mean()
        if weights.smoothness > 0 and share >= weights.shading_from:
            materials = torch.cat([maps[name] for name in EVERY_MAP[:3]], dim=-1)
            terms["smoothness"] = weights.smoothness * edge_aware_variation(materials, target, image.alpha)
        if self.taught is not None:
            assert batch.lenses is not None, "pictures come from `prepared`"
            rows = self.row_of[batch.frames, batch.lenses]
            terms |= self._against(maps, image, self.taught.images(rows), batch.part)
        terms |= self._points(at) | self._held(posed, batch.cameras, at)
        every = self.wanted.novel_every * self.config.schedule.batch
        if self.further is not None and every and int(at) % every < self.config.schedule.batch:
            terms |= self._novel(light, at)
        return terms

    def _against(
        self,
        maps: dict[str, Tensor],
        image: SurfelImage,
        taught: TeacherImages,
        part: ranks.Part | None = None,
        name: str = "",
    ) -> dict[str, Tensor]:
        """Image distillation: normals, albedo, roughness and metallic where both show the person."""
        weights = self.wanted.losses
        both = (taught.alpha * (image.alpha.detach() > 0.5))[..., None]
        count = both.sum().clamp(min=1)
        normals = (normalize(maps["normal"], dim=-1) - taught.normals).abs()
        albedo = (maps["albedo"] - taught.albedo).abs()
        roughness = (maps["roughness"] - taught.roughness[..., None]).square()
        metallic = (maps["metallic"] - taught.metallic[..., None]).square()
        terms = {
            f"{name}normal": weights.normal * (normals * both).sum() / (3 * count),
            f"{name}albedo": weights.albedo * (albedo * both).sum() / (3 * count),
            f"{name}roughness": weights.roughness * (roughness * both).sum() / count,
            f"{name}metallic": weights.metallic * (metallic * both).sum() / count,
        }
        return ranks.evened(terms, dict.fromkeys(terms, both.sum()), part)

    def _novel(self, light: FilteredLight, at: float) -> dict[str, Tensor]:
        """A pose the capture does not have, as the teacher shows it."""
        store, weights, draw = self.further, self.wanted.losses, self._generator(at)
        assert store is not None
        row = torch.randint(len(store.rows), (1,), generator=draw)
        behind = torch.rand(1, 3, generator=draw).to(self.device)
        there = torch.tensor([store.rows[int(row)]])
        cameras, taught = self.truth.cameras(there, store.longest_px), store.images(row)
        maps, image = self._drawn(self._posed(self.truth.pose(there)), cameras, light, False)
        target = taught.radiance * taught.alpha[..., None] + (1 - taught.alpha[..., None]) * behind[:, None, None]
        shown = _over(maps["radiance"], image.alpha, behind)
        terms = {
            "novel_picture": weights.novel_picture * l1_loss(shown, target),
            "novel_mask": weights.mask * (image.alpha - taught.alpha).abs().mean(),
        }
        share = at / max(self.config.schedule.images, 1)
        if weights.consistency > 0 and share >= weights.consistency_from and not cameras.orthographic:
            terms["consistency"] = weights.consistency * normal_consistency(
                maps["normal"], image.alpha, image.depth, cameras, pixel_rays(cameras)
            )
        return terms | self._against(maps, image, taught, name="novel_")

    def _generator(self, at: float) -> torch.Generator:
        return torch.Generator().manual_seed((1_000_003 * self.config.seed + int(at)) % 2**32)

    def _chosen(self, at: float) -> Tensor:
        drawn = torch.randint(len(self.living), (self.wanted.points,), generator=self._generator(at))
        return self.living[drawn.to(self.living.device)]

    def _points(self, at: float) -> dict[str, Tensor]:
        """Point distillation: what the teacher says of surfels drawn at random."""
        weights, model = self.wanted.losses, self.surfels
        chosen = self._chosen(at)
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

    def _held(self, posed: PosedGaussians, cameras: CameraBatch, at: float) -> dict[str, Tensor]:
        weights, model = self.wanted.losses, self.surfels
        assert posed.normals is not None
        scales = model.scales.exp()
        ratio = scales.amax(-1) / scales.amin(-1).clamp(min=1e-6)
        to_eye = eye_directions(posed, cameras.positions())
        away = (-(seen_normals(posed.normals, to_eye) * to_eye).sum(-1)).clamp(min=0)
        _, roughness, metallic = model.materials()
        terms = {
            "size": weights.size * (scales - weights.size_limit_m).clamp(min=0).mean(),
            "anisotropy": weights.anisotropy * (ratio.clamp(min=3) - 3).mean(),
            "orientation": weights.orientation * away.mean(),
            "prior": weights.prior * ((1 - roughness) + metallic).mean(),
        }
        if weights.isometry > 0:
            chosen = self._chosen(at)
            terms["isometry"] = weights.isometry * as_isometric_as_possible(
                model.positions, posed.means, self.neighbours, chosen
            )
        return terms

    def _watch(self, means: Tensor, cameras: CameraBatch, share: float) -> None:
        """Note how strongly the picture pulls at each surfel, while surfels may still grow."""
        grow_until = self.wanted.grow_until
        if not self.wanted.grow_every or share > grow_until or not means.requires_grad:
            return
        pose = cameras.camera_from_world
        depth = (means.detach() @ pose[:, 2, :3, None])[..., 0] + pose[:, 2, 3, None]
        on_image = len(means) * depth * (cameras.width_px / 2) / cameras.K[:, 0, 0, None]

        def note(gradient: Tensor) -> None:
            pulled = gradient.norm(dim=-1) * on_image
            self.pulled[0] += torch.nan_to_num(pulled).sum(0)
            self.pulled[1] += (pulled > 0).sum(0)

        self.pulled.zero_()
        means.register_hook(note)  # type: ignore[no-untyped-call]

    def after_step(self, batch: Batch, at: float) -> None:
        """Grow and fill gaps when their time has come, and keep the learned light from going dark below zero."""
        with torch.no_grad():
            self.environment.clamp_(min=0)
        relit, total = self.wanted, self.config.schedule.images
        changed = False
        if relit.grow_every and at / max(total, 1) <= relit.grow_until:
            self.pull += ranks.summed(self.pulled)
            self.pulled.zero_()
        if relit.grow_every and relit.grow_from * total <= at <= relit.grow_until * total:
            due = int((at - relit.grow_from * total) / max(relit.grow_every * total, 1))
            if due > self.grown:
                self.grown = due
                pull = self.pull[0] / self.pull[1].clamp(min=1)
                seed = self.config.seed + 1000 + due
                changed = grow(self.surfels, pull, relit.grow_above, self.teacher.query, seed) > 0
                self.pull.zero_()
        while self.densified < len(relit.densify_at) and at >= relit.densify_at[self.densified] * total:
            densify(self.surfels, self.vertices, self.faces, self.config.seed + self.densified)
            self.densified += 1
            changed = True
        if changed:
            ranks.align(self)
            self.neighbours = neighbours_of(self.surfels.positions)
            self.living = self.surfels.alive.nonzero()[:, 0]

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras, deferred shading, display-encoded, without background."""
        with torch.no_grad():
            posed = self._posed(self._of(batch.frames))
            light, positions = self.light(), batch.cameras.positions()
            image = rasterise_surfels(posed, batch.cameras, surface_rows(posed, positions, None))
            lit = lit_pictures(image.features, image.alpha, batch.cameras, light, surface=0, normal=FIXED)
            alpha = image.alpha[..., None]
            linear = (lit[..., :3] + lit[..., 3:]) / alpha.clamp(min=1e-6)
            return Rasterised(srgb_from_linear(linear.clamp(0, 1)) * alpha, image.alpha, image.depth)

    def state(self) -> Mapping[str, Tensor]:
        """Which surfels are in use, what they follow and lie beside, and how often they grew and gaps were filled."""
        skin = self.surfels.skin
        return {
            "alive": self.surfels.alive.to(torch.uint8),
            "densified": torch.tensor([self.densified, self.grown]),
            "pull": self.pull,
            "neighbours": self.neighbours,
            "skin_joints": skin.joints,
            "skin_weights": skin.weights,
            "skin_expression_dirs": skin.expression_dirs,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.surfels.alive.copy_(state["alive"].bool())
        self.densified, self.grown = (int(value) for value in state["densified"])
        self.pull.copy_(state["pull"])
        self.neighbours = state["neighbours"].to(self.device)
        self.living = self.surfels.alive.nonzero()[:, 0]
        skin = self.surfels.skin
        skin.joints.copy_(state["skin_joints"])
        skin.weights.copy_(state["skin_weights"])
        skin.expression_dirs.copy_(state["skin_expression_dirs"])

    def finish(self) -> RelitAvatar:
        """The avatar without surfels that are spare, faint or float away from the teacher's surface."""
        model = self.surfels
        strong = model.alive & (torch.sigmoid(model.opacities.detach()) >= FAINT)
        self.surfels = model.kept(strong & ~stray(model.positions, self.vertices, self.faces))
        return RelitAvatar(self.surfels, self.probes, self.environment.detach().clone())


def _over(radiance: Tensor, alpha: Tensor, backgrounds: Tensor) -> Tensor:
    """Straight linear radiance [B, H, W, 3] as a display shows it over backgrounds [B, 3]."""
    cover = alpha[..., None]
    return srgb_from_linear(radiance.clamp(1e-4, 1)) * cover + (1 - cover) * backgrounds[:, None, None]
