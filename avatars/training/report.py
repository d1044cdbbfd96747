"""What a finished run leaves: the avatar's folder and the report folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.avatar_folder import About, save_avatar
from avatars.captures.capture import Capture
from avatars.files import write_folder_atomically
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.training.changed_data import REFINED, write_refined
from avatars.training.evaluation import measure, metric_names, picture
from avatars.training.figures import contact_sheet, coverage_figure, loss_figure, psnr_figure
from avatars.training.refit import fit_frames, refinement_of
from avatars.training.room import REPORT_BYTES, bytes_of
from avatars.training.views import coverage, frontal_image, notable_images, view_angles_deg

if TYPE_CHECKING:
    from avatars.training.loop import Run

SHEET_COLUMNS = 12
TIMED_FRAMES = 20
PREVIEW_PX = 384


def write_results(
    run: Run, facts: Mapping[str, Any], avatar_folder: Path, report_folder: Path, name: str
) -> dict[str, Any]:
    """Measure the finished run, write the report and the avatar, and return the metrics. Raises EnvironmentFailed.

    facts: `Run.facts` as they were when training ended.
    """
    avatar = run.trainer.finish()
    capture, held_out = run.capture, run.held_out_images
    per_image = measure(run.trainer, run.held_out, range(len(held_out)), metric_names(run.held_out))
    means = {key: round(float(values.mean()), 4) for key, values in per_image.items()}
    refined, per_image_fitted = fitted(run)
    everything = per_image | per_image_fitted
    labels_db = everything.get("psnr_db_fitted", per_image["psnr_db"])
    train_deg = view_angles_deg(capture, capture.split("train"))
    test_deg = view_angles_deg(capture, held_out)
    metrics: dict[str, Any] = {
        **means,
        **refined,
        **other_held_out(run),
        **facts,
        "gaussians": int(avatar.description()["gaussians"]),
        "render_frames_per_s": round(render_rate(avatar, capture, run.config.size_px, run.device), 2),
        "peak_rss_mib": peak_rss_mib(),
        "size_px": list(capture.train_size(run.config.size_px)),
        "coverage": {"train": coverage(train_deg), "test": coverage(test_deg)},
        "held_out": [
            {"file": capture.images[index].file.name} | {key: round(float(v[row]), 4) for key, v in everything.items()}
            for row, index in enumerate(held_out)
        ],
        "curve": [{"images": i, "seconds": round(s, 1), "psnr_db": round(db, 3)} for i, s, db in run.curves.psnr],
    }

    def fill(target: Path) -> None:
        track = refinement_of(run.trainer)
        if track is not None:
            write_refined(target / REFINED, capture, track)
        (target / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        loss_figure(target / "loss.png", run.curves)
        psnr_figure(target / "psnr.png", run.curves)
        coverage_figure(target / "coverage.png", train_deg, test_deg)
        columns = []
        for index, what in notable_images(capture, held_out, SHEET_COLUMNS):
            row = held_out.index(index)
            model, truth = picture(run.trainer, run.held_out, row)
            columns.append((f"{what}  {labels_db[row]:.1f} dB".strip(), truth, model))
        contact_sheet(target / "contact_sheet.png", columns)

    report_folder.parent.mkdir(parents=True, exist_ok=True)
    run.keep(lambda: write_folder_atomically(report_folder, fill), report_folder, REPORT_BYTES, "the report")
    summary = {"metrics": {key: value for key, value in metrics.items() if isinstance(value, int | float)}}
    evaluation = {"size_px": run.config.size_px, "background": "white", "split": run.config.split}
    about = About(
        name=name,
        licence=capture.licence,
        consent="synthetic person, nobody's likeness" if capture.synthetic else "not stated",
        training=summary
        | {"evaluation": evaluation, "coverage": metrics["coverage"], "preset": run.config.description},
        provenance=dict(capture.provenance) | {"subject": capture.subject, "synthetic": capture.synthetic},
    )
    preview = front_preview(avatar, capture, run.device)
    needed_bytes = bytes_of(avatar.tensors())
    run.keep(lambda: save_avatar(avatar_folder, avatar, about, preview), avatar_folder, needed_bytes, "the avatar")
    return metrics


def fitted(run: Run) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Of a run that refines its track: how much was changed, and held-out figures, means and each picture's, once the
    same changes have been fitted to held-out pictures with the avatar frozen (…_fitted). Empty for others."""
    track, wanted = refinement_of(run.trainer), run.config.refine
    if track is None:
        return {}, {}
    found: dict[str, Any] = {"refined": track.size()}
    if not wanted.test_steps:
        return found, {}
    run.tell("Fitting the track of held-out frames")
    fit_frames(run.trainer, run.held_out, run.config.schedule.images, wanted.test_steps)  # type: ignore[arg-type]
    values = measure(run.trainer, run.held_out, range(len(run.held_out)), metric_names(run.held_out))
    named = {f"{key}_fitted": value for key, value in values.items()}
    return found | {key: round(float(value.mean()), 4) for key, value in named.items()}, named


def other_held_out(run: Run) -> dict[str, float]:
    """Means over the held-out pictures that were not watched: where new views were, new poses, as psnr_db_poses, …"""
    other = run.capture.split("test")
    if run.held_out_images == other:
        return {}
    pictures = run.load_held_out(other)
    found = measure(run.trainer, pictures, range(len(other)), metric_names(pictures))
    return {f"{key}_poses": round(float(values.mean()), 4) for key, values in found.items()}


def front_preview(avatar: Avatar, capture: Capture, device: torch.device) -> NDArray[np.uint8]:
    """The avatar at rest through the camera that looks most into its face, [H, W, 4] uint8 sRGB straight alpha."""
    index = frontal_image(capture, capture.split("train"))
    camera = capture.camera_of(index, capture.train_size(PREVIEW_PX))
    translation = capture.motion.translations[capture.images[index].frame]
    with torch.no_grad():
        posed = avatar.pose(
            torch.from_numpy(avatar.rest_pose.copy())[None].to(device),
            torch.from_numpy(translation.copy())[None].to(device),
            torch.zeros(1, len(capture.expression_names), device=device),
        )
        drawn = rasterise(posed, CameraBatch.from_cameras([camera], device), posed.colours)
    alpha = drawn.alpha[0, ..., None]
    straight = torch.where(alpha > 1e-3, drawn.features[0] / alpha.clamp_min(1e-3), 0.0)
    return (torch.cat((straight, alpha), -1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def render_rate(avatar: Avatar, capture: Capture, longest_px: int, device: torch.device) -> float:
    """Frames a second of posing and rendering one frame at a time, over frames of the capture."""
    size = capture.train_size(longest_px)
    images = capture.split("test")

    def frame(index: int) -> None:
        at = capture.images[index].frame
        drive = [
            torch.from_numpy(values[at : at + 1].copy()).to(device)
            for values in (capture.motion.rotations, capture.motion.translations, capture.motion.expressions)
        ]
        posed = avatar.pose(*drive)
        drawn = rasterise(posed, CameraBatch.from_cameras([capture.camera_of(index, size)], device), posed.colours)
        drawn.features.sum().item()

    with torch.no_grad():
        frame(images[0])
        begun = time.perf_counter()
        for count in range(TIMED_FRAMES):
            frame(images[count % len(images)])
        return TIMED_FRAMES / (time.perf_counter() - begun)


def peak_rss_mib() -> float:
    """Largest resident memory of this process so far in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
