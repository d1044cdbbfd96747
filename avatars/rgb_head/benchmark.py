"""How fast heads train and render, beside the bare rasteriser on the same Gaussians, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.objective import HeadObjective
from avatars.templates.opening import TemplateReference, embedded_template
from avatars.training.config import TrainConfig
from avatars.training.data import Pictures
from avatars.training.optimiser import Optimiser
from avatars.training.sampler import Sampler

COUNTS, SIZES_PX, BATCHES = (15_000, 60_000, 120_000), (512, 1024), (1, 4, 10, 20)
POSES, WARM_UP_STEPS, ROUNDS = 40, 60, 5
DISTANCE_M, VIEW_M, FROM_HEAD_JOINT_M = 1.1, 0.40, (0.0, -1.1, 0.06)


@dataclass(frozen=True)
class HeadRow:
    """One size. Times are medians in ms of a whole batch; raw_* is the bare rasteriser on the very same Gaussians.

    step: batch, pose, picture, losses, backward, Adam. render: from joint rotations and expressions to pixels on the
    device, a picture a call. peak_mib: of the device's memory while training, images included (0 on the CPU).
    """

    gaussians: int
    size_px: int
    batch: int
    raw_forward_backward_ms: float
    step_ms: float
    step_ratio: float
    images_per_s: float
    raw_forward_ms: float
    render_ms: float
    render_ratio: float
    frames_per_s: float
    peak_mib: float


def run_head_benchmark(
    counts: Sequence[int] = COUNTS,
    sizes_px: Sequence[int] = SIZES_PX,
    batches: Sequence[int] = BATCHES,
    *,
    losses: dict[str, float] | None = None,
    seconds: float = 0.6,
    device: str = "cpu",
) -> Iterator[HeadRow]:
    """A row for each combination, measured one after the other on heads of the embedded template.

    losses: weights other than plain L1. seconds: about how long each of five timings takes.
    """
    for count in counts:
        for size_px in sizes_px:
            bench = HeadBench(count, size_px, losses or {}, device)
            for batch in batches:
                yield bench.row(batch, seconds)
            del bench


class HeadBench:
    """One head of the embedded template with pictures to learn from, stepped as the training loop does."""

    def __init__(
        self,
        count: int,
        size_px: int,
        losses: dict[str, float],
        device: str,
        *,
        warm_up: int = WARM_UP_STEPS,
        deltas_from: int = 0,
    ) -> None:
        self.device, self.size_px = torch.device(device), size_px
        arrays = embedded_template("bust")
        reference = TemplateReference(arrays.template_id, arrays.digest, arrays.view, "man")
        draw = torch.Generator().manual_seed(0)
        joints, expressions = len(arrays.joint_names), len(arrays.expression_names)
        turned = torch.zeros(POSES, joints, 3)
        for name, spread in (("neck", 0.15), ("head", 0.25), ("jaw", 0.1)):
            turned[:, arrays.joint_names.index(name)] = spread * torch.randn(POSES, 3, generator=draw)
        self.motion = (turned, torch.zeros(POSES, 3), 0.4 * torch.rand(POSES, expressions, generator=draw))
        shape = RgbHeadConfig(target_gaussians=count)
        model = new_head(
            reference, shape, seed=0, rotations=turned.numpy(), expressions=self.motion[2].numpy()
        ).moved_to(device)
        with torch.no_grad():
            model.colours.copy_(0.8 * torch.randn(model.colours.shape, generator=draw).to(self.device))
            model.seen.fill_(True)
        self.model = model
        config = TrainConfig(size_px=size_px, model=shape)
        config = replace(
            config, losses=replace(config.losses, **losses), schedule=replace(config.schedule, deltas_from=deltas_from)
        )
        self.config, self.objective = config, HeadObjective(config, model, record=True)
        self.optimiser, self.sampler = Optimiser(self.objective.parameters()), Sampler(POSES, 0)
        self.avatar = RgbHeadAvatar(model)
        model.requires_grad_(True)
        drive = [part.to(self.device) for part in self.motion]
        with torch.no_grad():
            self.theta, self.vertices = model.theta(*drive), model.head.posed_vertices(*drive)
        self.pictures = self._pictures()
        for _ in range(warm_up if self.device.type == "cuda" else 2):
            self.step(4)

    def _cameras(self, count: int) -> CameraBatch:
        """`count` cameras before the face, all alike."""
        at = self.model.head.template.arrays.joint_names.index("head")
        eye = self.model.head.joints[at].cpu() + torch.tensor(FROM_HEAD_JOINT_M)
        pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        pose[:3, 3] = -pose[:3, :3] @ eye
        focal_px = self.size_px * DISTANCE_M / VIEW_M
        K = torch.tensor([[focal_px, 0, self.size_px / 2], [0, focal_px, self.size_px / 2], [0, 0, 1]])
        both = (part.expand(count, -1, -1).to(self.device).contiguous() for part in (K, pose))
        return CameraBatch(*both, self.size_px, self.size_px)

    def _pictures(self) -> Pictures:
        """Pictures of the head itself in every pose, in other colours, so that there is something to learn."""
        cameras, shown = self._cameras(1), []
        for frame in range(POSES):
            posed = self.posed(torch.tensor([frame], device=self.device))
            with torch.no_grad():
                image = rasterise(posed, cameras, posed.colours.flip(-1), depth=False)
            rgba = torch.cat((image.features.clamp(0, 1), image.alpha[..., None]), -1)
            shown.append((rgba[0] * 255).to(torch.uint8))
        frames = torch.arange(POSES, device=self.device)
        return Pictures(torch.stack(shown), self._cameras(POSES), frames, self.device)

    def posed(self, frames: Tensor) -> PosedGaussians:
        """The model's Gaussians in some frames, without gradients."""
        with torch.no_grad():
            surface = self.model.surface(self.vertices, frames)
            return self.model.place(surface, self.model.weights(self.theta[frames]), hide_unseen=False)

    def step(self, size: int) -> None:
        """What the training loop does for one batch."""
        batch = self.pictures.batch(self.sampler.batch(size), self.sampler.backgrounds(size, "random"))
        surface = self.model.surface(self.vertices, batch.frames)
        terms = self.objective.losses(self.theta[batch.frames], surface, batch, 1.0)
        self.optimiser.step(torch.stack(list(terms.values())).sum(), 1.0)

    def row(self, size: int, seconds: float) -> HeadRow:
        """Measure one batch size."""
        cuda = self.device.type == "cuda"
        frames = torch.arange(size, device=self.device) % POSES
        posed, cameras = self.posed(frames), self._cameras(size)
        leaves = [getattr(posed, name).contiguous() for name in ("means", "quats", "scales", "opacities", "colours")]
        draw = torch.rand(size, self.size_px, self.size_px, 3, device=self.device) / leaves[0].numel()
        backgrounds = torch.rand(size, 3, device=self.device)
        raw = raw_gsplat if cuda else raw_cpu

        def forward() -> None:
            with torch.no_grad():
                raw([leaf[:1] for leaf in leaves], self._one, backgrounds[:1])

        def both() -> None:
            grown = [leaf.detach().requires_grad_() for leaf in leaves]
            torch.autograd.grad(raw(grown, cameras, backgrounds), grown, draw)

        self._one = self._cameras(1)
        pose = [part[:1].to(self.device) for part in self.motion]

        def render() -> None:
            with torch.no_grad():
                found = self.avatar.pose(*pose, normals=False)
                rasterise(found, self._one, found.colours, background=backgrounds[:1], depth=False, finite=cuda)

        raw_ms = median_ms(both, seconds, self.device)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        step_ms = median_ms(lambda: self.step(size), seconds, self.device)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if cuda else 0.0
        forward_ms, render_ms = (median_ms(act, seconds, self.device) for act in (forward, render))
        return HeadRow(
            len(self.model),
            self.size_px,
            size,
            raw_ms,
            step_ms,
            step_ms / raw_ms,
            1000 * size / step_ms,
            forward_ms,
            render_ms,
            render_ms / forward_ms,
            1000 / render_ms,
            peak,
        )


