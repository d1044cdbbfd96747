"""ZJU-MoCap (LightStage) and MonoCap as their authors hand them out: SMPL before a studio's calibrated cameras.

    annots.npy                  cameras and picture names (annots.py); places in millimetres
    mask/…png  mask_cihp/…png   ZJU: what either covers is the person.  MonoCap: `mask` in place of `images`
    new_params/N.npy or params/N.npy   poses [1, 72], shapes [1, 10], Rh [1, 3] rad, Th [1, 3] m

x_world = R(Rh) SMPL(poses, root zero) + Th: the body turns about the ORIGIN of its model, not about its pelvis as in
smplx files. Recordings 313 and 315 number pictures and parameters from 1. Source: bodies page C.5, sdf_body page 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avatars.captures.annots import ANNOTS, Annots, metres_of, pickled_npy, read_annots
from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.images import check_size, image_size
from avatars.captures.mocap_splits import ViewSplit, view_split
from avatars.captures.options import CaptureOptions, read_options
from avatars.captures.reading import Reading, camera_from_flame, intrinsics, inverse
from avatars.captures.smpl_bodies import OPEN_TEMPLATE, body_reference, placed_body
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture, EffigyError
from shared.motions import MODEL_FROM_SMPL, PELVIS_SMPLH_M, SmplMotion
from shared.template import rest, rotation_matrices
from shared.types import Camera

Floats = NDArray[np.float64]

MOCAP_READING = Reading(intrinsics="half_pixel")
"""OpenCV's calibration: pixel centres at whole numbers."""
SHAPES = 10
PARAMETERS = ("new_params", "params")
MASKS = {"zju": ("mask_cihp", "mask"), "monocap": ("mask",)}
FEWEST_PICTURES = 4
_AFTER_CAMERA = re.compile(r"\)_(\d+)")
Kind = Literal["zju", "monocap"]


@dataclass(frozen=True, eq=False)
class _Poses:
    """What the parameter files say. known: [T] which frames have one. theta: [T, 24, 3] rad; Rh, Th: [T, 3]; m."""

    known: NDArray[np.bool_]
    theta: Floats
    Rh: Floats
    Th: Floats
    betas: NDArray[np.float32]
    files: dict[int, Path]


def is_zju(folder: Path) -> bool:
    """Whether a folder looks like a ZJU-MoCap recording (CoreView_377)."""
    return (folder / ANNOTS).is_file() and not is_monocap(folder)


def is_monocap(folder: Path) -> bool:
    """Whether a folder looks like a MonoCap recording (olek_images0812)."""
    return (folder / ANNOTS).is_file() and (folder / "images").is_dir()


def read_zju(folder: Path) -> Capture:
    """The capture in such a folder; no picture is decoded. Raises BadCapture."""
    return _read(folder, "zju", "ZJU-MoCap")


def read_monocap(folder: Path) -> Capture:
    """The capture in such a folder; no picture is decoded. Raises BadCapture."""
    return _read(folder, "monocap", "MonoCap")


def _read(folder: Path, kind: Kind, title: str) -> Capture:
    options = read_options(folder, MOCAP_READING)
    annots = read_annots(folder / ANNOTS)
    count, cameras = len(annots.pictures), len(annots.K)
    split, said = view_split(kind, folder, count, cameras, options.split)
    poses = _poses(folder, kind, annots, sorted({frame for frame, _, _ in split.wanted()}))
    reference, note = body_reference(folder.name, options.template, options.gender or "neutral", poses.betas)
    own_shape = reference.template_id != OPEN_TEMPLATE or bool(options.template)
    body = placed_body(
        folder.name, reference, smplx_motion(folder.name, poses, reference, own_shape), up=options.up, fps=options.fps
    )
    matrices, units = metres_of(annots, poses.Th[poses.known], options.camera_units, f"{folder.name}/{ANNOTS}")
    images, notes = _images(folder, kind, annots, split, poses)
    arrays = reference.open()
    sizes = _sizes(annots, images)
    capture = Capture(
        name=folder.name,
        kind="body",
        subject=options.subject or folder.name,
        licence=options.licence,
        synthetic=False,
        template=reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=body.motion,
        cameras=tuple(
            _camera(matrices[k], annots.K[k], sizes[k], body.world_from_file, options, k) for k in range(cameras)
        ),
        camera_names=tuple(str(k) for k in range(cameras)),
        images=images,
        provenance={"capture": folder.name, "layout": title},
        layout=kind,
        masked=True,
        notes=(
            f"{title}: {cameras} cameras, {count} frames, {len(images)} pictures used; {said}",
            units,
            *notes,
            *((note,) if note else ()),
            f"The file's world has {body.up} up; it was turned upright",
        ),
        reading=options.reading,
        distortions=annots.lenses if any(annots.lenses) else (),
        mask_threshold=0 if kind == "zju" else 127,
        world_from_file=body.world_from_file[:3, :3],
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture, files=False)  # every file was asked for when the pictures were chosen
    return capture


