"""Stage A: the person as a volume around the surface of a signed distance."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from avatars.recorded import RecordedSteps
from avatars.rendering.rasterise import Rasterised
from avatars.surface_body.body import Guide
from avatars.surface_body.first_mesh import first_mesh
from avatars.surface_body.march import Posed, posed, together
from avatars.surface_body.mesh_state import MeshState
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.objective import COUNTED, Chance, Course, annealed
from avatars.surface_body.picture import picture
from avatars.surface_body.poses import PoseResidual
from avatars.surface_body.refined_poses import RefinedPoses
from avatars.surface_body.volume_step import NAMES, VolumeStep, given_to
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch
from avatars.training.trainer import RatedParameter

log = logging.getLogger("effigy.training")
BETAS = (0.9, 0.99)
MOST_GUIDES = 2048
LIT_POSES = 24
"""In so many poses of the recording is the mesh lit when it takes the field's colours."""


class VolumeStage:
    """A `stages.Stage` of the model's field and skinning; poses are corrected as it goes."""

    def __init__(self, config: TrainConfig, model: SurfaceModel, poses: PoseResidual | RefinedPoses) -> None:
        self.config, self.model, self.poses = config, model, poses
        self.generator = torch.Generator(model.device).manual_seed(config.seed + 1)
        self.guides: dict[int, Guide] = {}
        self.share = 0.0
        self.steps = RecordedSteps("steps of the volumetric stage", log, most=1)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Grids, networks, sharpness and skinning; poses belong to the whole run."""
        rates = self.config.surface.rates
        images = self.config.schedule.images
        until = max(1, round(images * self.config.surface.stages.volume))
        warm = round(rates.warm_up * until)
        found = []
        for name, value in self.model.named_parameters():
            rate = rates.network
            if name.startswith("weights."):
                rate = rates.skinning
            elif name.endswith("table") or ".planes" in name:
                rate = rates.grid
            elif name == "field.v":
                rate = rates.sharpness
            found.append(RatedParameter(name, value, rate, rate * rates.final, until, betas=BETAS, warm_up_images=warm))
        return tuple(found)

    def corrects(self, share: float) -> bool:
        """Whether poses are corrected at this share of the stage."""
        wanted = self.config.surface.poses
        return wanted.refine and share >= wanted.start

    def guide(self, frame: int) -> Guide:
        """Where the template is in a frame, as it was recorded: kept, for corrections are small beside the shell."""
        found = self.guides.get(frame)
        if found is None:
            rotations, translations, expressions = self.poses.of(torch.tensor([frame]), corrected=False)
            found = self.model.body.guide(self.model.body.transforms(rotations, translations, expressions)[0])
            if len(self.guides) < MOST_GUIDES:
                self.guides[frame] = found
        return found

    def frames(self, batch: Batch) -> list[int]:
        """The batch's frames, without waiting for the device where the host knows them."""
        known = getattr(self.poses, "frame_of_image", None)
        if known is None or batch.images is None:
            return batch.frames.tolist()
        return [known[image] for image in batch.images.tolist()]

    def posed(self, frames: Tensor, *, corrected: bool, known: Sequence[int] = ()) -> Posed:
        """Frames [B] ready to be looked at, differentiable. known: the same on the host."""
        rotations, translations, expressions = self.poses.of(frames, corrected=corrected)
        transforms = self.model.body.transforms(rotations, translations, expressions)
        guides = [self.guide(frame) for frame in known or frames.tolist()]
        return posed(self.model, transforms, guides, self.model.weights.rows(), self.model.weights.lattice)

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Named terms, already weighted. On CUDA a step is recorded anew whenever another level of the field opens."""
        self.share = share
        course = Course(self.levels(), share >= 0.5, self.corrects(share))
        whole = len(batch.frames) if batch.part is None else batch.part.whole
        chance = Chance.drawn(whole, self.config.surface.sampling, self.generator).of(batch.part)
        guides = together(self.model, [self.guide(frame) for frame in self.frames(batch)])
        given = given_to(batch, guides, annealed(share), chance)
        make = partial(VolumeStep, self.model, self.poses, self.config.surface, course, batch.cameras)
        if self.config.surface.record and batch.pixels.is_cuda and isinstance(course.levels, int):
            cameras = batch.cameras
            shapes = tuple((value.shape, value.dtype) for value in given)
            kind = (course, shapes, cameras.orthographic, cameras.width_px, cameras.height_px)
            found = self.steps(kind, make, given).clone()  # the next step writes over the graph's own
        else:
            found = make()(*given)
        counts = dict(zip(COUNTED, found, strict=False))
        return ranks.evened(dict(zip(NAMES, found[len(COUNTED) :], strict=False)), counts, batch.part)

    def begin(self) -> None:
        """Nothing: it is the first."""

    def after_step(self, batch: Batch, share: float) -> None:
        """Nothing."""

    def mesh_state(self) -> MeshState:
        """The person as a mesh, from the field as it is now; once this stage is over always the same."""
        wanted = self.config.surface
        seed, solid = self.config.seed, wanted.mesh.solid
        with torch.no_grad():
            frames = torch.arange(0, len(self.poses.rotations), max(1, len(self.poses.rotations) // LIT_POSES))
            seen = self.model.body.transforms(*self.poses.of(frames.to(self.model.device)))
        return first_mesh(self.model, wanted.resolution, wanted.faces, solid, seed, self.levels(), seen)

    def levels(self) -> float | None:
        """How many levels of the field count now."""
        return self.model.field.open_levels(self.share)

    def render(self, batch: Batch) -> Rasterised:
        """The person in the batch's frames and cameras."""
        with torch.no_grad():
            poses = self.posed(batch.frames, corrected=self.corrects(self.share))
            found = picture(self.model, poses, batch.cameras, self.levels())
            return Rasterised(found.colour, found.alpha, found.depth_m)

    def state(self) -> Mapping[str, Tensor]:
        """Random numbers and how far it was."""
        return {
            "generator": self.generator.get_state(),
            "share": torch.tensor(self.share, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        try:
            self.generator.set_state(state["generator"].cpu().clone())
        except RuntimeError:  # stored on another kind of device
            self.generator.manual_seed(self.config.seed + 2)
        self.share = float(state["share"])
