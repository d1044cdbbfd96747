"""How fast bodies train and render, beside the bare rasteriser on the same Gaussians, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture, CaptureImage
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.mlp_body.express import COLOUR
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.mlp_body.trainer import MlpBodyTrainer
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.rgb_head.benchmark import median_ms, raw_cpu, raw_gsplat
from avatars.templates.opening import reference_of
from avatars.training.config import TrainConfig
from avatars.training.data import Pictures
from avatars.training.optimiser import Optimiser
from avatars.training.profile import profile_lines
from avatars.training.sampler import Sampler
from shared.types import Camera, Motion

GAUSSIANS, SIZES_PX, VIEWS = 200_000, (1024, 512), (1, 4)
POSES, CAMERAS, WARM_UP_STEPS = 8, 8, 20
DISTANCE_M, VIEW_M = 3.0, 2.2
AFTER_ALL_STAGES = 1e9
"""A position in the schedule at which bases and view-dependent colour have joined."""


@dataclass(frozen=True)
class BodyRow:
    """One size. Times are medians in ms; raw_* is the bare rasteriser on the very same Gaussians.

    step: what the loop does for one batch of `views` pictures of one pose: batch, networks, posing, picture, losses,
    backward, Adam. render: from joint rotations and expressions to pixels on the device, one picture. pose: the part of
    it before the rasteriser. peak_gib: of the device's memory while training, pictures included (0 on the CPU).
    """

    gaussians: int
    size_px: int
    views: int
    raw_forward_backward_ms: float
    step_ms: float
    step_ratio: float
    steps_per_s: float
    images_per_s: float
    raw_forward_ms: float
    pose_ms: float
    render_ms: float
    render_ratio: float
    frames_per_s: float
    peak_gib: float


def run_body_benchmark(
    gaussians: int = GAUSSIANS,
    sizes_px: Sequence[int] = SIZES_PX,
    views: Sequence[int] = VIEWS,
    *,
    losses: dict[str, float] | None = None,
    seconds: float = 1.0,
    device: str = "cpu",
    body: MlpBodyConfig | None = None,
) -> Iterator[BodyRow]:
    """A row for each size and number of views, of a body of the published shape with this many Gaussians.

    losses: weights of the picture's terms other than plain L1. seconds: about how long each timing takes. body: another
    shape of model; its number of Gaussians is replaced.
    """
    for size_px in sizes_px:
        bench = BodyBench(replace(body or MlpBodyConfig(), gaussians=gaussians), size_px, losses or {}, device)
        for count in views:
            yield bench.row(count, seconds)
        del bench


def run_body_profile(
    gaussians: int, size_px: int, views: int, *, losses: dict[str, float], device: str
) -> Iterator[tuple[str, list[str]]]:
    """For a training step, the bare rasteriser, posing and a picture: a title and where their time goes."""
    bench = BodyBench(replace(MlpBodyConfig(), gaussians=gaussians), size_px, losses, device)
    bench.begin(views)
    yield f"training step, {views} views", profile_lines(lambda: bench.step(views), torch.device(device))
    _, forward, place, render = bench.acts(views)
    for title, act in (("bare rasteriser, forward", forward), ("posing", place), ("pose to pixels", render)):
        yield title, profile_lines(act, torch.device(device))


class BodyBench:
    """One body of the embedded template with pictures to learn from, stepped as the training loop does."""

    def __init__(self, body: MlpBodyConfig, size_px: int, losses: dict[str, float], device: str) -> None:
        self.device, self.size_px = torch.device(device), size_px
        config = TrainConfig(method="mlp_body", size_px=size_px, body=body)
        self.config = replace(config, losses=replace(config.losses, **losses))
        self.capture = dancing_capture(size_px)
        self.trainer = MlpBodyTrainer(self.config, self.capture, device)
        model = self.trainer.model
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            model.neutral[COLOUR] = 0.8 * torch.randn(3, len(model), generator=draw).to(self.device)
        self.pictures = self._pictures()
        self.optimiser = Optimiser(self.trainer.parameters())
        self.sampler = Sampler(len(self.pictures), 0, self.pictures.frames.cpu(), 1)

    def _pictures(self) -> Pictures:
        """Pictures of the body itself in every pose by every camera, in other colours, so that there is work to do."""
        images = self.capture.images
        cameras = CameraBatch.from_cameras([self.capture.cameras[image.camera] for image in images], self.device)
        frames = torch.tensor([image.frame for image in images], device=self.device)
        shown, avatar = [], self.finished()
        for row in range(len(images)):
            posed = avatar.pose(*self.drive(int(frames[row])), normals=False)
            one = self._lens(cameras, row)
            with torch.no_grad():
                drawn = rasterise(posed, one, posed.seen_from(one.positions()).colours.flip(-1), depth=False)
            rgba = torch.cat((drawn.features.clamp(0, 1), drawn.alpha[..., None]), -1)
            shown.append((rgba[0] * 255).to(torch.uint8))
        return Pictures(torch.stack(shown), cameras, frames, self.device)

    @staticmethod
    def _lens(cameras: CameraBatch, row: int) -> CameraBatch:
        one = slice(row, row + 1)
        return replace(cameras, K=cameras.K[one], camera_from_world=cameras.camera_from_world[one])

    def drive(self, frame: int) -> tuple[Tensor, Tensor, Tensor]:
        """One frame's pose on the device."""
        this = slice(frame, frame + 1)
        return self.trainer.rotations[this], self.trainer.translations[this], self.trainer.expressions[this]

    def finished(self) -> MlpBodyAvatar:
        """The model as it is now, as an avatar that must be used before the next step."""
        avatar = MlpBodyAvatar(self.trainer.model)
        self.trainer.model.requires_grad_(True)
        return avatar

    def step(self, views: int) -> None:
        """What the training loop does for one batch."""
        batch = self.pictures.batch(self.sampler.batch(views), self.sampler.backgrounds(views, "random"))
        terms = self.trainer.losses(batch, AFTER_ALL_STAGES)
        self.optimiser.step(torch.stack(list(terms.values())).sum(), 1.0)

    def acts(self, views: int) -> tuple[Callable[[], None], ...]:
        """Bare rasteriser forward and backward on `views` pictures, forward on one; posing; posing and picture."""
        shown, cameras, avatar = self.pictures.frames.cpu(), self.pictures.cameras, self.finished()
        of_frame = [row for row, frame in enumerate(shown.tolist()) if frame == 0][:views]
        seen = replace(cameras, K=cameras.K[of_frame], camera_from_world=cameras.camera_from_world[of_frame])
        one, pose, cuda = self._lens(cameras, 0), self.drive(0), self.device.type == "cuda"
        behind = torch.rand(views, 3, device=self.device)
        with torch.no_grad():
            posed = avatar.pose(*pose, normals=False).seen_from(one.positions())
        leaves = [getattr(posed, name).contiguous() for name in ("means", "quats", "scales", "opacities", "colours")]
        spread = [leaf.expand(views, *leaf.shape[1:]).contiguous() for leaf in leaves]
        draw = torch.rand(views, self.size_px, self.size_px, 3, device=self.device)
        raw = raw_gsplat if cuda else raw_cpu

        def both() -> None:
            grown = [leaf.detach().requires_grad_() for leaf in spread]
            torch.autograd.grad(raw(grown, seen, behind), grown, draw)

        def forward() -> None:
            with torch.no_grad():
                raw(leaves, one, behind[:1])

        def place() -> None:
            avatar.pose(*pose, normals=False)

        def render() -> None:
            with torch.no_grad():
                found = avatar.pose(*pose, normals=False).seen_from(one.positions())
                rasterise(found, one, found.colours, background=behind[:1], depth=False, finite=cuda)

        return both, forward, place, render

    def begin(self, views: int) -> None:
        """Make ready for steps of so many views, and take a few."""
        shown = self.pictures.frames.cpu()
        self.sampler = Sampler(len(shown), 0, shown, views)
        self.trainer.config = replace(self.config, schedule=replace(self.config.schedule, views=views, batch=views))
        for _ in range(WARM_UP_STEPS if self.device.type == "cuda" else 1):
            self.step(views)

    def row(self, views: int, seconds: float) -> BodyRow:
        """Measure one number of views."""
        cuda = self.device.type == "cuda"
        self.begin(views)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        step_ms = median_ms(lambda: self.step(views), seconds, self.device)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if cuda else 0.0
        acts = self.acts(views)
        raw_ms, forward_ms, pose_ms, render_ms = (median_ms(act, seconds, self.device) for act in acts)
        return BodyRow(
            len(self.trainer.model),
            self.size_px,
            views,
            raw_ms,
            step_ms,
            step_ms / raw_ms,
            1000 / step_ms,
            1000 * views / step_ms,
            forward_ms,
            pose_ms,
            render_ms,
            render_ms / forward_ms,
            1000 / render_ms,
            peak,
        )


