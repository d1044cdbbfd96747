"""Views from where a capture has none: renders of the avatar itself, so that an edit reaches its back, too."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.capture import Capture, CaptureImage
from avatars.evaluation.frames import Shot, render_shots
from avatars.text_edit.generated import RenderedCapture, bounds, distance_to_hold, orbit_camera, solid_means
from avatars.training.evaluation import as_uint8
from shared.types import Camera

STEP_DEG, UNSEEN_DEG = 30.0, 28.0
"""Directions that are tried, and how far each must be from every camera of the capture."""
PITCHES_DEG = (0.0, 15.0, -8.0)


@dataclass(frozen=True, eq=False)
class CompletedCapture(RenderedCapture):
    """A capture with renders after its own images. base: the capture; store: [K, H, W, 4] uint8 premultiplied."""

    base: Capture | None = None

    def rgba(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Picture `index` [H, W, 4]. Raises BadCapture for a render at another size than it was made in."""
        assert self.base is not None
        row = index - len(self.base.images)
        return self.base.rgba(index, size) if row < 0 else super().rgba(row, size)


def unseen_yaws_deg(capture: Capture, centre: NDArray[np.floating]) -> tuple[float, ...]:
    """Directions about `centre` [3] m that no camera of the capture looks from; 0 is -y, positive from +x."""
    away = np.array([camera.world_from_camera[:3, 3] - centre for camera in capture.cameras])
    seen = np.degrees(np.arctan2(away[:, 0], -away[:, 1]))
    tried = np.arange(-180, 180, STEP_DEG)
    apart = np.abs((tried[:, None] - seen[None] + 180) % 360 - 180).min(1)
    return tuple(float(yaw) for yaw in tried[apart > UNSEEN_DEG])


def completed(avatar: Avatar, capture: Capture, count: int, size_px: int, device: str) -> Capture:
    """The capture with up to `count` renders of the avatar from where it has no camera, at instants of its motion."""
    frames = capture.training_frames()
    centre, half_m = _extent(avatar, capture, frames[0], device)
    yaws = unseen_yaws_deg(capture, centre)
    if not yaws or count < 1:
        return capture
    size = capture.train_size(size_px)
    shots, cameras, images = [], list(capture.cameras), list(capture.images)
    for row in range(count):
        frame = frames[row * len(frames) // count]
        centre, _ = _extent(avatar, capture, frame, device)
        yaw, pitch = yaws[row % len(yaws)], PITCHES_DEG[row % len(PITCHES_DEG)]
        camera = _sized(orbit_camera(centre, distance_to_hold(half_m), yaw, pitch, min(size)), size)
        images.append(CaptureImage(Path(f"around_{row:03d}.png"), len(cameras), frame, "train"))
        cameras.append(camera)
        shots.append(Shot(frame, camera))
    parts = [as_uint8(part) for part in render_shots(avatar, capture.motion, shots, device, 1)]
    told = {entry.name: getattr(capture, entry.name) for entry in fields(Capture)}
    told |= {"cameras": tuple(cameras), "images": tuple(images)}
    told["camera_names"] = (*capture.camera_names, *(f"around_{row:03d}" for row in range(len(shots))))
    if capture.distortions:
        told["distortions"] = (*capture.distortions, *[()] * len(shots))
    return CompletedCapture(**told, base=capture, store=np.concatenate(parts))


def _extent(avatar: Avatar, capture: Capture, frame: int, device: str) -> tuple[NDArray[np.floating], float]:
    """Middle [3] m and half the diagonal of what an avatar shows at an instant."""
    motion = capture.motion
    values = (motion.rotations, motion.translations, motion.expressions)
    with torch.no_grad():
        posed = avatar.pose(*(torch.from_numpy(np.array(part[frame : frame + 1])).to(device) for part in values))
    low, high = bounds(solid_means(posed))
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2


def _sized(camera: Camera, size: tuple[int, int]) -> Camera:
    """A square camera with its picture widened about the middle to `size` (width, height) px."""
    K = camera.K.copy()
    K[0, 2], K[1, 2] = size[0] / 2, size[1] / 2
    return Camera(*size, K, camera.world_from_camera, camera.near_m, camera.far_m)
