"""One person's motion on another's head (method page 11): names, driving vectors, places, and back to a motion."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.flame_axes import matrices_from_six, to_model
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import DrivingLayout, DrivingRange, head_layout, measure_range, with_modes
from shared.errors import BadCapture
from shared.reenact import DrivingStatistics, matched_places, neutral_of, one_euro, transferred
from shared.rotations import axis_angles_from_matrices
from shared.template import joint_transforms, rotation_matrices
from shared.types import Camera, Float32, Int32, Motion, Rig

UNKNOWN = 1e30
"""A limit of θ beyond this says that nothing is known of it (`driving.open_range`)."""
EYES, HEAD_POINTS, NECK = ("left_eye", "right_eye"), ("head", "neck"), ("neck",)
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints of a person at rest: names, parents [J], rest_joints [J, 3] m. What places a head and tells its size."""

    joint_names: tuple[str, ...]
    parents: Int32
    rest_joints: Float32

    @staticmethod
    def of(rig: Rig) -> Skeleton:
        """The skeleton of a rig."""
        return Skeleton(rig.joint_names, rig.parents, rig.rest_joints)


@dataclass(frozen=True, eq=False)
class Source:
    """A motion that may be another person's. camera: the one it was tracked in; skeleton: that person's; where known.

    notes: sentences about what its file lacked.
    """

    name: str
    motion: Motion
    joint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    camera: Camera | None = None
    skeleton: Skeleton | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transfer:
    """How much of the source arrives.

    strength: 1 as much as the source did, relative to its neutral face. clip: how far beyond the avatar's training (1
    not at all, 0 unlimited). neutral_frame: the source's frame that is neutral; without it, see `neutral_of`.
    smooth_hz: cutoff of a One-Euro filter for a head at rest, 0 for none. match_size: a larger head stands farther off,
    so that its picture is as large as the source's; without, it stands where the source's stood, for many cameras.
    """

    strength: float = 1.0
    clip: float = 1.0
    neutral_frame: int | None = None
    smooth_hz: float = 0.0
    match_size: bool = True


@dataclass(frozen=True, eq=False)
class Reenactment:
    """The avatar's motion, and sentences about what could not be carried over."""

    motion: Motion
    notes: tuple[str, ...] = field(default=())


def statistics_of(found: DrivingRange, resting: NDArray[np.float32]) -> DrivingStatistics:
    """What the avatar's file says of its training. resting: θ [D] at rest, for files that say nothing of a neutral."""
    modes = found.modes
    if modes is None:  # of an earlier version, or not trained here
        mean, sigma, low, high = (value.cpu().numpy() for value in (found.mean, found.sigma, found.low, found.high))
        none, flat = np.zeros((0, len(mean)), np.float32), np.zeros(0, np.float32)
        return DrivingStatistics(resting, mean, sigma, low, high, none, flat, flat, 0.0)
    parts = (modes.neutral, modes.mean, modes.sigma, modes.low, modes.high)
    parts += (modes.components, modes.along_low, modes.along_high)
    return DrivingStatistics(*(value.cpu().numpy() for value in parts), float(modes.residual))


@dataclass(frozen=True, eq=False)
class Driver:
    """What an avatar's training is known by: θ's layout and what θ did. place_m: [3], where the root usually was."""

    layout: DrivingLayout
    statistics: DrivingStatistics
    place_m: Floats | None


def driver_of(avatar: Avatar, trained_on: Motion | None = None) -> Driver | None:
    """From the avatar's file, or from the motion [T] it was trained on, of its own rig; None where nothing is known."""
    if isinstance(avatar, RgbHeadAvatar):
        layout, found = avatar.model.layout, avatar.model.driving_range
    elif trained_on is not None and len(trained_on):
        rig = avatar.rig()
        layout = head_layout(rig.joint_names, rig.expression_names)
        theta = _theta(layout, rig, trained_on.rotations, trained_on.translations, trained_on.expressions)
        moved = torch.from_numpy(np.array(trained_on.translations, np.float32))
        found = with_modes(measure_range(torch.from_numpy(theta)), torch.from_numpy(theta), layout, moved)
    else:
        return None
    modes = found.modes
    place = None if modes is None else modes.place_m.cpu().numpy().astype(np.float64)
    return Driver(layout, statistics_of(found, layout.resting().numpy()), place)


