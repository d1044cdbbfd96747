"""A small relightable head for tests, and captures that are pictures of it in known light."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.lighting.environment_files import write_exr
from avatars.lighting.prefilter import filtered_environment
from avatars.relit_head.model import RelitHead
from avatars.relit_head.occlusion import baked
from avatars.relit_head.picture import lit_picture
from avatars.relit_head.settings import HeadOcclusion
from avatars.rendering import CameraBatch
from shared.types import Camera, Environment
from tests.tiny import bust_reference, front_camera, moving, straight_uint8, tiny_head


def side_light(side: float, strength: float = 3.0) -> Environment:
    """Bright around azimuth 0 (side 1: +x, the person's left) or pi (side -1), dim elsewhere."""
    radiance = np.full((16, 32, 3), 0.15, np.float32)
    middle = 16 if side > 0 else 0
    for column in range(-4, 4):
        radiance[4:12, (middle + column) % 32] = strength
    return Environment(radiance)


@lru_cache(maxsize=1)
def lit_head() -> RelitHead:
    """Of tests.tiny's head: its colours are albedo, and it knows what it sees of the sky. Leave it as it is."""
    head = tiny_head(1500)
    model = RelitHead(head).requires_grad_(False)
    motion = moving(4, head)
    vertices = head.head.posed_vertices(**motion)
    model.probes = baked(model, head.theta(**motion), vertices, HeadOcclusion(poses=2, directions=0))
    return model


def lit_capture(folder: Path, lights: list[Environment], size: int = 48, model: RelitHead | None = None) -> Capture:
    """Four frames of lit_head (or `model`) from two cameras, the last held out; lights: of each frame, in turn.

    With several lights each picture names its own; otherwise the capture has the one.
    """
    (folder / "images").mkdir(parents=True)
    model, frames = model or lit_head(), 4
    motion = moving(frames, model.head)
    lenses = [front_camera(size, yaw) for yaw in (-0.5, 0.5)]
    entries = []
    for camera, lens in enumerate(lenses):
        for frame in range(frames):
            which = frame % len(lights)
            pixels = picture(
                model, lens, {key: value[frame : frame + 1] for key, value in motion.items()}, lights[which]
            )
            name = f"images/{camera:02d}_{frame:04d}.webp"
            Image.fromarray(straight_uint8(pixels)).save(folder / name, lossless=True, exact=True)
            entries.append({"file": name, "camera": camera, "frame": frame, "split": "test" if frame == 3 else "train"})
    arrays = model.head.head.template.arrays
    np.savez(
        folder / "parameters.npz",
        **{name: value.numpy() for name, value in motion.items()},
        K=np.stack([lens.K for lens in lenses]),
        world_from_camera=np.stack([lens.world_from_camera for lens in lenses]),
    )
    if len(lights) == 1:
        np.savez(folder / "environment.npz", radiance=lights[0].radiance)
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": folder.name,
        "kind": "head",
        "subject": "tiny",
        "licence": "CC0-1.0",
        "synthetic": True,
        "generator": {"name": "tests"},
        "template": bust_reference().as_json(),
        "joint_names": list(arrays.joint_names),
        "expression_names": list(arrays.expression_names),
        "width_px": size,
        "height_px": size,
        "fps": 25,
        "cameras": [{"name": f"{camera:02d}"} for camera in range(len(lenses))],
        "images": entries,
    }
    (folder / "capture.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "LICENSE.md").write_text("CC0-1.0\n", encoding="utf-8")
    capture = open_capture(str(folder))
    if len(lights) == 1:
        return capture
    files = [folder / f"light{index}.exr" for index in range(len(lights))]
    for file, light in zip(files, lights, strict=True):
        write_exr(file, np.asarray(light.radiance))
    images = tuple(replace(image, light=files[image.frame % len(files)]) for image in capture.images)
    return replace(capture, images=images)


def picture(model: RelitHead, lens: Camera, motion: dict[str, torch.Tensor], light: Environment) -> NDArray[np.float32]:
    """Premultiplied display-encoded RGBA [H, W, 4]."""
    with torch.no_grad():
        posed = model.pose(**motion)
        lights = [(torch.arange(1), filtered_environment(light))]
        drawn = lit_picture(posed, CameraBatch.from_cameras([lens]), lights)
    return torch.cat((drawn.features, drawn.alpha[..., None]), -1)[0].numpy()
