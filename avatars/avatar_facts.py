"""What a library says about an avatar in words: quality, coverage, licence, consent, where it comes from. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.avatar_folder import PREVIEW, load_preview, read_description, shown_name
from shared.errors import BadAvatar

QUALITY = {"psnr_db": "PSNR {:.1f} dB", "ssim": "SSIM {:.3f}", "flip": "FLIP {:.3f}", "lpips": "LPIPS {:.3f}"}
"""Held-out metrics in the order they are told in."""
MAX_FACT = 400


def avatar_facts(folder: Path) -> dict[str, str]:
    """Name of a fact -> its text, in the order to be shown in; what is not known is left out. Raises BadAvatar."""
    document = read_description(folder)
    training, metrics = document["training"], _mapping(document["training"].get("metrics"))
    provenance = _mapping(document.get("provenance"))
    facts = {
        "Name": shown_name(folder, document),
        "Method": document["method"].replace("_", " "),
        "Made": document["created"].replace("T", " ").removesuffix("+00:00"),
        "Held-out quality": quality(metrics),
        "Gaussians": _count(metrics.get("gaussians") or metrics.get("gaussians_trained")),
        "Coverage": coverage(_mapping(_mapping(training.get("coverage")).get("train"))),
        "Template": str(document["template"].get("id", "")),
        "Licence": document["licence"] or "not stated",
        "Consent": str(document.get("consent") or "not stated"),
        "Preset": str(training.get("preset") or ""),
    }
    for name, value in provenance.items():
        if isinstance(value, str | int | float) and value not in ("", None):
            facts[f"From: {str(name).replace('_', ' ')}"] = (
                ("yes" if value else "no") if value in (True, False) else str(value)
            )
    facts["Size"] = f"{sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6:.1f} MB"
    return {name: text[:MAX_FACT] for name, text in facts.items() if text}


def quality(metrics: Mapping[str, Any]) -> str:
    """`PSNR 31.2 dB, SSIM 0.957` of what was measured on frames the avatar was not trained on; empty for nothing."""
    known = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return ", ".join(form.format(known[name]) for name, form in QUALITY.items() if name in known)


def coverage(seen: Mapping[str, Any]) -> str:
    """From where the training pictures look at the face: `-42° to 40° sideways, -12° to 20° up, 83 % of it seen`."""
    keys = ("yaw_min_deg", "yaw_max_deg", "pitch_min_deg", "pitch_max_deg", "cells_filled", "cells")
    if not all(isinstance(seen.get(key), int | float) for key in keys) or not seen["cells"]:
        return ""
    left, right, low, high, filled, cells = (float(seen[key]) for key in keys)
    return (
        f"{left:.0f}° to {right:.0f}° sideways, {low:.0f}° to {high:.0f}° up, {100 * filled / cells:.0f} % of it seen"
    )


def small_preview(folder: Path, longest_px: int) -> NDArray[np.uint8]:
    """The preview picture, at most longest_px a side: [H, W, 4] uint8 sRGB straight alpha. Raises BadAvatar."""
    from PIL import Image

    if (folder / PREVIEW).stat().st_size > 16 << 20:
        raise BadAvatar(f"{PREVIEW} of avatar {folder.name} is too large", expected="at most 16 MiB")
    image = Image.fromarray(load_preview(folder))
    image.thumbnail((longest_px, longest_px))
    return np.asarray(image)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) else ""
