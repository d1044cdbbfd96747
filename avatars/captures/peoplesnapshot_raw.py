"""PeopleSnapshot as its authors hand it out, and its conversion to the layout training reads.

    camera.pkl                camera_f [2], camera_c [2], camera_k [5], width, height: a pickle, read as data only
    masks.hdf5                masks [N, H, W]
    reconstructed_poses.hdf5  pose [N, 72], trans [N, 3], betas [10]
    SUBJECT.mp4               N frames (or images/ already taken out of it)

Lens distortion (camera_k) is taken out of pictures and masks, so that what is written has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.images import image_size
from avatars.captures.pairing import numbered_files
from avatars.captures.video_pictures import VideoPictures
from avatars.files import write_folder_atomically
from avatars.picture_files import open_picture
from avatars.templates.restricted_pickle import read_pickle
from shared.errors import BadCapture, Cancelled

CAMERA, MASKS, POSES = "camera.pkl", "masks.hdf5", "reconstructed_poses.hdf5"
MAX_CAMERA_BYTES, MAX_FRAMES, MAX_PIXELS = 16 << 20, 20000, 1 << 26
MAX_CHUNK_BYTES = 256 << 20
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError)
"""What h5py raises for a file that is none."""
VIDEOS, PICTURES = (".mp4", ".avi", ".mov"), (".png", ".jpg", ".jpeg")


def is_raw_peoplesnapshot(folder: Path) -> bool:
    """Whether a folder is a subject as downloaded."""
    return (folder / CAMERA).is_file() and (folder / POSES).is_file()


def refuse_raw(folder: Path) -> Capture:
    """Raises BadCapture with the command that converts it: there are no pictures to train on yet."""
    raise BadCapture(
        f"{folder.name} is a PeopleSnapshot subject as downloaded",
        found="a video and masks.hdf5",
        do=f"Convert it once: effigy capture convert {folder.name} --output FOLDER",
    )


def convert(
    folder: Path,
    output: Path,
    *,
    step: int = 1,
    tell: Callable[[int, int], None] = lambda done, of: None,
    wanted: Callable[[], bool] = lambda: True,
) -> int:
    """Write the pre-processed layout of a raw subject into `output`, whole or not at all; returns how many frames.

    step: every so manieth frame. tell: frames done and how many there are. wanted: asked between frames, False stops
    with Cancelled. Raises BadCapture, EnvironmentFailed.
    """
    if step < 1:
        raise BadCapture("a step of frames must be at least 1", found=str(step))
    K, distortion, size = read_raw_camera(folder / CAMERA)
    poses = datasets(folder / POSES, {"pose": (None, 72), "trans": (None, 3), "betas": (None,)})
    count = len(poses["pose"])
    if len(poses["trans"]) != count:
        raise BadCapture(f"{POSES} of {folder.name} has unequal counts", found=f"{count} and {len(poses['trans'])}")
    frames = list(range(0, count, step))
    lens = Undistortion(K, distortion, size) if np.abs(distortion).max(initial=0) > 1e-9 else None

    def fill(target: Path) -> None:
        for name in ("images", "masks"):
            (target / name).mkdir()
        done = 0
        with MaskFile(folder / MASKS, size) as masks:
            for frame, picture in enumerate(_pictures(folder, size)):
                if frame >= min(count, len(masks)):
                    break
                if frame % step:
                    continue
                if not wanted():
                    raise Cancelled("Conversion stopped; nothing was written")
                mask = masks[frame]
                if lens is not None:
                    mask = lens(mask[..., None])[..., 0]
                seen = picture if lens is None else lens(picture)
                Image.fromarray(seen).save(target / "images" / f"image_{frame:04d}.png")
                np.save(target / "masks" / f"mask_{frame:04d}.npy", (mask > 127).astype(np.uint8))
                done += 1
                tell(done, len(frames))
        if done < len(frames):
            raise BadCapture(
                f"the video of {folder.name} is shorter than its poses",
                found=f"{done} pictures or masks for {len(frames)} poses",
                do="Copy the folder again",
            )
        np.savez(target / "cameras.npz", intrinsic=K, extrinsic=np.eye(4), height=size[1], width=size[0])
        np.savez(
            target / "poses.npz",
            betas=poses["betas"][None].astype(np.float32),
            thetas=poses["pose"][::step].astype(np.float32),
            transl=poses["trans"][::step].astype(np.float32),
        )

    write_folder_atomically(output, fill)
    return len(frames)


def read_raw_camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """K [3, 3] px, distortion [5] (k1, k2, p1, p2, k3), (width, height) px. Raises BadCapture."""
    content = read_pickle(path, f"{path.parent.name}/{path.name}", BadCapture, max_bytes=MAX_CAMERA_BYTES)
    if not isinstance(content, dict):
        raise BadCapture(f"{path.name} is no camera", found=type(content).__name__)
    try:
        focal, centre = (np.asarray(content[name], np.float64).reshape(2) for name in ("camera_f", "camera_c"))
        distortion = np.zeros(5)
        given = np.asarray(content.get("camera_k", np.zeros(5)), np.float64).reshape(-1)[:5]
        distortion[: len(given)] = given
        size = int(content["width"]), int(content["height"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadCapture(
            f"{path.name} is no camera of PeopleSnapshot",
            found=str(error),
            expected="camera_f, camera_c, width, height",
        ) from error
    numbers = np.concatenate((focal, centre, distortion))
    if not np.isfinite(numbers).all() or focal.min() <= 0 or not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise BadCapture(f"{path.name} has impossible numbers", found=f"focal {focal.tolist()}, size {size}")
    return np.array(((focal[0], 0, centre[0]), (0, focal[1], centre[1]), (0, 0, 1.0))), distortion, size


def datasets(path: Path, shapes: dict[str, tuple[int | None, ...]]) -> dict[str, NDArray[np.float64]]:
    """Arrays of numbers from an HDF5 file, every shape checked before it is read. Raises BadCapture."""
    with _hdf5(path) as file:
        return {name: _dataset(file, name, shape, path) for name, shape in shapes.items()}


def plain_dataset(file: Any, name: str, path: Path) -> Any:
    """A dataset that lies in the file itself: nothing linked in from elsewhere is followed. Raises BadCapture."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise BadCapture(f"{path.name} lacks the array {name!r}", found=", ".join(list(file)[:8]) or "nothing")
    found = file[name]
    if found.external or found.is_virtual or found.dtype.kind not in "fiub" or not found.shape:
        raise BadCapture(f"{name} of {path.name} is no plain array of numbers", found=str(found.dtype))
    if found.chunks and math.prod(found.chunks) * found.dtype.itemsize > MAX_CHUNK_BYTES:  # unpacked whole
        raise BadCapture(f"{name} of {path.name} is packed in pieces that are too large", found=str(found.chunks))
    return found