def smplx_motion(name: str, poses: _Poses, reference: TemplateReference, own_shape: bool) -> SmplMotion:
    """The motion as smplx files hold it, turned about the pelvis: Th becomes Th + R(Rh) J - J, with J the rest pelvis.

    own_shape: whether the template has the files' shape, so that its pelvis is theirs; else the mean SMPL's counts.
    """
    _, joints = rest(reference.open(), preset=reference.preset, shape=np.array(reference.shape, np.float32))
    pelvis = joints[0].astype(np.float64) @ MODEL_FROM_SMPL
    turning = pelvis if own_shape else np.array(PELVIS_SMPLH_M)
    rotations = np.zeros((len(poses.theta), 55, 3))
    rotations[:, :22] = poses.theta[:, :22]
    rotations[:, 0] = poses.Rh
    translations = poses.Th + rotation_matrices(poses.Rh) @ turning - pelvis
    translations[~poses.known] = 0
    none = np.zeros((len(rotations), 0))
    return SmplMotion(
        name, "zju", rotations, translations, none, poses.betas, None, 72, tuple(float(one) for one in pelvis)
    )


def _poses(folder: Path, kind: Kind, annots: Annots, wanted: list[int]) -> _Poses:
    place = next((folder / name for name in PARAMETERS if (folder / name).is_dir()), None)
    if place is None:
        raise BadCapture(
            f"{folder.name} has no folder of SMPL parameters",
            expected=" or ".join(PARAMETERS),
            do="Copy new_params of the data set there",
        )
    count = len(annots.pictures)
    theta, Rh, Th = np.zeros((count, 24, 3)), np.zeros((count, 3)), np.zeros((count, 3))
    known, betas, files = np.zeros(count, bool), [], {}
    from_one = kind == "monocap" and not (place / "0.npy").is_file()
    for frame in wanted:
        path = place / f"{_number(annots, frame) + from_one}.npy"
        if not path.is_file():
            continue
        values = _parameters(path)
        theta[frame], Rh[frame], Th[frame] = values["poses"].reshape(24, 3), values["Rh"], values["Th"]
        if np.abs(theta[frame, 0]).max() > 1e-6:
            raise BadCapture(
                f"{place.name}/{path.name} turns the root twice",
                found="poses begin with a rotation of their own, and Rh is another",
                expected="poses whose first three numbers are 0",
                do="Use the parameters of the data set as they are handed out",
            )
        known[frame] = True
        betas.append(values["shapes"])
        files[frame] = path
    if not betas:
        raise BadCapture(
            f"{folder.name}/{place.name} has no parameters of any frame in use",
            found=f"{len(wanted)} frames, the first is {wanted[0] if wanted else 'none'}",
            expected="a file N.npy for each frame",
        )
    if float(np.abs(Th[known]).max()) > 1000:
        raise BadCapture(
            f"Th of {folder.name}/{place.name} is {np.abs(Th[known]).max():,.0f} m",
            found="millimetres where metres are meant, it seems",
            do="Divide Th by 1000",
        )
    return _Poses(known, theta, Rh, Th, np.mean(betas, 0).astype(np.float32), files)


