"""Small real bodies for tests: an untrained one with colours and details, and a capture made by rendering it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.mlp_body.express import COLOUR, OPACITY
from avatars.mlp_body.initial import new_body
from avatars.mlp_body.model import Drive, MlpBody
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.templates.opening import TemplateReference, reference_of
from shared.types import Camera
from tests.tiny import straight_uint8

TINY = MlpBodyConfig(
    gaussians=1000,
    controls=60,
    anchors=10,
    basis=3,
    control_basis=2,
    widths=(8, 8),
    hands=True,
    face=True,
    detail_anchors=0.4,
    clamp_components=3,
)


def body_reference(preset: str = "woman") -> TemplateReference:
    """The embedded human, whole."""
    return reference_of("effigy_human", preset=preset, view="body")


def body_motion(frames: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """A person who stands and moves arms, head, fingers, jaw and eyelids."""
    arrays = body_reference().open()
    rng = np.random.default_rng(seed)
    turned = np.zeros((frames, len(arrays.joint_names), 3), np.float32)
    for side, sign in (("left", 1), ("right", -1)):
        turned[:, arrays.joint_names.index(f"{side}_shoulder"), 1] = sign * rng.uniform(0.2, 1.2, frames)
        turned[:, arrays.joint_names.index(f"{side}_elbow"), 2] = sign * rng.uniform(0, 0.8, frames)
        turned[:, arrays.joint_names.index(f"{side}_index1"), 1] = sign * rng.uniform(0, 0.8, frames)
        turned[:, arrays.joint_names.index(f"{side}_hip"), 0] = rng.uniform(-0.4, 0.4, frames)
    turned[:, arrays.joint_names.index("head"), 2] = rng.uniform(-0.5, 0.5, frames)
    turned[:, arrays.joint_names.index("jaw"), 0] = rng.uniform(0, 0.2, frames)
    expressions = np.zeros((frames, len(arrays.expression_names)), np.float32)
    expressions[:, arrays.expression_names.index("eyeBlinkLeft")] = rng.uniform(0, 1, frames)
    translations = rng.normal(0, 0.05, (frames, 3)).astype(np.float32)
    return {"rotations": turned, "translations": translations, "expressions": expressions}


def tiny_body(config: MlpBodyConfig = TINY, seed: int = 0, spread: float = 0.05) -> MlpBody:
    """A body whose parameters all differ from their start: coloured by place, with details that follow the pose."""
    motion = body_motion(8)
    model = new_body(
        body_reference(), config, seed=seed, rotations=motion["rotations"], expressions=motion["expressions"]
    )
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=draw))
        model.neutral[COLOUR] += 2 * torch.sin(6 * model.points.xyz.T)
        model.neutral[OPACITY] = 3
        model.control_offsets.mul_(0.1)
        model.control_bases.mul_(0.1)
    return model


def drive_of(model: MlpBody, motion: dict[str, NDArray[np.float32]]) -> Drive:
    """Poses of a motion as the model takes them, not clamped."""
    parts = [torch.from_numpy(motion[name]) for name in ("rotations", "translations", "expressions")]
    return Drive(model.theta(parts[0], parts[2]), model.placed(*parts))


def body_camera(size: int, yaw_rad: float = 0.0, distance_m: float = 3.5) -> Camera:
    """A square camera that sees the whole body, turned around it by `yaw_rad` (0 = in front, at -y)."""
    position = distance_m * np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    forward = -position / distance_m
    right = np.cross(forward, (0.0, 0.0, 1.0))
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(forward, right), forward), 1)
    pose[:3, 3] = position
    focal = 1.4 * size
    return Camera(size, size, np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), pose)


def render_body(model: MlpBody, cameras: list[Camera], motion: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Premultiplied display-encoded RGBA [B, H, W, 4] of frame b through camera b; poses are not clamped."""
    drive = (torch.from_numpy(motion[name]) for name in ("rotations", "translations", "expressions"))
    with torch.no_grad():
        lens = CameraBatch.from_cameras(cameras)
        posed = model.pose(*drive, clamped=False).seen_from(lens.positions())
        drawn = rasterise(posed, lens, posed.colours)
    return torch.cat((drawn.features, drawn.alpha[..., None]), -1).numpy()


def tiny_body_capture(folder: Path, size: int = 64, frames: int = 5, cameras: int = 4) -> Path:
    """Write a capture of a tiny body in the Effigy format into `folder` and return it.

    The last camera is kept back ('val'), the last frame is held out ('test') by all cameras.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True)
    model, motion = tiny_body(), body_motion(frames)
    lenses = [body_camera(size, yaw) for yaw in np.linspace(-1.2, 1.2, cameras)]
    entries: list[dict[str, Any]] = []
    for camera, lens in enumerate(lenses):
        pictures = render_body(model, [lens] * frames, motion)
        for frame in range(frames):
            name = f"images/{camera:02d}_{frame:04d}.webp"
            Image.fromarray(straight_uint8(pictures[frame])).save(folder / name, lossless=True, exact=True)
            split = "test" if frame == frames - 1 else "val" if camera == cameras - 1 else "train"
            entries.append({"file": name, "camera": camera, "frame": frame, "split": split})
    arrays = model.canonical.arrays
    np.savez(
        folder / "parameters.npz",
        **motion,
        K=np.stack([lens.K for lens in lenses]),
        world_from_camera=np.stack([lens.world_from_camera for lens in lenses]),
    )
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": folder.name,
        "kind": "body",
        "subject": "tiny",
        "licence": "CC0-1.0",
        "synthetic": True,
        "generator": {"name": "tests/tiny_body.py"},
        "template": body_reference().as_json(),
        "joint_names": list(arrays.joint_names),
        "expression_names": list(arrays.expression_names),
        "width_px": size,
        "height_px": size,
        "fps": 25,
        "cameras": [{"name": f"{camera:02d}"} for camera in range(cameras)],
        "images": entries,
    }
    (folder / "capture.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "LICENSE.md").write_text("CC0-1.0\n", encoding="utf-8")
    return folder
