"""Pictures to be tracked: of a video file, or of a folder of numbered pictures; and the focal length they may tell."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.picture_files import open_picture
from shared.errors import BadCapture, BadConfig

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SMALLEST_PX = 96
FULL_FRAME_MM = 36.0
EXIF_IFD, EXIF_FOCAL_35 = 0x8769, 0xA405
PHONE_FOCAL = re.compile(r"focal.?length.?(?:in)?.?35\s*mm\w*\s*:\s*([\d.]+)", re.IGNORECASE)
FOLDER_FPS = 25.0
MAX_FOCAL_MM = 10_000.0
PROBE_S = 30.0


@dataclass(frozen=True)
class ClipSource:
    """A video file or a folder of pictures. step: only every so manieth picture. fps: of the pictures used; pictures:
    how many about there are; focal_35mm: the lens as the file tells it, in mm of a 36 mm wide picture, 0 unknown."""

    path: Path
    size_px: tuple[int, int]
    fps: float
    pictures: int
    step: int
    focal_35mm: float

    def identity(self) -> str:
        """Changes when the pictures do: names, sizes and times of the files, and the step."""
        files = [self.path] if self.path.is_file() else _files(self.path)
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(repr((facts, self.step)).encode()).hexdigest()

    def pictures_from(self, first: int = 0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(number in the video, RGB [H, W, 3]) of the pictures used, from the `first`-th of them on.

        Raises BadCapture where a picture cannot be read or has another size.
        """
        if self.path.is_file():
            yield from self._of_video(first)
            return
        for place, file in enumerate(_files(self.path)[:: self.step]):
            if place >= first:
                picture = read_picture(file)
                if (picture.shape[1], picture.shape[0]) != self.size_px:
                    raise BadCapture(
                        f"{file.name} has another size than the first picture",
                        found=f"{picture.shape[1]} x {picture.shape[0]} px",
                        expected=f"{self.size_px[0]} x {self.size_px[1]} px",
                    )
                yield place * self.step, picture

    def _of_video(self, first: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        from avatars.captures.video_pictures import VideoPictures

        video = VideoPictures(self.path, "rgb24")
        try:
            number = 0
            while (picture := video.next()) is not None:
                if number % self.step == 0 and number // self.step >= first:
                    yield number, picture
                number += 1
        finally:
            video.close()


def open_clip(path: Path, step: int = 1) -> ClipSource:
    """A video file or a folder of pictures. Raises BadCapture, BadConfig, EnvironmentFailed."""
    if step < 1:
        raise BadConfig("--step is too small", found=str(step), expected="at least 1")
    if path.is_dir():
        files = _files(path)
        if not files:
            raise BadCapture(
                f"there are no pictures in {path}", expected="numbered PNG, JPEG or WebP files, or a video"
            )
        first = read_picture(files[0])
        size, fps, count = (first.shape[1], first.shape[0]), FOLDER_FPS / step, len(files)
        focal = _exif_focal(files[0])
    else:
        from avatars.captures.video_pictures import VideoPictures

        video = VideoPictures(path, "rgb24")
        video.close()
        if video.fps <= 0:
            raise BadCapture(f"{path.name} does not say how many pictures a second it has")
        size, fps, count = video.size, video.fps / step, round(video.duration_s * video.fps)
        focal = _video_focal(path)
    if min(size) < SMALLEST_PX:
        raise BadCapture(
            f"the pictures of {path.name} are too small",
            found=f"{size[0]} x {size[1]} px",
            expected=f"at least {SMALLEST_PX} px",
        )
    return ClipSource(path, size, fps, -(-count // step), step, focal)


def read_picture(file: Path) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of a file, turned upright; what is transparent comes before grey. Raises BadCapture."""
    from PIL import Image, ImageOps

    with open_picture(file, f"the picture {file.name}", BadCapture) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image.convert("RGBA"))
        return np.asarray(image.convert("RGB"))


def _files(folder: Path) -> list[Path]:
    def order(path: Path) -> tuple[int, str]:
        digits = re.findall(r"\d+", path.stem)
        return (int(digits[-1]) if digits else -1, path.name)

    return sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES), key=order)


def _exif_focal(file: Path) -> float:
    """What the camera wrote, 0 where it is nothing sensible: a hint, for which no picture is refused."""
    try:
        with open_picture(file, file.name, BadCapture) as image:
            value = float(image.getexif().get_ifd(EXIF_IFD).get(EXIF_FOCAL_35, 0) or 0.0)
    except BadCapture:
        return 0.0
    return value if 0.0 < value < MAX_FOCAL_MM else 0.0


def _video_focal(path: Path) -> float:
    """What phones write into a video's description, as ffmpeg shows it; 0 where there is nothing."""
    import imageio_ffmpeg

    from avatars.captures.video_pictures import BOUNDED

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *BOUNDED, "-i", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=PROBE_S)
        found = PHONE_FOCAL.search(done.stderr.decode(errors="replace"))
        value = float(found.group(1)) if found else 0.0
    except (subprocess.TimeoutExpired, ValueError):
        return 0.0
    return value if value < MAX_FOCAL_MM else 0.0
