"""MP4 files out of rendered pictures; the package imageio-ffmpeg, which brings ffmpeg, is optional."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadConfig, EnvironmentFailed


def check_video(path: Path) -> None:
    """Raises BadConfig for another kind of file than .mp4, EnvironmentFailed where the package is missing."""
    if path.suffix.lower() != ".mp4":
        raise BadConfig("--video writes MP4 only", found=path.name, expected="a name that ends in .mp4")
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise EnvironmentFailed(
            "The package imageio-ffmpeg is not installed, so no video can be written",
            do="Install it (pip install 'effigy[video]'), or render without --video",
        )


class VideoFile:
    """An MP4 (H.264) under its name only once it is whole. Pictures: [H, W, 3] uint8, all of one size."""

    def __init__(self, path: Path, fps: float) -> None:
        check_video(path)
        self.path, self.fps = path, fps
        self._beside = path.with_name(f".{path.stem}.part.mp4")
        self._writer: Generator[None, Any, None] | None = None

    def __enter__(self) -> VideoFile:
        return self

    def add(self, picture: NDArray[np.uint8]) -> None:
        """One more picture; odd sides get one more row or column (H.264 halves colour). Raises EnvironmentFailed."""
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._writer is None:
                import imageio_ffmpeg

                self.path.parent.mkdir(parents=True, exist_ok=True)
                size = (even.shape[1], even.shape[0])
                self._writer = imageio_ffmpeg.write_frames(
                    str(self._beside), size, fps=self.fps, quality=8, macro_block_size=2, ffmpeg_log_level="error"
                )
                self._writer.send(None)
            self._writer.send(np.ascontiguousarray(even).tobytes())
        except OSError as error:
            raise EnvironmentFailed("The video cannot be written", found=f"{self.path}: {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            if kind is None:
                self._beside.replace(self.path)
        if kind is not None:
            self._beside.unlink(missing_ok=True)


@contextlib.contextmanager
def video_or_none(path: Path | None, fps: float) -> Iterator[VideoFile | None]:
    """A video file where a path is given, else None."""
    if path is None:
        yield None
        return
    with VideoFile(path, fps) as file:
        yield file
