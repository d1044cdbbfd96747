"""A batch of pinhole cameras as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shared.errors import EffigyError
from shared.types import Camera

FAR_BEHIND_M = 1e5


@dataclass(frozen=True, eq=False)
class CameraBatch:
    """B cameras of one image size.

    K: [B, 3, 3] px (no skew is used). camera_from_world: [B, 4, 4] rigid, OpenCV axes. near_m: nearer Gaussians are
    not drawn. orthographic: parallel rays, K maps camera x, y in m to px.
    """

    K: Tensor
    camera_from_world: Tensor
    width_px: int
    height_px: int
    near_m: float = 0.01
    orthographic: bool = False

    def __post_init__(self) -> None:
        count = self.K.shape[0] if self.K.ndim == 3 else -1
        if tuple(self.K.shape) != (count, 3, 3) or tuple(self.camera_from_world.shape) != (count, 4, 4):
            raise EffigyError(
                "cameras have the wrong shape",
                found=f"K {list(self.K.shape)}, camera_from_world {list(self.camera_from_world.shape)}",
                expected="[B, 3, 3] and [B, 4, 4]",
            )
        if self.width_px < 1 or self.height_px < 1:
            raise EffigyError("an image needs at least one pixel", found=f"{self.width_px}x{self.height_px}")

    @property
    def frames(self) -> int:
        """B, the number of cameras."""
        return self.K.shape[0]

    def positions(self) -> Tensor:
        """Where pictures are seen from, [B, 3] m in world axes; an orthographic camera sees from far behind itself."""
        rotation, shift = self.camera_from_world[:, :3, :3], self.camera_from_world[:, :3, 3:]
        position = -(rotation.transpose(1, 2) @ shift)[..., 0]
        return position - FAR_BEHIND_M * rotation[:, 2] if self.orthographic else position

    def one(self, frame: int) -> CameraBatch:
        """Camera `frame` alone."""
        return replace(self, K=self.K[frame, None], camera_from_world=self.camera_from_world[frame, None])

    @staticmethod
    def from_cameras(cameras: Sequence[Camera], device: torch.device | str = "cpu") -> CameraBatch:
        """Cameras of one size and kind as a batch of float32 tensors on `device`; the smallest near plane counts."""
        if not cameras:
            raise EffigyError("there is no camera to look through", expected="at least one")
        sizes = {(camera.width_px, camera.height_px) for camera in cameras}
        if len(sizes) != 1:
            raise EffigyError(
                "cameras of one batch have different image sizes",
                found=", ".join(f"{width}x{height}" for width, height in sorted(sizes)),
                do="Render each size in a batch of its own",
            )
        if len({camera.orthographic for camera in cameras}) != 1:
            raise EffigyError("cameras of one batch are of two kinds", expected="all perspective or all orthographic")
        K = np.stack([camera.K for camera in cameras])
        pose = np.stack([camera.camera_from_world() for camera in cameras])
        ((width_px, height_px),) = sizes
        return CameraBatch(
            K=torch.as_tensor(K, dtype=torch.float32, device=device),
            camera_from_world=torch.as_tensor(pose, dtype=torch.float32, device=device),
            width_px=width_px,
            height_px=height_px,
            near_m=min(camera.near_m for camera in cameras),
            orthographic=cameras[0].orthographic,
        )
