"""An avatar beside its edited version through one motion: every figure of an edit, with and without learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from avatars.avatar import Avatar
from avatars.evaluation.edit_clip import PROMPT_BEFORE, Clip, measure_clip
from avatars.evaluation.edit_measures import flicker, hidden_movement, identity_outside
from avatars.evaluation.frames import Shot
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.text_edit.gates import region_gate
from avatars.text_edit.maps import surface_maps
from avatars.text_edit.surface import surface_of
from shared.errors import BadAvatar
from shared.types import Motion

INSIDE = 0.5
"""Share of mouth and eyes from which a Gaussian counts as one that closed lips and lids hide."""


def compare_edit(
    before: Avatar,
    after: Avatar,
    motion: Motion,
    shots: Sequence[Shot],
    device: str,
    *,
    region: str = "",
    clip: Clip | None = None,
    prompt: str = "",
    was: str = PROMPT_BEFORE,
) -> tuple[dict[str, float], Tensor]:
    """Figures of an edit, and its pictures over white [T, H, W, 6]: before and after of each shot, in their order.

    region: where the edit was to change something ('' everywhere: then nothing lies outside). Raises BadAvatar for two
    avatars that are not one person's versions.
    """
    surface = surface_of(before, torch.device(device))
    spread = region_gate(surface, region)[None, :, None].contiguous()
    old, new, places, alphas, regions, colours = [], [], [], [], [], []
    for shot in shots:
        parts = (motion.rotations, motion.translations, motion.expressions)
        pose = [torch.from_numpy(np.array(part[shot.frame : shot.frame + 1], np.float32)).to(device) for part in parts]
        cameras = CameraBatch.from_cameras([shot.camera], device)
        pair = [avatar.pose(*pose).seen_from(cameras.positions()) for avatar in (before, after)]
        if pair[0].means.shape != pair[1].means.shape:
            raise BadAvatar("the two avatars are no versions of one", do="Name the parent with --before")
        for found, posed in zip((old, new), pair, strict=True):
            drawn = rasterise(posed, cameras, posed.colours)
            found.append((drawn.features + 1 - drawn.alpha[..., None]).clamp(0, 1))
        maps = surface_maps(pair[0], cameras, surface)
        places.append(maps.rest_position)
        alphas.append(maps.alpha)
        regions.append(rasterise(pair[0], cameras, spread).features)
        colours = [posed.colours[0] for posed in pair]
    first, second, place, alpha = (torch.cat(part).cpu() for part in (old, new, places, alphas))
    hidden = (surface.region("mouth") + surface.region("eyes")) > INSIDE
    moved, flickers = hidden_movement(*colours, hidden.to(colours[0].device)), flicker(second, first, place, alpha)
    figures = {
        "changed": float((second - first).abs().mean()),
        "hidden_change": moved.hidden,
        "shown_change": moved.shown,
        "flicker": flickers.difference,
        "flicker_excess": flickers.excess,
    }
    if region.strip():
        kept = identity_outside(first, second, torch.cat(regions).cpu(), alpha)
        figures |= {"outside_psnr_db": kept.psnr_db, "outside_ssim": kept.ssim}
    if clip is not None:
        figures |= {
            f"clip_{name}": value for name, value in asdict(measure_clip(clip, second, first, prompt, was)).items()
        }
    return figures, torch.cat((first, second), -1)
