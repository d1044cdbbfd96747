"""A client that asks for pictures it knows: each answer is compared, bit for bit, with what an undisturbed server gave.

    python -m backend.chaos.traffic NAME ADDRESS PLAN        with the server's key in EFFIGY_KEY

PLAN is a JSON file of `Shot`s. Asks until it is killed or its standard input ends, each shot again until it is
answered, and prints its counts as a line of JSON twice a second and at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.client import BackendClient
from shared.errors import Cancelled, EffigyError
from shared.messages import AvatarDetail, AvatarInstance, RenderRequest
from shared.types import Frame

ANSWER_WITHIN_S, LOST_AFTER_S = 20.0, 240.0  # long: faults go on meanwhile, and the machine may be busy
REPORT_EVERY_S, PAUSE_S, RETRY_S = 0.5, 0.03, 0.2


@dataclass(frozen=True)
class Shot:
    """One picture: of whom, how large, how the head is turned, and (once known) the sha-256 of its pixels."""

    avatar_id: str
    joints: int
    expressions: int
    target_m: tuple[float, float, float]
    width_px: int
    height_px: int
    turn_rad: float
    sha256: str = ""

    def request(self, view: str) -> RenderRequest:
        """What to ask for: from 0.7 m in front, at the avatar's rest but for its first joint."""
        rotations = np.zeros((1, self.joints, 3), np.float32)
        rotations[0, 0, 2] = self.turn_rad
        instance = AvatarInstance(
            self.avatar_id,
            "",
            np.eye(4)[None],
            rotations,
            np.zeros((1, 3), np.float32),
            np.zeros((1, self.expressions), np.float32),
        )
        x, y, z = self.target_m
        camera = np.array([[1, 0, 0, x], [0, 0, 1, y - 0.7], [0, -1, 0, z], [0, 0, 0, 1]], float)
        focal_px = 1.5 * self.height_px
        K = np.array([[focal_px, 0, self.width_px / 2], [0, focal_px, self.height_px / 2], [0, 0, 1]])
        return RenderRequest(view, (instance,), self.width_px, self.height_px, K[None], camera[None], 0.05, 10.0)


def shots_of(detail: AvatarDetail, count: int, seed: int) -> tuple[Shot, ...]:
    """Different pictures of one avatar, of different sizes, so that none can be taken for another."""
    chosen = random.Random(seed)
    middle = np.asarray(detail.proxy.vertices, float)
    target = (middle.min(0) + middle.max(0)) / 2
    return tuple(
        Shot(
            detail.summary.avatar_id,
            len(detail.rig.joint_names),
            len(detail.rig.expression_names),
            (float(target[0]), float(target[1]), float(target[2])),
            chosen.randrange(40, 72) + 32 * number,
            chosen.randrange(40, 72),
            chosen.uniform(-1, 1),
        )
        for number in range(count)
    )


def pixels_sha256(frame: Frame) -> str:
    """Of all passes, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(frame.passes):
        image = np.ascontiguousarray(frame.passes[name])
        digest.update(f"{name} {image.dtype} {image.shape} ".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()


def write_plan(path: Path, shots: tuple[Shot, ...]) -> None:
    """The file a client is started with."""
    path.write_text(json.dumps([asdict(shot) for shot in shots]), encoding="utf-8")


def read_plan(path: Path) -> tuple[Shot, ...]:
    """Inverse of `write_plan`."""
    return tuple(
        Shot(**{**entry, "target_m": tuple(entry["target_m"])}) for entry in json.loads(path.read_text("utf-8"))
    )


@dataclass
class Counts:
    """What became of a client's requests. wrong: pictures with other pixels than they must have; refused: by code.
    why: what was said last to those that are lost."""

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    lost: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    def refuse(self, code: str) -> None:
        """Count an answer that was an error."""
        self.refused[code] = self.refused.get(code, 0) + 1


def ask_for(
    client: BackendClient, shot: Shot, view: str, counts: Counts, stop: Callable[[], bool], tell: Callable[[], None]
) -> None:
    """One shot, again and again until its picture is there, or too long has gone by."""
    counts.asked += 1
    begun = time.monotonic()
    while not stop():
        tell()
        try:
            frame = client.render(shot.request(view), timeout_s=ANSWER_WITHIN_S, cancelled=stop)
        except Cancelled:
            break
        except EffigyError as error:
            counts.refuse(error.code)
            if time.monotonic() - begun > LOST_AFTER_S:
                counts.lost += 1
                counts.why.append(f"{error.code}: {error}")
                return
            time.sleep(RETRY_S)
            continue
        counts.answered += 1
        fits = (frame.width_px, frame.height_px) == (shot.width_px, shot.height_px)
        counts.wrong += not fits or pixels_sha256(frame) != shot.sha256
        return
    counts.asked -= 1  # given up because we end, not by anyone's fault


def main(words: list[str]) -> int:
    """Ask until told to end."""
    name, address, plan = words
    shots, counts, chosen = read_plan(Path(plan)), Counts(), random.Random(name)
    told_s = 0.0

    def tell(now: bool = False) -> None:
        nonlocal told_s
        if now or time.monotonic() - told_s > REPORT_EVERY_S:
            told_s = time.monotonic()
            sys.stdout.write(json.dumps(asdict(counts)) + "\n")
            sys.stdout.flush()

    with BackendClient(address, key=os.environ.get("EFFIGY_KEY", ""), name=name) as client:
        number = 0
        while not _over():
            number += 1
            ask_for(client, chosen.choice(shots), f"{name} {number % 3}", counts, _over, tell)
            time.sleep(PAUSE_S)
    tell(now=True)
    return 0


def _over() -> bool:
    """Whether whoever started us closed our standard input, or is gone."""
    readable: list[Any] = select.select([sys.stdin], [], [], 0)[0]
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
