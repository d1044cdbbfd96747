"""Untrained heads as subjects: as large, as many and as expensive to pose as trained ones, made in a moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from avatars.lighting.irradiance import environment_irradiance
from avatars.rgb_head.avatar import RgbHeadAvatar, load_rgb_head
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.scene import SceneInstance
from avatars.templates.opening import TemplateReference, embedded_template
from shared.types import Camera, Environment

APART_M, DISTANCE_M, ABOVE_HEAD_JOINT_M = 0.5, 1.1, 0.06
LIGHT_ROWS = 64


def person(gaussians: int, device: str) -> RgbHeadAvatar:
    """A head of the open template with `gaussians` coloured Gaussians and twenty blendshapes, in memory of its own."""
    return load_rgb_head(*_parts(gaussians), device)


@lru_cache(maxsize=2)
def _parts(gaussians: int) -> tuple[TemplateReference, Mapping[str, Any], Mapping[str, torch.Tensor]]:
    """What a stored avatar is read from; spreading Gaussians over a template takes seconds."""
    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, arrays.view, "man")
    model = new_head(reference, RgbHeadConfig(target_gaussians=gaussians, initial_opacity=0.7), seed=0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.colours.copy_(0.8 * torch.randn(model.colours.shape, generator=draw))
        model.seen.fill_(True)
    model.captured_irradiance = environment_irradiance(light(8))
    avatar = RgbHeadAvatar(model)
    return avatar.template(), avatar.description(), avatar.tensors()


def light(rows: int = LIGHT_ROWS) -> Environment:
    """A map of uneven light [rows, 2 rows, 3]."""
    return Environment(np.random.default_rng(0).uniform(0, 2, (rows, 2 * rows, 3)).astype(np.float32))


def crowd(gaussians: int, count: int, device: str) -> tuple[list[SceneInstance], RgbHeadAvatar]:
    """`count` avatars in rows, as wide as high, each with its own memory and turned its own way; and the first."""
    side, arrays = math.ceil(math.sqrt(count)), embedded_template("bust")
    found, avatars = [], [person(gaussians, device) for _ in range(count)]
    for index, avatar in enumerate(avatars):
        world_from_avatar = np.eye(4)
        across, up = index % side - (side - 1) / 2, index // side - (side - 1) / 2
        world_from_avatar[:3, 3] = (across * APART_M, 0, up * APART_M)
        pose = still(arrays)
        pose[0][0, arrays.joint_names.index("head"), 2] = 0.3 * math.sin(index)
        found.append(SceneInstance(avatar, world_from_avatar[None], *pose))
    return found, avatars[0]


def still(arrays: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E] of the template at rest."""
    joints, expressions = len(arrays.joint_names), len(arrays.expression_names)
    return np.zeros((1, joints, 3)), np.zeros((1, 3)), np.zeros((1, expressions))


def camera(avatar: RgbHeadAvatar, count: int, size_px: int) -> Camera:
    """A square picture with all of a crowd in it, from the front."""
    side = math.ceil(math.sqrt(count))
    head = avatar.model.head
    joint = head.joints[head.template.arrays.joint_names.index("head")].detach().cpu().numpy()
    world_from_camera = np.array([[1, 0, 0, 0], [0, 0, 1, -DISTANCE_M * side], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    world_from_camera[:3, 3] += joint + (0, 0, ABOVE_HEAD_JOINT_M)
    focal_px = size_px * DISTANCE_M / APART_M
    K = np.array([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]])
    return Camera(size_px, size_px, K, world_from_camera)
