"""Regions and maps of real avatars' surfaces: where they are, that they are a partition, that they stick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.templates.opening import embedded_template
from avatars.text_edit.maps import surface_maps
from avatars.text_edit.surface import REGIONS, Surface, face_of, gaussian_regions, lip_weights, vertex_regions

BUST = embedded_template("bust")
SKIN, HAIR, SHIRT = (0.80, 0.60, 0.50), (0.15, 0.10, 0.08), (0.20, 0.30, 0.60)


def painted_bust() -> tuple[PosedGaussians, np.ndarray, np.ndarray]:
    """A Gaussian on each vertex of the skin: dark on the scalp, blue on the shoulders, else skin."""
    vertices = BUST.vertices[BUST.group_vertices("skin")][::2].astype(np.float64)
    face = face_of(BUST, BUST.vertices.astype(np.float64))
    assert face is not None
    at = (vertices - face.eyes) / face.half_eyes_m
    hair = (at[:, 2] > 2.6) | ((at[:, 1] > 3) & (at[:, 2] > -1))
    shirt = at[:, 2] < -7.5
    colours = np.where(hair[:, None], HAIR, np.where(shirt[:, None], SHIRT, SKIN))
    count = len(vertices)
    quats = torch.zeros(1, count, 4)
    quats[..., 0] = 1
    up = torch.nn.functional.normalize(torch.from_numpy(vertices - vertices.mean(0)).float(), dim=-1)
    posed = PosedGaussians(
        torch.from_numpy(vertices).float()[None],
        quats,
        torch.full((1, count, 3), 0.006),
        torch.full((1, count), 0.95),
        torch.from_numpy(colours).float()[None],
        up[None],
    )
    return posed, hair, shirt


def test_vertex_regions_are_a_partition_and_lips_are_at_the_mouth() -> None:
    weights, on_head = vertex_regions(BUST)
    assert weights.shape == (len(BUST.vertices), len(REGIONS))
    assert np.allclose(weights.sum(1), 1)
    assert weights.min() >= 0
    eyes = BUST.group_vertices("eye_l", "eye_r")
    assert (weights[eyes, REGIONS.index("eyes")] > 0.9).all()
    assert on_head[eyes].all()
    lips, teeth = BUST.vertices[lip_weights(BUST) > 0.5], BUST.vertices[BUST.group_vertices("teeth")]
    assert len(lips) > 20
    assert np.abs(lips.mean(0) - teeth.mean(0))[[0, 2]].max() < 0.01
    assert np.ptp(lips[:, 2]) < 0.03
    assert 0.03 < np.ptp(lips[:, 0]) < 0.07


def test_hair_and_clothes_are_found_by_place_and_colour_and_maps_show_them() -> None:
    posed, hair, shirt = painted_bust()
    vertices = BUST.vertices.astype(np.float64)
    face = face_of(BUST, vertices)
    weights = gaussian_regions(BUST, vertices, posed, face)
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert weights[hair, REGIONS.index("hair")].mean() > 0.8
    assert weights[shirt, REGIONS.index("clothes")].mean() > 0.8
    plain = ~hair & ~shirt
    assert weights[plain, REGIONS.index("hair")].mean() < 0.08
    assert weights[plain, REGIONS.index("clothes")].mean() < 0.2
    assert posed.normals is not None
    surface = Surface(posed.means[0], posed.normals[0], torch.from_numpy(weights).float(), face)
    K = torch.tensor([[[75.0, 0, 32], [0, 75.0, 32], [0, 0, 1]]])
    front = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0.85], [0, 1, 0, 0.9], [0, 0, 0, 1]])[None]
    maps = surface_maps(posed, CameraBatch(K, front, 64, 64), surface)
    shown = maps.alpha[..., 0] > 0.5
    assert torch.allclose(maps.weights.sum(-1)[shown], torch.ones(()), atol=1e-4)
    assert {REGIONS[index] for index in maps.region[shown].unique().tolist()} >= {"skin", "hair", "clothes"}
    assert (maps.region[~shown] == -1).all()
    seen = maps.rest_position[shown]
    assert float(seen[:, 1].max()) < 0.05  # the front of the person
    moved = replace(posed, means=posed.means + torch.tensor([0.0, 0.0, 0.01]))
    shifted = surface_maps(moved, CameraBatch(K, front, 64, 64), surface)
    both = shown & (shifted.alpha[..., 0] > 0.5)
    risen = (maps.rest_position - shifted.rest_position)[both]
    assert float(risen[:, 2].median()) == pytest.approx(0.01, abs=0.003)


def test_gaussians_of_one_colour_leave_hair_to_the_scalp_and_no_clothes() -> None:
    posed, _, _ = painted_bust()
    grey = replace(posed, colours=torch.full_like(posed.colours, 0.5))
    vertices = BUST.vertices.astype(np.float64)
    weights = gaussian_regions(BUST, vertices, grey, face_of(BUST, vertices))
    assert np.isfinite(weights).all()
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert weights[:, REGIONS.index("hair")].max() > 0.5
    unseen = replace(posed, opacities=torch.zeros_like(posed.opacities))
    assert np.isfinite(gaussian_regions(BUST, vertices, unseen, None)).all()
