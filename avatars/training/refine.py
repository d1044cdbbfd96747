"""The error of a track, learned with the avatar: changes of pose, expression and lens, in units of tracker errors.

The change of each frame is held to the track (ridge), to its neighbours in time, and on average over the frames trained
on to zero, since a constant error is the avatar's to absorb. What pulls is the photometric loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatars.captures.capture import Capture
from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.training.data import Batch
from avatars.training.refine_settings import RefineConfig
from avatars.training.schedule import log_linear
from avatars.training.trainer import RatedParameter
from shared.types import Motion

FINGERS = ("index", "middle", "ring", "pinky", "thumb", "hand", "toe")
LAST_SHARE = 0.1
ONE_WAY = 0.9
"""Mean of the cameras' unit axes: from here on they look in about one direction."""
FASTEST = 0.05
"""Tracker errors a step, however short the schedule: faster ones are torn about by single pictures."""
Arrays = NDArray[np.float32]


def is_refined(config: RefineConfig, capture: Capture) -> bool:
    """Whether a run on this capture refines its track."""
    return config.mode == "always" or (config.mode == "auto" and capture.tracked)


def joint_spread_deg(name: str, config: RefineConfig) -> float:
    """The tracker's error of one joint, deg; 0 for joints that are left alone."""
    if "eye" in name:
        return config.gaze_deg
    if name == "jaw":
        return config.jaw_deg
    if name in ("neck", "head"):
        return config.head_deg / 2**0.5
    return 0.0 if any(part in name for part in FINGERS) else config.joint_deg


def head_spread_deg(name: str, config: RefineConfig) -> float:
    """The tracker's error of one joint of a head, deg: shoulders turn as one at spine3, arms keep the track's pose."""
    if name == "spine3":
        return config.torso_deg
    return joint_spread_deg(name, config) if name in ("neck", "head", "jaw", "left_eye", "right_eye") else 0.0


def place_spread_m(config: RefineConfig, capture: Capture) -> Arrays:
    """The tracker's errors of place, m: moves in the world, a row each: across, down and along the view.

    With cameras that look in different directions none is along the view, and all three are place_m.
    """
    axes = np.stack([camera.camera_from_world()[2, :3] for camera in capture.cameras])
    if np.linalg.norm(axes.mean(0)) < ONE_WAY:
        return np.diag(np.full(3, config.place_m)).astype(np.float32)
    world_to_camera = capture.cameras[0].camera_from_world()[:3, :3]
    return (np.array([config.place_m, config.place_m, config.depth_m])[:, None] * world_to_camera).astype(np.float32)