def reenacted(
    source: Source,
    avatar: Avatar,
    transfer: Transfer | None = None,
    *,
    camera: Camera | None = None,
    trained_on: Motion | None = None,
) -> Reenactment:
    """The motion of `avatar` for a source (method page 11). Raises BadCapture for a source of another expression model.

    camera: through which the avatar will be seen; the head then gets the place and size in the picture that the
    source's had in its own camera, whatever the two focal lengths, if the source's camera is known. Otherwise the
    avatar moves around the place it had in training. Joints that θ does not hold follow the source as they are.
    trained_on: the motion it was trained on, for avatars whose file does not say what they were taught; without it they
    take everything as it is, but for strength times the expressions.
    """
    transfer = transfer or Transfer()
    rig, motion = avatar.rig(), source.motion
    if not len(motion):
        raise BadCapture(f"{source.name} has no frames")
    rotations, expressions, notes = on_rig(source, rig, avatar.rest_pose)
    driver = driver_of(avatar, trained_on)
    if driver is not None:
        rotations, expressions = _driven(driver, rotations, motion, expressions, rig, transfer)
    else:
        expressions = expressions * transfer.strength
        notes.append("Nothing is known of this avatar's training: the motion arrives as it is, held to nothing.")
    translations = motion.translations.astype(np.float64)
    if camera is not None and source.camera is not None and source.skeleton is not None:
        rotations = _turned(rotations, rig, source.camera, camera)
        translations = _placed(source, rotations, rig, camera, transfer.match_size)
    else:
        place = None if driver is None else driver.place_m
        if place is None and camera is None:
            place = np.zeros(3)  # where a free camera looks
        if place is not None:
            translations = translations - np.median(translations, axis=0) + place
    if transfer.smooth_hz > 0:
        translations = one_euro(translations, motion.fps, min_cutoff_hz=transfer.smooth_hz)
    return Reenactment(Motion(rotations, translations, expressions, motion.fps), (*source.notes, *notes))


def taken_over(source: Source, avatar: Avatar) -> Reenactment:
    """The source's numbers as they are, by name, with the avatar's own shape: GaussianAvatars' rule."""
    rotations, expressions, notes = on_rig(source, avatar.rig(), avatar.rest_pose)
    motion = source.motion
    return Reenactment(Motion(rotations, motion.translations, expressions, motion.fps), (*source.notes, *notes))


def on_rig(source: Source, rig: Rig, rest_pose: NDArray[np.float32]) -> tuple[Floats, Floats, list[str]]:
    """Rotations [T, J, 3] and expressions [T, E] by the avatar's names; what the source lacks is at rest."""
    frames, notes = len(source.motion), []
    shared_names = [name for name in rig.expression_names if name in source.expression_names]
    if rig.expression_names and source.expression_names and not shared_names:
        raise BadCapture(
            f"{source.name} speaks another expression model than the avatar",
            found=f"{len(source.expression_names)} expressions such as {source.expression_names[0]!r}",
            expected=f"names such as {rig.expression_names[0]!r}",
            do="Track the source with the avatar's template",
        )
    if len(shared_names) < len(rig.expression_names):
        missing = len(rig.expression_names) - len(shared_names)
        notes.append(f"{source.name} lacks {missing} of the avatar's {len(rig.expression_names)} expressions: at rest.")
    unused = [name for name in source.expression_names if name not in rig.expression_names]
    if unused:
        notes.append(f"{len(unused)} expressions of {source.name} are not the avatar's and are left out.")
    expressions = np.zeros((frames, len(rig.expression_names)))
    for name in shared_names:
        column = source.motion.expressions[:, source.expression_names.index(name)]
        expressions[:, rig.expression_names.index(name)] = column
    rotations = np.tile(np.asarray(rest_pose, np.float64), (frames, 1, 1))
    for index, name in enumerate(rig.joint_names):
        if name in source.joint_names:
            rotations[:, index] = source.motion.rotations[:, source.joint_names.index(name)]
    lost = [name for name in source.joint_names if name not in rig.joint_names]
    moved = [name for name in lost if np.ptp(source.motion.rotations[:, source.joint_names.index(name)]) > 1e-3]
    if moved:
        notes.append(f"The avatar has no joint {' or '.join(moved[:4])}; how the source turns it is lost.")
    return rotations, expressions, notes


