"""A small canonical body for tests, made once."""

from __future__ import annotations

from functools import lru_cache

import torch

from avatars.relit_field.body import CanonicalBody
from avatars.relit_field.settings import ArticulationSettings
from avatars.templates.opening import reference_of

SMALL = ArticulationSettings(volume=48, neighbours=12, smoothings=10, guide=20, guide_vertices=1200)


@lru_cache(maxsize=1)
def small_body() -> CanonicalBody:
    """The open woman in A pose."""
    return CanonicalBody(reference_of("effigy_human", preset="woman", view="body"), SMALL, 1.2, torch.device("cpu"))


def lively_pose(body: CanonicalBody) -> tuple[torch.Tensor, torch.Tensor]:
    """Bent knees and elbows, a turned trunk: rotations [J, 3], translation [3]."""
    names = body.template.arrays.joint_names
    rotations = body.rotations.clone()
    for name, vector in (
        ("pelvis", (0.1, 0.2, 0.9)),
        ("left_elbow", (0.0, 0.0, -0.9)),
        ("right_knee", (0.8, 0.0, 0.0)),
        ("right_hip", (-0.6, 0.1, 0.0)),
        ("spine2", (0.1, 0.0, 0.3)),
        ("head", (0.2, 0.0, 0.2)),
    ):
        rotations[names.index(name)] += torch.tensor(vector, device=rotations.device)
    return rotations, torch.tensor((0.3, -0.2, 0.1), device=rotations.device)
