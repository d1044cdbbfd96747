"""A guess for the outside that no training image shows, so that a head seen from behind has a back.

Captures of heads look from the front and the sides. What they never show carries no colour and would be a hole. For the
parts that hardly change with expression (hair, scalp, neck, clothes) the nearest Gaussians that were seen say what it
probably looks like. Faces, eyes and mouths are never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avatars.gaussians.binding import anchors
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.seen_colours import seen_colours
from avatars.rgb_head.first_look import MIN_WEIGHT, OPAQUE, layers_of
from avatars.rgb_head.model import ATTRIBUTES, DELTAS, RgbHead
from avatars.training.data import Pictures
from shared.types import Camera

GUESSED = {
    "skin/scalp": ("skin/scalp", "skin/hair1", "skin/hair2", "skin/hair3"),
    "skin/hair1": ("skin/scalp", "skin/hair1", "skin/hair2", "skin/hair3"),
    "skin/hair2": ("skin/hair1", "skin/hair2", "skin/hair3"),
    "skin/hair3": ("skin/hair1", "skin/hair2", "skin/hair3"),
    "skin/body": ("skin/body",),
    "tights": ("tights",),
}
"""Patch -> the patches whose colours it may take. Hair hides the scalp, so both take what is seen there."""
COVERING = ("skin/scalp", "skin/hair1", "skin/body", "tights")
"""Patches that must not be seen through, whatever their neighbours do."""
LITTLE_SEEN, AT_PX = 0.02, 128
"""Mean blending weight a picture of 128 px (it grows with the area) below which a Gaussian's colour is not trusted."""
VISIBLE, COVERED = 0.3, 0.9
NEIGHBOURS = 8
LOOK_PX, LOOK_YAWS, LOOK_PITCHES_RAD = 160, 12, (-0.2, 0.5)
LOOK_DISTANCE_M, LOOK_VIEW_M = 2.0, 0.8
CHUNK, CARVINGS, CARVED_SHARE, FAINTEST = 512, 3, 0.1, 0.005


@dataclass(frozen=True, eq=False)
class Beginning:
    """A head before anything was left out, which of its rows [n] became the trained head's, and its first look [N]."""

    whole: RgbHead
    rows: Tensor
    looked: Tensor


def filled(trained: RgbHead, theta: Tensor, vertices: Tensor, pictures: Pictures, beginning: Beginning) -> RgbHead:
    """`trained` with its unseen outside guessed.

    theta [T, size] and vertices [T, V, 3] m of all frames; pictures: those of the first look.
    """
    source = filled_in_place(trained, theta, vertices, pictures, beginning)
    return source.kept(source.seen)


def filled_in_place(
    trained: RgbHead, theta: Tensor, vertices: Tensor, pictures: Pictures, beginning: Beginning
) -> RgbHead:
    """As `filled`, but with every row of the beginning still there: `seen` says which are shown."""
    names = beginning.whole.binding.group_names
    source = _in_place(trained, beginning)
    group = source.binding.group
    little = LITTLE_SEEN * len(pictures) * (max(pictures.rgba.shape[1:3]) / AT_PX) ** 2
    support = torch.zeros(len(source), device=group.device)
    support[beginning.rows] = _weights(trained, theta, vertices, pictures, everywhere=False)
    rest = torch.from_numpy(source.rest_pose).to(vertices)[None]
    still = vertices.new_zeros(1, len(source.head.template.arrays.expression_names))
    posed_rest = source.head.posed_vertices(rest, vertices.new_zeros(1, 3), still)
    with torch.no_grad():
        points = anchors(source.binding, posed_rest, source.frame).points[0]
        trained_rows = source.seen.clone()
        trusted = source.seen & (support >= little)
        # Where the pictures did look, what is not seen is not there: only what they never faced is missing.
        looked = _looked_below(source, points, beginning.looked)
        missing = _outside(source, posed_rest) & (support < little) & (looked < little)
        guessed = torch.zeros_like(missing)
        for index, name in enumerate(names):
            donors = [names.index(donor) for donor in GUESSED.get(name, ()) if donor in names]
            if not donors:
                continue
            rows = torch.nonzero(missing & (group == index))[:, 0]
            from_patches = torch.isin(group, torch.tensor(donors, device=group.device))
            visible = torch.sigmoid(source.opacities) > VISIBLE
            coloured = torch.nonzero(trusted & from_patches & visible)[:, 0]
            alike = torch.nonzero(trusted & (group == index))[:, 0]
            if len(rows) and len(coloured) >= NEIGHBOURS:
                _guess(source, points, rows, coloured, alike, covering=name in COVERING)
                guessed[rows] = True
        for _ in range(CARVINGS):
            # A guess that any picture would show is wrong: the pictures show what is there, and where nothing is.
            source.seen[:] = trained_rows | guessed
            wrong = guessed & (_weights(source, theta, vertices, pictures, everywhere=True) > CARVED_SHARE * little)
            _copy_rows(_in_place(trained, beginning), source, wrong)
            guessed &= ~wrong
        source.seen[:] = trained_rows | guessed
    return source


def _copy_rows(origin: RgbHead, target: RgbHead, rows: Tensor) -> None:
    """Copy the values of the Gaussians where `rows` [N] is true."""
    for name in ATTRIBUTES:
        getattr(target, name)[rows] = getattr(origin, name)[rows]
    for name in DELTAS:
        getattr(target, name)[:, rows] = getattr(origin, name)[:, rows]


