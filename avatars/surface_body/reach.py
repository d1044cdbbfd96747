"""Whether the person of a recording is where a signed-distance body can reach: near the posed template."""

from __future__ import annotations

import logging

import numpy as np
import torch

from avatars.captures.capture import Capture
from avatars.rendering.cameras import CameraBatch
from avatars.surface_body.march import rays_through, spans
from avatars.surface_body.volume_stage import VolumeStage
from shared.errors import BadCapture

log = logging.getLogger(__name__)
PICTURES, PIXELS, SIZE_PX = 6, 1500, 192
REFUSED, TOLD = 0.3, 0.05
"""Shares of the masks beyond the shell from which on a recording is refused, or the loss is told."""


def check_reach(capture: Capture, stage: VolumeStage) -> float:
    """The share of the masks of some training pictures that lies outside the shell around the posed template, where no
    surface can be made. Much is told in the log; raises BadCapture where it is most of a person."""
    shell_m, outside, seen = stage.model.shell_m, 0, 0
    trained = capture.split("train")
    for index in trained[:: max(1, len(trained) // PICTURES)][:PICTURES]:
        size = capture.train_size(SIZE_PX)
        rows, columns = np.nonzero(capture.rgba(index, size)[..., 3] > 127)
        some = slice(None, None, max(1, len(rows) // PIXELS))
        pixels = torch.from_numpy(np.stack((columns[some], rows[some]), 1) + 0.5).float().to(stage.model.device)
        if not len(pixels):
            continue
        frames = torch.tensor([capture.images[index].frame], device=stage.model.device)
        with torch.no_grad():
            posed = stage.posed(frames, corrected=False)
            cameras = CameraBatch.from_cameras([capture.camera_of(index, size)], stage.model.device)
            probes = stage.config.surface.sampling.probes
            found = spans(rays_through(cameras, pixels[None]), posed, probes, shell_m)
        outside += int((found.length_m <= 0).sum())
        seen += len(pixels)
    share = outside / max(seen, 1)
    told = f"{100 * share:.0f} % of the masks lie more than {100 * shell_m:.0f} cm beside the posed template"
    if share > REFUSED or not seen:
        raise BadCapture(
            f"the person of {capture.name} leaves the box in which a surface can be made",
            found=told if seen else "masks without a person",
            expected=f"at most {100 * REFUSED:.0f} %",
            do="Look at 'effigy capture check' whether poses, cameras and masks fit; for wide clothes raise "
            "surface.sampling.shell_m, surface.fields.delta_max_m and surface.star.margin_m",
        )
    if share > TOLD:
        log.warning("%s: nothing is made there; raise surface.sampling.shell_m for wide clothes", told)
    return share
