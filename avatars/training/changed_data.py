"""A capture as a run wants it: with an earlier run's refined parameters, or with errors like a tracker's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from avatars.captures.capture import Capture
from avatars.captures.tracking_noise import with_tracking_noise
from avatars.motion_file import write_motion_file
from avatars.training.refine import TrackRefinement
from avatars.training.refine_settings import DataConfig
from shared.errors import BadConfig
from shared.npz import read_npz
from shared.types import Motion

REFINED = "refined.npz"
MOST_BYTES = 1 << 28


def as_wanted(capture: Capture, data: DataConfig) -> Capture:
    """The capture with the changes of `data`. Raises BadConfig."""
    if data.parameters:
        capture = with_parameters(capture, Path(data.parameters).expanduser())
    if data.tracking_noise > 0:
        capture = with_tracking_noise(capture, data.tracking_noise, data.noise_seed)
    return capture


def write_refined(path: Path, capture: Capture, track: TrackRefinement) -> Path:
    """The refined motion (a motion that `effigy render --motion` plays) and lenses, as an .npz at `path`."""
    motion, factor = track.refined(capture.motion), float(track.factor().detach())
    K = np.stack([camera.K for camera in capture.cameras])
    K[:, (0, 1), (0, 1)] *= factor
    write_motion_file(path, motion, capture.joint_names, capture.expression_names, K=K)
    return path


def with_parameters(capture: Capture, path: Path) -> Capture:
    """The capture with the motion and lenses of a refined.npz of the same capture. Raises BadConfig."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadConfig(f"data.parameters: {path.name} is too large", expected=f"at most {MOST_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise BadConfig(f"data.parameters: {path} cannot be read", found=error.strerror or str(error)) from error
    arrays = read_npz(content, path.name, BadConfig)
    motion = capture.motion
    wanted = {
        "rotations": motion.rotations.shape,
        "translations": motion.translations.shape,
        "expressions": motion.expressions.shape,
        "K": (len(capture.cameras), 3, 3),
    }
    for name, shape in wanted.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
            raise BadConfig(
                f"data.parameters: {path.name} was not refined from capture {capture.name!r}",
                found=f"{name} {'missing' if found is None else list(found.shape)}",
                expected=str(list(shape)),
            )
    parts = [np.asarray(arrays[name], np.float32) for name in ("rotations", "translations", "expressions")]
    lenses = zip(capture.cameras, np.asarray(arrays["K"], np.float64), strict=True)
    cameras = tuple(replace(camera, K=K) for camera, K in lenses)
    return replace(capture, motion=Motion(*parts, motion.fps), cameras=cameras)
