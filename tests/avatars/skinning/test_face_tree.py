"""The nearest places on a mesh are those of brute force."""

from __future__ import annotations

import numpy as np
import pytest

from avatars.skinning.face_tree import FaceTree
from shared.errors import EffigyError
from tests.avatars.skinning.nearest_plainly import barycentrics_of_nearest


def test_nearest_places_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(37, 3, 3))
    points = rng.normal(size=(200, 3)) * 1.5
    face, shares, distance = FaceTree(corners.reshape(-1, 3), np.arange(111).reshape(-1, 3)).nearest(points)
    weights = barycentrics_of_nearest(points[:, None], corners[None].repeat(200, 0))
    gap = np.linalg.norm((weights[..., None] * corners).sum(2) - points[:, None], axis=-1)
    assert np.allclose(distance, gap.min(1), atol=1e-12)
    places = (shares[..., None] * corners[face]).sum(1)
    assert np.allclose(np.linalg.norm(places - points, axis=1), distance, atol=1e-12)


def test_a_mesh_without_faces_is_refused() -> None:
    with pytest.raises(EffigyError, match="no mesh"):
        FaceTree(np.zeros((3, 3)), np.zeros((0, 3), int))
