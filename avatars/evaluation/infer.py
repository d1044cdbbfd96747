"""What HF-Avatar's infer.py does: frames of a capture or of a novel motion, beside the truth where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.capture import Capture, scaled_camera
from avatars.evaluation.drawn import Draw, Drawn, normals_picture
from avatars.evaluation.frame_lists import FrameView
from avatars.evaluation.measure import Metric, metric_table
from avatars.files import write_atomically
from avatars.training.evaluation import BEST_PSNR_DB, as_uint8
from avatars.training.figures import stacked_sheet
from avatars.training.metrics import psnr
from avatars.training.ssim import ssim
from shared.errors import BadConfig
from shared.types import Camera, Motion

LEVELS = (1, 2, 4)
BOX_MARGIN_M = 0.06
"""The original's bounding box reaches so far beyond the posed body."""
SHEET_PICTURES = 6
Tell = Callable[[int], None]
Place = Callable[[int], NDArray[np.floating]]
"""Frame -> posed vertices [V, 3] m."""


@dataclass(frozen=True, eq=False)
class Inferred:
    """rows: for each picture its file stem, part, frame, view and metrics; means: part -> metric -> mean."""

    rows: tuple[Mapping[str, Any], ...]
    means: Mapping[str, Mapping[str, float]]


def reduced(camera: Camera, level: int) -> Camera:
    """A camera at a level of resolution: every 1st, 2nd or 4th pixel's worth, sides rounded up. Raises BadConfig."""
    if level not in LEVELS:
        raise BadConfig("unknown --resolution_level", found=str(level), expected="1, 2 or 4")
    return scaled_camera(camera, (math.ceil(camera.width_px / level), math.ceil(camera.height_px / level)))


def stem(view: int, frame: int) -> str:
    """Names of a picture's files, without their ending."""
    return f"view{view:02d}_frame{frame:06d}"


def infer_frames(
    draw: Draw,
    capture: Capture,
    views: Sequence[FrameView],
    folder: Path,
    *,
    level: int,
    device: str,
    lpips: Metric | None = None,
    legacy: Place | None = None,
    tell: Tell = lambda done: None,
) -> Inferred:
    """Draw frames of a capture into prediction/, normal/ and truth/; metrics over white where there is a truth.

    legacy: where the body is, for the original's way to measure as well (`psnr_legacy`, `ssim_legacy`): over black,
    within the rectangle its box covers, predictions times 256. Raises BadConfig.
    """
    rows: list[dict[str, Any]] = []
    shown: list[tuple[str, list[NDArray[np.uint8]]]] = []
    chosen = set(np.linspace(0, len(views) - 1, min(SHEET_PICTURES, len(views))).astype(int).tolist())
    for number, item in enumerate(views):
        camera = reduced(capture.cameras[item.view], level)
        drawn = draw(capture.motion.at(item.frame), camera)
        row: dict[str, Any] = {"file": stem(item.view, item.frame), "part": item.part}
        row |= {"frame": item.frame, "view": item.view}
        pictures = write_drawn(folder, row["file"], drawn, camera)
        if item.image is not None:
            rgba = capture.rgba(item.image, (camera.width_px, camera.height_px))
            truth = torch.from_numpy(rgba.astype(np.float32) / 255).to(drawn.rgba)
            _save(folder / "truth" / f"{row['file']}.png", as_uint8(_over(truth, 1.0)))
            pictures.insert(0, as_uint8(_over(truth, 1.0)))
            row |= _metrics(drawn.rgba, truth, lpips)
            if legacy is not None:
                row |= legacy_metrics(drawn.rgba, truth, legacy(item.frame), camera)
        rows.append(row)
        if number in chosen:
            shown.append((f"{item.part}, view {item.view}, frame {item.frame}", pictures))
        tell(number + 1)
    return _written(folder, rows, shown)


