"""The person can be posed again as it was rendered: what ships beside demo_body lies on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blender_addon.synthesise.settings import KNOWN
from blender_addon.synthesise.surface import nearest_index
from blender_addon.synthesise.true_surfaces import true_surfaces
from shared import template
from shared.errors import BadConfig

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "avatars/captures/data/demo_body/surfaces.npz"


def test_what_ships_is_what_was_rendered() -> None:
    arrays = template.load_template()
    settings = replace(KNOWN["demo_body"], strands=24)
    found = true_surfaces(settings, arrays, [5])
    assert found["hair"].shape == (1, 24 * 8, 3)
    with np.load(STORED) as file:
        moment = list(file["frames"]).index(5)
        stored = file["low"] + file["step_m"] * np.cumsum(file["vertices"][moment].astype(np.int64), -1).T
        first, second, third = file["faces"].astype(np.int64)
        first = np.cumsum(first)
        parts, names = file["part"], list(file["part_names"])
    rng = np.random.default_rng(0)
    for name in ("skin", "shirt", "trousers", "shoes"):
        own = np.unique(np.stack((first, first + second, first + third))[:, parts == names.index(name)])
        points = stored[rng.choice(own, 300, replace=False)]
        whole = found[f"{name}.vertices"][0].astype(np.float64)
        near = np.linalg.norm(points - whole[nearest_index(points, whole)], axis=1)
        assert np.median(near) < 0.003, f"{name}: {np.median(near)} m from the rendered vertices"
        assert found[f"{name}.faces"].max() < len(whole)
    with pytest.raises(BadConfig, match="no such frame"):
        true_surfaces(settings, arrays, [40])
    with pytest.raises(BadConfig, match="whole bodies"):
        true_surfaces(KNOWN["demo_head"], arrays, [0])
