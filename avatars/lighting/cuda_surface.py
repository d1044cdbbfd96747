"""`lit_pixels.surface_features` on CUDA in one kernel; the torch form is the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatars.lighting.harmonics import COSINE, COUNT, basis5
from avatars.lighting.probes import FADE_M, HALF_OPEN, SHIFT, SOFT_BANDS, PosedProbes
from avatars.rendering.has_triton import available


def usable(tensor: Tensor) -> bool:
    """Whether the kernel serves this tensor."""
    return tensor.is_cuda and tensor.dtype == torch.float32 and available()


def surface_rows(
    means: Tensor,
    normals: Tensor,
    materials: tuple[Tensor, Tensor, Tensor],
    eyes: Tensor,
    probes: PosedProbes | None,
    lamp_directions: Tensor | None,
    *,
    turned_away: float,
    width: int = 0,
) -> Tensor:
    """[B, N, width] albedo 3, roughness, metallic, ambient, along the reflection, one a lamp, seen normal 3, zeros.

    means, normals: [B, N, 3] m, world; materials: [B, N, 3], [B, N, 1], [B, N, 1]; eyes: [B, 3] m; lamp_directions
    [L, 3] unit. turned_away: normals whose cosine to the eye is below it are turned round. width 0 is the least there
    can be. No gradients.
    """
    from avatars.lighting.cuda_surface_kernels import NODE_WIDTH, SURFELS_A_BLOCK, WARPS
    from avatars.lighting.cuda_surface_kernels import surface_rows as kernel

    frames, count = means.shape[:2]
    lamps = 0 if lamp_directions is None else len(lamp_directions)
    width = max(width, 10 + lamps)
    out = means.new_empty(frames, count, width)
    if not count or not frames:
        return out
    padded = max(1, 1 << max(lamps - 1, 0).bit_length())
    albedo, roughness, metallic = (_rows(part) for part in materials)
    parts, side, packed = 0, 2, means
    axes = lattices = towards = means
    if probes is not None:
        parts, side = len(probes.probes.joints), probes.probes.coefficients.shape[1]
        packed, lattices = probes.probes.packed(NODE_WIDTH), probes.probes.lattices
        axes = probes.axes()
        towards = axes if not lamps else _lamp_harmonics(axes, lamp_directions, padded)
    kernel[(-(-count // SURFELS_A_BLOCK), frames)](
        means.contiguous(), normals.contiguous(), albedo, roughness, metallic,
        _stride(albedo), _stride(roughness), eyes.to(means).contiguous(), axes, lattices, packed, towards, out, count,
        lamps,
        PARTS=parts, SIDE=side, LAMPS_PADDED=padded if lamps else 0, LAMPS_WIDE=padded, WIDTH=width,
        NODE=NODE_WIDTH, FADE_M=FADE_M,
        SHIFT=SHIFT, HALF_OPEN=HALF_OPEN, TURNED=turned_away,
        S1=SOFT_BANDS[1], S2=SOFT_BANDS[2], S3=SOFT_BANDS[3], S4=SOFT_BANDS[4],
        C1=COSINE[1] / math.pi, C2=COSINE[2] / math.pi, C4=COSINE[4] / math.pi,
        BLOCK=SURFELS_A_BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return out


def _rows(values: Tensor) -> Tensor:
    """Rows [B, N, C] whose frames may share memory, each of them contiguous."""
    one = values[:1].contiguous()
    return one.expand_as(values) if len(values) == 1 or values.stride(0) == 0 else values.contiguous()


def _stride(values: Tensor) -> int:
    return 0 if len(values) == 1 else values.stride(0)


def _lamp_harmonics(axes: Tensor, directions: Tensor | None, padded: int) -> Tensor:
    """[B, P, 25, padded] harmonics, softened, of directions [L, 3] in the axes of each part."""
    assert directions is not None
    linear = axes[..., :12].unflatten(-1, (3, 4))[..., :3] / axes[..., 12, None, None]
    found = basis5(torch.einsum("bpij,lj->bpli", linear, directions.to(linear)))
    found = found * soft_weights(found.device)
    return torch.nn.functional.pad(found.transpose(-1, -2), (0, padded - len(directions))).contiguous()


def soft_weights(device: torch.device) -> Tensor:
    """[25] what softens harmonics that are looked up in one direction; made on the device, so it can be recorded."""
    band = (torch.arange(COUNT, device=device) + 0.5).sqrt().floor()
    found = torch.zeros(COUNT, device=device)
    for index, value in enumerate(SOFT_BANDS):
        found = torch.where(band == index, value, found)
    return found
