"""gsplat behind our own call: CUDA only, optional (Apache-2.0, https://github.com/nerfstudio-project/gsplat).

Written for gsplat 1.5.3, which takes leading batch dimensions; `packed=False` because nearly every Gaussian of an
avatar is visible. Keywords that only newer releases have are passed where they exist.
"""

from __future__ import annotations

import importlib.util
import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import BLUR_PX2
from avatars.rendering.reference import usable
from shared.errors import EnvironmentFailed

# Newer than 1.5.3. Order by camera z as all our rasterisers do, and no other sense of depth.
_NEWER_KEYWORDS: dict[str, Any] = {"global_z_order": True}


def why_unavailable() -> str:
    """Why gsplat cannot be used here, in a few words; empty where it can. Compiles and loads nothing."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if importlib.util.find_spec("gsplat") is None:
        return "the package gsplat is not installed"
    return ""


@cache
def gsplat_rasterization() -> tuple[Any, dict[str, Any]]:
    """gsplat's `rasterization` and the newer keywords it understands. Raises EnvironmentFailed."""
    reason = why_unavailable()
    if reason:
        raise EnvironmentFailed(
            "gsplat cannot be used",
            found=reason,
            do="Install Effigy with its 'cuda' extra on a CUDA machine, or render on the CPU",
        )
    from gsplat import rasterization

    known = inspect.signature(rasterization).parameters
    return rasterization, {name: value for name, value in _NEWER_KEYWORDS.items() if name in known}


def views_of(cameras: CameraBatch, device: torch.device) -> dict[str, Any]:
    """What gsplat's functions are told of cameras, and that nearly every Gaussian is seen."""
    return {
        "viewmats": cameras.camera_from_world[:, None].to(device).float().contiguous(),
        "Ks": cameras.K[:, None].to(device).float().contiguous(),
        "width": cameras.width_px,
        "height": cameras.height_px,
        "near_plane": cameras.near_m,
        "packed": False,
    }


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: CameraBatch,
    *,
    background: Tensor | None = None,
    depth: bool = True,
    finite: bool = False,
    sharp: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features over the background [B, H, W, C], alpha [B, H, W], alpha-weighted depth sum [B, H, W]; CUDA, float32.

    background [B, C]; None leaves features premultiplied. depth False leaves the sum out. finite: the caller vouches
    that no value is NaN or infinite and no quaternion zero. sharp: as PosedGaussians says. Raises EnvironmentFailed
    where gsplat or CUDA is missing.
    """
    rasterization, newer = gsplat_rasterization()
    frames, count, channels = features.shape
    if count == 0:
        shape = (frames, cameras.height_px, cameras.width_px)
        nothing = features.sum() * 0 + means.sum() * 0
        empty = features.new_zeros(*shape, channels) + nothing
        shown = empty if background is None else empty + background[:, None, None]
        return shown, means.new_zeros(shape), means.new_zeros(shape) if depth else None
    if not finite:
        # gsplat draws whatever it is given; here a broken Gaussian becomes an invisible one without a gradient.
        good = usable(means, quats, scales, opacities, features)
        wide = good[..., None]
        unturned = torch.tensor([1.0, 0.0, 0.0, 0.0], device=quats.device, dtype=quats.dtype)
        means, quats = torch.where(wide, means, 0.0), torch.where(wide, quats, unturned)
        scales, opacities = torch.where(wide, scales, 1e-6), torch.where(good, opacities, 0.0)
        features = torch.where(wide, features, 0.0)
    blended, alpha, _ = rasterization(
        means=means.float(),
        quats=quats.float(),
        scales=scales.float(),
        opacities=opacities.float(),
        colors=features.float(),
        **views_of(cameras, means.device),
        camera_model="ortho" if cameras.orthographic else "pinhole",
        eps2d=BLUR_PX2,
        rasterize_mode="antialiased" if sharp else "classic",
        backgrounds=None if background is None else background[:, None].float(),
        render_mode="RGB+D" if depth else "RGB",  # the sum over depths; the caller divides by alpha
        **newer,
    )
    shown = blended[:, 0, :, :, :channels]
    return shown, alpha[:, 0, :, :, 0], blended[:, 0, :, :, channels] if depth else None