def _in_place(trained: RgbHead, beginning: Beginning) -> RgbHead:
    """A copy of the beginning with the trained values in their rows."""
    rows = beginning.rows
    source = beginning.whole.kept(torch.ones(len(beginning.whole), dtype=torch.bool, device=rows.device))
    source.driving_range = trained.driving_range
    with torch.no_grad():
        for name in ATTRIBUTES:
            getattr(source, name)[rows] = getattr(trained, name)
        for name in DELTAS:
            getattr(source, name)[:, rows] = getattr(trained, name)
        source.network.load_state_dict(trained.network.state_dict())
        source.seen.fill_(False)
        source.seen[rows] = trained.seen
    return source


def _looked_below(source: RgbHead, points: Tensor, looked: Tensor) -> Tensor:
    """[N] the first look's weights, where layers take the mean of the scalp nearest below them."""
    layers, names = layers_of(source), source.binding.group_names
    rows = torch.nonzero(layers)[:, 0]
    scalp = [index for index, name in enumerate(names) if name.endswith("/scalp")]
    below = torch.nonzero(torch.isin(source.binding.group, torch.tensor(scalp, device=points.device)))[:, 0]
    looked = looked.clone()
    if len(below) < NEIGHBOURS:
        return looked
    for chunk in rows.split(CHUNK):
        near = torch.cdist(points[chunk], points[below]).topk(NEIGHBOURS, largest=False).indices
        looked[chunk] = looked[below[near]].mean(1)
    return looked


def _weights(model: RgbHead, theta: Tensor, vertices: Tensor, pictures: Pictures, *, everywhere: bool) -> Tensor:
    """[N] sum of each Gaussian's blending weights over the pictures, where they show the person or everywhere."""
    total = torch.zeros(len(model), device=vertices.device)
    with torch.no_grad():
        for row in range(len(pictures)):
            batch = pictures.batch(torch.tensor([row]), torch.zeros(1, 3))
            surface = model.surface(vertices[batch.frames])
            posed = model.place(surface, model.weights(theta[batch.frames]), hide_unseen=True)
            colours, alpha = batch.straight()
            mask = torch.ones_like(alpha) if everywhere else alpha
            total += seen_colours(posed, batch.cameras, colours, mask, min_weight=FAINTEST)[1]
    return total


def _outside(source: RgbHead, vertices: Tensor) -> Tensor:
    """[N] bool: what some camera around the head can show of its surface [1, V, 3] m; layers always count."""
    above = layers_of(source)
    posed = source.place(source.surface(vertices), None, hide_unseen=False)
    spread = source.binding.extent_m.clamp(2e-4, 0.02) * 0.6
    scales = torch.cat((spread, 0.3 * spread.min(1, keepdim=True).values), 1)[None]
    posed = replace(posed, opacities=torch.where(above, 0.0, OPAQUE)[None], scales=scales)
    total = torch.zeros(len(source), device=vertices.device)
    picture = vertices.new_ones(1, LOOK_PX, LOOK_PX, 3)
    target = vertices[0, source.binding.triangles.flatten()].mean(0).double().cpu().numpy()
    for yaw in np.arange(LOOK_YAWS) * (2 * np.pi / LOOK_YAWS):
        for pitch in LOOK_PITCHES_RAD:
            cameras = CameraBatch.from_cameras([_camera_around(target, yaw, pitch)], vertices.device)
            total += seen_colours(posed, cameras, picture, picture[..., 0], min_weight=MIN_WEIGHT)[1]
    return above | (total > MIN_WEIGHT)


def _camera_around(target: np.ndarray, yaw: float, pitch: float) -> Camera:
    arm = np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(-arm, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(-arm, right), -arm), 1)
    pose[:3, 3] = target + LOOK_DISTANCE_M * arm
    focal = LOOK_PX * LOOK_DISTANCE_M / LOOK_VIEW_M
    K = np.array([[focal, 0, LOOK_PX / 2], [0, focal, LOOK_PX / 2], [0, 0, 1]])
    return Camera(LOOK_PX, LOOK_PX, K, pose)


def _guess(source: RgbHead, points: Tensor, rows: Tensor, coloured: Tensor, alike: Tensor, *, covering: bool) -> None:
    """Give `rows` the colour of `coloured` and the opacity and place of those `alike`, the nearest counting most."""
    for chunk in rows.split(CHUNK):
        source.colours[chunk] = _nearness(points, chunk, coloured) @ source.colours[coloured]
        opacity = torch.full((len(chunk),), COVERED if covering else 0.0, device=points.device)
        if len(alike) >= NEIGHBOURS:
            share = _nearness(points, chunk, alike)
            opacity = torch.maximum(opacity, share @ torch.sigmoid(source.opacities[alike]))
            source.positions[chunk] = share @ source.positions[alike]
        source.opacities[chunk] = torch.logit(opacity.clamp(1e-3, 0.999))
        for name in DELTAS:
            getattr(source, name)[:, chunk] = 0
        spread = source.binding.extent_m[chunk].clamp(2e-4, 0.02) * 0.6
        source.scales[chunk] = torch.cat((spread, 0.3 * spread.min(1, keepdim=True).values), 1).log()
        source.rotations[chunk] = source.rotations.new_tensor([1.0, 0, 0, 0])


def _nearness(points: Tensor, rows: Tensor, among: Tensor) -> Tensor:
    """[R, M] weights summing to 1, falling with the fourth power of the distance (Shepard), so that sides blend."""
    distances = torch.cdist(points[rows], points[among]).clamp_min(1e-3)
    weights = (distances / distances.min(1, keepdim=True).values) ** -4.0
    return weights / weights.sum(1, keepdim=True)
