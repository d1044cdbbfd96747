"""What `benchmark growth` measures: its parts, and what is held still while one thing grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import BadConfig

CURVES: Mapping[str, str] = {
    "gaussians": "Gaussians",
    "resolution": "pixels",
    "avatars": "avatars in the scene",
    "lit": "avatars in the scene, lit",
    "batch": "cameras at once",
}
"""Part -> what grows in it."""
PARTS = (*CURVES, "files", "where", "training")


@dataclass(frozen=True)
class GrowthBenchmark:
    """Counts and sizes of each curve; gaussians, size_px: of the head and the picture in all other parts.

    A crowd is `gaussians` for each avatar, seen from so far that all are in the picture. seconds: about how long each
    timing takes. frames: training pictures of each training; targets_db: held-out PSNR that is waited for;
    train_s: of each training, by which the schedule ends; look_s: how often held-out pictures are measured.
    """

    output: Path
    device: str
    gaussians: int
    size_px: int
    counts: tuple[int, ...]
    sizes_px: tuple[int, ...]
    crowds: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float = 0.3
    capture: str = "talking_head"
    preset: str = "rgb_head_quality"
    overrides: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[int, ...] = (25, 50, 100, 200, 400)
    targets_db: tuple[float, ...] = (30.0, 32.0, 34.0)
    train_s: float = 18.0
    look_s: float = 1.0
    held_out: int = 40

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("--gaussians", (self.gaussians, *self.counts), 100, 10_000_000),
            ("--size", (self.size_px, *self.sizes_px), 16, 8192),
            ("--crowds", self.crowds, 1, 1024),
            ("--batches", self.batches, 1, 256),
            ("--frames", self.frames, 2, 1_000_000),
            ("--held-out", (self.held_out,), 1, 100_000),
        ):
            if not values or not all(low <= value <= high for value in values):
                found = ", ".join(map(str, values)) or "none"
                raise BadConfig(f"{name} is out of range", found=found, expected=f"{low} to {high}")
        if min(self.seconds, self.train_s, self.look_s) <= 0 or not self.targets_db:
            raise BadConfig("--seconds, --train-seconds and --look must be above 0, and --targets-db name one at least")


def usual(output: Path, device: str) -> GrowthBenchmark:
    """What is measured where nothing else is asked for: more on CUDA than on the CPU."""
    if device.startswith("cuda"):
        return GrowthBenchmark(
            output,
            device,
            gaussians=60_000,
            size_px=1024,
            counts=(10_000, 30_000, 100_000, 300_000, 1_000_000),
            sizes_px=(256, 512, 1024, 1536, 2160),
            crowds=(1, 2, 4, 8, 16, 32, 64),
            batches=(1, 2, 4, 8, 16, 32),
        )
    return GrowthBenchmark(
        output,
        device,
        gaussians=8_000,
        size_px=512,
        counts=(2_000, 4_000, 8_000, 16_000, 32_000, 64_000),
        sizes_px=(256, 512, 1024, 1536, 2160),
        crowds=(1, 2, 4, 8, 16, 32, 64),
        batches=(1, 2, 4, 8, 16),
        seconds=1.0,
        preset="demo_cpu",
        overrides={"size_px": "128", "schedule.sizes_px": "[64, 128, 128]", "model.target_gaussians": "6000"},
        frames=(25, 100, 400),
        targets_db=(26.0, 28.0, 30.0),
        train_s=60.0,
        look_s=5.0,
        held_out=20,
    )


def check_parts(parts: Sequence[str]) -> None:
    """Raises BadConfig for a part that is none."""
    wrong = [part for part in parts if part not in PARTS]
    if wrong or not parts:
        raise BadConfig("unknown part", found=wrong[0] if wrong else "none", expected=", ".join(PARTS))
