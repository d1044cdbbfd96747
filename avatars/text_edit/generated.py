"""Views of an avatar for which there is no capture: cameras around it, poses and expressions of its template."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture, CaptureImage
from avatars.evaluation.frames import Shot, render_shots
from avatars.gaussians.posed import PosedGaussians
from avatars.training.evaluation import as_uint8
from avatars.training.views import frontal_image
from shared.errors import BadCapture
from shared.types import Camera, Motion

FOCAL_SIDES = 2.6
"""Focal length in sides of the picture: a portrait lens."""
FILL = 0.88
HEAD_PITCH_DEG = (-12.0, 22.0)
BACK_SHARE = 0.3
"""Of the cameras around a head; the others stand before it, where there is most to see."""
HEAD_YAW_DEG, BACK_YAW_DEG = (-75.0, 75.0), (110.0, 250.0)
BODY_PITCH_DEG = (-5.0, 20.0)
BODY_JOINTS = ("upperarm", "forearm", "shoulder", "elbow", "arm", "hip", "knee", "thigh", "shin", "spine", "leg")
HELD_OUT_EVERY = 6


@dataclass(frozen=True, eq=False)
class RenderedCapture(Capture):
    """A capture whose pictures are in memory: renders of an avatar. store: [M, H, W, 4] uint8 premultiplied."""

    store: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 1, 1, 4), np.uint8))

    def rgba(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Picture `index` [H, W, 4], at `size` (width, height) px. Raises BadCapture for another size than rendered."""
        found = self.store[index]
        if size is not None and (found.shape[1], found.shape[0]) != tuple(size):
            raise BadCapture("a rendered view has one size", found=str(size), expected=f"{found.shape[1::-1]}")
        return found


def is_body(avatar: Avatar) -> bool:
    """Whether an avatar is a whole person rather than a head."""
    rig = avatar.rig()
    return any(name.lower().startswith(("hand", "wrist", "left_hand", "foot", "left_foot")) for name in rig.joint_names)


def generated_motion(avatar: Avatar, count: int, seed: int) -> Motion:
    """`count` instants: the rest pose, then expressions of the template, a moving jaw and head, or limbs of a body."""
    rig = avatar.rig()
    generator = np.random.default_rng(seed)
    rotations = np.repeat(avatar.rest_pose[None], count, 0).astype(np.float32)
    expressions = np.zeros((count, len(rig.expression_names)), np.float32)
    ranges = rig.expression_ranges
    low, high = (np.zeros(expressions.shape[1]), np.ones(expressions.shape[1])) if ranges is None else ranges.T
    body = is_body(avatar)
    spread = low < 0  # coefficients in standard deviations rather than strengths of named shapes
    for row in range(1, count):
        if expressions.shape[1]:
            chosen = generator.random(expressions.shape[1]) < (0.3 if spread.any() else 0.12)
            strength = np.where(spread, generator.normal(0, 0.8, len(low)), generator.uniform(0.2, 0.9, len(low)))
            expressions[row] = np.clip(np.where(chosen, strength, 0), low, high)
            for name, share in (("jawOpen", 0.5), ("eyeBlinkLeft", 0.2), ("eyeBlinkRight", 0.2)):
                if name in rig.expression_names and generator.random() < share:
                    expressions[row, rig.expression_names.index(name)] = generator.uniform(0.3, 1.0)
        for joint, name in enumerate(rig.joint_names):
            plain = name.lower()
            if "jaw" in plain and generator.random() < 0.6:
                rotations[row, joint, 0] += generator.uniform(0.03, 0.3)
            elif plain in ("head", "neck"):
                rotations[row, joint] += generator.normal(0, 0.08, 3)
            elif body and any(part in plain for part in BODY_JOINTS):
                rotations[row, joint] += generator.normal(0, 0.12, 3)
    return Motion(rotations, np.zeros((count, 3), np.float32), expressions, 25.0)


def solid_means(posed: PosedGaussians) -> Tensor:
    """Centres [N, 3] m of the first frame's Gaussians that can be seen, of all where none can."""
    solid = posed.means[0][posed.opacities[0] > 0.1]
    return solid if len(solid) else posed.means[0]


