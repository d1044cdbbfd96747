"""Hashes of fixed frames of avatars: machines that render alike print the same ones.

Poses, cameras and light are made of whole numbers and divisions alone, so that they are the same on every machine,
whatever its library of sines does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.rendering import Studio
from shared.errors import BadConfig, NotFound
from shared.messages import AvatarDetail, AvatarInstance, PutEnvironment, RenderRequest

CAPTURED, LIT = "captured", "lit"
LIGHTS = (CAPTURED, LIT)
PASSES = ("combined", "depth", "normal", "albedo", "mask", "id", "coverage", "diffuse", "specular")
OF_MATERIALS = ("roughness", "metallic", "occlusion")
SWING_RAD, SWING = 0.12, 0.6  # of joints, of expressions
DIRECTIONS = ((0.0, 1.0), (0.6, 0.8), (-0.8, 0.6), (0.28, 0.96), (-0.96, -0.28))  # sine and cosine of the yaw
FOCAL, DISTANCE = 2.0, 2.6  # heights, sizes of the avatar
FORMAT = "effigy-frame-hashes"
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class FrameHash:
    """One pass of one frame. digest: of the avatar; sha256: of the pass's shape, type and bytes."""

    avatar_id: str
    digest: str
    frame: int
    light: str
    name: str
    sha256: str

    @property
    def place(self) -> str:
        """Which picture it is, for people and as a key."""
        return f"{self.avatar_id} frame {self.frame} {self.light} {self.name}"


def frame_hashes(
    studio: Studio,
    avatar_ids: Sequence[str],
    frames: int,
    size_px: tuple[int, int],
    *,
    backwards: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> list[FrameHash]:
    """Render `frames` frames of each avatar in both lights and hash every pass; sorted by place.

    size_px: width, height. backwards: the last frame first, which must not matter. Raises what rendering raises.
    """
    sky = radiance()
    environment = hashlib.sha256(sky.tobytes()).hexdigest()
    found: list[FrameHash] = []
    for avatar_id in avatar_ids:
        tell(avatar_id)
        detail = studio.detail(avatar_id)
        order = [(frame, light) for frame in range(1, frames + 1) for light in LIGHTS]
        for frame, light in reversed(order) if backwards else order:
            studio.put_environment(PutEnvironment(environment, sky))
            reply = studio.render(frame_request(detail, frame, size_px, environment if light == LIT else ""))
            for name, image in zip(reply.pass_names, reply.images, strict=True):
                made = FrameHash(avatar_id, detail.summary.digest, frame, light, name, hash_of(image))
                found.append(made)
    return sorted(found, key=lambda each: each.place)


def frame_request(detail: AvatarDetail, frame: int, size_px: tuple[int, int], environment: str) -> RenderRequest:
    """Frame `frame` (from 1): another pose and side each; every second is blurred over two sub-frames."""
    instants = (frame, frame + 1) if frame % 2 == 0 else (frame,)
    joints, expressions = len(detail.rig.joint_names), len(detail.rig.expression_names)
    rest = np.asarray(detail.rest_pose, np.float64).reshape(joints, 3)
    turns = [rest + SWING_RAD * wave(instant, (joints, 3)) for instant in instants]
    moves = [np.abs(SWING * wave(instant, (expressions,))) for instant in instants]
    width, height = size_px
    low, high = detail.proxy.vertices.min(0).astype(np.float64), detail.proxy.vertices.max(0).astype(np.float64)
    distance = max(float((high - low).max()), 1e-3) * DISTANCE
    sine, cosine = DIRECTIONS[(frame - 1) % len(DIRECTIONS)]
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.array([[cosine, 0.0, -sine], [sine, 0.0, cosine], [0.0, -1.0, 0.0]])
    world_from_camera[:3, 3] = (low + high) / 2 + distance * np.array([sine, -cosine, 0.0])
    K = np.array([[FOCAL * height, 0, width / 2], [0, FOCAL * height, height / 2], [0, 0, 1]])
    count = len(instants)
    instance = AvatarInstance(
        detail.summary.avatar_id,
        detail.summary.digest,
        np.repeat(np.eye(4)[None], count, 0),
        np.array(turns, np.float32),
        np.zeros((count, 3), np.float32),
        np.array(moves, np.float32).reshape(count, expressions),
    )
    return RenderRequest(
        "hashes",
        (instance,),
        width,
        height,
        np.repeat(K[None], count, 0),
        np.repeat(world_from_camera[None], count, 0),
        near_m=distance / 100,
        far_m=distance * 100,
        passes=PASSES + OF_MATERIALS if detail.summary.relightable else PASSES,
        environment=environment,
    )


def wave(instant: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in -1..1 that differ from place to place and change with the instant."""
    count = int(np.prod(shape))
    steps = (7 * np.arange(count) + 5 * instant) % 11 - 5
    values: NDArray[np.float64] = (steps / 5.0).reshape(shape)
    return values


def radiance(height: int = 32) -> NDArray[np.float16]:
    """[H, 2H, 3] of a sky that is brighter above and has a warm window on one side."""
    sky = np.linspace(8, 2, height)[:, None, None] / 8 * np.ones((1, 2 * height, 3))
    sky[height // 4 : height // 2, : height // 2] = (6.0, 4.5, 3.0)
    half: NDArray[np.float16] = sky.astype(np.float16)
    return half


def hash_of(image: NDArray[Any]) -> str:
    """SHA-256 of shape, type and bytes."""
    head = f"{image.dtype.str} {image.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


def total(hashes: Iterable[FrameHash]) -> str:
    """One hash for all."""
    lines = "".join(f"{each.place} {each.digest} {each.sha256}\n" for each in hashes)
    return hashlib.sha256(lines.encode()).hexdigest()


def written(hashes: Sequence[FrameHash], machine: Mapping[str, str], size_px: tuple[int, int]) -> str:
    """The text `read_hashes` reads."""
    rows = [[each.avatar_id, each.digest, each.frame, each.light, each.name, each.sha256] for each in hashes]
    document = {"format": FORMAT, "version": 1, "machine": dict(machine), "size_px": list(size_px), "frames": rows}
    return json.dumps(document, indent=1) + "\n"


def read_hashes(path: Path) -> tuple[list[FrameHash], tuple[int, int]]:
    """Hashes and size in px another machine wrote. Raises NotFound, BadConfig."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["version"] != 1:
            raise ValueError(f"{document['format']} {document['version']}")
        rows = [FrameHash(str(a), str(b), int(c), str(d), str(e), str(f)) for a, b, c, d, e, f in document["frames"]]
        width, height = document["size_px"]
        return rows, (int(width), int(height))
    except OSError as error:
        raise NotFound("The hashes to compare with cannot be read", found=f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadConfig(
            "The hashes to compare with cannot be read",
            found=f"{path.name}: {error!r}"[:120],
            expected="what `effigy farm hashes --output` wrote",
        ) from error


def differences(here: Sequence[FrameHash], there: Sequence[FrameHash]) -> list[str]:
    """What is not the same in both, one sentence each."""
    others = {each.place: each for each in there}
    said = []
    for each in here:
        other = others.pop(each.place, None)
        if other is None:
            said.append(f"{each.place} is only here")
        elif other.digest != each.digest:
            said.append(f"{each.place} is of another avatar: {each.digest[:12]} here, {other.digest[:12]} there")
        elif other.sha256 != each.sha256:
            said.append(f"{each.place} differs")
    return said + [f"{place} is only there" for place in others]