def infer_motion(
    draw: Draw, motion: Motion, camera: Camera, view: int, folder: Path, tell: Tell = lambda done: None
) -> Iterator[NDArray[np.uint8]]:
    """Draw all frames of a novel motion into prediction/ and normal/, giving pictures out; frames.json at the end."""
    rows: list[dict[str, Any]] = []
    shown: list[tuple[str, list[NDArray[np.uint8]]]] = []
    chosen = set(np.linspace(0, len(motion) - 1, min(SHEET_PICTURES, len(motion))).astype(int).tolist())
    for frame in range(len(motion)):
        name = stem(view, frame)
        pictures = write_drawn(folder, name, draw(motion.at(frame), camera), camera)
        rows.append({"file": name, "part": "odp", "frame": frame, "view": view})
        if frame in chosen:
            shown.append((f"frame {frame}", pictures))
        tell(frame + 1)
        yield pictures[0]
    _written(folder, rows, shown)


def write_drawn(folder: Path, name: str, drawn: Drawn, camera: Camera) -> list[NDArray[np.uint8]]:
    """Write a picture over white and its normals; gives both back, [H, W, 3] uint8 each."""
    picture, normals = as_uint8(_over(drawn.rgba, 1.0).clamp(0, 1)), normals_picture(drawn.normals, camera)
    _save(folder / "prediction" / f"{name}.png", picture)
    _save(folder / "normal" / f"{name}.png", normals)
    share = normals[..., 3:].astype(np.float32) / 255
    flat = normals[..., :3] * share + 255 * (1 - share)
    return [picture, flat.astype(np.uint8)]


def legacy_metrics(
    rgba: torch.Tensor, truth: torch.Tensor, vertices: NDArray[np.floating], camera: Camera
) -> dict[str, float]:
    """PSNR and SSIM as HF-Avatar measures: over black, in the rectangle of the body's box, predictions by 256/255."""
    low, high = vertices.min(0) - BOX_MARGIN_M, vertices.max(0) + BOX_MARGIN_M
    corners = np.stack(np.meshgrid(*np.stack((low, high), 1), indexing="ij"), -1).reshape(-1, 3)
    pixels = corners @ camera.camera_from_world()[:3, :3].T + camera.camera_from_world()[:3, 3]
    flat = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6) * camera.K[(0, 1), (0, 1)] + camera.K[:2, 2]
    left, top = np.clip(np.floor(flat.min(0)).astype(int), 0, (camera.width_px - 1, camera.height_px - 1))
    right, bottom = np.clip(np.ceil(flat.max(0)).astype(int), (left + 1, top + 1), (camera.width_px, camera.height_px))
    ours, theirs = (_over(one, 0.0)[None, top:bottom, left:right] for one in (rgba, truth))
    ours = (ours.clamp(0, 1) * (256 / 255)).clamp(0, 1)
    found = {"psnr_legacy": float(psnr(ours, theirs).clamp_max(BEST_PSNR_DB))}
    if min(bottom - top, right - left) >= 11:
        found["ssim_legacy"] = float(ssim(ours, theirs))
    return found


def _metrics(rgba: torch.Tensor, truth: torch.Tensor, lpips: Metric | None) -> dict[str, float]:
    ours, theirs = _over(rgba, 1.0).clamp(0, 1)[None], _over(truth, 1.0)[None]
    table = metric_table((ours.shape[2], ours.shape[1]), lpips)
    return {name: float(metric(ours, theirs).clamp_max(BEST_PSNR_DB)) for name, metric in table.items()}


def _over(rgba: torch.Tensor, level: float) -> torch.Tensor:
    return rgba[..., :3] + (1 - rgba[..., 3:]) * level


def _written(folder: Path, rows: list[dict[str, Any]], shown: list[tuple[str, list[NDArray[np.uint8]]]]) -> Inferred:
    words = {"file", "part", "frame", "view"}
    means: dict[str, dict[str, float]] = {}
    for part in dict.fromkeys(str(row["part"]) for row in rows):
        measured = [row for row in rows if row["part"] == part and row.keys() - words]
        names = [name for name in measured[0] if name not in words] if measured else []
        means[part] = {name: float(np.mean([row[name] for row in measured])) for name in names} | {
            "pictures": float(len(measured))
        }
    document = {"means": means, "frames": rows}
    write_atomically(folder / "frames.json", (json.dumps(document, indent=1) + "\n").encode())
    if shown:
        stacked_sheet(folder / "contact_sheet.png", shown)
    return Inferred(tuple(rows), means)


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
