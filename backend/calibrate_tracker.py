"""Make `avatars/tracking/data/face_landmarks.npz` anew, after a change of the template or of the detector.

    python blender_addon/synthesise/cli.py --output /tmp/a --performance calibration --preset man --shape … --seed …
    python -m backend.calibrate_tracker --output face_landmarks.npz demo_head /tmp/a /tmp/b …

Each capture is one person of the open template with exact parameters; the more and the more different the better. Every
picture is looked at twice, the second time mirrored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.detector import Detector
from backend.tracker_environment import make_tracker_environment
from shared.errors import EffigyError

WIDEST_YAW_DEG = 55.0
SEEN_PX, MARGIN = 512, 0.25
SETTLED = 3
"""Times a picture is asked: the mesh follows a face from picture to picture, and these have nothing in common."""


def main(arguments: list[str]) -> int:
    """Exit status 0, or 1 with one sentence."""
    from avatars.captures.opening import open_capture
    from avatars.files import write_atomically
    from avatars.templates.opening import embedded_template
    from avatars.tracking.calibrating import calibrate, mirrored, true_view
    from avatars.tracking.correspondences import landmark_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", help="captures of the open template with exact parameters")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    chosen = parser.parse_args(arguments)
    body = embedded_template("body")
    views, landmarks, people = [], [], []
    try:
        with Detector(make_tracker_environment()) as detector:
            for person, name in enumerate(chosen.captures):
                capture = open_capture(name)
                for index in range(len(capture.images)):
                    view = true_view(capture, body, index)
                    facing = -view.rotation[:, 1]
                    if abs(np.degrees(np.arctan2(facing[0], -facing[2]))) > WIDEST_YAW_DEG:
                        continue
                    picture, scale, margin = _shown(capture.rgba(index), seed=index)
                    for flipped in (False, True):
                        faces = _settled(detector, picture[:, ::-1] if flipped else picture)
                        if len(faces) == 1:
                            views.append(mirrored(view, body) if flipped else view)
                            landmarks.append(faces[0, :, :2].astype(np.float64) / scale - margin)
                            people.append(2 * person + flipped)
                sys.stdout.write(f"{name}: {len(views)} views so far\n")
            provenance = {
                "detector": f"mediapipe {detector.version} face mesh with irises",
                "pictures": [Path(name).name for name in chosen.captures],
                "views": len(views),
                "made_by": "python -m backend.calibrate_tracker",
            }
        where, response, quality = calibrate(body, views, np.array(landmarks), people, provenance)
        write_atomically(chosen.output, landmark_file(where, response))
    except EffigyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for line in _told(quality, where.spread_m):
        sys.stdout.write(line + "\n")
    return 0


def _shown(rgba: NDArray[np.uint8], seed: int) -> tuple[NDArray[np.uint8], float, int]:
    """A picture before a coloured background with a mirrored margin, enlarged; its scale and margin px."""
    from PIL import Image

    height, width = rgba.shape[:2]
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width] / height
    waves = np.stack([np.sin(across * rng.uniform(2, 8) + down * rng.uniform(2, 8)) for _ in range(3)], -1)
    behind = rng.uniform(60, 180, 3) + 40 * waves
    alpha = rgba[..., 3:].astype(np.float64) / 255
    picture = np.clip(rgba[..., :3] + behind * (1 - alpha), 0, 255).astype(np.uint8)
    margin, scale = round(height * MARGIN), SEEN_PX / height
    framed = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    size = round(framed.shape[1] * scale), round(framed.shape[0] * scale)
    return np.asarray(Image.fromarray(framed).resize(size, Image.Resampling.BICUBIC)), scale, margin


def _settled(detector: Detector, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    for _ in range(SETTLED):
        faces = detector.faces(picture)
    return faces


def _told(quality: dict[str, float], spread_m: NDArray[np.float64]) -> Iterator[str]:
    yield ", ".join(f"{name} {value:.2f}" for name, value in quality.items())
    yield "spread mm (10, 50, 90 %): " + ", ".join(f"{x * 1e3:.1f}" for x in np.percentile(spread_m, (10, 50, 90)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
