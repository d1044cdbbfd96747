"""Training pictures as uint8, in memory or read ahead from disk, at each size the schedule asks for, and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.rendering.cameras import CameraBatch
from avatars.training import cuda_images

if TYPE_CHECKING:
    from avatars.training.ranks import Part

ON_DEVICE_BYTES = 4 << 30
MOST_UNDER_WAY = 64
"""Pictures read ahead of their use."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures. pixels: [B, H, W, 4] premultiplied, display-encoded, uint8 or floating 0..1; frames: [B] int64.

    cameras: B of them. backgrounds: [B, 3] in 0..1, to be shown behind both the picture and the model. lenses: [B]
    int64, which of the capture's cameras took each; ignored: [B, H, W] bool, pixels that count for nothing; both None
    where they are not wanted. images: [B] int64 (on the host), which of the capture's images each is, where known.
    part: which of a step's pictures these are, where other processes have the others; None for all.
    """

    pixels: Tensor
    cameras: CameraBatch
    frames: Tensor
    backgrounds: Tensor
    lenses: Tensor | None = None
    ignored: Tensor | None = None
    images: Tensor | None = None
    part: Part | None = None

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
    """Chosen images of a capture at one size, decoded once. rgba: [M, H, W, 4] uint8 premultiplied; frames: [M].

    lenses: [M] int64, the capture's camera of each; ignored: [M, H, W] bool, the band along the masks' edges; images:
    [M] int64 (on the host), the capture's index of each; or None.
    """

    rgba: Tensor
    cameras: CameraBatch
    frames: Tensor
    device: torch.device
    lenses: Tensor | None = None
    ignored: Tensor | None = None
    images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def expect(self, chosen: Tensor) -> None:
        """Say which pictures [M] will be asked for soon, the next one first. Those in memory are at hand already."""

    def batch(self, chosen: Tensor, backgrounds: Tensor) -> Batch:
        """The pictures `chosen` [B] as float32 on the device."""
        chosen_there = _sent(chosen, self.device)
        cameras = replace(
            self.cameras, K=self.cameras.K[chosen_there], camera_from_world=self.cameras.camera_from_world[chosen_there]
        )
        return Batch(
            self._picked(chosen, chosen_there),
            cameras,
            self.frames[chosen_there],
            _sent(backgrounds, self.device),
            None if self.lenses is None else self.lenses[chosen_there],
            None if self.ignored is None else self.ignored[chosen_there.to(self.ignored.device)].to(self.device),
            None if self.images is None else self.images[chosen],
        )

    def _picked(self, chosen: Tensor, chosen_there: Tensor) -> Tensor:
        if self.rgba.device == self.device:
            return self.rgba[chosen_there]
        return _sent(self.rgba[chosen], self.device)


@dataclass(frozen=True, eq=False)
class StreamedPictures(Pictures):
    """Pictures that are too many for memory: read when they are expected, by a few threads, and forgotten when used.

    rgba is empty and only tells the size. read: row -> [H, W, 4] uint8.
    """

    read: Callable[[int], NDArray[np.uint8]] = field(kw_only=True)
    readers: ThreadPoolExecutor = field(kw_only=True)
    under_way: dict[int, Future[NDArray[np.uint8]]] = field(default_factory=dict)

    def expect(self, chosen: Tensor) -> None:
        """Begin to read those of `chosen` [M] that are not under way, a bounded number."""
        for row in chosen.tolist():
            if len(self.under_way) >= MOST_UNDER_WAY:
                return
            if row not in self.under_way:
                self.under_way[row] = self.readers.submit(self.read, row)

    def _picked(self, chosen: Tensor, chosen_there: Tensor) -> Tensor:
        rows = chosen.tolist()
        for row in rows:  # whatever was not expected is read now, all of them at once
            if row not in self.under_way:
                self.under_way[row] = self.readers.submit(self.read, row)
        pictures = {row: self.under_way.pop(row).result() for row in dict.fromkeys(rows)}
        return _sent(torch.from_numpy(np.stack([pictures[row] for row in rows])), self.device)


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
    most_bytes: int | None = None,
) -> Pictures:
    """Decode images of a capture with the longer side at most `longest_px`. Raises BadCapture.

    They stay on the device when they fit there comfortably, else in host memory (pinned for CUDA). Where they would
    take more than `most_bytes` (None: half of the memory that is free) they are read from disk each time, ahead of
    their use. tell: called with the number decoded so far.
    """
    size = capture.train_size(longest_px)
    cameras = CameraBatch.from_cameras([capture.camera_of(index, size) for index in images], device)
    frames = torch.tensor([capture.images[index].frame for index in images], dtype=torch.int64, device=device)
    which = torch.tensor(list(images), dtype=torch.int64)
    limit = psutil.virtual_memory().available // 2 if most_bytes is None else most_bytes
    if len(images) * size[0] * size[1] * 4 > limit:
        nothing = torch.empty((0, size[1], size[0], 4), dtype=torch.uint8)
        readers = ThreadPoolExecutor(max_workers=max(2, torch.get_num_threads()), thread_name_prefix="pictures")
        return StreamedPictures(
            nothing,
            cameras,
            frames,
            device,
            images=which,
            read=lambda row: capture.rgba(images[row], size),
            readers=readers,
        )
    store = np.empty((len(images), size[1], size[0], 4), np.uint8)
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        decoded = pool.map(lambda index: capture.rgba(index, size), images)
        for row, picture in enumerate(decoded):
            store[row] = picture
            tell(row + 1)
    rgba = torch.from_numpy(store)
    if device.type == "cuda":
        rgba = rgba.to(device) if rgba.numel() <= ON_DEVICE_BYTES else rgba.pin_memory()
    return Pictures(rgba, cameras, frames, device, images=which)
