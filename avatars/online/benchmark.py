"""How good a head is after so many seconds of live training, and after post-processing, beside offline training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.online.config import OnlineConfig
from avatars.online.learner import Learner
from avatars.online.replay import CaptureReplay, subject_of
from avatars.online.session import Session, draw
from avatars.online.snapshot import copied
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rgb_head.model import RgbHead
from avatars.training.data import Batch, Pictures, load_pictures
from avatars.training.evaluation import measure, metric_names
from shared.errors import EffigyError


@dataclass(frozen=True)
class OnlineBenchmark:
    """What to measure. seconds: marks on the clock from the first frame on; the stream lasts until the last.

    render_fps: pictures of the newest snapshot asked for a second while it learns, 0 none, inf as many as go.
    offline: also train on all images alike, for as many images as were learned at the end.
    """

    seconds: tuple[float, ...] = (10.0, 30.0, 60.0)
    render_fps: float = 0.0
    offline: bool = False


class _Shown:
    """What `measure` asks of a trainer: a head in the poses of a capture's frames."""

    def __init__(self, model: RgbHead, capture: Capture, device: torch.device) -> None:
        motion = capture.motion
        self.model = model
        self._drive = [
            torch.from_numpy(np.array(values)).to(device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        ]

    def render(self, batch: Batch) -> Rasterised:
        """As the avatar will look."""
        with torch.no_grad():
            drive: list[Tensor] = [values[batch.frames] for values in self._drive]
            vertices = self.model.head.posed_vertices(*drive)
            weights = self.model.weights(self.model.theta(*drive))
            posed = self.model.place(self.model.surface(vertices), weights, hide_unseen=True)
            return rasterise(posed, batch.cameras, posed.colours)


class _Viewer:
    """Renders the newest snapshot again and again in a thread, as a viewport would."""

    def __init__(self, session: Session, fps: float) -> None:
        self.session, self.fps, self.pictures = session, fps, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="effigy-viewer", daemon=True)
        self._thread.start()
        self.started = time.monotonic()

    def end(self) -> float:
        """Stop; pictures a second."""
        self._stop.set()
        self._thread.join()
        return self.pictures / max(time.monotonic() - self.started, 1e-9)

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            learner = self.session.learner
            frame = learner.newest() if learner is not None else None
            if learner is None or frame is None:
                self._stop.wait(0.05)
                continue
            with learner.read() as snapshot:
                draw(snapshot.avatar, frame).features.sum().item()
            self.pictures += 1
            left_s = 1 / self.fps - (time.monotonic() - begun)
            if left_s > 0:
                self._stop.wait(left_s)


def run_online_benchmark(
    capture: Capture,
    config: OnlineConfig,
    device: str,
    wanted: OnlineBenchmark,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Figures as JSON values: held-out PSNR and the rest at the marks, images learned, images a second, memory.

    Pictures are measured over white at training.size_px after the run, so that measuring takes no time from learning.
    """
    where = torch.device(device)
    held_out = load_pictures(capture, capture.split("test"), config.training.size_px, where)
    last = max(wanted.seconds)
    source = CaptureReplay(capture, fps=1.0, longest_px=config.frame_px)
    source = CaptureReplay(capture, fps=source.expected / last, longest_px=config.frame_px)
    session = Session(source, config, device)
    copies: list[tuple[float, int, RgbHead]] = []
    session.start()
    while session.status.arrived == 0 and not session.over():
        time.sleep(0.005)
    if session.failure is not None:
        raise session.failure
    start = time.monotonic()
    viewer = _Viewer(session, wanted.render_fps) if wanted.render_fps > 0 else None
    for mark in sorted(wanted.seconds):
        while (left_s := start + mark - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.2))
            if session.failure is not None:
                raise session.failure
        copies.append((mark, *_copied(session)))
        tell(f"{mark:.0f} s: {copies[-1][1]} images learned from {session.status.learner.frames} frames")
    streaming = session.status
    viewer_fps = viewer.end() if viewer is not None else 0.0
    while not session.over():
        time.sleep(0.02)
    if session.failure is not None:
        raise session.failure
    session.close()
    found = [{"seconds": mark} | _measured(model, capture, held_out, where, images) for mark, images, model in copies]
    after = None
    if config.post_process_images:
        images, model = _copied(session)
        after = _measured(model, capture, held_out, where, images)
    cpu = f"cpu, {torch.get_num_threads()} threads"
    result: dict[str, Any] = {
        "capture": capture.name,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else cpu,
        "preset": config.description,
        "gaussians": len(copies[-1][2]),
        "batch": config.training.schedule.batch,
        "frame_px": config.frame_px,
        "measured_px": config.training.size_px,
        "frames": streaming.learner.frames,
        "left_out": streaming.left_out,
        "stream_fps": round(source.expected / last, 3),
        "images_per_s": round(copies[-1][1] / last, 2),
        "viewer_fps": round(viewer_fps, 2),
        "at": found,
        "after_post_processing": after,
        "offline_at_equal_images": None,
        "peak_memory_mib": round(torch.cuda.max_memory_allocated(where) / 2**20) if where.type == "cuda" else None,
    }
    if wanted.offline:
        images = (after or found[-1])["images"]
        tell(f"offline, {images} images")
        result["offline_at_equal_images"] = _offline(capture, config, device, images, held_out)
    return result


def _copied(session: Session) -> tuple[int, RgbHead]:
    """The newest snapshot's image count and a copy of its model."""
    if session.learner is None:
        raise EffigyError("nothing was learned by then", do="Choose later marks")
    with session.learner.read() as snapshot:
        return snapshot.images, copied(snapshot)


def _measured(
    model: RgbHead, capture: Capture, held_out: Pictures, device: torch.device, images: int
) -> dict[str, Any]:
    shown: Any = _Shown(model, capture, device)
    names: Sequence[str] = metric_names(held_out)
    found = measure(shown, held_out, range(len(held_out)), names)
    return {"images": images} | {name: round(float(values.mean()), 4) for name, values in found.items()}


def _offline(capture: Capture, config: OnlineConfig, device: str, images: int, held_out: Pictures) -> dict[str, Any]:
    """The same learner, but every frame is there before it begins, and each is as likely as any other."""
    config = replace(config, post_process_images=images, snapshot_every=50)
    learner = Learner(config, subject_of(capture), device)
    source = CaptureReplay(capture, fps=1e6, longest_px=config.frame_px)
    while not source.ended():
        frame = source.next(1.0)
        if frame is not None:
            learner.add(frame)
    learner.end_of_stream()
    started = time.monotonic()
    learner.start()
    while not learner.wait(1.0):
        pass
    seconds = time.monotonic() - started
    if learner.failure is not None:
        raise learner.failure
    found = _measured(learner.model, capture, held_out, torch.device(device), learner.status.images)
    return found | {"seconds": round(seconds, 2), "images_per_s": round(images / seconds, 2)}