def _driven(
    driver: Driver, rotations: Floats, motion: Motion, expressions: Floats, rig: Rig, transfer: Transfer
) -> tuple[Floats, Floats]:
    """Joints and expressions of θ, transferred and held to the avatar's training; the other joints as they come."""
    layout = driver.layout
    theta = _theta(layout, rig, rotations, motion.translations, expressions)
    neutral = neutral_of(theta, layout.resting().numpy(), layout.learned(), transfer.neutral_frame)
    carried = transferred(theta, neutral, driver.statistics, strength=transfer.strength, clip=transfer.clip)
    if transfer.smooth_hz > 0:
        carried = one_euro(carried, motion.fps, min_cutoff_hz=transfer.smooth_hz)
    return motion_of(layout, carried, rotations, expressions, rig.joint_names, rig.expression_names)


def _theta(
    layout: DrivingLayout,
    rig: Rig,
    rotations: NDArray[np.floating],
    translations: NDArray[np.floating],
    expressions: NDArray[np.floating],
) -> NDArray[np.float32]:
    values = (torch.tensor(np.asarray(value), dtype=torch.float32) for value in (rotations, translations, expressions))
    theta: NDArray[np.float32] = layout.vector(*values, rig.joint_names, rig.expression_names).numpy()
    return theta


def motion_of(
    layout: DrivingLayout,
    theta: NDArray[np.floating],
    rotations: NDArray[np.floating],
    expressions: NDArray[np.floating],
    joint_names: Sequence[str],
    expression_names: Sequence[str],
) -> tuple[Floats, Floats]:
    """Rotations [T, J, 3] rad and expressions [T, E] with what θ [T, D] holds written into copies of those given.

    Inverse of `DrivingLayout.vector`, but for its translation, which moves the mesh only.
    """
    turned, faces = np.array(rotations, np.float64), np.array(expressions, np.float64)
    start = 0
    for part in layout.fields:
        values = np.asarray(theta[:, start : start + part.size()], np.float64)
        start += part.size()
        if part.kind == "expressions":
            faces[:, [expression_names.index(name) for name in part.names]] = values
        elif part.kind == "rotation_6d":
            matrices = matrices_from_six(values.reshape(len(values), len(part.names), 6))
            none = ~np.isfinite(matrices).all((-1, -2))  # six zeros: a head that was never trained
            vectors = axis_angles_from_matrices(np.where(none[..., None, None], np.eye(3), matrices))
            vectors = to_model(vectors) if part.axes == "y_up" else vectors
            turned[:, [joint_names.index(name) for name in part.names]] = vectors
    return turned, faces


# --- where the head is -------------------------------------------------------------------------------------------
def _turned(rotations: Floats, rig: Rig, source: Camera, camera: Camera) -> Floats:
    """The root turned so that the avatar's camera sees it as the source's camera saw the source."""
    turn = camera.world_from_camera[:3, :3] @ source.camera_from_world()[:3, :3]
    if np.abs(turn - np.eye(3)).max() < 1e-6:
        return rotations
    turned = rotations.copy()
    for root in np.flatnonzero(rig.parents < 0):
        turned[:, root] = axis_angles_from_matrices(turn @ rotation_matrices(rotations[:, root]))
    return turned


