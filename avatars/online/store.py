"""The frames a live training remembers: uint8 pictures with θ and posed mesh, by number, within a memory bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatars.online.frames import TrackedFrame
from avatars.online.sampler import SamplerConfig
from avatars.rendering.cameras import CameraBatch
from avatars.training.data import Batch
from shared.errors import BadConfig, BadMessage
from shared.types import Pose


@dataclass(frozen=True, eq=False)
class StoredFrame:
    """rgba [H, W, 4] uint8 premultiplied; theta [D]; vertices [V, 3] m; K [3, 3]; camera_from_world [4, 4].

    pose: that it was made with.
    """

    rgba: Tensor
    theta: Tensor
    vertices: Tensor
    K: Tensor
    camera_from_world: Tensor
    pose: Pose
    source_number: int

    def bytes(self) -> int:
        """Memory it takes."""
        parts = (self.rgba, self.theta, self.vertices, self.K, self.camera_from_world)
        return sum(part.numel() * part.element_size() for part in parts)


@dataclass(frozen=True)
class StorePlan:
    """How frames of a stream are kept. longest_px: their longer side; frames: how many fit; sampler: what it holds."""

    longest_px: int
    frames: int
    sampler: SamplerConfig
    note: str = ""


def plan_store(
    sampler: SamplerConfig, longest_px: int, memory_bytes: int, size: tuple[int, int], mesh: int
) -> StorePlan:
    """Make ring and pool fit into `memory_bytes`: by half the picture's side first, then by a smaller pool.

    size: (width, height) px of arriving pictures; mesh: bytes of θ and vertices of one frame. Raises BadConfig where
    not even the ring fits.
    """
    longest_px = min(longest_px, max(size))
    wanted, note = sampler.ring + sampler.pool, ""

    def fit(longest: int) -> int:
        factor = min(1.0, longest / max(size))
        pixels = max(1, round(size[0] * factor)) * max(1, round(size[1] * factor))
        return memory_bytes // (pixels * 4 + mesh)

    fits = fit(longest_px)
    if fits < wanted:
        longest_px = max(16, longest_px // 2)
        fits, note = fit(longest_px), f"frames are kept at {longest_px} px so that ring and pool fit into memory"
    if fits < sampler.ring:
        raise BadConfig(
            "memory_mb is too small for the newest frames alone",
            found=f"room for {fits}",
            expected=f"at least {sampler.ring}",
            do="Give more memory, or a smaller sampler.ring or frame_px",
        )
    if fits < wanted:
        sampler = replace(sampler, pool=fits - sampler.ring)
        note += f"; the pool holds {sampler.pool} frames"
    return StorePlan(longest_px, fits, sampler, note)


class FrameStore:
    """Frames by number. Those that sampler.add handed back stay while there is room; the oldest of them go first."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self._frames: OrderedDict[int, StoredFrame] = OrderedDict()
        self._spare: OrderedDict[int, None] = OrderedDict()
        self._size: torch.Size | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> StoredFrame:
        return self._frames[number]

    def numbers(self) -> tuple[int, ...]:
        """Of all frames kept, oldest first."""
        return tuple(self._frames)

    def made(self, frame: TrackedFrame, theta: Tensor, vertices: Tensor) -> StoredFrame:
        """The frame as it is kept, on the device. Raises BadMessage for a picture of another size than the first's."""
        camera = CameraBatch.from_cameras([frame.camera], self.device)
        rgba = torch.from_numpy(frame.rgba).to(self.device, copy=True)
        if self._size is not None and rgba.shape != self._size:
            raise BadMessage("a picture has another size than those before", found=str(list(rgba.shape[:2])))
        self._size = rgba.shape
        return StoredFrame(rgba, theta, vertices, camera.K[0], camera.camera_from_world[0], frame.pose, frame.number)

    def put(self, number: int, frame: StoredFrame, released: Sequence[int]) -> None:
        """Keep a frame; `released` are in no set of the sampler any more."""
        self._frames[number] = frame
        self.bytes += frame.bytes()
        for old in released:
            self._spare[old] = None
        while len(self._frames) > self.capacity and self._spare:
            gone, _ = self._spare.popitem(last=False)
            self.bytes -= self._frames.pop(gone).bytes()

    def chosen(self, numbers: Sequence[int]) -> tuple[StoredFrame, ...]:
        """Frames by number. They stay valid after the store forgot them."""
        return tuple(self._frames[number] for number in numbers)


def stacked(frames: Sequence[StoredFrame], backgrounds: Tensor) -> tuple[Tensor, Tensor, Batch]:
    """θ [B, D], vertices [B, V, 3] and the pictures of some frames as a batch over `backgrounds` [B, 3]."""
    pixels = torch.stack([frame.rgba for frame in frames])
    cameras = CameraBatch(
        torch.stack([frame.K for frame in frames]),
        torch.stack([frame.camera_from_world for frame in frames]),
        pixels.shape[2],
        pixels.shape[1],
    )
    numbers = torch.tensor([frame.source_number for frame in frames])
    return (
        torch.stack([frame.theta for frame in frames]),
        torch.stack([frame.vertices for frame in frames]),
        Batch(pixels, cameras, numbers, backgrounds),
    )
