"""The pictures of a video file, one after the other. Read by ffmpeg (package imageio-ffmpeg)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadCapture, EnvironmentFailed

WITH_ALPHA = ("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")
"""Beginnings of ffmpeg's names of pixel formats that hold alpha."""
MAX_PIXELS = 1 << 26
MAX_FPS, MAX_DURATION_S = 10_000.0, 7 * 86_400.0
CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "ogg", "asf", "flv", "ivf", "yuv4mpegpipe", "gif", "apng")
BOUNDED = (
    *("-protocol_whitelist", "file", "-format_whitelist", ",".join(CONTAINERS)),
    *("-max_pixels", str(MAX_PIXELS), "-max_streams", "64"),
)
"""Options before -i: containers that hold their pictures themselves (a play list would open other files and addresses
that it names), and pictures of a bounded size."""
_DAMAGE = (OSError, RuntimeError, StopIteration, ValueError, KeyError, IndexError, TypeError, AssertionError)
"""What imageio-ffmpeg raises where ffmpeg says something it does not expect."""


class VideoPictures:
    """Decoded pictures of one file in order. kind: "rgba" (4 channels), "rgb24" or "gray" (1). Raises BadCapture."""

    def __init__(self, path: Path, kind: str) -> None:
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise EnvironmentFailed(
                "Reading videos needs the package imageio-ffmpeg", do="Install it: pip install imageio-ffmpeg"
            ) from error
        self.path, self._channels = path, {"rgba": 4, "rgb24": 3}.get(kind, 1)
        if not path.is_file():
            raise BadCapture(f"there is no video {path}")
        # ffmpeg's own VP9 and VP8 decoders leave alpha out; libvpx does not.
        decoder = ["-c:v", "libvpx-vp9"] if path.suffix.lower() == ".webm" and kind == "rgba" else []
        self._stream: Generator[Any] = imageio_ffmpeg.read_frames(
            str(path.absolute()),  # a name that begins with a dash would be an option
            pix_fmt=kind,
            bits_per_pixel=8 * self._channels,
            input_params=[*BOUNDED, *decoder],
        )
        try:
            about = next(self._stream)
            self.size = int(about["size"][0]), int(about["size"][1])
            self.fps = float(about.get("fps") or 0.0)
            self.duration_s = float(about.get("duration") or 0.0)
            if not 0 < self.size[0] * self.size[1] <= MAX_PIXELS:
                raise ValueError(f"pictures of {self.size[0]} x {self.size[1]} px")
            if not (0 <= self.fps <= MAX_FPS and 0 <= self.duration_s <= MAX_DURATION_S):
                raise ValueError(f"{self.fps:g} pictures a second for {self.duration_s:g} s")
        except _DAMAGE as error:
            self.close()
            reason = (str(error).strip().splitlines() or ["no picture"])[-1]
            raise BadCapture(f"{path.name} is no video that ffmpeg can read", found=reason[:160]) from error
        self.pixel_format = str(about.get("pix_fmt", ""))
        self.has_alpha = self.pixel_format.startswith(WITH_ALPHA)

    def next(self) -> NDArray[np.uint8] | None:
        """The next picture [H, W, channels], or None after the last."""
        try:
            content = next(self._stream, None)
        except (OSError, RuntimeError, AssertionError):  # a file cut off in the middle: what came before it counts
            return None
        if content is None:
            return None
        return np.frombuffer(content, np.uint8).reshape(self.size[1], self.size[0], self._channels)

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()
