"""How far a run is, and what its learning rates are there."""

from __future__ import annotations

import math

from avatars.training.config import Schedule


def images_reached(plan: Schedule, images: int, seconds: float) -> float:
    """How far along the schedule a run is, in images: what it has seen, or its share of the time budget if greater.

    With max_seconds 0 this is the image count alone, which makes a run a function of its seed.
    """
    share = seconds / plan.max_seconds if plan.max_seconds > 0 else 0.0
    if plan.min_images > 0:
        share = min(share, images / plan.min_images)
    by_time = plan.images * share
    return min(float(plan.images), max(float(images), by_time))


def eta_s(plan: Schedule, at: float, images: int, seconds: float, images_per_s: float) -> float:
    """Seconds that are left at this pace; 0 where neither pace nor time budget is known."""
    known = images_per_s > 0
    left = (plan.images - at) / images_per_s if known else 0.0
    if plan.max_seconds <= 0:
        return left
    least = max(plan.min_images - images, 0) / images_per_s if known else 0.0
    budget = max(plan.max_seconds - seconds, least)
    return min(left, budget) if known else plan.max_seconds


def log_linear(start: float, final: float, share: float) -> float:
    """Between start and final, both > 0, straight in the logarithm; share is cut to 0..1. (Zero start stays zero.)"""
    if start <= 0:
        return 0.0
    share = min(max(share, 0.0), 1.0)
    return math.exp((1 - share) * math.log(start) + share * math.log(max(final, 1e-20)))


def stage_size(plan: Schedule, at: float) -> int:
    """Longest image side in px at `at` images."""
    size = plan.sizes_px[0]
    for start, px in zip(plan.stages_from, plan.sizes_px, strict=True):
        if at >= start:
            size = px
    return size
