"""What a teacher's finished run leaves: its folder and a report, measured shaded and unshaded, with maps to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.files import write_folder_atomically
from avatars.lighting.colour import srgb_from_linear
from avatars.relit_body.teacher import TeacherImages
from avatars.relit_field.storage import AboutTeacher, FieldTeacher, save_teacher
from avatars.relit_field.trainer import TeacherTrainer
from avatars.templates.opening import TemplateReference
from avatars.training.evaluation import as_uint8, curve_subset, measure, metric_names, picture, white_batch
from avatars.training.figures import contact_sheet, loss_figure, psnr_figure
from avatars.training.metrics import psnr
from avatars.training.report import peak_rss_mib
from avatars.training.room import REPORT_BYTES, bytes_of
from shared.errors import BadAvatar

if TYPE_CHECKING:
    from avatars.training.loop import Run

SHEET_COLUMNS = 6


def no_avatar(
    reference: TemplateReference, document: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> Avatar:
    """Raises BadAvatar: teachers are kept in folders of their own."""
    raise BadAvatar(
        "a teacher is no avatar", do="Distil it: effigy train --preset relit_body --set relit.teacher=NAME.teacher"
    )


def write_teacher(
    run: Run, facts: Mapping[str, Any], avatar_folder: Path, report_folder: Path, name: str
) -> dict[str, Any]:
    """Measure, report, and store NAME.teacher beside where an avatar would lie. Returns the metrics."""
    trainer = run.trainer
    assert isinstance(trainer, TeacherTrainer)
    config, capture = run.config.teacher, run.capture
    about = AboutTeacher(
        name=name,
        licence=capture.licence,
        step=run.config.schedule.images,
        size_px=run.config.size_px,
        training={"preset": run.config.description},
        provenance=dict(capture.provenance) | {"subject": capture.subject, "synthetic": capture.synthetic},
    )
    teacher = FieldTeacher(trainer.model, about, poses=trainer.corrections())
    motion = teacher.recorded(capture).motion
    rows = curve_subset(len(run.held_out_images), config.evaluated_images)
    per_image = measure(trainer, run.held_out, rows, metric_names(run.held_out))
    metrics: dict[str, Any] = {key: round(float(values.mean()), 4) for key, values in per_image.items()}
    metrics |= {**facts, "peak_rss_mib": peak_rss_mib(), "measured_images": len(rows)}
    columns, maps, wrong = [], None, []
    for row in rows[:SHEET_COLUMNS]:
        run.tell("Rendering held-out frames")
        model, truth = picture(trainer, run.held_out, row)
        columns.append((f"{float(per_image['psnr_db'][rows.index(row)]):.1f} dB", truth, model))
    shaded = []
    for row in rows:
        batch = white_batch(run.held_out, [row])
        frame = int(batch.frames[0])
        pose = [torch.from_numpy(np.array(part[frame : frame + 1])) for part in (motion.rotations, motion.translations)]
        found = teacher.images(*pose, torch.zeros(1, 0), batch.cameras)
        if teacher.shaded:
            over = found.radiance * found.alpha[..., None] + 1 - found.alpha[..., None]
            shaded.append(float(psnr(over.clamp(0, 1), batch.target())[0]))
        maps = found if maps is None else maps
        wrong.append(truth_errors(capture, run.held_out_images[row], found))
    for key in sorted(set().union(*wrong)):
        metrics[key] = round(float(np.mean([errors[key] for errors in wrong if key in errors])), 3)
    if shaded:
        metrics["psnr_db_shaded"] = round(float(np.mean(shaded)), 4)
    metrics["curve"] = [{"images": i, "seconds": round(s, 1), "psnr_db": round(db, 3)} for i, s, db in run.curves.psnr]
    assert maps is not None

    def fill(target: Path) -> None:
        (target / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        loss_figure(target / "loss.png", run.curves)
        psnr_figure(target / "psnr.png", run.curves)
        contact_sheet(target / "contact_sheet.png", columns)
        strip = map_strip(maps)
        from PIL import Image

        Image.fromarray(strip).save(target / "maps.png")

    report_folder.parent.mkdir(parents=True, exist_ok=True)
    run.keep(lambda: write_folder_atomically(report_folder, fill), report_folder, REPORT_BYTES, "the report")
    folder = avatar_folder.with_suffix(".teacher")
    preview, needed_bytes = preview_of(maps), bytes_of(trainer.model.tensors())
    run.keep(
        lambda: save_teacher(folder, trainer.model, about, preview, teacher.poses), folder, needed_bytes, "the teacher"
    )
    return metrics


def truth_errors(capture: Capture, index: int, found: TeacherImages) -> dict[str, float]:
    """Against ground truth where a capture has it: mean normal error in degrees, albedo PSNR after one scale a channel,
    mean absolute error of roughness and metallic.

    Source: method page H (RANA's evaluation).
    """
    height, width = found.alpha.shape[1:]
    errors: dict[str, float] = {}
    covered = (found.alpha[0].cpu().numpy() > 0.5) & (capture.rgba(index, (width, height))[..., 3] > 127)
    normal, albedo = (capture.aov(index, name, (width, height)) for name in ("normal", "albedo"))
    if normal is not None and covered.any():
        cosine = (normal * found.normals[0].cpu().numpy()).sum(-1)[covered]
        errors["normal_error_deg"] = round(float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean()), 3)
    if albedo is not None and covered.any():
        ours, truth = found.albedo[0].cpu().numpy()[covered], albedo[covered]
        scale = (ours * truth).sum(0) / np.maximum((ours * ours).sum(0), 1e-9)
        wrong = float(((ours * scale).clip(0, 1) - truth).__pow__(2).mean())
        errors["albedo_psnr_db"] = round(float(-10 * np.log10(max(wrong, 1e-10))), 3)
    for name in ("roughness", "metallic"):
        truth = capture.aov(index, name, (width, height))
        if truth is not None and covered.any():
            ours = getattr(found, name)[0].cpu().numpy()[covered]
            errors[f"{name}_error"] = round(float(np.abs(ours - truth[covered][:, 0]).mean()), 4)
    return errors


def map_strip(images: TeacherImages) -> NDArray[np.uint8]:
    """[H, 5 W, 3] uint8 of the first picture: colour, albedo, normals, roughness, metallic, over white."""
    alpha = images.alpha[0, ..., None]
    grey = [value[0, ..., None].expand(-1, -1, 3) for value in (images.roughness, images.metallic)]
    parts = [images.radiance[0], srgb_from_linear(images.albedo[0]), images.normals[0] * 0.5 + 0.5, *grey]
    return np.concatenate([as_uint8(part * alpha + 1 - alpha) for part in parts], 1)


def preview_of(images: TeacherImages) -> NDArray[np.uint8]:
    """[H, W, 4] uint8, straight alpha."""
    return as_uint8(torch.cat((images.radiance[0], images.alpha[0, ..., None]), -1))
