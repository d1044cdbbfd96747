"""Small real things for tests of every room: an untrained but coloured avatar, and a capture made by rendering it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.avatar_folder import About, save_avatar
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.model import SH0, RgbHead
from avatars.templates.opening import TemplateReference, embedded_template
from shared.types import Camera

GROUP_COLOURS = {
    "skin": (0.80, 0.60, 0.50),
    "eye_l": (0.95, 0.95, 0.95),
    "eye_r": (0.95, 0.95, 0.95),
    "teeth": (0.90, 0.88, 0.80),
    "tongue": (0.75, 0.35, 0.35),
    "lashes": (0.10, 0.08, 0.06),
    "skin/hair1": (0.20, 0.13, 0.08),
    "tights": (0.15, 0.25, 0.55),
}


def bust_reference(preset: str = "man") -> TemplateReference:
    """The embedded head and shoulders."""
    arrays = embedded_template("bust")
    return TemplateReference(arrays.template_id, arrays.digest, "bust", preset)


def tiny_head(gaussians: int = 1500, blendshapes: int = 4, seed: int = 0) -> RgbHead:
    """An untrained head of about `gaussians` Gaussians, each coloured by its face group, opaque enough to be seen."""
    density = {
        "skin": 1.0,
        "skin/hair1": 2.0,
        "eye_l": 4.0,
        "eye_r": 4.0,
        "teeth": 1.5,
        "tongue": 0.7,
        "lashes": 4.0,
        "tights": 1.0,
    }
    config = RgbHeadConfig(
        density=density, target_gaussians=gaussians, blendshapes=blendshapes, hidden=16, initial_opacity=0.9
    )
    model = new_head(bust_reference(), config, seed=seed)
    table = torch.tensor([GROUP_COLOURS[name] for name in model.binding.group_names])
    with torch.no_grad():
        model.colours.copy_((table[model.binding.group] - 0.5) / SH0)
        model.seen.fill_(True)
    return model


def tiny_avatar(folder: Path, name: str = "tiny", gaussians: int = 1500) -> Path:
    """Save a tiny head as a real avatar folder `folder`/NAME.avatar and return that path."""
    avatar = RgbHeadAvatar(tiny_head(gaussians))
    images = render_head(avatar.model, [front_camera(64)], still_motion(1, avatar.model))
    path = Path(folder) / f"{name}.avatar"
    about = About(
        name=name,
        licence="CC0-1.0",
        consent="synthetic, nobody's likeness",
        training={"images": 0, "metrics": {"psnr_db": 0.0, "ssim": 0.0}},
        provenance={"capture": "none"},
    )
    save_avatar(path, avatar, about, straight_uint8(images[0]))
    return path


def front_camera(size: int, yaw_rad: float = 0.0, distance_m: float = 1.0) -> Camera:
    """A square camera looking at the head, turned around it by `yaw_rad` (0 = in front, at -y)."""
    arrays = embedded_template("bust")
    target = arrays.joints[arrays.joint_names.index("head")].astype(float) + arrays.presets["man"][1][4] + (0, 0, 0.03)
    position = target + distance_m * np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    forward = (target - position) / distance_m
    right = np.cross(forward, (0.0, 0.0, 1.0))
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(forward, right), forward), 1)
    pose[:3, 3] = position
    focal = 2.4 * size
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(size, size, K, pose)


def still_motion(frames: int, model: RgbHead) -> dict[str, torch.Tensor]:
    """Rotations, translations and expressions of a head at rest."""
    arrays = model.head.template.arrays
    return {
        "rotations": torch.zeros(frames, len(arrays.joint_names), 3),
        "translations": torch.zeros(frames, 3),
        "expressions": torch.zeros(frames, len(arrays.expression_names)),
    }


def moving(frames: int, model: RgbHead, seed: int = 0) -> dict[str, torch.Tensor]:
    """A head that turns, opens its mouth and blinks."""
    motion = still_motion(frames, model)
    arrays = model.head.template.arrays
    time = torch.linspace(0, 2 * torch.pi, frames + 1)[:frames]
    motion["rotations"][:, arrays.joint_names.index("head"), 2] = 0.3 * torch.sin(time)
    motion["rotations"][:, arrays.joint_names.index("jaw"), 0] = 0.12 * (1 - torch.cos(time))
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        motion["expressions"][:, arrays.expression_names.index(name)] = (1 + torch.sin(2 * time + seed)) / 2
    return motion


def render_head(model: RgbHead, cameras: list[Camera], motion: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """Premultiplied display-encoded RGBA [B, H, W, 4] of frame b through camera b."""
    with torch.no_grad():
        posed = model.pose(**motion)
        drawn = rasterise(posed, CameraBatch.from_cameras(cameras), posed.colours)
    return torch.cat((drawn.features, drawn.alpha[..., None]), -1).numpy()


def straight_uint8(premultiplied: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Straight-alpha uint8 of premultiplied [H, W, 4]."""
    alpha = premultiplied[..., 3:]
    colour = np.where(alpha > 1e-3, premultiplied[..., :3] / np.maximum(alpha, 1e-3), 0)
    return (np.clip(np.concatenate((colour, alpha), -1), 0, 1) * 255 + 0.5).astype(np.uint8)


def tiny_capture(folder: Path, size: int = 64, frames: int = 6, cameras: int = 3, gaussians: int = 1500) -> Path:
    """Write a capture of a moving tiny head in the Effigy format into `folder` and return it.

    Every camera sees every frame; every fourth picture (at least one) is held out.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True)
    model = tiny_head(gaussians)
    motion = moving(frames, model)
    yaws = np.linspace(-0.6, 0.6, cameras) if cameras > 1 else np.zeros(1)
    lenses = [front_camera(size, float(yaw)) for yaw in yaws]
    entries: list[dict[str, Any]] = []
    for camera, lens in enumerate(lenses):
        pictures = render_head(model, [lens] * frames, motion)
        for frame in range(frames):
            name = f"images/{camera:02d}_{frame:04d}.webp"
            Image.fromarray(straight_uint8(pictures[frame])).save(folder / name, lossless=True, exact=True)
            split = "test" if (len(entries) % 4 == 3 or frames * cameras < 4) and entries else "train"
            entries.append({"file": name, "camera": camera, "frame": frame, "split": split})
    arrays = model.head.template.arrays
    np.savez(
        folder / "parameters.npz",
        **{name: value.numpy() for name, value in motion.items()},
        K=np.stack([lens.K for lens in lenses]),
        world_from_camera=np.stack([lens.world_from_camera for lens in lenses]),
    )
    radiance = np.full((64, 128, 3), 0.5, np.float32)
    radiance[:32] = 1.0
    np.savez(folder / "environment.npz", radiance=radiance)
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": folder.name,
        "kind": "head",
        "subject": "tiny",
        "licence": "CC0-1.0",
        "synthetic": True,
        "generator": {"name": "tests/tiny.py"},
        "template": bust_reference().as_json(),
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
