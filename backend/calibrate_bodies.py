"""Make `avatars/tracking/data/body_landmarks.npz` anew, after a change of the template or of the detector.

    python blender_addon/synthesise/cli.py --like demo_body --output /tmp/a --preset woman --shape … --seed …
    python -m backend.calibrate_bodies --output body_landmarks.npz /tmp/a /tmp/b …

Each capture is one person of the open template with exact parameters, seen from all sides in many poses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backend.detector import Detector
from backend.tracker_environment import make_tracker_environment
from shared.errors import EffigyError

SETTLED = 3
"""Times a picture is asked: the detector follows a body from picture to picture, and these have little in common."""


def main(arguments: list[str]) -> int:
    """Exit status 0, or 1 with one sentence."""
    from avatars.captures.opening import open_capture
    from avatars.files import write_atomically
    from avatars.templates.opening import embedded_template
    from avatars.tracking.body_calibrating import calibrate_bodies, true_body
    from avatars.tracking.body_detections import BodyDetections
    from avatars.tracking.body_landmarks import body_landmark_file
    from backend.cli_track_benchmark import before_wall

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", help="body captures of the open template with exact parameters")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    chosen = parser.parse_args(arguments)
    template = embedded_template("body")
    bodies, detections, people = [], [], []
    try:
        with Detector(make_tracker_environment()) as detector:
            for person, name in enumerate(chosen.captures):
                capture = open_capture(name)
                for index in range(len(capture.images)):
                    picture = before_wall(capture.rgba(index))
                    for _ in range(SETTLED):
                        found = detector.body(picture)
                    if found is not None:
                        bodies.append(true_body(capture, template, index))
                        people.append(person)
                        detections.append(
                            BodyDetections.of_picture(index, picture, found.points, found.world, found.hands)
                        )
                sys.stdout.write(f"{name}: {len(bodies)} bodies so far\n")
            provenance = {
                "detector": f"mediapipe {detector.version} pose and hands",
                "pictures": [Path(name).name for name in chosen.captures],
                "views": len(bodies),
                "made_by": "python -m backend.calibrate_bodies",
            }
        where = calibrate_bodies(bodies, BodyDetections.joined(detections), people, template, provenance)
        write_atomically(chosen.output, body_landmark_file(where))
    except EffigyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    spread, apart = where.spread_m[:33] * 1e3, where.joint_spread_m * 1e3
    sys.stdout.write(f"pixels scatter by {spread.min():.0f} to {spread.max():.0f} mm; depths are off by ")
    sys.stdout.write(f"{apart[:, 2].min():.0f} to {apart[:, 2].max():.0f} mm\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
