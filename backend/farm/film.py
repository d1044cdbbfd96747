"""The film of a job's pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.cli_render import flattened, straight_srgb
from backend.farm.job import FarmJob
from backend.video import VideoFile
from shared.errors import BadConfig, NotFound


def make_film(job: FarmJob, *, progress: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """Join the pictures, in order of their frames, into the job's .mp4. Raises EffigyError."""
    if not job.film:
        raise BadConfig("The job makes no film", do="Make it with --film FILE.mp4")
    missing = [str(n) for n, name in zip(job.frames, job.pictures, strict=True) if not Path(name).is_file()]
    if missing:
        raise NotFound("Frames are missing", found=", ".join(missing[:20]), do="Send the job again: it renders those")
    with VideoFile(Path(job.film), job.fps) as film:
        for index, name in enumerate(job.pictures):
            film.add(read_picture(Path(name)))
            progress(index + 1, len(job.pictures))
    return Path(job.film)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """[H, W, 3] display-encoded over black, of a picture Blender wrote. Raises BadConfig."""
    try:
        if path.suffix.lower() == ".exr":
            return flattened(straight_srgb(_exr(path)), white=False)
        from PIL import Image

        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "TIFF", "BMP", "TGA")) as picture:
            return flattened(np.asarray(picture.convert("RGBA")), white=False)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise BadConfig(
            "A picture cannot be read", found=f"{path}: {error}", do="Render it again (--missing)"
        ) from error


def _exr(path: Path) -> NDArray[Any]:
    """[H, W, 4] premultiplied linear: the plain colour, or a multilayer file's first combined pass."""
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    first = next(
        (
            n
            for n in ("", *sorted(name[:-1] for name in channels if name.endswith("Combined.R")))
            if f"{n}R" in channels
        ),
        None,
    )
    if first is None:
        raise ValueError("it has no colour")
    red = channels[f"{first}R"]
    planes = [red, channels[f"{first}G"], channels[f"{first}B"], channels.get(f"{first}A", np.ones_like(red))]
    return np.stack(planes, -1).astype(np.float32)
