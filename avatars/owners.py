"""Whose a pixel is, in a picture of several avatars: their covers are blended as channels, as few as will do.

A channel an avatar makes a crowd's picture cost as the square of its number. Avatars whose boxes in the picture do not
meet share a channel instead: a pixel inside both boxes there is not. What the channels say is the same either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch

REACH = 4.0
"""Standard deviations from its mean within which a Gaussian shows (opacity 1 falls to 1/255 at 3.33), with a margin."""
BLUR_PX = 4


@dataclass(frozen=True, eq=False)
class Owners:
    """channels: [A], that of each avatar's cover. boxes: [A, 4] px, left, top, right, bottom, the ends not within."""

    channels: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @property
    def count(self) -> int:
        """C, how many channels there are."""
        return int(self.channels.max(initial=-1)) + 1

    def rows(self, like: Tensor) -> Tensor:
        """[A, C]: what each avatar's Gaussians hold, 1 in its own channel."""
        return torch.eye(self.count, device=like.device, dtype=like.dtype)[torch.from_numpy(self.channels)]

    def own(self, covers: Tensor, avatar: int) -> Tensor:
        """[...] of covers [..., C] of pixels that are this avatar's."""
        return covers[..., int(self.channels[avatar])]

    def spread(self, covers: Tensor) -> Tensor:
        """[H, W, A]: each avatar's own cover, of covers [H, W, C]."""
        if self.count == len(self.channels):
            return covers[..., torch.from_numpy(self.channels)]
        found = covers.new_zeros(*covers.shape[:2], len(self.channels))
        for avatar, (channel, (left, top, right, bottom)) in enumerate(zip(self.channels, self.boxes, strict=True)):
            found[top:bottom, left:right, avatar] = covers[top:bottom, left:right, int(channel)]
        return found

    def groups(self, covers: Tensor, covered: Tensor) -> list[Tensor]:
        """For each avatar which of the P covered pixels it covers most of: rows of covers [P, C]; covered [H, W]."""
        best = covers.argmax(dim=-1)
        if self.count < len(self.channels):
            inside = torch.full((self.count, *covered.shape), -1, dtype=torch.int16, device=covers.device)
            for avatar, (channel, (left, top, right, bottom)) in enumerate(zip(self.channels, self.boxes, strict=True)):
                inside[int(channel), top:bottom, left:right] = avatar
            best = inside.permute(1, 2, 0)[covered].gather(1, best[:, None])[:, 0].long()
        else:
            best = torch.from_numpy(np.argsort(self.channels)).to(best.device)[best]
        order = best.argsort(stable=True)
        sizes = torch.bincount(best + 1, minlength=len(self.channels) + 1).tolist()  # first those of nobody
        return list(order.split(sizes))[1:]


def plain_owners(sets: Sequence[PosedGaussians], camera: CameraBatch) -> Owners:
    """A channel for each avatar, wherever it is."""
    return Owners(np.arange(len(sets)), np.tile((0, 0, camera.width_px, camera.height_px), (len(sets), 1)))


def shared_owners(sets: Sequence[PosedGaussians], camera: CameraBatch) -> Owners:
    """As few channels as a greedy choice finds for one frame of posed avatars before one camera."""
    if len(sets) < 3:  # looking where they are costs more than it saves
        return plain_owners(sets, camera)
    boxes = picture_boxes(sets, camera)
    channels = np.zeros(len(boxes), np.int64)
    for avatar in range(1, len(boxes)):
        left, top, right, bottom = boxes[avatar]
        before = boxes[:avatar]
        meets = (before[:, 0] < right) & (left < before[:, 2]) & (before[:, 1] < bottom) & (top < before[:, 3])
        taken = set(channels[:avatar][meets].tolist())
        channels[avatar] = next(channel for channel in range(avatar + 1) if channel not in taken)
    return Owners(channels, boxes)


def picture_boxes(sets: Sequence[PosedGaussians], camera: CameraBatch) -> NDArray[np.int64]:
    """[A, 4] px: boxes that no avatar shows outside of; the whole picture for one that reaches behind the camera."""
    found = []
    for gaussians in sets:
        means = gaussians.means[0] if gaussians.count else gaussians.means.new_full((1, 3), torch.nan)
        reach = REACH * gaussians.scales[0].amax()[None] if gaussians.count else 0.0
        found.append(torch.cat((means.amin(0) - reach, means.amax(0) + reach)))
    ends = torch.stack(found).double().cpu().numpy().reshape(-1, 2, 3)
    K, camera_from_world = (part[0].double().cpu().numpy() for part in (camera.K, camera.camera_from_world))
    picks = np.array([[(corner >> axis) & 1 for axis in range(3)] for corner in range(8)])
    corners = ends[:, picks, np.arange(3)] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]  # [A, 8, 3]
    whole = np.array((0, 0, camera.width_px, camera.height_px))
    unbounded = ~np.isfinite(corners).all(axis=(1, 2))
    depth = np.ones_like(corners[..., 2:])
    if not camera.orthographic:
        unbounded |= (corners[..., 2] < camera.near_m).any(axis=1)
        depth = np.where(unbounded[:, None, None], 1.0, corners[..., 2:])
    pixels = np.nan_to_num(corners[..., :2] / depth * np.diag(K)[:2] + K[:2, 2], posinf=0, neginf=0)
    low, high = np.floor(pixels.min(1)) - BLUR_PX, np.ceil(pixels.max(1)) + BLUR_PX
    size = whole[2:]
    boxes = np.concatenate((low.clip(0, size), high.clip(0, size)), axis=1).astype(np.int64)
    return np.where(unbounded[:, None], whole, boxes)
