"""Model.ply files as RGBAvatar writes them, with random numbers; written by hand, not by the code under test."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIG = """
data_dir: data
template_type: Flame
dataset: {{pin_memory: true, use_shape_weight: {shape}, use_pose_weight: {pose}}}
model:
  tex_size: 256
  num_basis_in: {inputs}
  num_basis_blend: {K}
  use_blend: true
  use_weight_proj: {proj}
  use_mlp_proj: {mlp}
train:
  iteration: 50_000
  recon: {{rotaion_b_lr_scale: 0.5}}
"""


def config_text(inputs: int, blendshapes: int, **switches: bool) -> str:
    """The parts of a config.yaml that matter."""
    words = {name: str(switches.get(name, True)).lower() for name in ("shape", "pose", "proj", "mlp")}
    return CONFIG.format(inputs=inputs, K=blendshapes, **words)


def network_numbers(inputs: int, blendshapes: int, *, mlp: bool = True, seed: int = 0) -> NDArray[np.float32]:
    """Parameters of the weight network in the order of its state_dict."""
    widths = (inputs, 128, 128, blendshapes) if mlp else (inputs, blendshapes)
    generator = np.random.default_rng(seed)
    parts = []
    for before, after in pairwise(widths):
        bound = 1 / np.sqrt(before)
        parts += [generator.uniform(-bound, bound, before * after), generator.uniform(-bound, bound, after)]
    return np.concatenate(parts).astype(np.float32)


def random_fields(
    count: int, blendshapes: int, faces: int, packed: NDArray[np.float32], seed: int = 1
) -> dict[str, NDArray[Any]]:
    """Every property of a model.ply in its order; a face 9,977th and later is a tooth."""
    generator = np.random.default_rng(seed)

    def normal(scale: float) -> NDArray[np.float32]:
        return generator.normal(0, scale, count).astype(np.float32)

    zero = np.zeros(count, np.float32)
    fields: dict[str, NDArray[Any]] = {name: normal(0.002) for name in "xyz"}
    fields |= {name: zero for name in ("nx", "ny", "nz")}
    fields["opacity"] = np.where(generator.random(count) < 0.1, -9999, 1 + normal(1)).astype(np.float32)
    fields |= {f"scale_{axis}": -5.8 + normal(0.3) for axis in range(3)}
    fields |= {f"rot_{axis}": (axis == 0) + normal(0.3) for axis in range(4)}
    fields |= {f"f_dc_{channel}": normal(0.8) for channel in range(3)}
    fields |= {f"f_rest_{number}": zero for number in range(45)}
    for prefix, width, scale in (("xyz_b", 3, 0.002), ("rot_b", 4, 0.2), ("f_dc_b", 3, 0.3)):
        fields |= {f"{prefix}_{column}": normal(scale) for column in range(width * blendshapes)}
    fields["weight_module"] = np.concatenate((packed, np.zeros(max(count - len(packed), 0), np.float32)))[:count]
    fields["face_id"] = generator.integers(0, faces, count).astype(np.int32)
    bary = generator.dirichlet((1, 1, 1), count).astype(np.float32)
    fields |= {f"face_bary_{corner}": bary[:, corner] for corner in range(3)}
    return fields


def write_fields(path: Path, fields: dict[str, NDArray[Any]]) -> Path:
    """The properties as a PLY."""
    kinds = {"f": "float", "i": "int"}
    count = len(next(iter(fields.values())))
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property {kinds[value.dtype.kind]} {name}" for name, value in fields.items()]
    rows = np.stack([np.ascontiguousarray(value).view(np.uint32) for value in fields.values()], 1)
    path.write_bytes("\n".join([*header, "end_header\n"]).encode() + rows.astype("<u4").tobytes())
    return path
