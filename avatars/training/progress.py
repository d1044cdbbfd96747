"""What a run tells while it goes on, and what it leaves when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Progress:
    """One event. step and steps count images. preview: [H, W, 3] uint8 sRGB, the model beside the ground truth."""

    step: int
    steps: int
    images_per_s: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)
    eta_s: float = 0.0
    message: str = ""
    preview: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class TrainResult:
    """How a run ended. state: 'done', 'paused' or 'cancelled'; the folders exist only when it is done."""

    avatar_folder: Path
    report_folder: Path
    metrics: Mapping[str, Any]
    state: str
