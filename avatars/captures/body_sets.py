"""Recordings of whole bodies by many cameras, as a `Capture`: AvatarReX, THuman4.0 and ActorsHQ.

Pictures exist or not for each frame and camera on its own. Vertices of SMPL-X by `smpl_params.npz` lie in the cameras'
world; that world is turned so that z is up, cameras and body alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.captures.body_files import (
    LAYOUTS,
    BodyLayout,
    FileCamera,
    body_layout,
    listed,
    lost_pictures,
    parameters_file,
)
from avatars.captures.body_splits import THINNED_RAD, BodySplit, published_split, thinned
from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.images import check_size, image_size
from avatars.captures.options import OPTIONS, CaptureOptions, read_options
from avatars.captures.reading import Reading, camera_from_flame, intrinsics, inverse
from avatars.captures.smpl_bodies import placed_body
from avatars.captures.splits import held_out_end
from avatars.skinning.clothed import find_clothed_template
from avatars.templates.opening import TemplateReference, embedded_template, installed_templates, reference_of
from shared.errors import BadCapture, EffigyError, nearest
from shared.motions import SmplMotion, read_smpl_motion
from shared.template import TemplateArrays
from shared.types import Camera

BODY_READING = Reading()
MASK_THRESHOLD = 128
COMMAND = "effigy template add SMPLX_NEUTRAL.npz"
DEFAULT_TEMPLATE = "smplx_neutral"
ONE_CAMERA_IN = 8
"""Without a published split every so many cameras one is kept back."""


@dataclass(frozen=True, eq=False)
class _Files:
    """What lies on disk: camera -> frame -> picture, and the same for masks."""

    pictures: tuple[Mapping[int, Path], ...]
    masks: tuple[Mapping[int, Path], ...]


def is_body_set(key: str, folder: Path) -> bool:
    """Whether a folder has the body layout `key` of `body_files.LAYOUTS`."""
    found = body_layout(folder)
    return found is not None and found[0].key == key


def read_body_set(folder: Path) -> Capture:
    """The capture in such a folder. No picture is decoded. Raises BadCapture, BadTemplate."""
    found = body_layout(folder)
    if found is None:
        titles = ", ".join(one.title for one in LAYOUTS.values())
        raise BadCapture(f"{folder} is no recording of a body", expected=titles)
    layout, place = found
    above = (folder, *place.absolute().parents[:2])
    options = read_options(next((one for one in above if (one / OPTIONS).is_file()), folder), BODY_READING)
    cameras = layout.read_cameras(place / layout.calibration)
    motion = read_smpl_motion(parameters_file(place))
    files, notes = _files(layout, place, cameras, len(motion))
    reference, arrays, more = _template(folder, options, motion)
    notes += more
    body = placed_body(folder.name, reference, motion, up=options.up, fps=options.fps)
    split, note = _split(layout, place, options, motion, len(cameras))
    clothed = find_clothed_template(above)
    if clothed is not None:
        notes.append(f"Clothed template {clothed.parent.name}/{clothed.name}")
    images, left_out = _images(files, split, motion)
    if not {"train", "test"} <= {image.split for image in images}:  # a part of a published recording, perhaps
        split, usual = _usual_split(layout, options, len(motion), len(cameras))
        images, left_out = _images(files, split, motion)
        note = f"the {note} would leave nothing to train or test on; {usual}"
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
        cameras=tuple(_camera(camera, body.world_from_file, options, place / layout.calibration) for camera in cameras),
        camera_names=tuple(camera.name for camera in cameras),
        images=images,
        provenance={"capture": folder.name, "layout": layout.title},
        layout=layout.key,
        masked=True,
        notes=(
            f"{layout.title}: {len(cameras)} cameras, {len(motion)} frames, {len(images)} pictures; {note}",
            *notes,
            *left_out,
            *body.notes,
        ),
        reading=options.reading,
        distortions=tuple(camera.distortion for camera in cameras) if any(c.distortion for c in cameras) else (),
        mask_threshold=MASK_THRESHOLD,
        clothed_template=clothed,
        world_from_file=body.world_from_file[:3, :3],
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture, files=False)  # every file was seen when its folder was listed
    _check_first_pictures(capture)
    return capture


def _files(layout: BodyLayout, place: Path, cameras: tuple[FileCamera, ...], frames: int) -> tuple[_Files, list[str]]:
    lost = lost_pictures(place)
    found = _Files(
        tuple(listed(layout.pictures(place, camera.name), place, lost) for camera in cameras),
        tuple(listed(layout.masks(place, camera.name), place, frozenset()) for camera in cameras),
    )
    seen = [one for one in found.pictures if one]
    if not seen:
        there = sorted(path.name for path in layout.pictures(place, "x").parent.glob("*") if path.is_dir())
        raise BadCapture(
            f"{layout.calibration} of {place.name} names cameras of which there is no picture",
            found=f"folders {', '.join(there[:3]) or 'none'}, cameras {', '.join(c.name for c in cameras[:3])}",
            expected="a folder of pictures for each camera",
            do="Check that calibration and pictures are of one data set",
        )
    if not any(found.masks):
        raise BadCapture(
            f"{place.name} has no masks",
            found=f"no {layout.masks(place, cameras[0].name).relative_to(place)}",
            expected="a mask for each picture",
            do="Download the masks of the data set, too, or make them with a matting program",
        )
    last = max(max(one) for one in seen)
    if last >= frames:
        raise BadCapture(
            f"smpl_params.npz of {place.name} has fewer frames than the pictures",
            found=f"{frames} frames, pictures up to number {last}",
            expected="one row for each picture number",
            do="Use the parameters of this recording",
        )
    notes = []
    absent = [camera.name for camera, one in zip(cameras, found.pictures, strict=True) if not one]
    if absent:
        notes.append(f"No pictures of {len(absent)} cameras: {', '.join(absent[:5])}")
    if lost:
        notes.append(f"{len(lost)} pictures are listed as lost")
    return found, notes


def _template(
    folder: Path, options: CaptureOptions, motion: SmplMotion
) -> tuple[TemplateReference, TemplateArrays, list[str]]:
    """The body the parameters are of: SMPL-X as installed, or the one named in the options."""
    wanted = options.template or DEFAULT_TEMPLATE
    installed = installed_templates()
    if wanted not in installed:
        raise BadCapture(
            f"capture {folder.name!r} needs the template {wanted!r}, not installed here{nearest(wanted, installed)}",
            found=", ".join(installed),
            do=f"Get SMPL-X from its owners and run: {COMMAND}",
        )
    own = embedded_template("body").template_id
    notes = []
    shape: tuple[float, ...] = ()
    if wanted == own:
        notes.append(f"Read with {own}: the file's shape and expressions are not its own and are left out")
    else:
        betas = motion.betas[: len(reference_of(wanted).open().shape_names)]
        shape = tuple(float(number) for number in betas)
    reference = reference_of(wanted, preset=options.preset, shape=shape, view="body")
    arrays = reference.open()
    return reference, arrays, notes


def _camera(camera: FileCamera, world: NDArray[np.float64], options: CaptureOptions, path: Path) -> Camera:
    """The camera in the z-up world; the reading of the options is one of the file's y-up numbers."""
    try:
        matrix = camera.camera_from_world.copy()
        if options.camera_units == "mm":
            matrix[:3, 3] /= 1000
        from_file_world = camera_from_flame(matrix, options.reading)
        world_from_camera = world @ inverse(from_file_world, path.name)
        return Camera(
            camera.width_px, camera.height_px, intrinsics(camera.K, options.reading), world_from_camera, 0.1, 100.0
        )
    except BadCapture:
        raise
    except EffigyError as error:
        raise BadCapture(
            f"camera {camera.name!r} of {path.name} is none: {error.what}", found=error.found, expected=error.expected
        ) from error