def _placed(source: Source, rotations: Floats, rig: Rig, camera: Camera, match_size: bool) -> Floats:
    """Translations [T, 3] m that put the avatar's head where the source's was, with match_size as large in the picture.

    The foot of the neck follows the source from frame to frame, so that shoulders do not sway where a turn was held
    back; the eyes decide where the whole lies.
    """
    theirs, ours = source.skeleton, Skeleton.of(rig)
    assert theirs is not None
    assert source.camera is not None
    to_source = source.camera.camera_from_world()
    K = _fitted(source.camera, camera.width_px, camera.height_px)
    size = _relative_size(ours, theirs) if match_size else 1.0
    necks, eyes = [], []
    for found, point in ((necks, neck_places), (eyes, head_places)):
        places = point(theirs, source.motion.rotations) + source.motion.translations
        seen = matched_places(places @ to_source[:3, :3].T + to_source[:3, 3], K, camera.K, size)
        world = seen @ camera.world_from_camera[:3, :3].T + camera.world_from_camera[:3, 3]
        found.append(world - point(ours, rotations))
    return necks[0] + np.median(eyes[0] - necks[0], axis=0)


def _fitted(camera: Camera, width_px: int, height_px: int) -> Floats:
    """K of a camera whose picture is laid into the middle of another size, as large as it fits."""
    scale = min(width_px / camera.width_px, height_px / camera.height_px)
    K = camera.K * np.array([[scale], [scale], [1.0]])
    K[:2, 2] += (np.array((width_px, height_px)) - scale * np.array((camera.width_px, camera.height_px))) / 2
    return K


def head_places(skeleton: Skeleton, rotations: NDArray[np.floating]) -> Floats:
    """Middle of the eyes (else the head or neck joint) [T, 3] m for rotations [T, J, 3] rad, without a translation."""
    points = [name for name in EYES if name in skeleton.joint_names]
    return _joint_places(skeleton, rotations, points if len(points) == len(EYES) else HEAD_POINTS)


def neck_places(skeleton: Skeleton, rotations: NDArray[np.floating]) -> Floats:
    """The foot of the neck [T, 3] m, or the root where there is no neck."""
    return _joint_places(skeleton, rotations, NECK)


def _joint_places(skeleton: Skeleton, rotations: NDArray[np.floating], wanted: Sequence[str]) -> Floats:
    """Mean of the wanted joints that the skeleton has, or its root."""
    points = [skeleton.joint_names.index(name) for name in wanted if name in skeleton.joint_names] or [0]
    found = []
    for frame in np.asarray(rotations, np.float64):
        _, model_from_joint = joint_transforms(frame, skeleton.rest_joints, skeleton.parents)
        found.append(model_from_joint[points, :3, 3].mean(0))
    return np.array(found).reshape(-1, 3)


def _relative_size(ours: Skeleton, theirs: Skeleton) -> float:
    """Our head in their heads, by the distance of the eyes; 1 where a skeleton has none."""
    sizes = []
    for one in (ours, theirs):
        if not all(name in one.joint_names for name in EYES):
            return 1.0
        left, right = (one.rest_joints[one.joint_names.index(name)] for name in EYES)
        sizes.append(float(np.linalg.norm(left.astype(np.float64) - right)))
    return sizes[0] / sizes[1] if min(sizes) > 1e-4 else 1.0


def pinned(avatar: Avatar) -> Avatar:
    """The avatar with its network told the training's mean place wherever the head is moved to (method page 11).

    It shares everything else. An avatar whose network reads no place, or whose training is not known, stays as it is.
    """
    if not isinstance(avatar, RgbHeadAvatar):
        return avatar
    model = avatar.model
    columns = model.layout.columns("translation")
    found = model.driving_range
    mean = found.mean if found.modes is None else found.modes.mean
    if not columns or (found.modes is None and bool((found.low[columns].abs() > UNKNOWN).any())):
        return avatar
    low, high = found.low.clone(), found.high.clone()
    low[columns] = high[columns] = mean[columns]
    still = copy.copy(model)
    still.driving_range = replace(found, low=low, high=high)
    return RgbHeadAvatar(still)
