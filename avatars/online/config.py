"""All that decides a live training, as frozen dataclasses; presets are YAML files beside this module."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avatars.online.sampler import SamplerConfig
from avatars.training.config import Schedule, TrainConfig, check_config, read_settings
from avatars.training.rgbavatar_yaml import is_original, read_original
from avatars.training.typed import from_mapping, with_overrides
from shared.errors import BadConfig, nearest

PRESET_FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class OnlineConfig:
    """One live training.

    training: model, rates, losses as offline; of its schedule only batch, deltas_from and colour_from_images count.
    frame_px: longest side of what is kept and learned. memory_mb: bound of all kept frames; where ring and pool do not
    fit, frames are kept at half the side, then the pool shrinks. Frames beyond ring and pool are kept while there is
    room, for post-processing.
    max_steps_per_frame, max_ms_per_frame: how much may be learned for each frame that arrives, 0 as fast as possible.
    snapshot_every: steps between the versions that are rendered. min_mask_iou: a frame whose mask and posed template
    overlap less than this (intersection over union) is rejected, 0 takes all. range_frames: until so many frames the
    mean and spread of θ follow what came; after that only its limits widen. post_process_images: learned from all kept
    frames alike when the stream is over.
    """

    description: str = ""
    training: TrainConfig = field(default_factory=lambda: TrainConfig(schedule=Schedule(deltas_from=0)))
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    frame_px: int = 512
    memory_mb: int = 4096
    max_steps_per_frame: int = 0
    max_ms_per_frame: float = 0.0
    snapshot_every: int = 5
    min_mask_iou: float = 0.5
    range_frames: int = 600
    post_process_images: int = 0


def online_presets() -> dict[str, str]:
    """Preset name -> one-line description."""
    return {path.stem: str(read_settings(path).get("description", "")) for path in sorted(PRESET_FOLDER.glob("*.yaml"))}


def load_online_config(preset: str, overrides: Mapping[str, str] | None = None) -> OnlineConfig:
    """A preset (by name, or the path of a YAML file, RGBAvatar's too) with dotted overrides, each a YAML text.

    Raises BadConfig.

    >>> load_online_config("online", {"sampler.pool": "500"}).sampler.pool
    500
    """
    path = PRESET_FOLDER / f"{preset}.yaml"
    if not path.is_file():
        path = Path(preset)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        known = online_presets()
        raise BadConfig(f"there is no online preset {preset!r}{nearest(preset, known)}", expected=", ".join(known))
    values = read_settings(path)
    if is_original(values):
        values = _from_original(values, path.name)
    values = with_overrides(values, overrides or {}, OnlineConfig)
    _with_live_schedule(values)
    config = from_mapping(OnlineConfig, values, path.stem)
    check_online_config(config)
    return config


def check_online_config(config: OnlineConfig) -> None:
    """Refuse values that make no sense together. Raises BadConfig."""
    check_config(config.training)
    config.sampler.check(config.training.schedule.batch)
    for name, value, low, high in (
        ("frame_px", config.frame_px, 16, 4096),
        ("memory_mb", config.memory_mb, 1, 1 << 20),
        ("max_steps_per_frame", config.max_steps_per_frame, 0, 1_000_000),
        ("max_ms_per_frame", config.max_ms_per_frame, 0, 1e6),
        ("snapshot_every", config.snapshot_every, 1, 1_000_000),
        ("min_mask_iou", config.min_mask_iou, 0, 0.99),
        ("range_frames", config.range_frames, 0, 1_000_000_000),
        ("post_process_images", config.post_process_images, 0, 1_000_000_000),
    ):
        if not low <= value <= high:
            raise BadConfig(f"{name} is out of range", found=str(value), expected=f"{low} to {high}")


def _from_original(values: dict[str, Any], where: str) -> dict[str, Any]:
    """RGBAvatar's online.yaml in our terms. Raises BadConfig for an offline file of it."""
    original = read_original(values, where)
    if original.sampler is None:
        raise BadConfig(f"{where} is a configuration of offline training", expected="train.sampler", do="Use train")
    return {
        "description": f"RGBAvatar's {where}",
        "training": dict(original.settings),
        "sampler": dataclasses.asdict(original.sampler),
        "post_process_images": original.polish_images,
    }


def _with_live_schedule(values: dict[str, Any]) -> None:
    """Blendshapes learn from the first image unless the file says otherwise."""
    place = values
    for name in ("training", "schedule"):
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # told by from_mapping
        place = inner
    place.setdefault("deltas_from", 0)