def raw_gsplat(parts: Sequence[Tensor], cameras: CameraBatch, backgrounds: Tensor) -> Tensor:
    """One plain call of gsplat with its own defaults, as its documentation shows."""
    from gsplat import rasterization

    image, _, _ = rasterization(
        *parts,
        cameras.camera_from_world[:, None],
        cameras.K[:, None],
        cameras.width_px,
        cameras.height_px,
        packed=False,
        backgrounds=backgrounds[:, None],
    )
    found: Tensor = image[:, 0]
    return found


def raw_cpu(parts: Sequence[Tensor], cameras: CameraBatch, backgrounds: Tensor) -> Tensor:
    """The same on the CPU: our own rasteriser by itself."""
    posed = PosedGaussians(*parts)
    return rasterise(posed, cameras, posed.colours, background=backgrounds).features


def median_ms(act: Callable[[], Any], seconds: float, device: torch.device) -> float:
    """Median over five rounds of the mean time of one call; calls of a round follow each other as they do in use."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    act()
    wait()
    begun = time.perf_counter()
    act()
    wait()
    calls = max(1, min(2000, round(seconds / max(time.perf_counter() - begun, 1e-6) / ROUNDS)))
    means = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(calls):
            act()
        wait()
        means.append(1000 * (time.perf_counter() - begun) / calls)
    return statistics.median(means)


def as_json(rows: Sequence[HeadRow]) -> list[dict[str, Any]]:
    """Rows as JSON values."""
    return [asdict(row) for row in rows]


HEADER = (
    "Gaussians  image  batch | raw f+b ms  step ms  ratio  images/s | raw fwd ms  render ms  ratio     FPS |  peak MiB"
)


def line(row: HeadRow) -> str:
    """One row as text under `HEADER`."""
    return (
        f"{row.gaussians:>9}  {row.size_px:>4}²  {row.batch:>5} | {row.raw_forward_backward_ms:>10.2f}"
        f"  {row.step_ms:>7.2f}  {row.step_ratio:>5.2f}  {row.images_per_s:>8.0f} | {row.raw_forward_ms:>10.3f}"
        f"  {row.render_ms:>9.3f}  {row.render_ratio:>5.2f}  {row.frames_per_s:>6.0f} | {row.peak_mib:>9.0f}"
    )
