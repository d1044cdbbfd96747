"""INSTA folders with metrical-tracker's `.frame` files: one camera that stands still before a moving head.

    images/00000.png …       RGBA pictures           checkpoint/00000.frame …   what the tracker found
    transforms*.json         INSTA's own copy of the camera, only compared with the tracker's

The tracker leaves the head in place and moves the camera. Here the camera of the first frame stands still and the head
moves: all of its motion goes to the neck joint, so that the stump of the shoulders stays (method page 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.flame_axes import (
    MODEL_FROM_FLAME_4,
    matrices_from_six,
    rigid,
    rotations_to_model,
    to_model,
)
from avatars.captures.flame_templates import LIDS, expression_columns, flame_reference
from avatars.captures.images import check_size, image_size
from avatars.captures.insta_checks import check_intrinsics, check_mask, check_rotation, check_transforms
from avatars.captures.metrical_frame import MetricalFrame, read_metrical_frame
from avatars.captures.options import CaptureOptions, read_options
from avatars.captures.pairing import numbered_files, paired
from avatars.captures.reading import FLIP_YZ, INSTA_READING, camera_from_flame, intrinsics
from avatars.captures.splits import held_out_end
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture
from shared.rotations import axis_angles_from_matrices
from shared.template import TemplateArrays, rest
from shared.types import Camera, Motion

PICTURES, CHECKPOINTS = (".png", ".jpg", ".jpeg", ".webp"), (".frame",)
HIGH_QUALITY = "images.HQ"
TEMPLATES = ("flame2020_rgbavatar", "flame2020")


def is_insta(folder: Path) -> bool:
    """Whether a folder looks like INSTA's with the tracker's checkpoints."""
    return (folder / "checkpoint").is_dir() and any((folder / name).is_dir() for name in ("images", HIGH_QUALITY))


def read_insta(folder: Path, pairing: Literal["", "name", "order"] = "") -> Capture:
    """The capture in an INSTA folder. Pictures are only looked at when they are needed.

    pairing: in place of the folder's own options. Raises BadCapture, of which ShiftedNames for names off by one.
    """
    options = read_options(folder, INSTA_READING)
    if pairing:
        options = replace(options, pairing=pairing)
    pictures = folder / options.images
    if options.images == "images" and not pictures.is_dir():
        pictures = folder / HIGH_QUALITY
    images = numbered_files(pictures, PICTURES)
    checkpoints = numbered_files(folder / "checkpoint", CHECKPOINTS)
    pairs, notes = paired(images, checkpoints, options.pairing)
    frames = [read_metrical_frame(checkpoint) for _, checkpoint in pairs]
    first = read_metrical_frame(checkpoints[0])
    scale = 2 if pictures.name == HIGH_QUALITY else 1
    size = first.width_px * scale, first.height_px * scale
    K = intrinsics(first.K, options.reading)
    check_intrinsics(K, first, frames, options.reading)
    notes += check_transforms(folder, K, [image for image, _ in pairs], frames, options)
    check_size(pairs[0][0], image_size(pairs[0][0]), size)
    masks = _masks(folder, options.masks, [image for image, _ in pairs])
    if not options.masks:
        check_mask(pairs[0][0])
    reference = flame_reference(folder.name, "2020", options.template, TEMPLATES)
    reference = _shaped(reference, first)
    if any(not np.allclose(frame.shape, first.shape, atol=1e-4) for frame in frames):
        notes.append(f"The identity changes between frames; that of {first.path.name} is used")
    arrays = reference.open()
    if any(name not in arrays.expression_names for name in LIDS):
        notes.append(f"The template {arrays.template_id} has no eyelids: the tracker's are left out")
    world_from_camera, motion = _still_camera(first, frames, reference, arrays, options)
    K[:2] *= scale
    train, note = held_out_end(len(pairs), options.test_frames)
    capture = Capture(
        name=folder.name,
        kind="head",
        subject=options.subject or folder.name,
        licence=options.licence,
        synthetic=False,
        template=reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=motion,
        cameras=(Camera(*size, K, world_from_camera),),
        camera_names=("00",),
        images=tuple(
            CaptureImage(image, 0, row, "train" if row < train else "test", masks[row], checkpoint)
            for row, (image, checkpoint) in enumerate(pairs)
        ),
        provenance={"capture": folder.name, "layout": "INSTA with metrical-tracker frames", "images": pictures.name},
        layout="insta",
        masked=True,
        notes=(f"INSTA folder: {len(pairs)} pictures with tracked frames in {pictures.name}/", *notes, note),
        reading=options.reading,
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture)
    return capture


def still_camera(
    R: NDArray[np.float64], t: NDArray[np.float64], first_t: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Camera from world E [4, 4] that stands still, and the head's own motion R' [T, 3, 3], t' [T, 3] in FLAME's axes.

    R [T, 3, 3], t [T, 3] m: OpenCV camera from head of each frame; first_t [3] of the first. E = [diag(1, -1, -1) |
    first_t], and E (R' x + t') = R x + t (method page 2.6).
    """
    E = rigid(FLIP_YZ[:3, :3], first_t)
    moved = np.linalg.inv(E) @ rigid(R, t)
    return E, moved[..., :3, :3], moved[..., :3, 3]


