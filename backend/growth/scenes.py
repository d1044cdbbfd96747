"""One measured point: a scene drawn as a final picture, its parts by themselves, and its memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.gaussians.posed import PosedGaussians, concatenate
from avatars.owners import plain_owners, shared_owners
from avatars.rendering import CameraBatch, rasterise
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.scene import SceneInstance, render_scene
from avatars.templates.opening import embedded_template
from backend.cli_render import save_png, straight_srgb, write_pngs
from backend.devices import usable_cores
from backend.growth import people
from backend.growth.timing import MIB, Memory, kernels_of, timed
from backend.picture_writer import MOST_WRITERS, PictureWriter
from shared.types import Camera, Environment

PASSES = ("combined",)
FILM_FRAMES = 32


@dataclass(frozen=True)
class Point:
    """One picture, or one of a batch. Times are medians, ms; best_ms is the fastest.

    frame_ms: from poses to float16 RGBA on the host (in a batch: to colours on the device). pose_ms: Gaussians of all
    avatars; draw_ms: blending them; the rest is lighting pixels, averaging, the copy to the host. device_ms, kernels:
    what a CUDA device computed meanwhile. held_mib: of the avatars; peak_mib: with what a picture needs besides (None
    where the system does not tell).
    """

    part: str
    x: float
    gaussians: int
    size_px: int
    avatars: int
    batch: int
    frame_ms: float
    best_ms: float
    pose_ms: float
    draw_ms: float
    held_mib: float
    peak_mib: float | None
    device_ms: float | None = None
    kernels: float | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """A scene that is ready to be drawn."""

    instances: Sequence[SceneInstance]
    camera: Camera
    environment: Environment | None
    device: str

    @staticmethod
    def of(gaussians: int, size_px: int, avatars: int, device: str, *, lit: bool = False) -> Stage:
        """A crowd of `avatars` heads of so many Gaussians each."""
        found, first = people.crowd(gaussians, avatars, device)
        return Stage(found, people.camera(first, avatars, size_px), people.light() if lit else None, device)

    def count(self) -> int:
        """Gaussians of one avatar."""
        return len(self.instances[0].avatar.model)  # type: ignore[attr-defined]

    def frame(self) -> np.ndarray[Any, Any]:
        """The picture, as the viewport, the final render and the command line ask for it."""
        return render_scene(self.instances, [self.camera], self.environment, PASSES, device=self.device)["combined"]

    @torch.no_grad()
    def posed(self) -> list[PosedGaussians]:
        """All avatars in the world."""
        return [
            item.avatar.pose(
                *(_sent(part, self.device) for part in (item.rotations, item.translations, item.expressions)),
                normals=self.environment is not None,
            ).transformed(_sent(item.world_from_avatar, self.device))
            for item in self.instances
        ]

    def drawer(self, sets: Sequence[PosedGaussians], *, plain: bool = False) -> tuple[Callable[[], Any], int]:
        """What blends them, with the channels that their passes need, and how many. plain: an owner's for each."""
        lens = CameraBatch.from_cameras([self.camera], self.device)
        together = concatenate(sets)
        channels = [together.colours]
        if self.environment is not None:
            channels.append(together.colours)  # as many as normals
            if len(sets) > 1:
                rows = (plain_owners if plain else shared_owners)(sets, lens).rows(together.means)
                channels.append(
                    torch.cat([row.expand(1, one.count, -1) for row, one in zip(rows, sets, strict=True)], 1)
                )
        features = torch.cat(channels, -1)

        @torch.no_grad()
        def draw() -> Any:
            return rasterise(together, lens, features)

        return draw, features.shape[-1]


def _sent(array: Any, device: str) -> torch.Tensor:
    return torch.as_tensor(np.array(array, np.float32), device=device)


def scene_point(part: str, x: float, gaussians: int, size_px: int, avatars: int, device: str, seconds: float) -> Point:
    """Measure a crowd of `avatars`, lit in the part of that name."""
    people.person(gaussians, "cpu")  # remembered before memory is looked at
    memory = Memory(device)
    stage = Stage.of(gaussians, size_px, avatars, device, lit=part == "lit")
    stage.frame()
    held = memory.held_mib()
    memory.begin()
    whole = timed(stage.frame, seconds, stage.device)
    peak = memory.peak_mib()
    posing = timed(stage.posed, seconds / 3, stage.device)
    drawing = timed(stage.drawer(stage.posed())[0], seconds / 3, stage.device)
    cuda = stage.device.startswith("cuda")
    device_ms, kernels, _ = kernels_of(stage.frame, stage.device) if cuda else (None, None, {})
    return Point(
        part,
        x,
        stage.count(),
        stage.camera.width_px,
        len(stage.instances),
        1,
        whole.median_ms,
        whole.best_ms,
        posing.median_ms,
        drawing.median_ms,
        held,
        peak,
        device_ms,
        kernels,
    )


