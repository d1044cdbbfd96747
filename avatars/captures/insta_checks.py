"""What the parts of an INSTA folder say about each other: refused where they contradict, noted where they agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.flame_axes import rigid
from avatars.captures.images import has_alpha
from avatars.captures.metrical_frame import MetricalFrame
from avatars.captures.options import CaptureOptions, json_object
from avatars.captures.pairing import ShiftedNames
from avatars.captures.reading import Reading, intrinsics
from shared.errors import BadCapture

TRANSFORMS = ("transforms.json", "transforms_train.json")
MAX_JSON_BYTES = 256 << 20
FOCAL_TOLERANCE, CENTRE_TOLERANCE = 0.005, 0.01
SAME_MATRIX, MOST = 2e-3, 0.8
SHIFTS = (1, -1, 2, -2, 3, -3)


def check_rotation(frame: MetricalFrame) -> None:
    """Raises BadCapture where R is no rotation."""
    if np.abs(frame.R @ frame.R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(frame.R) < 0:
        raise BadCapture(f"opencv.R of {frame.path.name} is no rotation", expected="a 3x3 rotation matrix")


def check_intrinsics(
    K: NDArray[np.float64], first: MetricalFrame, frames: Sequence[MetricalFrame], reading: Reading
) -> None:
    """K [3, 3] as read from the first frame must be a camera matrix, and that of all. Raises BadCapture."""
    if np.abs(K[2] - (0, 0, 1)).max() > 1e-6 or min(K[0, 0], K[1, 1]) <= 0:
        raise BadCapture(
            f"opencv.K of {first.path.name} is no camera matrix" + (" (it looks transposed)" if K[2, 0] else ""),
            found=f"last row {np.round(K[2], 3).tolist()}, focal {K[0, 0]:g} and {K[1, 1]:g}",
            expected="last row [0, 0, 1] and focal lengths above 0",
            do='If the tracker writes it so, put {"reading": {"intrinsics": "transposed"}} into effigy.json',
        )
    for frame in frames:
        if (frame.width_px, frame.height_px) != (first.width_px, first.height_px):
            raise BadCapture(
                f"{frame.path.name} has another image size than {first.path.name}",
                found=f"{frame.width_px}x{frame.height_px}",
                expected=f"{first.width_px}x{first.height_px}",
            )
        other = intrinsics(frame.K, reading)
        if abs(other[0, 0] / K[0, 0] - 1) > FOCAL_TOLERANCE or abs(other[1, 1] / K[1, 1] - 1) > FOCAL_TOLERANCE:
            raise BadCapture(
                f"{frame.path.name} has another focal length than {first.path.name}",
                found=f"{other[0, 0]:.1f} px",
                expected=f"{K[0, 0]:.1f} px",
                do="Use the frames of one run of the tracker",
            )


def check_transforms(
    folder: Path,
    K: NDArray[np.float64],
    images: Sequence[Path],
    frames: Sequence[MetricalFrame],
    options: CaptureOptions,
) -> list[str]:
    """Compare INSTA's own file, where there is one, with the tracker's camera and with how pictures were paired.

    images and frames: as they were paired. Returns sentences. Raises BadCapture where they contradict each other.
    """
    path = next((folder / name for name in TRANSFORMS if (folder / name).is_file()), None)
    if path is None:
        return ["There is no transforms.json to compare the tracker's camera with"]
    document = json_object(path, MAX_JSON_BYTES)
    _check_lens(folder, path, document, K, frames[0])
    return [_check_pairs(path, document, images, frames, options)]


def _check_lens(
    folder: Path, path: Path, document: dict[str, Any], K: NDArray[np.float64], first: MetricalFrame
) -> None:
    size = first.width_px, first.height_px
    named = document.get("w"), document.get("h")
    if all(isinstance(number, int | float) for number in named) and named != size:
        swapped = named == size[::-1]
        raise BadCapture(
            f"{path.name} and {first.path.name} of {folder.name} have "
            + ("width and height the other way round" if swapped else "different image sizes"),
            found=f"{named[0]:g}x{named[1]:g} in {path.name}",
            expected=f"{size[0]}x{size[1]}",
            do="Make both with the same run; metrical-tracker stores height first",
        )
    wanted = (("fl_x", K[0, 0]), ("fl_y", K[1, 1]), ("cx", K[0, 2]), ("cy", K[1, 2]))
    for name, value in wanted:
        other = document.get(name)
        tolerance = FOCAL_TOLERANCE * value if name.startswith("fl") else CENTRE_TOLERANCE * max(size)
        if isinstance(other, int | float) and abs(other - value) > tolerance:
            raise BadCapture(
                f"K of {first.path.name} is unlike K of {path.name} in {folder.name}",
                found=f"{name} {value:.1f} px",
                expected=f"{other:.1f} px",
                do=f"Copy the checkpoint folder of the run that made {path.name}, or delete {path.name} if it is older",
            )


def _check_pairs(
    path: Path,
    document: dict[str, Any],
    images: Sequence[Path],
    frames: Sequence[MetricalFrame],
    options: CaptureOptions,
) -> str:
    """Each picture's own matrix in transforms.json is the inverse of its tracked frame's, or of one a few beside it."""
    matrices = _matrices(document)
    if options.reading != Reading() or not matrices:
        return f"K of {path.name} is the tracker's"
    rows = [row for row, image in enumerate(images) if image.stem in matrices]
    if not rows:
        return f"{path.name} names none of the pictures; its K is the tracker's"
    stated = np.linalg.inv(np.stack([matrices[images[row].stem] for row in rows]))
    tracked = rigid(np.stack([frame.R for frame in frames]), np.stack([frame.t for frame in frames]))

    def agreeing(shift: int) -> float:
        others = np.array(rows) + shift
        inside = (others >= 0) & (others < len(frames))
        if inside.sum() < 2:
            return 0.0
        away = np.abs(stated[inside] - tracked[others[inside]]).max((1, 2))
        return float((away < SAME_MATRIX).mean())

    if agreeing(0) >= MOST:
        return f"{path.name} has the tracker's cameras"
    shift = next((shift for shift in SHIFTS if agreeing(shift) >= MOST), 0)
    if shift and options.pairing == "checked":
        row = rows[0] if shift > 0 else rows[-1]
        raise ShiftedNames(
            f"pictures and frames of {path.parent.name} are off by {abs(shift)}",
            found=f"{images[row].name} beside {frames[row].path.name}",
            expected=f"{frames[row + shift].path.name}, whose camera {path.name} gives that picture",
            do=f'Rename one of them, or put {{"pairing": "name"}} into effigy.json if {path.name} is wrong',
        )
    return f"The cameras of {path.name} are not the tracker's (another run?); the tracker's are used"


def _matrices(document: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Picture's stem -> camera-to-world [4, 4]; entries that are none are left out."""
    found = {}
    frames = document.get("frames")
    for entry in frames if isinstance(frames, list) else []:
        try:
            matrix = np.array(entry["transform_matrix"], np.float64)
            stem = Path(str(entry["file_path"])).stem
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if matrix.shape == (4, 4) and np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-6:
            found[stem] = matrix
    return found


def check_mask(image: Path) -> None:
    """Raises BadCapture for a picture without alpha."""
    if not has_alpha(image):
        raise BadCapture(
            f"image {image.parent.name}/{image.name} has no mask",
            found="a picture without alpha",
            expected="RGBA pictures whose alpha is 0 outside the head",
            do="Use the pictures INSTA's generate.sh writes, or name a folder of masks in effigy.json",
        )