class TrackRefinement(nn.Module):
    """Changes of all frames of a capture. changes: [F, P], P = joints that turn * 3, place 3, expressions; zoom: [1].

    Both in tracker errors. `of` and `cameras` apply them; rows of frames that are not trained on stay 0 unless they
    are fitted (`avatars.training.refit`). kind 'head': shoulders and below keep the track's pose.
    """

    def __init__(self, config: RefineConfig, capture: Capture, device: torch.device) -> None:
        super().__init__()
        self.config, motion = config, capture.motion
        self.rotations, self.translations, self.expressions = (
            torch.from_numpy(np.array(values, np.float32)).to(device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        )
        frames, head = len(motion), capture.kind == "head"
        spread = [joint_spread_deg(name, config) for name in capture.joint_names]
        if head:
            spread = [head_spread_deg(name, config) for name in capture.joint_names]
        self.joints = [row for row, value in enumerate(spread) if value > 0]
        turns = np.repeat(np.deg2rad([spread[row] for row in self.joints]), 3)
        parts = (turns, np.ones(3), np.full(motion.expressions.shape[1], config.action))
        self.spread = torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(device)
        self.place_spread = torch.from_numpy(place_spread_m(config, capture)).to(device)
        self.turning = torch.tensor(self.joints, dtype=torch.int64, device=device)
        self.changes = nn.Parameter(torch.zeros(frames, len(self.spread), device=device))
        self.zoom = nn.Parameter(torch.zeros(1, device=device))
        self.trained = torch.tensor(capture.training_frames(), dtype=torch.int64, device=device)
        shown = np.unique([image.frame for image in capture.images])
        before, after = np.arange(frames), np.arange(frames)
        for one, other in pairwise(shown.tolist()):
            if other - one == 1:  # others are too far apart to be held together
                before[other], after[one] = one, other
        self.before, self.after = (torch.from_numpy(values).to(device) for values in (before, after))
        trust = np.ones(frames, np.float32)
        if config.confidence and capture.confidence is not None:
            trust = np.array(capture.confidence, np.float32)
        self.trust = torch.from_numpy(trust).to(device)

    def of(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E] of frames [B]; differentiable.

        An axis-angle vector is added to: at the sizes in question that is a turn.
        """
        turns, place, actions = self._parts(self.changes[frames] * self.spread)
        rotations = self.rotations[frames].index_add(1, self.turning, turns)
        return rotations, self.translations[frames] + place, self.expressions[frames] + actions

    def _parts(self, changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = 3 * len(self.joints)
        return (
            changes[:, :count].reshape(-1, len(self.joints), 3),
            changes[:, count : count + 3] @ self.place_spread,
            changes[:, count + 3 :],
        )

    def factor(self) -> Tensor:
        """What focal lengths are multiplied by, [1]."""
        return torch.exp(self.config.focal * self.zoom)

    def cameras(self, cameras: CameraBatch) -> CameraBatch:
        """The same with the refined focal length; without gradient (`zoomed` has it)."""
        K = cameras.K.clone()
        K[:, 0, 0] *= self.factor().detach()[0]
        K[:, 1, 1] *= self.factor().detach()[0]
        return replace(cameras, K=K)

    def zoomed(self, means: Tensor, cameras: CameraBatch) -> Tensor:
        """World means [B, N, 3] as they are, with the focal length's gradient: a longer lens shows what a head larger
        across the view would (rasterisers have no gradient by K)."""
        factor = self.factor()
        turn, shift = cameras.camera_from_world[:, :3, :3], cameras.camera_from_world[:, :3, 3]
        seen = torch.einsum("bij,bnj->bni", turn, means.detach()) + shift[:, None]
        across = seen * seen.new_tensor([1.0, 1.0, 0.0])
        return means + torch.einsum("bij,bni->bnj", turn, across) * (factor / factor.detach() - 1)

    def penalty(self, frames: Tensor) -> Tensor:
        """Ridge and first-difference smoothness of frames [B], and the ridge of the lens; in squared tracker errors."""
        changes = self.changes[frames]
        steps = torch.cat((changes - self.changes[self.before[frames]], changes - self.changes[self.after[frames]]))
        held = self.config.ridge * (changes.square().sum(1).mean() + self.zoom.square().sum())
        return held + self.config.smooth * steps.square().sum(1).mean()

    def centre(self) -> None:
        """Take the mean change of the frames trained on away from them: the avatar absorbs constants."""
        with torch.no_grad():
            self.changes[self.trained] -= self.changes[self.trained].mean(0)

    def parameters_for(self, end: int, batch: int) -> tuple[RatedParameter, ...]:
        """Both tensors with rates for a schedule of `end` images. A frame is seen in one step of many, in which Adam
        moves it by sqrt(those many) of its rate."""
        images = max(round(end * (1 - self.config.start)), 1)
        seen = max(images / max(len(self.trained), 1), 1.0)
        between = max(len(self.trained) / batch, 1.0)
        mean = sum(log_linear(1.0, LAST_SHARE, share / 20) for share in range(20)) / 20
        rate = min(self.config.travel / (seen * between**0.5 * mean), FASTEST)
        lens = min(self.config.travel / (max(images / batch, 1.0) * mean), FASTEST)
        return (
            RatedParameter("refine.changes", self.changes, rate, rate * LAST_SHARE, end),
            RatedParameter("refine.zoom", self.zoom, lens, lens * LAST_SHARE, end),
        )

    def spread_out(self, frames: Tensor) -> None:
        """Begin those of `frames` [B] that are not trained on with what their neighbours that are were changed by: a
        straight line between the nearest before and after. Errors of a track change slowly."""
        places = self.trained
        frames = frames[~torch.isin(frames, places)]
        if not len(places) or not len(frames):
            return
        after = torch.searchsorted(places, frames).clamp_max(len(places) - 1)
        before = torch.where(places[after] > frames, after - 1, after).clamp_min(0)
        gap = (places[after] - places[before]).clamp_min(1)
        share = ((frames - places[before]) / gap).clamp(0, 1)[:, None]
        with torch.no_grad():
            self.changes[frames] = torch.lerp(self.changes[places[before]], self.changes[places[after]], share)

    def size(self) -> dict[str, float]:
        """Root mean square of what was changed in the frames trained on, by kind, and the focal length's factor."""
        with torch.no_grad():
            turns, place, actions = self._parts(self.changes[self.trained] * self.spread)
            found = {"actions": float(actions.square().mean().sqrt()) if actions.numel() else 0.0}
            found["turns_deg"] = float(turns.square().sum(-1).mean().sqrt().rad2deg())
            found["place_mm"] = float(place.square().sum(-1).mean().sqrt() * 1e3)
            found["focal_factor"] = float(self.factor())
        return {key: round(value, 4) for key, value in found.items()}

    def refined(self, motion: Motion) -> Motion:
        """The whole motion with the changes."""
        with torch.no_grad():
            every = torch.arange(len(self.changes), device=self.changes.device)
            parts: Sequence[Arrays] = [part.cpu().numpy().astype(np.float32) for part in self.of(every)]
        return Motion(*parts, motion.fps)


@dataclass(frozen=True, eq=False)
class Correction:
    """What a batch is told of its track's errors. weights: [B, H, W] of pixels. points: [B, N, 3] m, the surface under
    each Gaussian with the gradient of its pose, None while nothing is refined."""

    track: TrackRefinement
    weights: Tensor
    points: Tensor | None

    def carried(self, posed: PosedGaussians, cameras: CameraBatch) -> PosedGaussians:
        """The same Gaussians, whose places now have gradients by pose and focal length."""
        if self.points is None:
            return posed
        means = posed.means + (self.points - self.points.detach())
        return replace(posed, means=self.track.zoomed(means, cameras))

    def weighed(self, features: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """A rendered picture [B, H, W, 3] and its coverage [B, H, W], with weighed gradients."""
        return weighed(features, self.weights[..., None]), weighed(alpha, self.weights)


def track_terms(correction: Correction | None, batch: Batch) -> dict[str, Tensor]:
    """What holds the refined poses of a batch to the track, once they are refined."""
    if correction is None or correction.points is None:
        return {}
    return {"track": correction.track.penalty(batch.frames)}


class _Weighed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None  # type: ignore[attr-defined]


def weighed(values: Tensor, weights: Tensor) -> Tensor:
    """values as they are, whose gradient is multiplied by weights (broadcast): a weight that fits any loss."""
    return _Weighed.apply(values, weights)  # type: ignore[no-any-return,no-untyped-call]


def pixel_weights(alpha: Tensor, trust: Tensor, edge_px: float, edge_weight: float) -> Tensor:
    """[B, H, W] weights of pixels: trust [B] of each picture, times edge_weight near the edge of its mask [B, H, W].

    edge_px: in a picture of 512 px. Near: within so many px are both what the mask covers and what it does not.
    """
    reach = max(1, round(edge_px * alpha.shape[1] / 512))
    if edge_px <= 0 or edge_weight >= 1:
        return trust[:, None, None].expand_as(alpha)
    grown = torch.nn.functional.max_pool2d(torch.stack((alpha, -alpha), 1), 2 * reach + 1, 1, reach)
    near = (grown[:, 0] > 0.5) & (-grown[:, 1] < 0.5)
    return torch.where(near, edge_weight, 1.0) * trust[:, None, None]