def dancing_capture(size_px: int) -> Capture:
    """A capture without pictures: eight poses of the open template seen by eight cameras around it."""
    reference = reference_of("effigy_human", preset="woman", view="body")
    arrays = reference.open()
    rng = np.random.default_rng(0)
    turned = np.zeros((POSES, len(arrays.joint_names), 3), np.float32)
    for name, spread in (("shoulder", 0.5), ("elbow", 0.4), ("hip", 0.3), ("knee", 0.3), ("index1", 0.4)):
        for side in ("left", "right"):
            turned[:, arrays.joint_names.index(f"{side}_{name}")] = spread * rng.normal(size=(POSES, 3))
    expressions = rng.uniform(0, 0.4, (POSES, len(arrays.expression_names)))
    cameras = [_ring_camera(size_px, 2 * np.pi * index / CAMERAS) for index in range(CAMERAS)]
    images = [
        CaptureImage(Path(f"{camera}_{frame}"), camera, frame, "train")
        for camera in range(CAMERAS)
        for frame in range(POSES)
    ]
    return Capture(
        name="benchmark",
        kind="body",
        subject="benchmark",
        licence="CC0-1.0",
        synthetic=True,
        template=reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=Motion(turned, np.zeros((POSES, 3)), expressions, 25.0),
        cameras=tuple(cameras),
        camera_names=tuple(str(index) for index in range(CAMERAS)),
        images=tuple(images),
    )


