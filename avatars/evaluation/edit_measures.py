"""What an edit did beyond what was asked, measured without any learned weights.

How far hidden Gaussians were moved, how much the edit flickers over instants and views once the known geometry is
followed, and how much of the person outside the edited region stayed as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.training.evaluation import BEST_PSNR_DB
from avatars.training.ssim import WINDOW, check_images, ssim_terms
from shared.errors import EffigyError

SOLID = 0.9
NEAR_PIXELS = 0.75
"""A place counts as seen again where another picture shows a place this many of its pixels from it, or nearer."""
UNTOUCHED = 0.1
AREA_PX = 7
"""Side of the squares that differences are averaged over where only whole areas that flicker are to count."""


@dataclass(frozen=True)
class HiddenMovement:
    """Mean change of Gaussians' values that could not be seen and of those that could, in the values' own unit.

    ratio: hidden over shown; not a number where either set is empty or nothing that is seen has changed.
    """

    hidden: float
    shown: float
    ratio: float


def hidden_movement(before: Tensor, after: Tensor, hidden: Tensor) -> HiddenMovement:
    """How much values [N, C] of Gaussians changed (length of the change), by whether they are `hidden` [N] bool.

    Raises EffigyError where the shapes do not fit.
    """
    if before.shape != after.shape or before.ndim != 2 or hidden.shape != before.shape[:1]:
        raise EffigyError(
            "Gaussians before and after an edit do not fit each other",
            found=f"{list(before.shape)}, {list(after.shape)} and {list(hidden.shape)}",
            expected="[N, C], [N, C] and [N]",
        )
    moved = (after.double() - before.double()).norm(dim=1)
    chosen = hidden.bool()
    means = [float(moved[rows].mean()) if bool(rows.any()) else float("nan") for rows in (chosen, ~chosen)]
    return HiddenMovement(means[0], means[1], means[0] / means[1] if means[1] > 0 else float("nan"))


@dataclass(frozen=True)
class Flicker:
    """Mean absolute difference of the edit between two pictures of the same place on the person.

    excess: how much more the person's areas differ than they did before the edit, without noise of single pixels and
    without what an edit that hides texture takes away. share: of the solid pixels of the first that the second shows,
    too. Not a number where it shows none.
    """

    difference: float
    share: float
    excess: float


Pair = tuple[Tensor, Tensor]


def pair_flicker(edited: Pair, unedited: Pair, places: Pair, alphas: Pair) -> tuple[float, float, int, int]:
    """Sums of differences and of excess, pixels compared and pixels tried between two pictures.

    edited, unedited: [H, W, 3]; places: [H, W, 3] m in the rest pose; alphas: [H, W, 1]. Each solid pixel of the first
    is compared with the one of the second that shows the nearest place.
    """
    solid = [alpha[..., 0].cpu().numpy() > SOLID for alpha in alphas]
    if not solid[0].any() or not solid[1].any():
        return 0.0, 0.0, 0, int(solid[0].sum())
    first, second = (place.double().cpu().numpy()[mask] for place, mask in zip(places, solid, strict=True))
    tree = cKDTree(second)
    spacing = np.median(tree.query(second, k=min(2, len(second)))[0].reshape(len(second), -1)[:, -1])
    distance, row = tree.query(first)
    near = distance <= NEAR_PIXELS * max(float(spacing), 1e-9)
    met = np.zeros_like(solid[0])
    met[solid[0]] = near
    changes = []
    for pictures in (edited, unedited):
        one, two = (part.double().cpu().numpy()[mask] for part, mask in zip(pictures, solid, strict=True))
        change = np.zeros((*met.shape, 3))
        change[met] = (one - two[row])[near]
        changes.append(change)
    difference = np.abs(changes[0] - changes[1]).sum() / 3
    weight = uniform_filter(met.astype(np.float64), AREA_PX, mode="constant")[..., None].clip(1e-9)
    now, then = (np.abs(uniform_filter(c, (AREA_PX, AREA_PX, 0), mode="constant") / weight) for c in changes)
    excess = (now - then).clip(0)[met].sum() / 3
    return float(difference), float(excess), int(met.sum()), len(first)


def flicker(edited: Tensor, unedited: Tensor, rest_position: Tensor, alpha: Tensor) -> Flicker:
    """How much the edit of a sequence flickers: neighbours in it are compared place by place on the person.

    edited, unedited: [T, H, W, 3] display-encoded; rest_position: [T, H, W, 3] m, alpha: [T, H, W, 1] (of
    `SurfaceMaps`). A sequence over instants gives the flicker in time, one over cameras that of views. What differs in
    the unedited pictures, too (shading, highlights), does not count. Raises EffigyError for shapes that do not fit.
    """
    check_images(edited, unedited)
    if rest_position.shape != edited.shape or alpha.shape != (*edited.shape[:3], 1):
        raise EffigyError(
            "maps do not fit the pictures",
            found=f"{list(rest_position.shape)} and {list(alpha.shape)}",
            expected=f"{list(edited.shape)} and one channel",
        )
    total, more, met, tried = 0.0, 0.0, 0, 0
    for now in range(len(edited) - 1):
        parts = ((part[now], part[now + 1]) for part in (edited, unedited, rest_position, alpha))
        added, excess, seen, asked = pair_flicker(*parts)
        total, more, met, tried = total + added, more + excess, met + seen, tried + asked
    nothing = float("nan")
    return Flicker(total / met if met else nothing, met / tried if tried else nothing, more / met if met else nothing)


@dataclass(frozen=True)
class Identity:
    """How alike the person is before and after where nothing was to change. share: of all pixels that were compared.

    Not a number where everything was to change.
    """

    psnr_db: float
    ssim: float
    share: float


def identity_outside(before: Tensor, after: Tensor, where: Tensor, alpha: Tensor | None = None) -> Identity:
    """PSNR and SSIM of pictures [B, H, W, 3] over the pixels an edit should not touch.

    where: [B, H, W, 1] how much each pixel was to be edited; those above a tenth are left out. alpha: [B, H, W, 1] of
    the person, so that an empty background does not count; None counts all. Raises EffigyError.
    """
    check_images(before, after)
    if where.shape != (*before.shape[:3], 1):
        raise EffigyError("the region does not fit the pictures", found=str(list(where.shape)))
    kept = where[..., 0] < UNTOUCHED
    if alpha is not None:
        kept = kept & (alpha[..., 0] > 0.5)
    if not bool(kept.any()):
        return Identity(float("nan"), float("nan"), 0.0)
    error = float((before - after).double().square().mean(-1)[kept].mean())
    psnr = BEST_PSNR_DB if error <= 0 else min(BEST_PSNR_DB, float(-10 * np.log10(error)))
    with torch.no_grad():
        luminance, structure = ssim_terms(before.float(), after.float(), padding=WINDOW // 2)
    similar = float((luminance * structure).mean(1)[kept].double().mean())
    return Identity(psnr, similar, float(kept.double().mean()))
