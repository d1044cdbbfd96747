"""Pictures of an avatar in given poses through given cameras, a batch at a time, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from shared.errors import BadCapture
from shared.types import Camera, Motion


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture to be made: a frame of the motion, seen by a camera."""

    frame: int
    camera: Camera


def capture_shots(capture: Capture, images: Sequence[int], longest_px: int) -> list[Shot]:
    """The capture's own views of `images`, the longer side at most `longest_px`."""
    size = capture.train_size(longest_px)
    return [Shot(capture.images[index].frame, capture.camera_of(index, size)) for index in images]


def render_shots(
    avatar: Avatar, motion: Motion, shots: Sequence[Shot], device: torch.device | str, batch: int
) -> Iterator[Tensor]:
    """Premultiplied display-encoded RGBA [B, H, W, 4] on the device for up to `batch` shots at a time, in order.

    All shots have one image size. Values may exceed 1 a little where Gaussians are brighter than white.
    """
    for start in range(0, len(shots), batch):
        chosen = shots[start : start + batch]
        frames = [shot.frame for shot in chosen]
        with torch.no_grad():
            posed = avatar.pose(
                *(
                    torch.from_numpy(np.ascontiguousarray(values[frames])).to(device)
                    for values in (motion.rotations, motion.translations, motion.expressions)
                )
            )
            cameras = CameraBatch.from_cameras([shot.camera for shot in chosen], device)
            posed = posed.seen_from(cameras.positions())
            drawn = rasterise(posed, cameras, posed.colours)
        yield torch.cat((drawn.features, drawn.alpha[..., None]), -1)


def over(rgba: Tensor, level: float) -> Tensor:
    """Premultiplied RGBA [B, H, W, 4] over a grey of `level` (0 black, 1 white), [B, H, W, 3]."""
    return rgba[..., :3] + (1 - rgba[..., 3:]) * level


def check_same_rig(avatar: Avatar, capture: Capture) -> None:
    """Raises BadCapture where the avatar cannot be posed by this capture's parameters as they are."""
    rig = avatar.rig()
    for what, ours, theirs in (
        ("joints", rig.joint_names, capture.joint_names),
        ("expressions", rig.expression_names, capture.expression_names),
    ):
        if tuple(ours) != tuple(theirs):
            raise BadCapture(
                f"the {what} of capture {capture.name!r} are not the avatar's",
                found=f"{len(theirs)}, for example {theirs[0] if theirs else 'none'!r}",
                expected=f"{len(ours)}, for example {ours[0] if ours else 'none'!r}",
                do="Give the capture it was trained from; another one can drive it with: effigy render --motion",
            )
