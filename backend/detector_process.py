"""The detector's process: pictures in on standard input, landmarks and masks out on standard output.

Run by its path with the Python of the tracker's own environment, which alone holds mediapipe; it imports nothing of
Effigy. A question is one line of JSON {"want": …, "width": W, "height": H} and W * H * 3 bytes of RGB; the answer one
line of JSON and its bytes, float32 but for masks. Pixels count with centres at +0.5; the first line that is written
says {"ready": version}; what mediapipe prints goes to standard error. A model is loaded when first wanted.

    face       {"faces": n}    of each (at most two, the largest first) 478 * 3: x, y px and depth of the landmarks
    hands      {"hands": n}    of each (at most two) 21 * 3: x, y px and depth
    mask       {}              W * H uint8, 255 where the head and shoulders of a person are
    body       {"bodies": n, "hands": [names], "second": share}    how tall the next person is beside the first, 0 where
                               nobody else is; of at most one 33 * 4: x, y px, depth, visibility; then
                               33 * 3 m around the hips in the camera's axes; then of each hand named "left" or "right"
                               21 * 3: x, y px, depth, and 21 * 3 m around its own middle
    body mask  {}              W * H uint8, 255 where the whole person is
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

MOST_PX = 1 << 26
LANDMARKS = 478
HAND_SURE = 0.5
WRISTS = {"left": (15, 17, 19, 21), "right": (16, 18, 20, 22)}
ELBOWS = {"left": 13, "right": 14}
BESIDE, SURE_LIMBS = 0.08, (11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""A second person is looked for where the first is painted over, so many of its sizes beyond its landmarks."""
HAND_WINDOW, HAND_PX, SMALLEST_HAND_PX = 0.75, 256, 10
"""A hand is looked for in a square of so many lower arms to each side of it, drawn with so many px a side."""


class Models:
    """MediaPipe's models, each made when it is first asked. Pictures: RGB [H, W, 3] uint8."""

    def __init__(self) -> None:
        import mediapipe

        self.solutions = mediapipe.solutions
        self.made: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The model `name`."""
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name: str) -> Any:
        if name == "face":
            return self.solutions.face_mesh.FaceMesh(max_num_faces=2, refine_landmarks=True)
        if name == "mask":
            return self.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        if name == "hands":
            return self.solutions.hands.Hands(max_num_hands=2, min_detection_confidence=HAND_SURE)
        if name == "hand":
            return self.solutions.hands.Hands(static_image_mode=True, max_num_hands=1, min_detection_confidence=0.4)
        if name == "another body":
            return self.solutions.pose.Pose(static_image_mode=True, model_complexity=1)
        return self.solutions.pose.Pose(model_complexity=1, enable_segmentation=name == "body mask")

    def twice(self, name: str, picture: Any, found: str) -> Any:
        """What model `name` finds; one that follows looks anew only when asked again after it has lost its person."""
        answer = self.get(name).process(picture)
        return answer if getattr(answer, found) else self.get(name).process(picture)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end."""
    import cv2
    import mediapipe
    import numpy as np

    cv2.setNumThreads(1)
    models = Models()
    answerers = {"face": faces, "hands": hands, "mask": mask, "body": body, "body mask": body_mask}

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
        head, parts = answerers[question["want"]](models, picture)
        answer(head, *(part.tobytes() for part in parts))


def faces(models: Models, picture: Any) -> tuple[dict[str, Any], list[Any]]:
    """The answer to "face"."""
    found = models.twice("face", picture, "multi_face_landmarks").multi_face_landmarks or []
    points = [in_pixels(face, picture)[:LANDMARKS] for face in found]
    points.sort(key=lambda face: -float((face[:, 0].max() - face[:, 0].min()) * (face[:, 1].max() - face[:, 1].min())))
    if len(points) > 1:
        low, high, middle = points[0][:, :2].min(0), points[0][:, :2].max(0), points[1][:, :2].mean(0)
        if (middle > low).all() and (middle < high).all():  # after a cut, both are the same face
            points.pop()
    return {"faces": len(points)}, points


def hands(models: Models, picture: Any) -> tuple[dict[str, Any], list[Any]]:
    """The answer to "hands"."""
    found = models.get("hands").process(picture).multi_hand_landmarks or []
    return {"hands": len(found)}, [in_pixels(hand, picture) for hand in found]