def _dataset(file: Any, name: str, shape: tuple[int | None, ...], path: Path) -> NDArray[np.float64]:
    found = plain_dataset(file, name, path)
    fits = len(found.shape) == len(shape) and all(want in (None, got) for want, got in zip(shape, found.shape))
    if not fits or found.shape[0] > MAX_FRAMES:
        raise BadCapture(
            f"{name} of {path.name} has the wrong shape", found=str(list(found.shape)), expected=str(shape)
        )
    values = np.asarray(found[()], np.float64)
    if not np.isfinite(values).all():
        raise BadCapture(f"{name} of {path.name} holds values that are not finite")
    return values


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, open; what its library raises while it is read becomes a sentence. Raises BadCapture."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except _DAMAGE as error:
        raise BadCapture(f"{path.name} is no intact HDF5 file", found=str(error)[:120]) from error


class MaskFile:
    """The masks [H, W] uint8 (0 or 255) of masks.hdf5, read one at a time. Use as a context. Raises BadCapture."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._open = ExitStack()
        self.path = path
        with self._open:
            self.masks = plain_dataset(self._open.enter_context(_hdf5(path)), "masks", path)
            if self.masks.shape[1:] != size[::-1]:
                raise BadCapture(
                    f"masks of {path.name} have the wrong size",
                    found=str(list(self.masks.shape)),
                    expected=str(size[::-1]),
                )
            self._open = self._open.pop_all()

    def __enter__(self) -> MaskFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __len__(self) -> int:
        return int(self.masks.shape[0])

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        try:
            return np.where(np.asarray(self.masks[frame]) > 0, 255, 0).astype(np.uint8)
        except _DAMAGE as error:
            raise BadCapture(f"mask {frame} of {self.path.name} cannot be read", found=str(error)[:120]) from error


class Undistortion:
    """Takes Brown's lens distortion out of pictures of one size; K stays."""

    def __init__(self, K: NDArray[np.float64], distortion: NDArray[np.float64], size: tuple[int, int]) -> None:
        width, height = size
        k1, k2, p1, p2, k3 = distortion
        u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        seen_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        seen_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        column = np.clip(seen_x * K[0, 0] + K[0, 2] - 0.5, 0, width - 1)
        row = np.clip(seen_y * K[1, 1] + K[1, 2] - 0.5, 0, height - 1)
        self.left, self.top = np.floor(column).astype(int), np.floor(row).astype(int)
        self.right, self.bottom = np.minimum(self.left + 1, width - 1), np.minimum(self.top + 1, height - 1)
        self.across, self.down = (column - self.left)[..., None], (row - self.top)[..., None]

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture [H, W, C] as a lens without distortion would have taken it (bilinear)."""
        values = picture.astype(np.float32)
        top = values[self.top, self.left] * (1 - self.across) + values[self.top, self.right] * self.across
        bottom = values[self.bottom, self.left] * (1 - self.across) + values[self.bottom, self.right] * self.across
        return (top * (1 - self.down) + bottom * self.down + 0.5).astype(np.uint8)


def _pictures(folder: Path, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    if (folder / "images").is_dir():
        for path in numbered_files(folder / "images", PICTURES):
            if image_size(path) != size:
                raise BadCapture(f"{path.name} has the wrong size", found=str(image_size(path)), expected=str(size))
            with open_picture(path, f"image {path.name}", BadCapture) as image:
                yield np.asarray(image.convert("RGB"))
        return
    videos = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEOS]
    if len(videos) != 1:
        raise BadCapture(
            f"{folder.name} needs one video, or a folder images",
            found=", ".join(path.name for path in videos) or "none",
        )
    video = VideoPictures(videos[0], "rgba")
    try:
        if video.size != size:
            raise BadCapture(f"{videos[0].name} has the wrong size", found=str(video.size), expected=str(size))
        while (picture := video.next()) is not None:
            yield picture[..., :3]
    finally:
        video.close()