def _parameters(path: Path) -> dict[str, Floats]:
    content = pickled_npy(path)
    sizes = {"poses": 72, "shapes": None, "Rh": 3, "Th": 3}
    found: dict[str, Floats] = {}
    where = f"{path.parent.name}/{path.name}"
    if not isinstance(content, Mapping):
        raise BadCapture(f"{where} holds no SMPL parameters", found=type(content).__name__, expected=", ".join(sizes))
    for name, size in sizes.items():
        value: Any = content.get(name)
        few = isinstance(value, np.ndarray) and (value.size < SHAPES if size is None else value.size != size)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fi" or few:
            found_text = "nothing" if value is None else str(getattr(value, "shape", type(value).__name__))
            raise BadCapture(f"{name} of {where} does not fit", found=found_text, expected=f"{size or SHAPES} numbers")
        found[name] = value.astype(np.float64).reshape(-1)[: size or SHAPES]
        if not np.isfinite(found[name]).all():
            raise BadCapture(f"{name} of {where} holds values that are not finite")
    return found


def _number(annots: Annots, frame: int) -> int:
    """The number of a frame's parameters: the picture's own where names look like 'Camera (1)_0001_….jpg'."""
    match = _AFTER_CAMERA.search(annots.pictures[frame][0].name)
    return int(match[1]) if match else frame


def _images(
    folder: Path, kind: Kind, annots: Annots, split: ViewSplit, poses: _Poses
) -> tuple[tuple[CaptureImage, ...], list[str]]:
    images: list[CaptureImage] = []
    absent = unmasked = untracked = 0
    for frame, camera, name in split.wanted():
        relative = annots.pictures[frame][camera]
        picture = folder / relative
        if not poses.known[frame]:
            untracked += 1
        elif not picture.is_file():
            absent += 1
        else:
            masks = [one for one in (_mask(folder, kind, relative, base) for base in MASKS[kind]) if one.is_file()]
            if not masks:
                unmasked += 1
                continue
            second = masks[1] if len(masks) > 1 else None
            images.append(CaptureImage(picture, camera, frame, name, masks[0], poses.files[frame], also_mask=second))
    notes = []
    for many, what in (
        (absent, "pictures are not there and left out"),
        (unmasked, "pictures have no mask and are left out"),
        (untracked, "pictures have no SMPL parameters and are left out"),
    ):
        if many:
            notes.append(f"{many} {what}")
    trained = [image for image in images if image.split == "train"]
    if len(trained) < FEWEST_PICTURES:
        raise BadCapture(
            f"{folder.name} has too few views to train on",
            found=f"{len(trained)} pictures" + (f" ({'; '.join(notes)})" if notes else ""),
            expected=f"at least {FEWEST_PICTURES}, from several sides",
            do="Copy more cameras, or name those that are there with split.train_cameras in effigy.json",
        )
    if not any(image.split == "test" for image in images):
        raise BadCapture(
            f"{folder.name} has no pictures of its held-out cameras",
            found="; ".join(notes),
            expected=f"cameras {', '.join(map(str, split.test_cameras[:6]))}",
            do="Copy some of them, or name others with split.test_cameras in effigy.json",
        )
    return tuple(images), notes


def _mask(folder: Path, kind: Kind, relative: Any, base: str) -> Path:
    if kind == "zju":
        return (folder / base / relative).with_suffix(".png")
    inner = Path(*(base if part == "images" else part for part in relative.parts))
    own = folder / inner
    return own if own.is_file() else own.with_suffix(".png")


def _sizes(annots: Annots, images: tuple[CaptureImage, ...]) -> list[tuple[int, int]]:
    """(width, height) px of each camera from the header of one of its pictures; masks must have the same."""
    found: dict[int, tuple[int, int]] = {}
    for image in images:
        if image.camera in found:
            continue
        found[image.camera] = image_size(image.file)
        for mask in (image.mask, image.also_mask):
            if mask is not None:
                check_size(mask, image_size(mask), found[image.camera])
    usual = next(iter(found.values()))
    return [found.get(camera, usual) for camera in range(len(annots.K))]


def _camera(
    matrix: Floats, K: Floats, size: tuple[int, int], world: Floats, options: CaptureOptions, index: int
) -> Camera:
    try:
        placed = world @ inverse(camera_from_flame(matrix, options.reading), ANNOTS)
        return Camera(*size, intrinsics(K, options.reading), placed, 0.1, 100.0)
    except BadCapture:
        raise
    except EffigyError as error:
        raise BadCapture(f"camera {index} of {ANNOTS} is none: {error.what}", found=error.found) from error
