"""SelfRecon's synthetic people: one still camera, a clothed person who turns round, exact normals beside the pictures.

    camera.npz     fx, fy, cx, cy px, T [3] m (world to camera; its rotation `quat` is not used, as in HF-Avatar)
    smpl_rec.npz   shape [10], poses [N, 24, 3] rad, trans [N, 3] m
    imgs/000000.png  masks/000000.png  normals/000000.png

Source: sdf_body page 2.3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.images import check_size, image_size
from avatars.captures.options import read_options
from avatars.captures.pairing import numbered_files
from avatars.captures.peoplesnapshot import arrays_of, gender_of, need_numbers
from avatars.captures.rana import normal_axes
from avatars.captures.reading import INSTA_READING, intrinsics
from avatars.captures.smpl_bodies import tracked_body
from avatars.captures.splits import held_out_end
from shared.errors import BadCapture
from shared.motions import smpl_motion
from shared.types import Camera

CAMERA, POSES = "camera.npz", "smpl_rec.npz"
PICTURES, MASKS = (".png", ".jpg", ".jpeg"), (".png", ".npy", ".jpg")
NEEDED = ("fx", "fy", "cx", "cy")


def is_selfrecon(folder: Path) -> bool:
    """Whether a folder looks like one of SelfRecon's people."""
    return all((folder / name).is_file() for name in (CAMERA, POSES)) and (folder / "imgs").is_dir()


def read_selfrecon(folder: Path) -> Capture:
    """The capture in such a folder. Pictures are only looked at when they are needed. Raises BadCapture."""
    options = read_options(folder, INSTA_READING)
    pictures, masks = numbered_files(folder / "imgs", PICTURES), numbered_files(folder / "masks", MASKS)
    normals = numbered_files(folder / "normals", PICTURES) if (folder / "normals").is_dir() else []
    arrays = dict(arrays_of(folder / POSES))
    if "shape" in arrays:
        arrays["betas"] = arrays.pop("shape")
    motion = smpl_motion({key: arrays[key] for key in ("poses", "trans", "betas") if key in arrays}, POSES)
    count = len(pictures)
    for what, number in (("masks", len(masks)), ("poses", len(motion)), ("normals", len(normals) or count)):
        if number != count:
            raise BadCapture(
                f"{folder.name} has not one of its {what} for each picture",
                found=f"{number} for {count} pictures",
                do="Copy the folder again",
            )
    body = tracked_body(folder.name, motion, template=options.template, gender=options.gender or gender_of(folder.name))
    K, place, notes = _camera(folder / CAMERA)
    size = image_size(pictures[0])
    check_size(masks[0], image_size(masks[0]), size) if masks[0].suffix != ".npy" else None
    kept, said = held_out_end(count, max(1, count // 5))
    template = body.reference.open()
    capture = Capture(
        name=folder.name,
        kind="body",
        subject=options.subject or folder.name,
        licence=options.licence,
        synthetic=True,
        template=body.reference,
        joint_names=template.joint_names,
        expression_names=template.expression_names,
        motion=body.motion,
        cameras=(Camera(*size, intrinsics(K, options.reading), body.world_from_file @ np.linalg.inv(place)),),
        camera_names=("0",),
        images=tuple(
            CaptureImage(
                picture,
                0,
                row,
                "train" if row < kept else "test",
                masks[row],
                folder / POSES,
                {"normal": normals[row]} if normals else {},
            )
            for row, picture in enumerate(pictures)
        ),
        provenance={"capture": folder.name, "layout": "SelfRecon synthetic"},
        layout="selfrecon",
        masked=True,
        notes=(
            f"SelfRecon: {count} pictures" + (" with exact normals" if normals else ""),
            said,
            *notes,
            *body.notes,
        ),
        reading=options.reading,
        normal_axes=normal_axes(normals[0], masks[0], size) if normals else "opencv",
    )
    check_names(capture, template.joint_names, template.expression_names)
    check_counts(capture)
    return capture


def _camera(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """K [3, 3] px, camera_from_world [4, 4] and sentences. Raises BadCapture."""
    arrays = arrays_of(path)
    need_numbers(arrays, (*NEEDED, *(name for name in ("T", "quat") if name in arrays)), path)
    many = [name for name in NEEDED if arrays[name].size != 1]
    if many:
        raise BadCapture(f"{many[0]} of {path.name} is not one number", found=str(list(arrays[many[0]].shape)))
    fx, fy, cx, cy = (float(np.squeeze(arrays[name])) for name in NEEDED)
    place = np.eye(4)
    shift = np.asarray(arrays.get("T", np.zeros(3)), np.float64).reshape(-1)
    if shift.shape != (3,) or not np.isfinite([fx, fy, cx, cy, *shift]).all() or min(fx, fy) <= 0:
        raise BadCapture(f"{path.name} is no camera", found=f"focal {fx:g}, {fy:g}, T {shift.tolist()}")
    place[:3, 3] = shift
    quaternion = np.asarray(arrays.get("quat", (1.0, 0, 0, 0)), np.float64).reshape(-1)
    turned = quaternion.shape == (4,) and abs(quaternion[0]) < 0.999 * np.linalg.norm(quaternion)
    notes = [f"The rotation in {path.name} is not used: this data set's cameras look along +z"] if turned else []
    return np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1.0))), place, notes
