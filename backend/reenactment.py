"""What `reenact` renders: which avatar, which pictures of whose performance, and into which folders.

Folders and options are those of GaussianAvatars' and GaussianAvatar-Editor's render command (method page A.6), so that
what is written can be laid beside theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.library import SUFFIX, Library
from shared.errors import BadConfig, NotFound
from shared.types import Camera, Motion

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.captures.capture import Capture
    from avatars.evaluation.frames import Shot
    from avatars.rgb_head.reenact import Transfer

PARTS = ("train", "val", "test")
CLOUDS, CLOUD, PARAMS, ARGUMENTS, SETTINGS = (
    "point_cloud",
    "point_cloud.ply",
    "flame_param.npz",
    "cfg_args",
    "settings.json",
)


@dataclass(frozen=True, eq=False)
class Model:
    """An opened avatar. folder: where results go; iteration: names them; capture: its recording, '' unknown.

    trained_on: what drove it in training, where a file beside it says so.
    """

    avatar: Avatar
    title: str
    folder: Path
    iteration: int
    capture: str
    trained_on: Motion | None = None


@dataclass(frozen=True, eq=False)
class Performance:
    """The pictures of one output folder. images: the recorded picture of each shot, empty where there are none.

    itself: whether those show the avatar's own person.
    """

    name: str
    avatar: Avatar
    motion: Motion
    shots: tuple[Shot, ...]
    capture: Capture | None = None
    images: tuple[int, ...] = ()
    itself: bool = False


def open_model(text: str, library: Path, iteration: int, output: Path | None, device: str) -> Model:
    """The avatar that `-m` names: of the library, a NAME.avatar folder, a result folder, or GaussianAvatars' folder.

    iteration: -1 takes the newest. Results go beside the model where it is a folder of results, else into
    output/NAME. Raises BadAvatar, BadConfig, NotFound.
    """
    from avatars.avatar_folder import iterations_of, load_avatar, read_description

    path = Path(text).expanduser()
    if (path / CLOUDS).is_dir() or (path / CLOUD).is_file():
        return _gaussian_avatars(path, iteration, output, device)
    if iteration >= 0:
        raise BadConfig("--iteration belongs to model folders of GaussianAvatars", found=text)
    folder, results = path, Path("output") / path.name.removesuffix(SUFFIX)
    capture = ""
    if path.is_dir() and not path.name.endswith(SUFFIX):
        inner = sorted(path.glob(f"*{SUFFIX}"))
        if len(inner) != 1:
            raise BadConfig(
                f"{path} is no model",
                found=f"{len(inner)} avatars in it",
                expected="an avatar of the library, a NAME.avatar folder, a result folder or a GaussianAvatars model",
            )
        folder, results = inner[0], path
        capture = str(_settings(path / SETTINGS).get("capture", ""))
    elif not path.name.endswith(SUFFIX):
        folder = Library(library).path(text)
    elif not path.is_dir():
        raise NotFound(f"There is no avatar in {path}", do="Check the path")
    document = read_description(folder)
    return Model(
        load_avatar(folder, device),
        folder.name.removesuffix(SUFFIX),
        output or results,
        iterations_of(document),
        capture or _embedded(document),
    )


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _embedded(document: Mapping[str, Any]) -> str:
    from avatars.captures.embedded import embedded_captures

    provenance = document.get("provenance")
    name = str(provenance.get("capture", "")) if isinstance(provenance, dict) else ""
    return name if name in embedded_captures() else ""


def _gaussian_avatars(path: Path, iteration: int, output: Path | None, device: str) -> Model:
    """A model folder as GaussianAvatars leaves it; shape and static offset come from its own flame_param.npz."""
    from avatars.formats.flame_params import motion_of, read_flame_params
    from avatars.formats.gaussian_avatars import find_point_cloud, read_cfg_args
    from avatars.formats.importing import import_avatar
    from avatars.gaussian_head.avatar import GaussianHeadAvatar

    cloud = find_point_cloud(path)
    if iteration >= 0:
        cloud = path / CLOUDS / f"iteration_{iteration}" / CLOUD
    if cloud is None or not cloud.is_file():
        there = sorted(folder.name for folder in path.glob(f"{CLOUDS}/iteration_*"))
        raise NotFound(f"{path.name} has no such iteration", found=str(iteration), expected=", ".join(there))
    avatar = import_avatar(cloud).avatar
    assert isinstance(avatar, GaussianHeadAvatar)
    number = cloud.parent.name.removeprefix("iteration_")
    capture = ""
    if (path / ARGUMENTS).is_file():
        written = str(read_cfg_args(path / ARGUMENTS).get("source_path", ""))
        capture = written if written and Path(written).is_dir() else ""
    trained_on = motion_of(read_flame_params(cloud.with_name(PARAMS)), avatar.rig())
    moved = GaussianHeadAvatar(avatar.model.to(device))
    return Model(moved, path.name, output or path, int(number) if number.isdigit() else 0, capture, trained_on)


# --- whose performance ------------------------------------------------------------------------------------------------
def own_performances(
    model: Model, capture: Capture, parts: tuple[str, ...], camera: str, divide: int
) -> list[Performance]:
    """Novel views (val) and self-reenactment (train, test): the avatar as its own recording says.

    Parts without pictures are left out. Raises BadCapture, BadConfig.
    """
    from avatars.evaluation.frames import check_same_rig

    check_same_rig(model.avatar, capture)
    found = []
    for part in parts:
        images = filmed(capture, capture.split(part), camera)
        if images:
            shots = _shots(capture, images, divide)
            name = part + (f"_{camera}" if camera else "")
            found.append(Performance(name, model.avatar, capture.motion, shots, capture, images, itself=True))
    if not found:
        raise BadConfig(
            f"capture {capture.name!r} has no such pictures", found=", ".join(parts) or "every part skipped"
        )
    return found


def target_performance(
    model: Model,
    target: str,
    own: Capture | None,
    transfer: Transfer | None,
    *,
    parts: tuple[str, ...],
    camera: str,
    own_cameras: bool,
    divide: int,
) -> tuple[Performance, tuple[str, ...]]:
    """Cross-identity: the avatar, with its own shape and offsets, driven by another recording, and what to say of it.

    transfer None takes every number of the target as it is, as the original does. The target's cameras film it, all
    its parts one after the other; own_cameras: the one of `own` does, in which the head is as large as the target's was
    in its own. Raises BadCapture, BadConfig.
    """
    from avatars.captures.embedded import embedded_captures
    from avatars.captures.opening import open_capture
    from avatars.evaluation.frames import Shot
    from avatars.rgb_head.reenact import pinned, reenacted, taken_over
    from avatars.rgb_head.sources import capture_source, read_source

    recorded = None
    if target in embedded_captures() or Path(target).expanduser().is_dir():
        recorded = open_capture(target)
    images: tuple[int, ...] = ()
    if recorded is not None and not own_cameras:
        wanted = [index for part in parts for index in recorded.split(part)]
        images = filmed(recorded, tuple(wanted), camera)
        if not images:
            raise BadConfig(f"capture {recorded.name!r} has no such pictures", found=", ".join(parts) or "no part")
        lenses = {recorded.images[index].camera for index in images}
        seen_by = recorded.camera_names[recorded.images[images[0]].camera] if len(lenses) == 1 else ""
        source = capture_source(recorded, seen_by)
        lens = source.camera
        transfer = replace(transfer, match_size=len(lenses) == 1) if transfer is not None else None
    else:
        if own is None:
            raise BadConfig(
                f"{target} has no cameras of its own" if recorded is None else "--own_cameras needs a recording",
                expected="-s with the avatar's own recording, which has some",
            )
        source = read_source(target, model.avatar.rig(), camera if recorded is not None else "")
        lens = own_lens(own, camera, divide)
    trained_on = model.trained_on if own is None else training_motion(own, model.avatar)
    if transfer is None:
        found = taken_over(source, model.avatar)
        avatar = model.avatar
    else:
        found = reenacted(source, model.avatar, transfer, camera=lens, trained_on=trained_on)
        avatar = pinned(model.avatar)
    name = Path(target).name.removesuffix(".npz") + (f"_{camera}" if camera else "")
    if images:
        assert recorded is not None
        shots = _shots(recorded, images, divide)
        return Performance(name, avatar, found.motion, shots, recorded, images), found.notes
    assert lens is not None
    shots = tuple(Shot(frame, lens) for frame in range(len(found.motion)))
    return Performance(name, avatar, found.motion, shots), found.notes


JAW_OPEN_RAD, JAW_OPEN_SHARE = 0.3, 0.6
JAW_SHAPES = ("jawOpen", "jaw_open", "mouthOpen")


def canonical(performance: Performance, open_mouth: bool) -> Performance:
    """The avatar at rest, one picture a camera: no expression, no joint moved, standing as in its calmest frame.

    open_mouth: the jaw is turned down, or the template's shape for it set. Raises BadConfig where it has neither.
    """
    rig, motion = performance.avatar.rig(), performance.motion
    rest = np.asarray(performance.avatar.rest_pose, np.float32)
    inner = rig.parents >= 0
    bent = (motion.rotations[:, inner] - rest[inner]).reshape(len(motion), -1)
    calm = int((np.square(bent).sum(1) + np.square(motion.expressions).mean(1)).argmin())
    rotations, expressions = rest[None].copy(), np.zeros((1, len(rig.expression_names)), np.float32)
    rotations[0, ~inner] = motion.rotations[calm, ~inner]
    if open_mouth:
        jaws = [index for index, name in enumerate(rig.joint_names) if "jaw" in name.lower()]
        shapes = [rig.expression_names.index(name) for name in JAW_SHAPES if name in rig.expression_names]
        if not jaws and not shapes:
            raise BadConfig("This avatar has no jaw to open", found=", ".join(rig.joint_names), do="Leave it closed")
        if shapes:
            expressions[0, shapes[0]] = JAW_OPEN_SHARE
        else:
            rotations[0, jaws[0], 0] += JAW_OPEN_RAD
    cameras = {(shot.camera.K.tobytes(), shot.camera.world_from_camera.tobytes()): shot for shot in performance.shots}
    still = Motion(rotations, motion.translations[calm : calm + 1], expressions, motion.fps)
    shots = tuple(replace(shot, frame=0) for shot in cameras.values())
    name = f"{performance.name}_cano{'_openmouth' if open_mouth else ''}"
    return Performance(name, performance.avatar, still, shots)


def training_motion(capture: Capture, avatar: Avatar) -> Motion | None:
    """What drove the avatar in the training frames of its own recording; None for a recording of another rig."""
    rig = avatar.rig()
    if capture.joint_names != rig.joint_names or capture.expression_names != rig.expression_names:
        return None
    frames, motion = list(capture.training_frames()), capture.motion
    return Motion(motion.rotations[frames], motion.translations[frames], motion.expressions[frames], motion.fps)


def filmed(capture: Capture, images: tuple[int, ...], camera: str) -> tuple[int, ...]:
    """Those of `images` that one camera took, of all cameras where it is '': each camera's in the order of time.

    camera: a name, or the original's number of it (8 is '08' in an export for GaussianAvatars). Raises BadConfig.
    """
    names = [capture.camera_names[image.camera] for image in capture.images]
    known = list(dict.fromkeys(capture.camera_names))
    chosen = camera
    if camera and camera not in known:
        same = [name for name in known if name.isdigit() and camera.isdigit() and int(name) == int(camera)]
        if not same:
            raise BadConfig(f"capture {capture.name!r} has no camera {camera!r}", expected=", ".join(known))
        chosen = same[0]
    kept = [index for index in images if not chosen or names[index] == chosen]
    return tuple(sorted(kept, key=lambda index: (known.index(names[index]), capture.images[index].frame)))


def own_lens(capture: Capture, camera: str, divide: int) -> Camera:
    """The camera of that name, else the one that looks most into the face; each side divided by `divide`."""
    from avatars.captures.capture import scaled_camera
    from avatars.training.views import frontal_image

    images = filmed(capture, tuple(range(len(capture.images))), camera)
    lens = capture.cameras[capture.images[frontal_image(capture, images)].camera]
    return scaled_camera(lens, (max(1, lens.width_px // divide), max(1, lens.height_px // divide)))


def _shots(capture: Capture, images: tuple[int, ...], divide: int) -> tuple[Shot, ...]:
    from avatars.evaluation.frames import capture_shots

    longest = max(capture.cameras[0].width_px, capture.cameras[0].height_px)
    return tuple(capture_shots(capture, images, max(1, longest // divide)))