def _split(
    layout: BodyLayout, place: Path, options: CaptureOptions, motion: SmplMotion, cameras: int
) -> tuple[BodySplit, str]:
    names = [place.name, *(parent.name for parent in place.absolute().parents[:2])]
    known = published_split(layout.key, names, cameras)
    if known:
        split, note = known[1], f"split as published for {known[0]}"
    else:
        split, note = _usual_split(layout, options, len(motion), cameras)
    chosen = options.split
    for field_name, value in (
        ("train_cameras", chosen.train_cameras),
        ("test_cameras", chosen.test_cameras),
        ("train_frames", chosen.train_frames),
        ("test_frames", chosen.test_frames),
    ):
        if value:
            if field_name.endswith("frames") and (len(value) != 2 or not 0 <= value[0] < value[1] <= len(motion)):
                raise BadCapture(
                    f"split.{field_name} of effigy.json is no stretch of frames",
                    found=str(list(value)),
                    expected=f"[first, one after the last] within 0 and {len(motion)}",
                )
            if field_name.endswith("cameras") and not all(0 <= one < cameras for one in value):
                raise BadCapture(
                    f"split.{field_name} of effigy.json names cameras that are not there",
                    found=str(list(value)),
                    expected=f"numbers below {cameras}",
                )
            split = replace(split, **{field_name: tuple(value)})
            note = f"split as effigy.json says ({field_name})"
    if chosen.thin_rad >= 0:
        split = replace(split, thin_rad=chosen.thin_rad)
    return split, note


