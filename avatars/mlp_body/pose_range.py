"""The training poses as a box of principal components; novel poses are held inside it (method page A.4)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PoseRange:
    """mean [D]; components [C, D] orthonormal rows; sigmas [C], standard deviations along them; limit, in sigmas."""

    mean: Tensor
    components: Tensor
    sigmas: Tensor
    limit: Tensor

    @staticmethod
    def fit(poses: Tensor, components: int, limit: float) -> PoseRange:
        """Of training poses [T, D]: the `components` directions of most variance (fewer where there are fewer)."""
        mean = poses.double().mean(0)
        _, sizes, rows = torch.linalg.svd(poses.double() - mean, full_matrices=False)
        kept = min(components, len(rows))
        # The sign of a singular vector is free; fixed here, so that equal data gives equal numbers everywhere.
        signs = torch.sign(rows.gather(1, rows.abs().argmax(1, keepdim=True)))
        rows = rows * torch.where(signs == 0, torch.ones_like(signs), signs)
        sigmas = sizes / max(len(poses) - 1, 1) ** 0.5
        found = (mean, rows[:kept], sigmas[:kept], torch.tensor([limit], dtype=torch.float64))
        return PoseRange(*(value.float().contiguous() for value in found))

    def to(self, device: str | torch.device) -> PoseRange:
        """The same on another device."""
        return PoseRange(*(getattr(self, entry.name).to(device) for entry in fields(self)))

    def clamped(self, poses: Tensor) -> Tensor:
        """Poses [B, D] projected on the components, each cut to ±limit standard deviations, and back."""
        reach = self.limit * self.sigmas
        along = ((poses - self.mean) @ self.components.T).clamp(-reach, reach)
        return self.mean + along @ self.components
