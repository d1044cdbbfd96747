"""Training pictures in memory as uint8, at each size the schedule asks for, and the batches made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.rendering.cameras import CameraBatch
from avatars.training import cuda_images

ON_DEVICE_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures. pixels: [B, H, W, 4] premultiplied, display-encoded, uint8 or floating 0..1; frames: [B] int64.

    cameras: B of them. backgrounds: [B, 3] in 0..1, to be shown behind both the picture and the model.
    """

    pixels: Tensor
    cameras: CameraBatch
    frames: Tensor
    backgrounds: Tensor

    @cached_property
    def rgba(self) -> Tensor:
        """The pictures [B, H, W, 4] float32 in 0..1, premultiplied."""
        return self.pixels.float() / 255 if self.pixels.dtype == torch.uint8 else self.pixels

    def target(self) -> Tensor:
        """The pictures over their backgrounds, [B, H, W, 3]."""
        if self.pixels.dtype == torch.uint8 and cuda_images.usable(self.backgrounds):
            return cuda_images.over_background(self.pixels, self.backgrounds)
        return self.rgba[..., :3] + (1 - self.rgba[..., 3:]) * self.backgrounds[:, None, None]

    def alpha(self) -> Tensor:
        """How much of each pixel is covered, [B, H, W] in 0..1."""
        return self.pixels[..., 3].float() / 255 if self.pixels.dtype == torch.uint8 else self.pixels[..., 3]

    def straight(self) -> tuple[Tensor, Tensor]:
        """Colours [B, H, W, 3] not darkened by alpha, and alpha [B, H, W]."""
        alpha = self.rgba[..., 3]
        return (self.rgba[..., :3] / alpha[..., None].clamp_min(1e-3)).clamp(0, 1), alpha


@dataclass(frozen=True, eq=False)
class Pictures:
    """Chosen images of a capture at one size, decoded once. rgba: [M, H, W, 4] uint8 premultiplied; frames: [M]."""

    rgba: Tensor
    cameras: CameraBatch
    frames: Tensor
    device: torch.device

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, chosen: Tensor, backgrounds: Tensor) -> Batch:
        """The pictures `chosen` [B] as float32 on the device."""
        chosen_there = _sent(chosen, self.device)
        picked = self.rgba[chosen_there] if self.rgba.device == self.device else _sent(self.rgba[chosen], self.device)
        cameras = replace(
            self.cameras, K=self.cameras.K[chosen_there], camera_from_world=self.cameras.camera_from_world[chosen_there]
        )
        return Batch(picked, cameras, self.frames[chosen_there], _sent(backgrounds, self.device))


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """The same on the device, without waiting for what is under way there."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def load_pictures(
    capture: Capture,
    images: Sequence[int],
    longest_px: int,
    device: torch.device,
    tell: Callable[[int], None] = lambda done: None,
) -> Pictures:
    """Decode images of a capture with the longer side at most `longest_px`. Raises BadCapture.

    They stay on the device when they fit there comfortably, else in host memory (pinned for CUDA). tell: called with
    the number decoded so far.
    """
    size = capture.train_size(longest_px)
    store = np.empty((len(images), size[1], size[0], 4), np.uint8)
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        decoded = pool.map(lambda index: capture.rgba(index, size), images)
        for row, picture in enumerate(decoded):
            store[row] = picture
            tell(row + 1)
    rgba = torch.from_numpy(store)
    if device.type == "cuda":
        rgba = rgba.to(device) if rgba.numel() <= ON_DEVICE_BYTES else rgba.pin_memory()
    cameras = CameraBatch.from_cameras([capture.camera_of(index, size) for index in images], device)
    frames = torch.tensor([capture.images[index].frame for index in images], dtype=torch.int64, device=device)
    return Pictures(rgba, cameras, frames, device)
