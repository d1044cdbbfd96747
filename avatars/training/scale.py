"""How a training's pace grows with the number of GPUs, and whether more of them learn the same. Run by each process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avatars.captures.opening import open_capture
from avatars.training import ranks
from avatars.training.config import load_config
from avatars.training.evaluation import measure
from avatars.training.loop import Run

QUIET = {"reporting.curve_points": "0", "reporting.preview_s": "1e9", "reporting.checkpoint_s": "1e9"}
WARM_UP_STEPS = 12


@dataclass(frozen=True)
class Kind:
    """What is timed of a method: a preset with everything joined, pictures of one size. at: position in the schedule.

    gaussians: what of the configuration says how many.
    """

    preset: str
    capture: str
    gaussians: str
    at: int
    overrides: Mapping[str, str]


KINDS = {
    "head": Kind(
        "rgb_head_quality",
        "demo_head",
        "model.target_gaussians",
        20_000,
        {
            "model.first_look_px": "0",
            "schedule.colour_from_images": "false",
            "losses.lpips": "0",
            "losses.pyramid": "0",
            "losses.ssim_from": "0",
        },
    ),
    "body": Kind(
        "mlp_body_fast",
        "demo_body",
        "body.gaussians",
        60_000,
        {"body.crop": "false", "losses.lpips": "0", "schedule.stages_from": "[0]"},
    ),
}


@dataclass(frozen=True)
class Asked:
    """What is measured. batch: pictures a GPU. steps: timed. agree: images of the trainings that are compared, 0: none.

    kinds: names of KINDS; the first is the one that is trained.
    """

    kinds: tuple[str, ...] = ("head", "body")
    batch: int = 32
    gaussians: int = 60_000
    size_px: int = 512
    steps: int = 60
    agree: int = 0
    small: bool = False


def measured(asked: Asked, device: torch.device) -> Iterator[dict[str, Any]]:
    """Rows, as each is known: images a second of each kind, then the PSNR of trainings. The same on all processes."""
    for name in asked.kinds:
        yield pace(asked, name, device)
    if asked.agree:
        yield trained(asked, device, grow=False)
        if ranks.count() > 1:
            yield trained(asked, device, grow=True)


def pace(asked: Asked, name: str, device: torch.device) -> dict[str, Any]:
    """Images a second of whole training steps, the batch of each process the same however many there are."""
    kind = KINDS[name]
    overrides = {kind.gaussians: str(asked.gaussians), "schedule.batch": str(asked.batch * ranks.count())}
    overrides |= {"schedule.sizes_px": f"[{asked.size_px}]", "size_px": str(asked.size_px)}
    config = load_config(kind.preset, QUIET | kind.overrides | overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, open_capture(kind.capture), Path(folder), str(device), lambda told: None)
        run.prepare()
        run.images = kind.at
        warm, steps = (2, min(asked.steps, 4)) if asked.small else (WARM_UP_STEPS, asked.steps)
        for _ in range(warm):
            run.step(run.order(str)[0])
        _settle(device)
        begun = time.perf_counter()
        for _ in range(steps):
            run.step(run.order(str)[0])
        _settle(device)
        seconds = time.perf_counter() - begun
        numbers = sum(entry.parameter.numel() for entry in run.optimiser.parameters)
        shared = run.optimiser.shared
        return {
            "what": "pace",
            "kind": name,
            "gpus": ranks.count(),
            "batch": run.batch,
            "gaussians": run.trainer.gaussians(),
            "ms_a_step": 1e3 * seconds / steps,
            "images_per_s": steps * run.batch / seconds,
            "gradient_mb": 4e-6 * numbers,
            "buckets": 0 if shared is None else len(shared.buckets),
        }


def trained(asked: Asked, device: torch.device, *, grow: bool) -> dict[str, Any]:
    """Held-out PSNR after `asked.agree` images; grow: with a whole batch a process."""
    kind = KINDS[asked.kinds[0]]
    overrides = {"schedule.images": str(asked.agree), "schedule.grow_batch": str(grow).lower()}
    overrides |= {"losses.lpips": "0"}
    if asked.small:
        overrides |= {kind.gaussians: str(asked.gaussians), "schedule.batch": "4", "model.first_look_px": "0"}
        overrides |= {"schedule.sizes_px": f"[{asked.size_px}]", "size_px": str(asked.size_px)}
    config = load_config(kind.preset, QUIET | overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, open_capture(kind.capture), Path(folder), str(device), lambda told: None)
        run.go(str)
        psnr_db = 0.0
        if ranks.rank() == 0:
            rows = range(0, len(run.held_out), 4 if asked.small else 1)
            psnr_db = float(measure(run.trainer, run.held_out, rows, ("psnr_db",))["psnr_db"].mean())
        (psnr_db,) = ranks.first_says([psnr_db])
        return {
            "what": "trained",
            "kind": asked.kinds[0],
            "gpus": ranks.count(),
            "batch": run.batch,
            "grow": grow,
            "images": run.images,
            "seconds": run.seconds,
            "psnr_db": psnr_db,
        }


def _settle(device: torch.device) -> None:
    """Until the devices of all processes have done what they were told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    ranks.first_says([0])