def neck_retarget(
    R: NDArray[np.float64], t: NDArray[np.float64], necks: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neck rotation [T, 3, 3] and root translation [T, 3] m that move the head as x -> R x + t does.

    necks [T, 3] m: the neck joint of each frame's shaped template, in the axes of R and t. Exact for vertices rigged
    to the neck and the joints below it; the stump of the shoulders only shifts (method page 2.6).
    """
    return R, t + (R @ necks[..., None])[..., 0] - necks


def _masks(folder: Path, name: str, images: Sequence[Path]) -> list[Path | None]:
    """The mask of each picture in the folder the user named, None each without one. Raises BadCapture."""
    if not name:
        return [None] * len(images)
    found = {path.stem: path for path in numbered_files(folder / name, PICTURES)}
    missing = [image.name for image in images if image.stem not in found]
    if missing:
        raise BadCapture(
            f"{folder.name}/{name} lacks masks of {len(missing)} of {len(images)} pictures",
            found=f"none for {missing[0]}",
            expected="files named like the pictures",
        )
    return [found[image.stem] for image in images]


def _shaped(reference: TemplateReference, frame: MetricalFrame) -> TemplateReference:
    shape = tuple(float(number) for number in frame.shape.astype(np.float32))
    return TemplateReference(reference.template_id, reference.digest, reference.view, "", shape)


def _still_camera(
    first: MetricalFrame,
    frames: Sequence[MetricalFrame],
    reference: TemplateReference,
    arrays: TemplateArrays,
    options: CaptureOptions,
) -> tuple[NDArray[np.float64], Motion]:
    """world_from_camera [4, 4] in model axes, and the motion of the template."""
    for frame in (first, *frames):
        check_rotation(frame)
    placed = camera_from_flame(rigid(np.stack([f.R for f in frames]), np.stack([f.t for f in frames])), options.reading)
    start = camera_from_flame(rigid(first.R, first.t), options.reading)
    E, R, t = still_camera(placed[:, :3, :3], placed[:, :3, 3], start[:3, 3])
    lids = np.stack([frame.eyelids for frame in frames])
    expressions = expression_columns(arrays, np.stack([frame.expression for frame in frames]), lids)
    _, joints = rest(arrays, shape=np.array(reference.shape, np.float32))
    neck = arrays.joint("neck")
    necks = joints[neck] + expressions.astype(np.float64) @ arrays.joint_expression_dirs[:, neck].astype(np.float64)
    turned, translations = neck_retarget(rotations_to_model(R), to_model(t), necks)
    rotations = np.zeros((len(frames), len(arrays.joint_names), 3))
    rotations[:, neck] = axis_angles_from_matrices(turned)
    for name, six in (
        ("jaw", [frame.jaw for frame in frames]),
        ("left_eye", [frame.eyes[:6] for frame in frames]),
        ("right_eye", [frame.eyes[6:] for frame in frames]),
    ):
        rotations[:, arrays.joint(name)] = to_model(axis_angles_from_matrices(matrices_from_six(np.stack(six))))
    bad = ~np.isfinite(rotations).all((1, 2))
    if bad.any():
        raise BadCapture(
            f"{frames[int(np.argmax(bad))].path.name} holds a 6D rotation that is none",
            expected="two vectors that are not parallel",
        )
    return MODEL_FROM_FLAME_4 @ np.linalg.inv(E), Motion(rotations, translations, expressions, options.fps)