def batch_point(batch: int, gaussians: int, size_px: int, device: str, seconds: float) -> Point:
    """One head in `batch` poses before as many cameras in one call, as training and `render --capture` draw it."""
    people.person(gaussians, "cpu")  # remembered before memory is looked at
    memory = Memory(device)
    head = people.person(gaussians, device)
    arrays = embedded_template("bust")
    given = [_sent(part, device).expand(batch, *part.shape[1:]).contiguous() for part in people.still(arrays)]
    given[0][:, arrays.joint_names.index("head"), 2] = torch.linspace(-0.3, 0.3, batch, device=device)
    lens = CameraBatch.from_cameras([people.camera(head, 1, size_px)] * batch, device)

    @torch.no_grad()
    def posed() -> PosedGaussians:
        return head.pose(*given, normals=False)

    @torch.no_grad()
    def drawn(gaussians: PosedGaussians) -> Any:
        return rasterise(gaussians, lens, gaussians.colours)

    held = memory.held_mib()
    memory.begin()
    whole = timed(lambda: drawn(posed()), seconds, device)
    peak = memory.peak_mib()
    ready = posed()
    posing, drawing = timed(posed, seconds / 3, device), timed(lambda: drawn(ready), seconds / 3, device)
    cuda = device.startswith("cuda")
    device_ms, kernels, _ = kernels_of(lambda: drawn(posed()), device) if cuda else (None, None, {})
    return Point(
        "batch",
        batch,
        len(head.model),
        size_px,
        1,
        batch,
        whole.median_ms / batch,
        whole.best_ms / batch,
        posing.median_ms / batch,
        drawing.median_ms / batch,
        held,
        peak,
        None if device_ms is None else device_ms / batch,
        None if kernels is None else kernels / batch,
    )


def where(gaussians: int, size_px: int, avatars: int, device: str, seconds: float) -> dict[str, Any]:
    """Where the time of a crowd goes, in the light of its capture and lit; on CUDA by kernels, too.

    plain_draw_ms, plain_channels: blending with an owner's channel for each avatar, which is what a lit crowd would
    need if avatars did not share them.
    """
    found: dict[str, Any] = {"avatars": avatars, "size_px": size_px}
    for name in ("own light", "lit"):
        stage = Stage.of(gaussians, size_px, avatars, device, lit=name == "lit")
        sets = stage.posed()
        (draw, channels), (plain_draw, plain_channels) = stage.drawer(sets), stage.drawer(sets, plain=True)
        one: dict[str, Any] = {
            "gaussians": stage.count() * avatars,
            "frame_ms": timed(stage.frame, seconds, device).median_ms,
            "pose_ms": timed(stage.posed, seconds, device).median_ms,
            "draw_ms": timed(draw, seconds, device).median_ms,
            "channels": channels,
        }
        if plain_channels != channels:
            one |= {"plain_draw_ms": timed(plain_draw, seconds, device).median_ms, "plain_channels": plain_channels}
        if device.startswith("cuda"):
            one["device_ms"], one["kernels"], one["groups_ms"] = kernels_of(stage.frame, device)
        found[name] = one | {"bottleneck": bottleneck(one)}
    return found


def bottleneck(one: dict[str, Any]) -> str:
    """What bounds a frame: the host where the device waits for it, else the largest part of what is computed."""
    frame_ms = one["frame_ms"]
    parts = {"posing": one["pose_ms"], "blending": one["draw_ms"]}
    parts["lighting, averaging and the copy to the host"] = max(0.0, frame_ms - sum(parts.values()))
    largest = max(parts, key=lambda name: parts[name])
    words = f"{largest} ({100 * parts[largest] / frame_ms:.0f} % of the frame)"
    if "device_ms" not in one:
        return words
    busy = one["device_ms"] / frame_ms
    if busy < 0.6:
        return f"the host: the device computes {100 * busy:.0f} % of the time, {one['kernels']:.0f} launches; {words}"
    group, took = next(iter(one["groups_ms"].items()))
    return f"the device, {100 * busy:.0f} % busy: {group} ({100 * took / one['device_ms']:.0f} %); {words}"


def file_figures(gaussians: int, size_px: int, device: str, seconds: float) -> dict[str, float]:
    """What an avatar and a picture take on disk, how long they take to be read and written (on the CPU), and a frame of
    a film that is drawn and written by turns and with writers beside."""
    stage = Stage.of(gaussians, size_px, 1, device)
    avatar = stage.instances[0].avatar
    assert isinstance(avatar, RgbHeadAvatar)
    picture = stage.frame()
    with tempfile.TemporaryDirectory(prefix="effigy-growth-") as place:
        folder = Path(place) / "one.avatar"
        save_avatar(folder, avatar, About("growth"), np.zeros((64, 64, 4), np.uint8))
        size = sum(path.stat().st_size for path in folder.iterdir())
        begun = time.perf_counter()
        load_avatar(folder, device)
        load_ms = 1000 * (time.perf_counter() - begun)
        file = Path(place) / "picture.png"
        written = timed(lambda: save_png(file, straight_srgb(picture)), seconds, "cpu")
        writers = min(MOST_WRITERS, usable_cores())
        by_turns_ms, beside_ms = (_film_ms(stage, Path(place), count) for count in (0, writers))
        return {
            "by_turns_ms": by_turns_ms,
            "beside_ms": beside_ms,
            "writers": writers,
            "gaussians": stage.count(),
            "size_px": size_px,
            "avatar_mib": size / MIB,
            "avatar_load_ms": load_ms,
            "png_ms": written.median_ms,
            "png_mib": file.stat().st_size / MIB,
            "half_mib": picture.nbytes / MIB,
        }


def _film_ms(stage: Stage, folder: Path, writers: int) -> float:
    """Of each of FILM_FRAMES frames drawn and written, as `effigy render` does."""
    begun = time.perf_counter()
    with PictureWriter(writers) as writer:
        for number in range(FILM_FRAMES):
            writer.add(partial(write_pngs, [folder / f"{number}.png"], stage.frame()))
    return 1000 * (time.perf_counter() - begun) / FILM_FRAMES
