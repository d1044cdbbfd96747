"""A head started as the paper starts one: a single grid, 0.8 mm, its driving vector, input as it is."""

from __future__ import annotations

import numpy as np
import torch

from avatars.gaussians.binding import bind_uv_grid
from avatars.rgb_head.driving import rgbavatar_layout
from avatars.rgb_head.initial import new_head
from avatars.training.config import load_config
from tests.tiny import bust_reference


def test_published_preset_starts_as_published() -> None:
    config = load_config("rgb_head_offline", {"model.tex_size": "64"}).model
    reference = bust_reference()
    arrays = reference.open()
    numbers = np.random.default_rng(0)
    rotations = numbers.normal(0, 0.1, (5, len(arrays.joint_names), 3)).astype(np.float32)
    expressions = numbers.random((5, len(arrays.expression_names)), np.float32)
    head = new_head(reference, config, seed=0, rotations=rotations, expressions=expressions)
    assert len(head) == len(bind_uv_grid(arrays, head.head.vertices.numpy(), 64))
    assert head.layout == rgbavatar_layout(arrays.joint_names, arrays.expression_names)
    torch.testing.assert_close(head.scales, torch.full_like(head.scales, float(np.log(8e-4))))
    torch.testing.assert_close(head.opacities, torch.zeros_like(head.opacities))
    assert not head.positions.any()
    theta = 10 * torch.randn(3, head.layout.size())
    raw = head.network(theta / 1)
    torch.testing.assert_close(head.weights(theta), raw)
    ours = new_head(
        reference,
        load_config("rgb_head_offline", {"model.tex_size": "64", "model.standardised": "true"}).model,
        seed=0,
        rotations=rotations,
        expressions=expressions,
    )
    assert not torch.allclose(ours.weights(theta), raw)
