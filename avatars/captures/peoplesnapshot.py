"""PeopleSnapshot as InstantAvatar lays it out: one still camera, a person who turns round, SMPL in every frame.

    cameras.npz   intrinsic [3, 3], extrinsic [4, 4] (world to camera), height, width
    poses.npz     betas [10], thetas [N, 72] or global_orient [N, 3] with body_pose [N, 69], transl [N, 3]
    poses/anim_nerf_{train,val,test}.npz   refined poses of a split's frames, wanted where they exist
    images/*.png  masks/*.npy or *.png

Source: method page I.1. The raw recordings become this by `effigy capture convert` (peoplesnapshot_raw.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.images import check_size, image_size
from avatars.captures.options import CaptureOptions, read_options, small_file
from avatars.captures.pairing import numbered_files
from avatars.captures.reading import INSTA_READING, intrinsics, inverse
from avatars.captures.smpl_bodies import tracked_body
from avatars.captures.splits import held_out_end
from shared.errors import BadCapture
from shared.motions import SmplMotion, smpl_motion
from shared.npz import read_npz
from shared.types import Camera

CAMERAS, POSES, REFINED = "cameras.npz", "poses.npz", "poses/anim_nerf_{split}.npz"
PICTURES, MASKS = (".png", ".jpg", ".jpeg"), (".npy", ".png", ".jpg")
MAX_BYTES = 256 << 20
KNOWN_RANGES = {"male-3": (0, 455, 4)}
"""First frame, last frame and step of the frames trained on, as published (method page I.1)."""


def is_peoplesnapshot(folder: Path) -> bool:
    """Whether a folder looks like InstantAvatar's pre-processing."""
    has_poses = (folder / POSES).is_file() or (folder / REFINED.format(split="train")).is_file()
    return (folder / CAMERAS).is_file() and has_poses and (folder / "images").is_dir()


def read_peoplesnapshot(folder: Path) -> Capture:
    """The capture in such a folder. Pictures are only looked at when they are needed. Raises BadCapture."""
    options = read_options(folder, INSTA_READING)
    notes: list[str] = []
    pictures = numbered_files(folder / options.images, PICTURES)
    masks = numbered_files(folder / (options.masks or "masks"), MASKS)
    if len(masks) != len(pictures):
        raise BadCapture(
            f"{folder.name} has not one mask for each picture",
            found=f"{len(pictures)} pictures, {len(masks)} masks",
            do="Copy both folders again",
        )
    whole = body_poses(folder / POSES) if (folder / POSES).is_file() else None
    if whole is not None and len(whole) < len(pictures):
        raise BadCapture(
            f"{POSES} of {folder.name} lacks poses of {len(pictures) - len(whole)} pictures",
            found=f"{len(whole)} poses for {len(pictures)} pictures",
            do="Track the rest, or remove those pictures",
        )
    rows, splits = split_frames(folder.name, len(pictures), options, notes)
    motion = with_refined(folder, whole, rows, splits, len(pictures), notes)
    body = tracked_body(folder.name, motion, template=options.template, gender=options.gender or gender_of(folder.name))
    camera = read_camera(folder / CAMERAS, body.world_from_file, options)
    check_size(pictures[0], image_size(pictures[0]), (camera.width_px, camera.height_px))
    arrays = body.reference.open()
    capture = Capture(
        name=folder.name,
        kind="body",
        subject=options.subject or folder.name,
        licence=options.licence,
        synthetic=False,
        template=body.reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=body.motion,
        cameras=(camera,),
        camera_names=("0",),
        images=tuple(
            CaptureImage(pictures[frame], 0, frame, split, masks[frame], folder / POSES)
            for frame, split in zip(rows, splits, strict=True)
        ),
        provenance={"capture": folder.name, "layout": "PeopleSnapshot (InstantAvatar)"},
        layout="peoplesnapshot",
        masked=True,
        notes=(f"PeopleSnapshot: {len(pictures)} pictures, {len(rows)} of them used", *notes, *body.notes),
        reading=options.reading,
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture)
    return capture


