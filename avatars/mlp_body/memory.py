"""Whether a body of a given size can be trained in the memory that a device has, and which preset fits if not."""

from __future__ import annotations

from itertools import pairwise

import torch

from avatars.mlp_body.express import CHANNELS
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.training.config import PRESET_FOLDER, TrainConfig, load_config
from shared.errors import EnvironmentFailed

COPIES = 4
"""Parameter, gradient and Adam's two moments."""
BYTES_PER_GAUSSIAN_PIXEL = 400
"""Rasterising: projections, tile lists and their gradients, measured generously, a Gaussian and picture."""
BYTES_PER_PIXEL = 160
"""Pictures, losses and their gradients, a pixel."""
POSE_NUMBERS = 214
"""At most so many numbers drive the networks of the open template."""
BODY_PRESETS = ("mlp_body_paper", "mlp_body_fast", "mlp_body_cpu")


def needed_bytes(config: TrainConfig) -> int:
    """About how much memory training takes."""
    body: MlpBodyConfig = config.body
    each = (CHANNELS + 9) * (body.basis + 1) + 3
    layers = (POSE_NUMBERS if body.hands or body.face else 63, *body.widths, body.basis + body.control_basis)
    networks = sum((before + 1) * after for before, after in pairwise(layers))
    numbers = body.gaussians * each + body.anchors * networks + body.controls * 3 * (body.control_basis + 1)
    size, batch = max(config.schedule.sizes_px), config.schedule.batch
    drawing = batch * (body.gaussians * BYTES_PER_GAUSSIAN_PIXEL + size * size * BYTES_PER_PIXEL)
    return 4 * COPIES * numbers + drawing


def check_memory(config: TrainConfig, device: torch.device) -> None:
    """Refuse a run that the device cannot hold. Raises EnvironmentFailed naming the preset that fits."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    check_fits(config, free)


def check_fits(config: TrainConfig, free_bytes: int) -> None:
    """The same for a known amount of free memory."""
    needed = needed_bytes(config)
    if needed <= free_bytes:
        return
    here = [name for name in BODY_PRESETS if (PRESET_FOLDER / f"{name}.yaml").is_file()]
    fitting = [name for name in here if needed_bytes(load_config(name)) <= free_bytes]
    advice = f"Use preset {fitting[0]}, which fits" if fitting else "Train on the CPU with preset mlp_body_cpu"
    raise EnvironmentFailed(
        "the GPU's memory is too small for this preset",
        found=f"{free_bytes / 2**30:.1f} GiB free",
        expected=f"about {needed / 2**30:.1f} GiB",
        do=advice,
    )