def _usual_split(layout: BodyLayout, options: CaptureOptions, frames: int, cameras: int) -> tuple[BodySplit, str]:
    """The last frames and every eighth camera are kept back."""
    end, sentence = held_out_end(frames, options.test_frames)
    kept_back = [k for k in range(cameras) if cameras > 3 and k % ONE_CAMERA_IN == ONE_CAMERA_IN // 2]
    train = tuple(k for k in range(cameras) if k not in kept_back)
    split = BodySplit(train, (0, end), (), (end, frames), THINNED_RAD if layout.key == "actorshq" else 0.0)
    more = f", and cameras {', '.join(map(str, kept_back))}" if kept_back else ""
    return split, f"{sentence[0].lower()}{sentence[1:]}{more}"


def _images(files: _Files, split: BodySplit, motion: SmplMotion) -> tuple[tuple[CaptureImage, ...], list[str]]:
    """Every picture that is there and has its mask, by the split, and sentences about those left out."""
    body: NDArray[np.float32] = motion.rotations[:, 1:22].reshape(len(motion), 63)
    low, high = split.train_frames[0], min(split.train_frames[1], len(motion))
    frames = [k for k in range(low, high) if not split.skipped[0] <= k < split.skipped[1]]
    train_frames = thinned(body, frames, split.thin_rad)
    tested = split.test_frames or (low, high)
    test_frames = range(tested[0], min(tested[1], len(motion)))
    everything = tuple(range(len(files.pictures)))
    train_cameras = split.train_cameras or everything
    images: list[CaptureImage] = []
    without_picture = without_mask = 0

    def add(camera: int, frame: int, name: str) -> None:
        nonlocal without_picture, without_mask
        picture, mask = files.pictures[camera].get(frame), files.masks[camera].get(frame)
        if picture is None:
            without_picture += bool(files.pictures[camera])
        elif mask is None:
            without_mask += 1
        else:
            images.append(CaptureImage(picture, camera, frame, name, mask))

    for frame in train_frames:
        for camera in everything:
            add(camera, frame, "train" if camera in train_cameras else "val")
    for frame in test_frames:
        for camera in split.test_cameras or everything:
            add(camera, frame, "test")
    notes = []
    if without_picture:
        notes.append(f"{without_picture} pictures are not there and left out")
    if without_mask:
        notes.append(f"{without_mask} pictures have no mask and are left out")
    if split.thin_rad > 0:
        notes.append(f"{len(train_frames)} of {len(frames)} training frames differ enough from the one before")
    return tuple(images), notes


def _check_first_pictures(capture: Capture) -> None:
    """Sizes of one picture and one mask of each camera, from their headers. Raises BadCapture."""
    done: set[int] = set()
    for image in capture.images:
        if image.camera in done:
            continue
        done.add(image.camera)
        camera = capture.cameras[image.camera]
        for file in (image.file, image.mask):
            if file is not None:
                check_size(file, image_size(file), (camera.width_px, camera.height_px))