def _ring_camera(size_px: int, angle_rad: float) -> Camera:
    """A camera that sees the whole body from the height of its root."""
    place = DISTANCE_M * np.array([np.sin(angle_rad), -np.cos(angle_rad), 0.0])
    forward = -place / DISTANCE_M
    right = np.cross(forward, (0.0, 0.0, 1.0))
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(forward, right), forward), 1)
    pose[:3, 3] = place
    focal_px = size_px * DISTANCE_M / VIEW_M
    K = np.array([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]])
    return Camera(size_px, size_px, K, pose)


@dataclass(frozen=True)
class TrainedRow:
    """A training run: held-out PSNR at its start and end, and when 95 % of the gain was there, training time alone.

    poses_db: at its end, of held-out poses.
    """

    preset: str
    seconds: float
    images: int
    start_db: float
    final_db: float
    seconds_to_95_percent: float
    poses_db: float


def gain_time_s(curve: Sequence[tuple[float, float]], share: float = 0.95) -> float:
    """When a curve of (seconds, dB) first reached this share of the way from its first to its best value.

    Straight between points; 0 for a curve that gains nothing.
    """
    if len(curve) < 2:
        return 0.0
    first, best = curve[0][1], max(value for _, value in curve)
    wanted = first + share * (best - first)
    before_s, before = curve[0]
    for now_s, now in curve:
        if now >= wanted:
            return now_s if now == before else before_s + (wanted - before) / (now - before) * (now_s - before_s)
        before_s, before = now_s, now
    return curve[-1][0]


def timed_training(
    preset: str,
    capture: Capture,
    folder: Path,
    device: str,
    overrides: dict[str, str],
    tell: Callable[[Any], None],
) -> TrainedRow:
    """Train with a preset and say how long 95 % of the final gain in held-out PSNR took. Raises EffigyError."""
    from avatars.training.config import load_config
    from avatars.training.loop import train

    begun = time.monotonic()
    config = load_config(preset, {"reporting.curve_points": "40"} | overrides)
    result = train(config, capture, folder, name="benchmark", device=device, on_event=tell)
    points = [(float(point["seconds"]), float(point["psnr_db"])) for point in result.metrics["curve"]]
    points.append((float(result.metrics["training_seconds"]), float(result.metrics["psnr_db"])))
    seconds = float(result.metrics.get("training_seconds", time.monotonic() - begun))
    images = int(result.metrics["images"])
    poses_db = float(result.metrics.get("psnr_db_poses", result.metrics["psnr_db"]))
    return TrainedRow(preset, seconds, images, points[0][1], points[-1][1], gain_time_s(points), poses_db)


def as_json(rows: Sequence[BodyRow | TrainedRow]) -> list[dict[str, Any]]:
    """Rows as JSON values."""
    return [asdict(row) for row in rows]


HEADER = (
    "Gaussians   image  views | raw f+b ms  step ms  ratio  steps/s  images/s"
    " | raw fwd ms  pose ms  render ms  ratio     FPS | peak GiB"
)


def line(row: BodyRow) -> str:
    """One row as text under `HEADER`."""
    return (
        f"{row.gaussians:>9}  {row.size_px:>5}²  {row.views:>5} | {row.raw_forward_backward_ms:>10.2f}"
        f"  {row.step_ms:>7.2f}  {row.step_ratio:>5.2f}  {row.steps_per_s:>7.1f}  {row.images_per_s:>8.1f}"
        f" | {row.raw_forward_ms:>10.3f}  {row.pose_ms:>7.3f}  {row.render_ms:>9.3f}  {row.render_ratio:>5.2f}"
        f"  {row.frames_per_s:>6.0f} | {row.peak_gib:>8.2f}"
    )