def mask(models: Models, picture: Any) -> tuple[dict[str, Any], list[Any]]:
    """The answer to "mask"."""
    return {}, [as_bytes(refined(picture, models.get("mask").process(picture).segmentation_mask))]


def body(models: Models, picture: Any) -> tuple[dict[str, Any], list[Any]]:
    """The answer to "body"."""
    import numpy as np

    found = models.twice("body", picture, "pose_landmarks")
    if not found.pose_landmarks:
        return {"bodies": 0, "hands": [], "second": 0.0}, []
    points = in_pixels(found.pose_landmarks, picture)
    seen = np.array([(p.visibility,) for p in found.pose_landmarks.landmark], np.float32)
    names, parts = [], [np.concatenate((points, seen), 1), in_metres(found.pose_world_landmarks)]
    for side in WRISTS:
        hand = hand_of(models, picture, points, side)
        if hand:
            names.append(side)
            parts += hand
    return {"bodies": 1, "hands": names, "second": second_share(models, picture, points[:, :2])}, parts


def second_share(models: Models, picture: Any, first: Any) -> float:
    """How tall another person is beside one with landmarks [33, 2] px, 0 without: the model itself follows one only."""
    import numpy as np

    low, high = first.min(0), first.max(0)
    margin = BESIDE * float((high - low).max())
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = np.maximum(high + margin, 0).astype(int)
    without = picture.copy()
    without[top:bottom, left:right] = np.median(picture[::4, ::4].reshape(-1, 3), axis=0).astype(np.uint8)
    found = models.get("another body").process(without).pose_landmarks
    if not found or np.mean([found.landmark[place].visibility for place in SURE_LIMBS]) < 0.5:
        return 0.0
    other = in_pixels(found, picture)[:, 1]
    return float((other.max() - other.min()) / max(float(high[1] - low[1]), 1.0))


def hand_of(models: Models, picture: Any, points: Any, side: str) -> list[Any]:
    """Landmarks (px, then m) of a body's hand, looked for in an enlarged square around it; [] where none is found."""
    import cv2
    import numpy as np

    middle, elbow = points[list(WRISTS[side]), :2].mean(0), points[ELBOWS[side], :2]
    reach = HAND_WINDOW * max(float(np.linalg.norm(middle - elbow)), SMALLEST_HAND_PX * 2.0)
    scale = HAND_PX / (2 * reach)
    moved = np.array([[scale, 0, -scale * (middle[0] - reach)], [0, scale, -scale * (middle[1] - reach)]])
    square = cv2.warpAffine(picture, moved, (HAND_PX, HAND_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found = models.get("hand").process(square)
    if not found.multi_hand_landmarks:
        return []
    inside = in_pixels(found.multi_hand_landmarks[0], square) / np.float32(scale)
    inside[:, :2] += (middle - reach).astype(np.float32)
    return [inside, in_metres(found.multi_hand_world_landmarks[0])]


def body_mask(models: Models, picture: Any) -> tuple[dict[str, Any], list[Any]]:
    """The answer to "body mask"."""
    import numpy as np

    soft = models.twice("body mask", picture, "pose_landmarks").segmentation_mask
    if soft is None:
        soft = np.zeros(picture.shape[:2], np.float32)
    return {}, [as_bytes(refined(picture, soft))]


def in_pixels(found: Any, picture: Any) -> Any:
    """[N, 3] float32 px of landmarks that count in shares of the picture."""
    import numpy as np

    height, width = picture.shape[:2]
    return np.array([(p.x, p.y, p.z) for p in found.landmark], np.float32) * np.array([width, height, width], "f4")


def in_metres(found: Any) -> Any:
    """[N, 3] float32 m."""
    import numpy as np

    return np.array([(p.x, p.y, p.z) for p in found.landmark], np.float32)


def as_bytes(share: Any) -> Any:
    """0..1 as 0..255."""
    import numpy as np

    return (share * 255 + 0.5).astype(np.uint8)


def refined(picture: Any, soft: Any) -> Any:
    """A mask [H, W] in 0..1 drawn to the picture's edges (guided filter, He et al. 2010, with a grey guide)."""
    import cv2
    import numpy as np

    soft = soft.astype(np.float32)
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
