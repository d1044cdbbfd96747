"""What a finished track tells: the report of its run, and what the capture says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import SPLITS
from avatars.tracking.judging import REASONS, stretches
from avatars.tracking.tracked_capture import Crop, splits
from backend.clip_source import ClipSource

if TYPE_CHECKING:
    from avatars.tracking.body_detections import BodyDetections
    from avatars.tracking.body_fitting import BodyFit
    from avatars.tracking.body_judging import BodyVerdict
    from avatars.tracking.detections import Detections
    from avatars.tracking.fitting import ClipFit
    from avatars.tracking.judging import Verdict
    from backend.tracking_run import TrackSettings


def report_of(
    source: ClipSource,
    found: Detections | BodyDetections,
    fit: ClipFit | BodyFit,
    verdict: Verdict | BodyVerdict,
    cuts: NDArray[np.bool_],
    crop: Crop,
    focal_from: str,
    settings: TrackSettings,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What was found, as it is written to `report.json`. more: what is told of heads or of bodies only."""
    kept = verdict.kept
    parts = Counter(splits(len(kept)))
    return {
        "source": source.path.name,
        "size_px": list(source.size_px),
        "fps": source.fps,
        "pictures": len(found),
        "kept": len(kept),
        "train": parts[SPLITS[0]],
        "test": parts[SPLITS[1]],
        "dropped": dict(Counter(REASONS[reason] for reason in verdict.reason if reason)),
        "dropped_stretches": stretches(found.number, verdict.reason, source.step),
        "cuts_after": found.number[:-1][cuts].tolist(),
        "focal_px": round(fit.focal_px, 1),
        "focal_from": focal_from,
        "crop": crop.as_json(),
        "landmark_residual_mm": round(float(np.nanmedian(fit.residual_m[kept]) * 1e3), 2),
        **more,
        "settings": asdict(settings),
    }


def spread_deg(angles: NDArray[np.floating], shares: tuple[int, int]) -> list[float]:
    """Two percentiles of angles in degrees, as a report has them."""
    return [round(float(value), 1) for value in np.percentile(angles, shares)]


def about_of(source: ClipSource, output: Path, settings: TrackSettings, generator: str) -> dict[str, Any]:
    """What a capture says of itself and of the tracker that made it."""
    return {
        "name": settings.name or output.name,
        "subject": settings.subject or output.name,
        "licence": settings.licence,
        "fps": source.fps,
        "generator": {"name": generator, "version": 1, "source": source.path.name, **asdict(settings)},
    }
