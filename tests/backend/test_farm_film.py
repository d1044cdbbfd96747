"""The film of a farm job: pictures of any format, in the order of frames, and what stands in its way."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from backend.farm.film import make_film, read_picture
from backend.farm.job import FarmJob, read_job, write_job
from backend.library import Library
from shared.errors import BadConfig, NotFound

ORANGE = (200, 120, 40)


def linear(value: int) -> float:
    return ((value / 255 + 0.055) / 1.055) ** 2.4


def job_of(pictures: list[Path], film: Path | str) -> FarmJob:
    frames = tuple(range(1, len(pictures) + 1))
    names = tuple(str(picture) for picture in pictures)
    return FarmJob("shot.blend", "Scene", "f_##", frames, names, {}, 2, "blender", "cpu", str(film), 24.0)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "exr", "layers.exr"])
def test_pictures_of_every_format_look_the_same(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{kind}"
    if kind.endswith("exr"):
        half = np.full((8, 12), 0.5, np.float32)  # cover; the colour is premultiplied
        before = "ViewLayer.Combined." if kind == "layers.exr" else ""
        channels = {f"{before}{name}": half * linear(value) for name, value in zip("RGB", ORANGE, strict=True)}
        channels |= {f"{before}A": half, "ViewLayer.Depth.Z": half}
        OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}, channels).write(str(path))
    elif kind == "jpg":
        Image.new("RGB", (12, 8), tuple(value // 2 for value in ORANGE)).save(path, quality=100)
    else:
        Image.new("RGBA", (12, 8), (*ORANGE, 128)).save(path)
    found = read_picture(path)
    assert (found.shape, found.dtype) == ((8, 12, 3), np.uint8)
    assert np.abs(found.astype(float) - np.array(ORANGE) / 2).max() <= 2


def test_a_film_has_all_frames_in_order_or_is_not_there(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{frame}.png" for frame in (9, 1, 5)]
    for level, path in zip((40, 120, 220), pictures, strict=True):
        Image.new("RGB", (32, 16), (level,) * 3).save(path)
    film = tmp_path / "films" / "shot.mp4"
    write_job(tmp_path / "job", job_of(pictures, film), Library(tmp_path))
    job = read_job(tmp_path / "job")
    assert job == job_of(pictures, film)
    assert make_film(job) == film
    frames = imageio_ffmpeg.read_frames(str(film))
    assert next(frames)["fps"] == 24
    levels = [np.frombuffer(frame, np.uint8).mean() for frame in frames]
    assert levels == pytest.approx([40, 120, 220], abs=6)
    film.unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:40])
    with pytest.raises(BadConfig, match="cannot be read"):
        make_film(job)
    pictures[1].unlink()
    with pytest.raises(NotFound, match="Frames are missing"):
        make_film(job)
    assert list(film.parent.iterdir()) == []
    with pytest.raises(BadConfig, match="makes no film"):
        make_film(job_of(pictures, ""))


def test_chunks_and_files_that_are_no_jobs(tmp_path: Path) -> None:
    job = job_of([tmp_path / f"{frame}.png" for frame in range(5)], "")
    assert job.tasks == 3
    assert [job.chunk(task) for task in (1, 2, 3)] == [(1, 2), (3, 4), (5,)]
    for task in (0, 4):
        with pytest.raises(BadConfig, match="no such task"):
            job.chunk(task)
    with pytest.raises(NotFound):
        read_job(tmp_path)
    for text in (
        "",
        "[]",
        '{"format": "effigy-farm-job", "version": 2}',
        '{"format": "effigy-farm-job", "version": 1}',
    ):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(BadConfig, match="cannot be read"):
            read_job(tmp_path)
