"""An exact recording of a head made as wrong as a tracked one: to measure what refinement mends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates, zoom

from avatars.captures.capture import Capture
from shared.errors import BadConfig
from shared.types import Motion

HEAD_DEG, JAW_DEG, GAZE_DEG, PLACE_M = 2.0, 1.5, 6.0, 0.003
"""Mean errors that were measured of the tracker: of the head's turn, the jaw's, the gaze, the head's place."""
FOLLOWED, OTHERS = 0.15, 0.3
"""Standard deviations of actions that the detector follows, and of all others."""
FOLLOWED_PARTS = ("Blink", "Smile", "Pucker", "jaw", "browDown", "mouthLeft", "mouthRight", "Roll")
DAMPED = 0.65
"""What the detector sees of an action, in the median."""
SLOW_S, QUICK_S = 0.5, 0.08
"""Errors change with the pose and the light, and a little from picture to picture."""
EDGE_PX, PATCHES = 1.5, 8
"""Masks' edges are off by so much in a picture of 512 px, in patches of which so many lie side by side."""
MEAN_OF_3 = 1.596
"""Mean length of a vector of three independent normal numbers; of one it is 0.798, of two 1.253."""
WALL = 128


@dataclass(frozen=True, eq=False)
class MisledCapture(Capture):
    """A capture whose masks' edges are wrong. What a mask wrongly covers is grey, as a wall would be.

    edges_px: [cameras, frames, 2, PATCHES, PATCHES], how far each patch of a mask is off, of 512; None for nothing.
    """

    edges_px: NDArray[np.float32] | None = None

    def rgba(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """As `Capture.rgba`."""
        found, image = super().rgba(index, size), self.images[index]
        if self.edges_px is None:
            return found
        return edges_moved(found, self.edges_px[image.camera, image.frame] * (found.shape[0] / 512))


def edges_moved(rgba: NDArray[np.uint8], shift_px: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A premultiplied picture [H, W, 4] whose mask is shifted by shift_px [2, P, P] (down, across) in patches, smoothly
    from one to the next."""
    height, width = rgba.shape[:2]
    scale = (1, height / shift_px.shape[1], width / shift_px.shape[2])
    shift = zoom(shift_px, scale, order=3, mode="nearest", grid_mode=True)
    places = np.mgrid[:height, :width] + shift[:, :height, :width]
    alpha = rgba[..., 3].astype(np.float64)
    moved = np.clip(map_coordinates(alpha, places, order=1, mode="nearest"), 0, 255)
    colour = rgba[..., :3] + WALL * (1 - alpha[..., None] / 255)  # before a grey wall, where it was seen
    return np.concatenate((colour * moved[..., None] / 255, moved[..., None]), -1).round().clip(0, 255).astype(np.uint8)


def correlated(rng: np.random.Generator, frames: int, count: int, fps: float) -> NDArray[np.float64]:
    """Noise [frames, count] of unit variance: nine tenths of the variance slow, a tenth quick."""
    total = np.zeros((frames, count))
    for share, seconds in ((0.9, SLOW_S), (0.1, QUICK_S)):
        sigma = max(seconds * fps, 0.3)
        margin = int(4 * sigma) + 1
        smooth = gaussian_filter1d(rng.normal(size=(frames + 2 * margin, count)), sigma, axis=0)[margin:-margin]
        kernel = gaussian_filter1d(np.eye(1, 2 * margin + 1, margin)[0], sigma)
        total += np.sqrt(share) * smooth / np.linalg.norm(kernel)
    return total


def with_tracking_noise(capture: Capture, strength: float, seed: int) -> Capture:
    """A capture of a head with a tracker's errors on all frames, said to be tracked. Deterministic by seed.

    strength multiplies all sizes; damping of expressions grows with it up to 1. Raises BadConfig for another kind.
    """
    names = capture.joint_names
    if capture.kind != "head" or "head" not in names:
        raise BadConfig("data.tracking_noise is for captures of heads", found=f"a {capture.kind}", do="Leave it at 0")
    rng, motion = np.random.default_rng(seed), capture.motion
    frames, fps = len(motion), motion.fps

    def noise(count: int) -> NDArray[np.float64]:
        return strength * correlated(rng, frames, count, fps)

    rotations = np.array(motion.rotations, np.float64)
    turn = np.deg2rad(HEAD_DEG) / MEAN_OF_3 * noise(3)
    for name in ("neck", "head"):
        if name in names:
            rotations[:, names.index(name)] += turn / 2 if "neck" in names else turn
    jaw, gaze = np.deg2rad(JAW_DEG) / 0.798 * noise(1), np.deg2rad(GAZE_DEG) / 1.253 * noise(2)
    if "jaw" in names:
        rotations[:, names.index("jaw"), 0] += jaw[:, 0]
    for name in ("left_eye", "right_eye"):
        if name in names:
            rotations[:, names.index(name), 0] += gaze[:, 0]
            rotations[:, names.index(name), 2] += gaze[:, 1]
    translations = np.array(motion.translations, np.float64) + PLACE_M / MEAN_OF_3 * noise(3)
    followed = np.array([any(part in name for part in FOLLOWED_PARTS) for name in capture.expression_names], bool)
    seen = 1 - (1 - DAMPED) * min(strength, 1.0)
    actions = np.asarray(motion.expressions, np.float64)
    changed = seen * actions + np.where(followed, FOLLOWED, OTHERS) * noise(actions.shape[1])
    if actions.size and actions.min() >= 0:  # weights of actions, no directions of a scan
        changed = changed.clip(0, 1)
    noisy = Motion(
        rotations.astype(np.float32), translations.astype(np.float32), changed.astype(np.float32), motion.fps
    )
    parts: dict[str, Any] = {entry.name: getattr(capture, entry.name) for entry in fields(Capture)}
    # As a matting's, they follow the picture and so change slowly.
    edges = EDGE_PX * noise(len(capture.cameras) * 2 * PATCHES**2).reshape(frames, -1, 2, PATCHES, PATCHES)
    wrong = MisledCapture(**parts, edges_px=edges.swapaxes(0, 1).astype(np.float32))
    return replace(wrong, motion=noisy, tracked=True)
