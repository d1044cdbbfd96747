"""Beginning a relightable head with a trained RGB head: its places as they are, its colours divided by their light."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.objective import HeadObjective
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.training.config import TrainConfig
from shared.errors import BadConfig


def trained_before(
    folder: str, config: TrainConfig, capture: Capture, device: str, called: str = "relit_head.start_from"
) -> RgbHeadTrainer:
    """A trainer of the RGB head stored in `folder` (NAME.avatar), on this capture. Raises BadConfig, BadAvatar.

    What its training left out or guessed stays so: nothing is looked for again, and no Gaussian waits for a colour.
    called: what the user knows it by.
    """
    avatar = load_avatar(Path(folder).expanduser(), device)
    if not isinstance(avatar, RgbHeadAvatar):
        raise BadConfig(f"{called} is no RGB head", found=f"method {avatar.method!r}", expected="an avatar of rgb_head")
    ours, theirs = capture.template, avatar.template()
    if ours != theirs:
        raise BadConfig(
            f"{called} is another person, or on another template",
            found=f"{theirs.template_id} {theirs.preset}",
            expected=f"{ours.template_id} {ours.preset}, as capture {capture.name!r} has it",
        )
    few = replace(config.model, first_look_px=0, target_gaussians=64)
    base = RgbHeadTrainer(replace(config, model=few), capture, device, record=False)
    model = avatar.model.requires_grad_(True)
    motion = capture.motion
    drive = [
        torch.from_numpy(np.array(values)).to(base.device)
        for values in (motion.rotations, motion.translations, motion.expressions)
    ]
    with torch.no_grad():
        model.seen.fill_(True)
        base.theta = model.theta(*drive)
    base.model = model
    base.objective = HeadObjective(config, model)
    base.objective.colours_settled = True
    return base


def spread_frames(frames: Tensor, most: int) -> Tensor:
    """Up to `most` of frames [T], evenly."""
    rows = torch.linspace(0, len(frames) - 1, min(most, len(frames))).round().long()
    return frames[rows.to(frames.device)].unique()
