"""The face detector's process: pictures in on standard input, landmarks and masks out on standard output.

Run by its path with the Python of the tracker's own environment, which alone holds mediapipe; it imports nothing of
Effigy. A question is one line of JSON {"want": "face" or "mask", "width": W, "height": H} and W * H * 3 bytes of RGB;
the answer one line of JSON and its bytes. "face": {"faces": how many}, then for each (at most two, the largest first)
478 * 3 float32, x, y (px, pixel centres at +0.5) and depth of the landmarks. "mask": {}, then W * H uint8, 255 where
the person is. The first line that is written says {"ready": version}; what mediapipe prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

MOST_PX = 1 << 26
LANDMARKS = 478


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end."""
    import cv2
    import mediapipe
    import numpy as np

    cv2.setNumThreads(1)
    faces = mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=2, refine_landmarks=True)
    people = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def answer(head: dict[str, Any], *parts: bytes) -> None:
        answers.write(json.dumps(head).encode() + b"\n" + b"".join(parts))
        answers.flush()

    answer({"ready": mediapipe.__version__})
    while line := questions.readline():
        question = json.loads(line)
        width, height = int(question["width"]), int(question["height"])
        if not 0 < width * height <= MOST_PX:
            raise ValueError(f"a picture of {width} x {height} px")
        content = questions.read(width * height * 3)
        if len(content) != width * height * 3:
            return
        picture = np.frombuffer(content, np.uint8).reshape(height, width, 3)
        if question["want"] == "face":
            # The mesh follows a face; one that moved too far is lost and only looked for when asked again.
            found = faces.process(picture).multi_face_landmarks or faces.process(picture).multi_face_landmarks or []
            scale = np.array([width, height, width], np.float32)
            points = [np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32) * scale for face in found]
            points.sort(key=lambda face: -float(np.ptp(face[:, 0]) * np.ptp(face[:, 1])))
            answer({"faces": len(points)}, *(face[:LANDMARKS].tobytes() for face in points))
        else:
            soft = people.process(picture).segmentation_mask.astype(np.float32)
            answer({}, (refined(picture, soft) * 255 + 0.5).astype(np.uint8).tobytes())


def refined(picture: Any, soft: Any) -> Any:
    """A mask [H, W] in 0..1 drawn to the picture's edges (guided filter, He et al. 2010, with a grey guide)."""
    import cv2
    import numpy as np

    guide = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    side = max(3, round(max(guide.shape) / 64)) | 1

    def mean(values: Any) -> Any:
        return cv2.blur(values, (side, side))

    of_guide, of_mask = mean(guide), mean(soft)
    spread = mean(guide * guide) - of_guide**2
    slope = (mean(guide * soft) - of_guide * of_mask) / (spread + 1e-3)
    level = of_mask - slope * of_guide
    filtered = mean(slope) * guide + mean(level)
    return np.clip((filtered - 0.15) / 0.7, 0, 1)


def main() -> int:
    """Keep the real standard output for answers; whatever libraries print goes to standard error."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
