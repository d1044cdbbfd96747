"""A camera's process: reads it as fast as it films and hands over the newest picture when asked.

Run by its path with the Python of the tracker's environment, which has OpenCV; it imports nothing of Effigy.
Arguments: the camera's number, width and height to ask it for. First line out: {"width", "height", "fps"}, or
{"problem": why}. Then for each line in: {"number": how many were filmed so far, "time_s": of its clock} and
width * height * 3 bytes of RGB, always of a picture not handed over before; {} when the camera is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, BinaryIO

GONE_AFTER_S = 5.0


def serve(camera: Any, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end. camera: an opened `cv2.VideoCapture`, or what reads like one."""
    newest: list[Any] = [0, 0.0, None]
    fresh = threading.Condition()

    def film() -> None:
        while True:
            good, picture = camera.read()
            with fresh:
                if not good:
                    newest[2] = None
                    newest[0] = -1
                    fresh.notify_all()
                    return
                newest[:] = newest[0] + 1, time.monotonic(), picture
                fresh.notify_all()

    def say(head: dict[str, Any], content: bytes = b"") -> None:
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()

    good, first = camera.read()
    if not good:
        say({"problem": "it gives no pictures"})
        return
    height, width = first.shape[:2]
    say({"width": width, "height": height, "fps": float(camera.get(5))})  # 5: CAP_PROP_FPS
    threading.Thread(target=film, daemon=True).start()
    told = [0]

    def there() -> bool:
        return bool(newest[0] < 0 or newest[0] > told[0])

    while questions.readline():
        with fresh:
            if not fresh.wait_for(there, GONE_AFTER_S) or newest[0] < 0:
                say({})
                return
            number, time_s, picture = newest
        told[0] = number
        say({"number": number, "time_s": time_s}, picture[:, :, ::-1].tobytes())


def main() -> int:
    """Keep the real standard output for answers; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import cv2

    camera = cv2.VideoCapture(int(sys.argv[1]))
    if not camera.isOpened():
        answers.write(json.dumps({"problem": "there is no such camera, or it is in use"}).encode() + b"\n")
        answers.flush()
        return 1
    camera.set(cv2.CAP_PROP_FRAME_WIDTH, int(sys.argv[2]))
    camera.set(cv2.CAP_PROP_FRAME_HEIGHT, int(sys.argv[3]))
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    serve(camera, sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
