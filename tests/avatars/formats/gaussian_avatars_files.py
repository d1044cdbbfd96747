"""A model folder as GaussianAvatars writes it, with random numbers; written by hand, not by the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.template import template_triangles
from shared.template import TemplateArrays
from tests.flame_head import LIP_RING_LOWER, LIP_RING_UPPER

FACES = 10144
SH0 = 0.28209479177387814


def random_cloud(count: int, degree: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Every property of a point_cloud.ply in its order; every fifth Gaussian on a tooth."""
    generator = np.random.default_rng(seed)

    def normal(scale: float, mean: float = 0.0) -> NDArray[np.float32]:
        return generator.normal(mean, scale, count).astype(np.float32)

    fields = {name: normal(0.4) for name in "xyz"}
    fields |= {name: np.zeros(count, np.float32) for name in ("nx", "ny", "nz")}
    fields |= {f"f_dc_{channel}": normal(0.8) for channel in range(3)}
    fields |= {f"f_rest_{number}": normal(0.2) for number in range(3 * ((degree + 1) ** 2 - 1))}
    fields["opacity"] = normal(1, 1)
    fields |= {f"scale_{axis}": normal(0.3, -0.8) for axis in range(3)}
    fields |= {f"rot_{axis}": normal(0.5, float(axis == 0)) for axis in range(4)}
    face = generator.integers(0, 9976, count)
    face[::5] = generator.integers(9976, FACES, len(face[::5]))
    fields["binding_0"] = face.astype(np.float32)
    return fields


def person_cloud(arrays: TemplateArrays, every: int = 1) -> dict[str, NDArray[np.float32]]:
    """A flat Gaussian on every so manieth face of FLAME with teeth, in skin, hair, lips, eyes and teeth's colours."""
    face = np.arange(0, FACES, every)
    triangles = template_triangles(arrays)[0][face]
    centre = arrays.vertices[triangles].mean(1)
    eyes = arrays.weights[triangles][:, :, 3:].sum((1, 2)) > 1.5
    ring = np.isin(triangles, [*LIP_RING_UPPER, *LIP_RING_LOWER]).any(1)
    top, low = arrays.vertices[:5023, 2].max(), arrays.vertices[:5023, 2].min()
    hair = centre[:, 2] > top - (0.12 + 0.45 * (centre[:, 1] > 0.02)) * (top - low)
    colours = np.tile(np.array((0.80, 0.60, 0.50)), (len(triangles), 1))
    for where, colour in ((hair, (0.22, 0.14, 0.09)), (ring, (0.75, 0.25, 0.25)), (eyes, (0.92, 0.95, 1.0))):
        colours[where] = colour
    colours[face >= 9976] = (0.95, 0.93, 0.85)
    count = len(triangles)
    fields = {name: np.zeros(count) for name in ("x", "y", "z", "nx", "ny", "nz")}
    fields |= {f"f_dc_{channel}": (colours[:, channel] - 0.5) / SH0 for channel in range(3)}
    fields["opacity"] = np.full(count, 3.0)
    fields |= {f"scale_{axis}": np.full(count, np.log((0.45, 0.04, 0.45)[axis] * every**0.5)) for axis in range(3)}
    fields |= {f"rot_{axis}": np.full(count, float(axis == 0)) for axis in range(4)}
    fields["binding_0"] = face
    return {name: value.astype(np.float32) for name, value in fields.items()}


def flame_param(frames: int, seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """The arrays of a flame_param.npz of a person who moves."""
    generator = np.random.default_rng(seed)

    def normal(scale: float, *shape: int) -> NDArray[np.float32]:
        return generator.normal(0, scale, shape).astype(np.float32)

    return {
        "shape": normal(0.5, 300),
        "expr": normal(0.6, frames, 100),
        "rotation": normal(0.2, frames, 3),
        "neck_pose": normal(0.2, frames, 3),
        "jaw_pose": np.abs(normal(0.1, frames, 3)),
        "eyes_pose": normal(0.1, frames, 6),
        "translation": normal(0.05, frames, 3),
        "static_offset": normal(0.001, 1, 5143, 3),
        "dynamic_offset": normal(1.0, frames, 5143, 3),
    }


def write_model_folder(
    folder: Path,
    count: int = 300,
    degree: int = 3,
    frames: int = 4,
    cloud: dict[str, NDArray[np.float32]] | None = None,
) -> dict[str, Any]:
    """A whole model folder with two saved iterations; what is in the later one. cloud: instead of random numbers."""
    from tests.avatars.formats.rgbavatar_files import write_fields

    cloud, params = random_cloud(count, degree) if cloud is None else cloud, flame_param(frames)
    for iteration, fields in ((30000, random_cloud(7, 0, 5)), (600000, cloud)):
        inner = folder / "point_cloud" / f"iteration_{iteration}"
        inner.mkdir(parents=True)
        write_fields(inner / "point_cloud.ply", fields)
        np.savez(inner / "flame_param.npz", **params)
    camera = {"id": 0, "img_name": "00000_08", "width": 550, "height": 802, "position": [0.1, 0.2, 1.5], "fy": 2000.0}
    camera |= {"rotation": [[1, 0, 0], [0, -1, 0], [0, 0, -1]], "fx": 2000.0}
    (folder / "cameras.json").write_text(json.dumps([camera]))
    (folder / "cfg_args").write_text(
        f"Namespace(sh_degree={degree}, source_path='/data/306', images='images', bind_to_mesh=True, "
        "white_background=True, lambda_xyz=0.01, select_camera_id=-1)"
    )
    return {"cloud": cloud, "params": params, "ply": inner / "point_cloud.ply"}