def gender_of(name: str) -> str:
    """'male' or 'female' where a subject's name begins so (male-3-casual), else ''."""
    return next((gender for gender in ("female", "male") if name.lower().startswith(gender)), "")


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a bounded .npz. Raises BadCapture."""
    return read_npz(small_file(path, MAX_BYTES), f"{path.parent.name}/{path.name}", BadCapture)


def body_poses(path: Path) -> SmplMotion:
    """The poses of a file in any of the spellings this layout is found in. Raises BadCapture."""
    arrays = arrays_of(path)
    if "thetas" in arrays:
        arrays["poses"] = arrays.pop("thetas")
    elif "poses" not in arrays and "body_pose" in arrays and arrays["body_pose"].shape[-1:] == (69,):
        arrays["body_pose"] = arrays["body_pose"][..., :63]  # SMPL's two hand joints stay flat
    if "transl" in arrays and "trans" not in arrays:
        arrays["trans"] = arrays["transl"]
    wanted = ("poses", "trans", "transl", "betas", "global_orient", "body_pose", "root_orient", "pose_body")
    return smpl_motion({key: value for key, value in arrays.items() if key in wanted}, path.name)


def need_numbers(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], path: Path) -> None:
    """Raises BadCapture where one of `names` is missing from the arrays of a file, or holds no numbers."""
    lacking = next((name for name in names if name not in arrays), "")
    if lacking:
        raise BadCapture(f"{path.name} lacks {lacking!r}", found=", ".join(arrays), expected=", ".join(names))
    odd = next((name for name in names if arrays[name].dtype.kind not in "fiu"), "")
    if odd:
        raise BadCapture(f"{odd} of {path.name} holds no numbers", found=str(arrays[odd].dtype))


def read_camera(path: Path, world_from_file: NDArray[np.float64], options: CaptureOptions) -> Camera:
    """The still camera, in a world turned by [4, 4]. Raises BadCapture."""
    arrays = arrays_of(path)
    need_numbers(arrays, ("intrinsic", "extrinsic", "height", "width"), path)
    K, place = (np.asarray(arrays[name], np.float64) for name in ("intrinsic", "extrinsic"))
    if K.shape != (3, 3) or place.shape != (4, 4) or not (np.isfinite(K).all() and np.isfinite(place).all()):
        raise BadCapture(
            f"{path.name} is damaged", found=f"{list(K.shape)}, {list(place.shape)}", expected="[3, 3], [4, 4]"
        )
    if not all(arrays[name].size == 1 for name in ("width", "height")):
        raise BadCapture(f"{path.name} is damaged", expected="width and height, one number each")
    if not all(np.isfinite(arrays[name]).all() for name in ("width", "height")):
        raise BadCapture(f"{path.name} is damaged", expected="a finite width and height")
    size = int(np.squeeze(arrays["width"])), int(np.squeeze(arrays["height"]))
    return Camera(*size, intrinsics(K, options.reading), world_from_file @ inverse(place, path.name))


def split_frames(
    name: str, count: int, options: CaptureOptions, notes: list[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Frames in use and the split of each. Raises BadCapture for ranges that make no sense."""
    known = next((KNOWN_RANGES[key] for key in KNOWN_RANGES if name.startswith(key)), ())
    train_range = options.train_range or known
    if train_range and (options.train_range or count > train_range[1] + 1):
        train = _range(name, train_range, count)
        last = train_range[1]
        test = _range(name, options.test_range or (last + 1, count - 1, train_range[2]), count)
        notes.append(f"Frames {train[0]} to {train[-1]} are trained on, {test[0]} to {test[-1]} held out")
    else:
        kept, note = held_out_end(count, max(1, count // 5))
        train, test = tuple(range(kept)), tuple(range(kept, count))
        notes.append(note)
    if set(train) & set(test):
        raise BadCapture(f"the ranges of {name} overlap", found="frames both trained on and held out")
    return (*train, *test), ("train",) * len(train) + ("test",) * len(test)


def _range(name: str, numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    if len(numbers) != 3 or numbers[2] < 1 or not 0 <= numbers[0] <= numbers[1] < count:
        raise BadCapture(
            f"a range of frames of {name} does not fit",
            found=str(list(numbers)),
            expected=f"first, last and step within 0 to {count - 1}",
            do="Correct it in effigy.json",
        )
    return tuple(range(numbers[0], numbers[1] + 1, numbers[2]))


def with_refined(
    folder: Path,
    whole: SmplMotion | None,
    rows: tuple[int, ...],
    splits: tuple[str, ...],
    count: int,
    notes: list[str],
) -> SmplMotion:
    """Poses of all `count` frames, those of a split from its refined file where that has as many. Raises BadCapture."""
    found: SmplMotion | None = whole
    rotations = np.zeros((count, 55, 3), np.float32) if whole is None else np.array(whole.rotations[:count])
    translations = np.zeros((count, 3), np.float32) if whole is None else np.array(whole.translations[:count])
    known = np.full(count, whole is not None)
    for split in ("train", "val", "test"):
        path = folder / REFINED.format(split=split)
        frames = [row for row, of in zip(rows, splits, strict=True) if of == split]
        if not path.is_file() or not frames:
            continue
        refined = body_poses(path)
        if len(refined) != len(frames):
            notes.append(
                f"{path.name} holds {len(refined)} poses for {len(frames)} {split} frames and is not used; say which "
                "frames they are with train_range and test_range in effigy.json"
            )
            continue
        rotations[frames], translations[frames], known[frames] = refined.rotations, refined.translations, True
        found = found or refined
        notes.append(f"Refined poses of {path.name} are used")
    missing = [row for row in rows if not known[row]]
    if found is None or missing:
        raise BadCapture(
            f"{folder.name} lacks poses of {len(missing)} of its {len(rows)} frames",
            found=f"none for frame {missing[0] if missing else 0}",
            do=f"Put the poses of all frames into {POSES}",
        )
    none = np.zeros((count, 0), np.float32)
    return replace(found, rotations=rotations, translations=translations, expressions=none)
