"""A fitted clip laid to its pictures: colours that stay with the skin and the eyes, and the person's mask.

Landmarks leave actions open that hardly move them, and the detector's errors are alike from point to point. So, after
them, every frame is moved until the colours at points of the face are those of the clip's mean texture
(`photometric.py`) and the head lies within the mask (`silhouette.py`), by the fit's own Gauss-Newton steps with its
priors, landmarks and ties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.tracking.fitting import Array, ClipFit, ClipFitter, Tell
from avatars.tracking.photometric import Floats, Texture, colour_equations, mean_texture, sampled
from avatars.tracking.silhouette import inside_equations, outside_distance
from avatars.tracking.surface_points import SurfacePoints

FACE_PX, MASK_PX, MARGIN_PX = 256, 256, 8
FEWEST, MOST_TEXTURED = 8, 240
"""Pictures: with fewer nothing is refined, more than these do not make the texture better."""


@dataclass(frozen=True)
class RefineSettings:
    """How pictures count. photometric, silhouette: switches. blur_m: of the pictures in each round, on the face.

    colour_share, outline_share: of points, as if only these were independent. far_colour: a difference (0..1) that
    counts half. least_spread: of a colour. mask_spread_m: how exact a mask's edge is.
    """

    photometric: bool = True
    silhouette: bool = True
    blur_m: tuple[float, ...] = (0.0016, 0.0016, 0.001, 0.001)
    colour_share: float = 0.08
    outline_share: float = 0.1
    far_colour: float = 0.03
    least_spread: float = 0.01
    mask_spread_m: float = 0.002

    @property
    def rounds(self) -> int:
        """How often the pictures are gone through."""
        return len(self.blur_m) if self.photometric or self.silhouette else 0


@dataclass(frozen=True, eq=False)
class _Seen:
    """One picture at the points of the face: values [P, C], gradient [P, C, 2] per px of the video, normals [P, 3],
    weight [P]; at those of the outline: how far outside [S] px of the video, and its slope [S, 2]."""

    values: Floats
    gradient: Floats
    normals: Floats
    weight: Floats
    away: Floats
    slope: Floats


@dataclass(frozen=True)
class Framing:
    """Where pictures lie in the video's: their left upper corner px, and how many of their px one of the video's is."""

    left: float
    top: float
    scale: float


def refine_clip(
    fitter: ClipFitter,
    rows: NDArray[np.int64],
    read: Callable[[int], NDArray[np.uint8]],
    framing: Framing,
    settings: RefineSettings = RefineSettings(),
    tell: Tell = lambda share: None,
) -> ClipFit:
    """The fit of a clip that `fitter.run` has fitted, its frames `rows` moved to their pictures.

    read: the straight RGBA picture [H, W, 4] of a row, alpha the person's mask. With fewer than 8 pictures, or both
    terms left out, the fit stays as it is. tell hears the share that is done.
    """
    if settings.rounds and len(rows) >= FEWEST:
        surface = SurfacePoints(fitter.model.arrays, fitter.model.identity_size)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST_TEXTURED, len(rows))).astype(np.int64))]
        work, done = settings.rounds * (len(chosen) + len(rows)), 0

        def step() -> None:
            nonlocal done
            done += 1
            tell(done / work)

        for blur_m in settings.blur_m:
            held = {}
            for row in chosen.tolist():
                held[row] = _look(read(row), fitter, row, surface, framing, blur_m, settings)
                step()
            parts = list(held.values())
            texture = mean_texture(
                np.stack([one.values for one in parts]),
                np.stack([one.normals for one in parts]),
                np.stack([one.weight for one in parts]),
                settings.far_colour,
            )
            extra: dict[int, tuple[Array, Array]] = {}
            for row in rows.tolist():
                one = held.pop(row, None) or _look(read(row), fitter, row, surface, framing, blur_m, settings)
                extra[row] = _equations(fitter, row, one, texture, surface, settings)
                step()
            fitter.frame_round(extra.get)
    return fitter.found()


def _look(
    picture: NDArray[np.uint8],
    fitter: ClipFitter,
    row: int,
    surface: SurfacePoints,
    framing: Framing,
    blur_m: float,
    settings: RefineSettings,
) -> _Seen:
    """What one picture holds at the points of its frame."""
    state = fitter.state.at(np.array([row]))
    shift = np.array(fitter.centre_px) - (framing.left, framing.top)  # of the principal point in the picture
    values = np.zeros((len(surface), 3), np.float32)
    gradient = np.zeros((*values.shape, 2), np.float32)
    normals, weight = np.zeros_like(values), np.zeros(len(surface), np.float32)
    if settings.photometric:
        flat = surface.points.project(state, fitter.identity, fitter.focal_px, (0.0, 0.0))[0][0]
        on_picture = (flat + shift) * framing.scale
        low = np.maximum(np.floor(on_picture.min(0)) - MARGIN_PX, 0)
        high = np.minimum(np.ceil(on_picture.max(0)) + MARGIN_PX, picture.shape[1::-1])
        if (high - low > MARGIN_PX).all():
            factor = min(1.0, FACE_PX / float((high - low).max()))
            size = (max(2, round((high[0] - low[0]) * factor)), max(2, round((high[1] - low[1]) * factor)))
            scale = framing.scale * factor
            depth = float(state.place[0, 2])
            patch = _blurred(picture, (*low, *high), size, blur_m * fitter.focal_px / depth * scale)
            corner = low / framing.scale - shift
            place, normal, cosine = surface.seen(state, fitter.identity, fitter.focal_px, scale, corner, size)
            values, gradient = sampled(patch, place)
            gradient = gradient * np.float32(scale)
            normals, weight = normal.astype(np.float32), (cosine**2).astype(np.float32)
    away, slope = np.zeros(0, np.float32), np.zeros((0, 2), np.float32)
    if settings.silhouette:
        share = min(1.0, MASK_PX / max(picture.shape[:2]))
        mask = Image.fromarray(np.ascontiguousarray(picture[..., 3]))
        distance = outside_distance(np.asarray(mask.resize((round(mask.width * share), round(mask.height * share)))))
        scale = framing.scale * share
        flat = surface.outline.project(state, fitter.identity, fitter.focal_px, (0.0, 0.0))[0][0]
        found, steep = sampled(distance[..., None], (flat + shift) * scale)
        away, slope = found[:, 0] / np.float32(scale), steep[:, 0]
    return _Seen(values, gradient, normals, weight, away, slope)


def _blurred(picture: NDArray[np.uint8], box: Sequence[float], size: tuple[int, int], sigma_px: float) -> Floats:
    """A part of a picture at another size, blurred, [H, W, 3] in 0..1."""
    from scipy.ndimage import gaussian_filter

    part = Image.fromarray(np.ascontiguousarray(picture[..., :3])).resize(
        size, Image.Resampling.BILINEAR, box=tuple(box)
    )
    colours = np.asarray(part, np.float32) / 255
    blurred: Floats = gaussian_filter(colours, (max(sigma_px, 0.5), max(sigma_px, 0.5), 0), truncate=2.5)
    return blurred


def _equations(
    fitter: ClipFitter,
    row: int,
    seen: _Seen,
    texture: Texture,
    surface: SurfacePoints,
    settings: RefineSettings,
) -> tuple[Array, Array]:
    """What a picture adds to the equations of its frame."""
    state = fitter.state.at(np.array([row]))
    size = fitter.model.frame_size
    matrix, right = np.zeros((size, size)), np.zeros(size)
    chosen = np.flatnonzero(seen.weight)
    if len(chosen):
        moved = surface.points.linearised(state, fitter.identity, fitter.focal_px, fitter.centre_px, shared=False)
        expected = texture.expected(seen.values, seen.normals, seen.weight, settings.far_colour)
        error = (expected - seen.values)[chosen]
        spread = np.maximum(texture.spread[chosen], settings.least_spread)
        weight = settings.colour_share * seen.weight[chosen, None] / spread**2 / (1 + (error / (2.5 * spread)) ** 2)
        part = colour_equations(moved.of_frame[0, chosen], seen.gradient[chosen], error, weight)
        matrix, right = matrix + part[0], right + part[1]
    if len(seen.away):
        moved = surface.outline.linearised(state, fitter.identity, fitter.focal_px, fitter.centre_px, shared=False)
        spread_px = settings.mask_spread_m * fitter.focal_px / float(state.place[0, 2])
        weight_px = settings.outline_share / spread_px**2
        part = inside_equations(moved.of_frame[0], seen.away, seen.slope, spread_px, weight_px)
        matrix, right = matrix + part[0], right + part[1]
    return matrix, right