def bounds(points: Tensor) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Corners [3] m of the box of points [N, 3], few strays left out."""
    places = points.float().cpu().numpy()
    return np.quantile(places, 0.003, axis=0), np.quantile(places, 0.997, axis=0)


def distance_to_hold(half_m: float) -> float:
    """How far an `orbit_camera` must be to hold what reaches so far from its middle."""
    return FOCAL_SIDES * 2 * half_m / FILL


def cameras_around(avatar: Avatar, count: int, size_px: int, device: torch.device | str) -> tuple[Camera, ...]:
    """`count` cameras that hold the avatar in view: most before a head, some behind it; all around a body."""
    rig = avatar.rig()
    still = torch.from_numpy(avatar.rest_pose.copy())[None].to(device)
    with torch.no_grad():
        posed = avatar.pose(
            still, torch.zeros(1, 3, device=device), torch.zeros(1, len(rig.expression_names), device=device)
        )
    low, high = bounds(solid_means(posed))
    centre, half = (low + high) / 2, float(np.linalg.norm((high - low)[[0, 2]])) / 2
    body = is_body(avatar)
    if body:
        half = float((high - low).max()) / 2
    distance = distance_to_hold(half)
    rows = np.arange(count)
    if body:
        yaws = 360 * rows / count
        pitches = BODY_PITCH_DEG[0] + (BODY_PITCH_DEG[1] - BODY_PITCH_DEG[0]) * (rows * 0.618 % 1)
    else:
        behind = int(BACK_SHARE * count)
        before = np.linspace(*HEAD_YAW_DEG, count - behind) if count > 1 else np.zeros(1)
        yaws = np.concatenate((before, np.linspace(*BACK_YAW_DEG, behind)))
        pitches = HEAD_PITCH_DEG[0] + (HEAD_PITCH_DEG[1] - HEAD_PITCH_DEG[0]) * (rows * 0.618 % 1)
    return tuple(
        orbit_camera(centre, distance, float(yaw), float(pitch), size_px)
        for yaw, pitch in zip(yaws, pitches, strict=True)
    )


def orbit_camera(
    centre: NDArray[np.floating], distance_m: float, yaw_deg: float, pitch_deg: float, size_px: int
) -> Camera:
    """A square picture of `centre` [3] m from a yaw (0: from -y, positive: from +x) and a pitch above it."""
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    towards = np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    forward = -towards
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.stack((right, down, forward), 1)
    world_from_camera[:3, 3] = centre + distance_m * towards
    focal = FOCAL_SIDES * size_px
    K = np.array([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])
    return Camera(size_px, size_px, K, world_from_camera, near_m=max(0.01, distance_m / 100))


def views_of(
    avatar: Avatar,
    name: str,
    *,
    instants: int,
    orbit_cameras: int,
    most: int,
    size_px: int,
    seed: int,
    device: str,
    provenance: dict[str, Any],
    licence: str,
) -> RenderedCapture:
    """A capture of renders: `most` views to edit, chosen evenly among instants and cameras, and some held out."""
    motion = generated_motion(avatar, instants, seed)
    cameras = cameras_around(avatar, orbit_cameras, size_px, device)
    generator = np.random.default_rng(seed)
    pairs = [(instant, int(camera)) for instant in range(instants) for camera in generator.permutation(orbit_cameras)]
    # Instants in turn, so that few views show many of them.
    ordered = [pairs[instant * orbit_cameras + turn] for turn in range(orbit_cameras) for instant in range(instants)]
    wanted = ordered[: max(2, most + max(1, most // HELD_OUT_EVERY))]
    held_out = set(range(HELD_OUT_EVERY - 1, len(wanted), HELD_OUT_EVERY)) or {len(wanted) - 1}
    shots = [Shot(instant, cameras[camera]) for instant, camera in wanted]
    parts = [as_uint8(part) for part in render_shots(avatar, motion, shots, device, 1)]
    rig, reference = avatar.rig(), avatar.template()
    images = tuple(
        CaptureImage(Path(f"view_{row:03d}.png"), camera, instant, "test" if row in held_out else "train")
        for row, (instant, camera) in enumerate(wanted)
    )
    return RenderedCapture(
        name=name,
        kind="body" if is_body(avatar) else "head",
        subject=name,
        licence=licence,
        synthetic=False,
        template=reference,
        joint_names=tuple(rig.joint_names),
        expression_names=tuple(rig.expression_names),
        motion=motion,
        cameras=cameras,
        camera_names=tuple(f"orbit_{index:02d}" for index in range(len(cameras))),
        images=images,
        provenance=provenance,
        masked=True,
        layout="generated",
        store=np.concatenate(parts),
    )


def chosen_views(capture: Capture, most: int, held_out: int) -> Capture:
    """The capture with `most` of its training images, spread evenly, and `held_out` of the others."""
    images = []
    for split, count in (("train", most), ("test", held_out)):
        members = capture.split(split)
        rows = np.unique(np.linspace(0, len(members) - 1, min(count, len(members))).round().astype(int))
        images += [capture.images[members[row]] for row in rows]
    return replace(capture, images=tuple(images))


def film_shots(
    avatar: Avatar, capture: Capture | None, count: int, size_px: int, seed: int, device: str
) -> tuple[Motion, list[Shot]]:
    """A motion and what a film shows of it: the capture's through its frontal camera, or expressions in turn."""
    if capture is not None:
        index = frontal_image(capture, capture.split("train"))
        camera = capture.camera_of(index, capture.train_size(size_px))
        return capture.motion, [Shot(frame % len(capture.motion), camera) for frame in range(count)]
    keys = generated_motion(avatar, 6, seed)
    # From one instant to the next and at last back to the first, slow at each.
    place = np.arange(count) * len(keys) / count
    first = place.astype(int) % len(keys)
    second, share = (first + 1) % len(keys), place % 1
    share = share * share * (3 - 2 * share)

    def between(values: NDArray[np.float32]) -> NDArray[np.float32]:
        along = share.reshape(-1, *[1] * (values.ndim - 1))
        return (values[first] * (1 - along) + values[second] * along).astype(np.float32)

    motion = Motion(between(keys.rotations), between(keys.translations), between(keys.expressions), keys.fps)
    (camera,) = cameras_around(avatar, 1, size_px, device)
    return motion, [Shot(frame, camera) for frame in range(count)]
