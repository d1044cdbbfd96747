"""How fast a rasteriser is on this machine: a head-like shell of Gaussians at three sizes, forward and backward."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Implementation, rasterise

SIZES: tuple[tuple[int, int], ...] = ((5_000, 128), (20_000, 256), (50_000, 512))
GOALS_MS = {(5_000, 128): 15.0, (20_000, 256): 60.0, (50_000, 512): 200.0}


def head_like_shell(count: int, *, seed: int = 0, device: torch.device | str = "cpu") -> PosedGaussians:
    """One frame of `count` flat Gaussians tiling an ellipsoid the size of a head, like a trained avatar's."""
    rng = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    spacing_m = math.sqrt(4 * math.pi * 0.11**2 / count)
    up = torch.tensor([0.0, 0.0, 1.0])
    # The shortest turn from the thin axis z to the surface normal.
    quats = torch.nn.functional.normalize(
        torch.cat([1 + direction @ up[:, None], torch.linalg.cross(up.expand_as(direction), direction)], dim=-1), dim=-1
    )
    scales = spacing_m * torch.tensor([0.7, 0.7, 0.15]) * (0.6 + 0.8 * torch.rand(count, 3, generator=rng))
    return PosedGaussians(
        means=(direction * torch.tensor([0.09, 0.11, 0.13]))[None].to(device),
        quats=quats[None].to(device),
        scales=scales[None].to(device),
        opacities=(0.2 + 0.79 * torch.rand(1, count, generator=rng)).to(device),
        colours=torch.rand(1, count, 3, generator=rng).to(device),
    )


def front_camera(size_px: int, *, device: torch.device | str = "cpu") -> CameraBatch:
    """A square camera 1 m in front (at -y) of the origin; the shell fills most of its image."""
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 1], [0, 0, 0, 1]])
    focal_px = 3.2 * size_px
    K = torch.tensor([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]])
    return CameraBatch(K[None].to(device), pose[None].to(device), size_px, size_px)


def _best_ms(repeats: int, act: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Fastest and median of `repeats` timings after one call to warm up."""
    times = []
    for _ in range(max(1, repeats) + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    ordered = sorted(times[1:])
    return ordered[0], ordered[len(ordered) // 2]


def run_raster_benchmark(
    sizes: Sequence[tuple[int, int]] = SIZES,
    repeats: int = 10,
    *,
    implementation: Implementation = "auto",
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Time (Gaussians, pixels a side) pairs with three channels. One row each, times in ms per image.

    Keys: gaussians, size_px, forward_ms, total_ms (forward and backward), backward_ms (their difference), each the
    median; best_total_ms; goal_ms and ratio (total / goal), None where no goal is set.
    """
    where = torch.device(device)
    rows = []
    white = torch.ones(1, 3, device=where)
    for count, size_px in sizes:
        gaussians, camera = head_like_shell(count, device=where), front_camera(size_px, device=where)
        leaves: list[Tensor] = [
            tensor.clone().requires_grad_()
            for tensor in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colours)
        ]
        weight = torch.rand(1, size_px, size_px, 3, generator=torch.Generator().manual_seed(1)).to(where)

        def forward(gaussians: PosedGaussians = gaussians, camera: CameraBatch = camera) -> None:
            with torch.no_grad():
                rasterise(gaussians, camera, gaussians.colours, background=white, implementation=implementation)

        def both(leaves: list[Tensor] = leaves, camera: CameraBatch = camera, weight: Tensor = weight) -> None:
            posed = PosedGaussians(*leaves)
            image = rasterise(posed, camera, posed.colours, background=white, implementation=implementation)
            torch.autograd.grad((image.features * weight).sum(), leaves)

        _, forward_ms = _best_ms(repeats, forward, where)
        best_total_ms, total_ms = _best_ms(repeats, both, where)
        goal_ms = GOALS_MS.get((count, size_px))
        rows.append(
            {
                "gaussians": count,
                "size_px": size_px,
                "forward_ms": forward_ms,
                "backward_ms": max(0.0, total_ms - forward_ms),
                "total_ms": total_ms,
                "best_total_ms": best_total_ms,
                "goal_ms": goal_ms,
                "ratio": None if goal_ms is None else total_ms / goal_ms,
            }
        )
    return rows


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `run_raster_benchmark` as lines of text."""
    lines = ["Gaussians   image   forward  backward     total      best      goal   ratio   (ms, median per image)"]
    for row in rows:
        goal = "-" if row["goal_ms"] is None else f"{row['goal_ms']:.0f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(
            f"{row['gaussians']:>9}  {row['size_px']:>4}^2  {row['forward_ms']:>8.2f}  {row['backward_ms']:>8.2f}"
            f"  {row['total_ms']:>8.2f}  {row['best_total_ms']:>8.2f}  {goal:>8}  {ratio:>6}"
        )
    return "\n".join(lines)
