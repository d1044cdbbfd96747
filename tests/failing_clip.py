"""A clip in which everything happens that a track must not swallow: made of real pictures of the embedded captures.

Twenty good pictures; then nobody, two faces, a head turned away, motion blur, a hand and a phone before the face, each
in two pictures with a good one between; then a cut to another place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.rendering.mesh import rasterise_mesh
from avatars.templates.opening import embedded_template
from avatars.templates.template import triangles_of
from shared.template import joint_transforms, rest, skin

SIZE_PX = 512
GOOD, EACH = 20, 2
BLUR_PX = 28
TURNED_AWAY = (70, 72)
"""Pictures of the talking head turned by 57 degrees."""
SKIN = np.array([196.0, 148.0, 122.0])
Picture = NDArray[np.uint8]


def failing_clip() -> tuple[list[Picture], list[str], int]:
    """Pictures RGB [512, 512, 3], the reason each must be dropped for ("" for kept), and the row the cut follows."""
    talking = open_capture("talking_head")
    rows = iter((*range(0, 2 * GOOD, 2), *range(210, 300, 2)))  # from the front
    pictures: list[Picture] = []
    reasons: list[str] = []

    def plain() -> Picture:
        return before_wall(talking.rgba(next(rows)))

    def add(picture: Picture, reason: str = "") -> None:
        pictures.append(picture)
        reasons.append(reason)

    for _ in range(GOOD):
        add(plain())
    for _ in range(EACH):
        add(before_wall(np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)), "no_face")
    add(plain())
    for _ in range(EACH):
        add(two_faces(talking, next(rows)), "two_faces")
    add(plain())
    for index in TURNED_AWAY:
        add(before_wall(talking.rgba(index)), "profile")
    add(plain())
    for _ in range(EACH):
        add(blurred(plain()), "blur")
    add(plain())
    for k in range(EACH):
        add(laid_over(plain(), hand_picture(), (290, 300 + 8 * k)), "hand")
    add(plain())
    for k in range(EACH):
        add(laid_over(plain(), phone_picture(), (270 + 6 * k, 330)), "covered")
    add(plain())
    cut = len(pictures) - 1
    for _ in range(4):
        add(before_other_wall(talking.rgba(next(rows))))
    return pictures, reasons, cut


def before_wall(rgba: Picture) -> Picture:
    """A premultiplied picture [H, W, 4] before a striped wall."""
    down, across = np.mgrid[: rgba.shape[0], : rgba.shape[1]] / rgba.shape[0]
    wall = np.stack([150 + 40 * np.sin(7 * across), 140 + 30 * np.cos(5 * down + 3 * across), 120 + 50 * down], -1)
    return composed(rgba, wall)


def before_other_wall(rgba: Picture) -> Picture:
    """Smaller, to the left, before a dark wall: as after a cut."""
    small = resized(rgba, 380)
    placed = np.zeros_like(rgba)
    placed[100:480, 10:390] = small
    return composed(placed, np.full((*rgba.shape[:2], 3), 38.0))


def composed(rgba: Picture, behind: NDArray[np.float64]) -> Picture:
    """Premultiplied over a background, [H, W, 3]."""
    over = rgba[..., :3] + behind * (1 - rgba[..., 3:].astype(np.float64) / 255)
    return np.clip(over + 0.5, 0, 255).astype(np.uint8)


def resized(rgba: Picture, side_px: int = SIZE_PX) -> Picture:
    """The same picture with another side."""
    image = Image.fromarray(rgba)
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BILINEAR))


def two_faces(capture: Capture, index: int) -> Picture:
    """The person twice, one beside the other, at seven tenths of the size."""
    small = resized(capture.rgba(index), 360)[:, 52:308]
    both = np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)
    both[100:460, :256], both[100:460, 256:] = small, small
    return before_wall(both)


def blurred(picture: Picture) -> Picture:
    """As when head and camera move by `BLUR_PX` sideways while the shutter is open."""
    shifted = [np.roll(picture, shift, axis=1).astype(np.float64) for shift in range(BLUR_PX)]
    return np.asarray(np.mean(shifted, axis=0) + 0.5, np.uint8)


def laid_over(picture: Picture, rgba: Picture, middle: tuple[int, int]) -> Picture:
    """Something RGBA (straight) before a picture, its middle at (x, y) px."""
    image = Image.fromarray(picture).convert("RGBA")
    image.alpha_composite(Image.fromarray(rgba), (middle[0] - rgba.shape[1] // 2, middle[1] - rgba.shape[0] // 2))
    return np.asarray(image.convert("RGB"))


def phone_picture() -> Picture:
    """A dark phone with a bright rim, 110 x 200 px."""
    phone = np.full((200, 110, 4), (24, 26, 30, 255), np.uint8)
    phone[:4], phone[-4:], phone[:, :4], phone[:, -4:] = ((150, 152, 158, 255),) * 4
    return phone


def hand_picture(side_px: int = 230) -> Picture:
    """The template's right hand with its fingers up, seen from its back, shaded skin: RGBA straight."""
    body = embedded_template("body")
    vertices, joints = rest(body)
    turned = np.zeros((len(body.joint_names), 3))
    skinning, _ = joint_transforms(turned, joints, body.parents)
    posed = skin(vertices, body.weights, skinning).astype(np.float64)
    wrist = joints[body.joint("right_wrist")]
    part = body.weights[:, [i for i, name in enumerate(body.joint_names) if name.startswith("right_")]]
    fingers = posed[:, 0] < wrist[0] + 0.06
    triangles = triangles_of(body.faces["skin"], body.uv_faces["skin"])[0]
    triangles = triangles[fingers[triangles].all(1) & (part.sum(1) > 0.5)[triangles].all(1)]
    # the arm points to -x, the back of the hand up: fingers go up in the picture, the back to the camera
    seen = np.stack([posed[:, 1], posed[:, 0], -posed[:, 2]], 1)
    low, high = seen[np.unique(triangles)].min(0), seen[np.unique(triangles)].max(0)
    finer = 2 * side_px
    pixels = (seen - (low + high) / 2) / (high - low)[:2].max() * finer * 0.96
    pixels[:, :2] += finer / 2
    pixels[:, 2] += 1000
    face_id, _, _ = rasterise_mesh(pixels, triangles.astype(np.int32), finer, finer)
    corners = seen[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = np.array([0.4, -0.5, -0.76])
    shade = 0.45 + 0.6 * np.abs(normals @ light)
    colour = np.where(face_id[..., None] >= 0, shade[np.maximum(face_id, 0), None] * SKIN, SKIN)
    rgba = np.concatenate((np.clip(colour, 0, 255), (face_id[..., None] >= 0) * 255.0), -1)
    return (rgba.reshape(side_px, 2, side_px, 2, 4).mean((1, 3)) + 0.5).astype(np.uint8)
