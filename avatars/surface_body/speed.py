"""How fast a surface body is posed and drawn, beside the bare rasteriser on the same Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.relit_body.speed import front_camera
from avatars.rendering import CameraBatch, Rasterised, rasterise
from avatars.rgb_head.benchmark import median_ms
from avatars.scene import SceneInstance, render_scene
from avatars.surface_body.avatar import SurfaceAvatar

SIZE_PX = 1024
TURNED = ("shoulder", "elbow", "hip", "knee", "spine2")


@dataclass(frozen=True)
class SurfaceRow:
    """One size; times are medians in ms of one picture in a pose the avatar was not trained in.

    raw: the rasteriser on posed Gaussians whose colours are known. pose: skinning, faces' frames, quaternions; render:
    from joint rotations to blended colours on the device; viewport: the same as a scene that Blender asks for, packed
    and brought to the host.
    """

    faces: int
    gaussians: int
    size_px: int
    raw_ms: float
    pose_ms: float
    render_ms: float
    render_ratio: float
    frames_per_s: float
    viewport_ms: float


def unseen_pose(avatar: SurfaceAvatar, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A bent pose [1, J, 3] rad, [1, 3] m, [1, E] on the avatar's device."""
    person, device = avatar.person, avatar.mesh.vertices.device
    names = list(person.arrays.joint_names)
    turns = np.zeros((1, len(names), 3), np.float32)
    rng = np.random.default_rng(seed)
    for joint in TURNED:
        for name in (f"left_{joint}", f"right_{joint}", joint):
            if name in names:
                turns[0, names.index(name)] = 0.35 * rng.normal(size=3)
    expressions = torch.zeros(1, len(person.arrays.expression_names), device=device)
    return torch.from_numpy(turns).to(device), torch.zeros(1, 3, device=device), expressions


def measure(avatar: SurfaceAvatar, *, device: str, size_px: int = SIZE_PX, seconds: float = 1.0) -> SurfaceRow:
    """Time one avatar, which must be on `device`. seconds: about how long each timing takes."""
    where = torch.device(device)
    pose, camera = unseen_pose(avatar), front_camera(size_px)
    lens = CameraBatch.from_cameras([camera], where)
    eye = lens.positions()

    def render() -> Rasterised:
        posed = avatar.pose(*pose, normals=False).seen_from(eye)
        return rasterise(posed, lens, posed.colours, depth=False, finite=True)

    def timed(act: Callable[[], Any]) -> float:
        with torch.no_grad():
            return median_ms(act, seconds, where)

    with torch.no_grad():
        fixed = avatar.pose(*pose, normals=False).seen_from(eye)
    raw_ms = timed(lambda: rasterise(fixed, lens, fixed.colours, depth=False, finite=True))
    render_ms = timed(render)
    rotations, translations, expressions = (part.cpu().numpy() for part in pose)
    instance = SceneInstance(avatar, np.eye(4)[None], rotations, translations, expressions)
    return SurfaceRow(
        len(avatar.mesh.faces),
        len(avatar.gaussians),
        size_px,
        raw_ms,
        timed(lambda: avatar.pose(*pose, normals=False)),
        render_ms,
        render_ms / raw_ms,
        1000 / render_ms,
        timed(lambda: render_scene([instance], [camera], None, ["packed"], quality="draft", device=where)),
    )
