"""How fast a relightable person is posed, blended and lit, beside the bare rasteriser on the same surfels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.lighting.prefilter import FilteredLight, filtered_environment
from avatars.lit_pixels import FIXED, lamps_of, lit_pictures
from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.graphed import RelitPictures
from avatars.relit_body.painted import PaintedTeacher, painted_avatar
from avatars.rendering import CameraBatch, rasterise_surfels
from avatars.rgb_head.benchmark import median_ms
from avatars.templates.big_pose import big_pose_rotations
from avatars.templates.opening import reference_of
from shared.types import Camera, Environment

SIZE_PX, SURFELS, MAP_ROWS = 540, 50_000, 512
DISTANCE_M, VIEW_M = 3.0, 2.1


@dataclass(frozen=True)
class RelitRow:
    """One size; times are medians in ms of one picture in a pose the avatar was not trained in.

    raw: the bare rasteriser on the very same surfels with three colour channels. rows: posing, probes and what is
    blended; blend: the rasteriser with all channels; shade: lighting every pixel; render: all of them, from joint
    rotations to linear light on the device. lamps: with a sun beside the map. environment: a new map of 512 x 1024 to
    the first picture in it.
    """

    surfels: int
    size_px: int
    raw_ms: float
    rows_ms: float
    blend_ms: float
    shade_ms: float
    render_ms: float
    render_ratio: float
    frames_per_s: float
    lamps_ms: float
    environment_ms: float


def sample_avatar(surfels: int = SURFELS, device: str = "cpu", probe_side: int = 20) -> RelitAvatar:
    """The open template's woman with painted materials, for timing without a trained person."""
    reference = reference_of("effigy_human", preset="woman", view="body")
    rotations = big_pose_rotations(reference.open().joint_names)
    sky = Environment(np.full((16, 32, 3), 0.6, np.float32))
    teacher = PaintedTeacher(reference, torch.from_numpy(np.array(rotations)), sky)
    return painted_avatar(teacher, surfels, probe_side).to(device)


def unseen_pose(avatar: RelitAvatar, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A bent pose [1, J, 3], [1, 3], [1, E] on the avatar's device."""
    person, device = avatar.surfels.person, avatar.surfels.positions.device
    names = person.arrays.joint_names
    turns = np.zeros((1, len(names), 3), np.float32)
    rng = np.random.default_rng(seed)
    for joint in ("shoulder", "elbow", "hip", "knee", "spine2"):
        for side in ("left_", "right_", ""):
            if side + joint in names:
                turns[0, names.index(side + joint)] = 0.35 * rng.normal(size=3)
    expressions = torch.zeros(1, len(person.arrays.expression_names), device=device)
    return torch.from_numpy(turns).to(device), torch.zeros(1, 3, device=device), expressions


def front_camera(size_px: int) -> Camera:
    """The whole person from the front."""
    pose = np.array([[1, 0, 0, 0], [0, 0, 1, -DISTANCE_M], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    focal_px = size_px * DISTANCE_M / VIEW_M
    return Camera(size_px, size_px, np.array([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]]), pose)


def sky(rows: int, seed: int = 0, lamps: int = 0) -> Environment:
    """A map of uneven light, and suns beside it."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(lamps, 3))
    lights = np.concatenate([directions, np.full((lamps, 3), 2.0), np.full((lamps, 1), 0.005)], 1).astype(np.float32)
    return Environment(rng.uniform(0, 2, (rows, 2 * rows, 3)).astype(np.float32), lights=lights)


def measure(avatar: RelitAvatar, *, device: str, size_px: int = SIZE_PX, seconds: float = 1.0) -> RelitRow:
    """Time one avatar, which must be on `device`. seconds: about how long each timing takes."""
    where = torch.device(device)
    pose, camera = unseen_pose(avatar), CameraBatch.from_cameras([front_camera(size_px)], where)
    pictures = RelitPictures(avatar)
    light, lit = (filtered_environment(sky(64, lamps=lamps), where) for lamps in (0, 1))

    def timed(act: Callable[[], Any]) -> float:
        with torch.no_grad():
            return median_ms(act, seconds, where)

    def rows() -> Any:
        return pictures.rows(*pose, camera.positions(), light)

    with torch.no_grad():
        posed, found = rows()
        image = rasterise_surfels(posed, camera, found, finite=True)
    colours = posed.colours.contiguous()
    raw_ms = timed(lambda: raw(posed.means, posed.quats, posed.scales, posed.opacities, colours, camera))
    seeds = iter(range(1, 1 << 30))

    def changed() -> None:
        pictures(*pose, camera, filtered_environment(sky(MAP_ROWS, next(seeds)), where))

    parts = (
        timed(rows),
        timed(lambda: rasterise_surfels(posed, camera, found, finite=True)),
        timed(lambda: _lit(image, camera, light)),
    )
    render_ms = timed(lambda: pictures(*pose, camera, light))
    made_ms = timed(lambda: sky(MAP_ROWS, next(seeds)))  # drawing random numbers is not what is asked
    return RelitRow(
        len(avatar.surfels),
        size_px,
        raw_ms,
        *parts,
        render_ms,
        render_ms / raw_ms,
        1000 / render_ms,
        timed(lambda: pictures(*pose, camera, lit)),
        max(timed(changed) - made_ms, 0.0),
    )


def profile(avatar: RelitAvatar, *, device: str, size_px: int = SIZE_PX, pictures: int = 20) -> str:
    """torch.profiler's table of so many pictures, by the time kernels take; then of a new map."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    where = torch.device(device)
    pose, camera = unseen_pose(avatar), CameraBatch.from_cameras([front_camera(size_px)], where)
    make, light = RelitPictures(avatar), filtered_environment(sky(64), where)
    order = "self_cuda_time_total" if where.type == "cuda" else "self_cpu_time_total"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if where.type == "cuda" else [])]
    tables = []
    for act in (lambda: make(*pose, camera, light), lambda: filtered_environment(sky(MAP_ROWS), where)):
        for _ in range(3):
            act()
        with profiled(activities=kinds) as found:
            for _ in range(pictures):
                act()
            if where.type == "cuda":
                torch.cuda.synchronize(where)
        tables.append(found.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=70))
    return "\n".join(tables)


def _lit(image: Any, camera: CameraBatch, light: FilteredLight) -> Tensor:
    normal = FIXED + lamps_of(light)
    return lit_pictures(image.features, image.alpha, camera, light, surface=0, normal=normal)


def raw(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colours: Tensor, camera: CameraBatch
) -> Tensor:
    """gsplat's 2D Gaussians called bare on CUDA, our rasteriser elsewhere: three colours [B, H, W, 3]."""
    if not means.is_cuda:
        from avatars.gaussians.posed import PosedGaussians

        posed = PosedGaussians(means, quats, scales, opacities, colours)
        return rasterise_surfels(posed, camera, colours, finite=True).features
    from gsplat import rasterization_2dgs

    return rasterization_2dgs(  # type: ignore[no-any-return]
        means=means[0],
        quats=quats[0],
        scales=scales[0],
        opacities=opacities[0],
        colors=colours,  # [C, N, 3]: gsplat's 2D Gaussians take them for each camera
        viewmats=camera.camera_from_world,
        Ks=camera.K,
        width=camera.width_px,
        height=camera.height_px,
        near_plane=camera.near_m,
        packed=False,
    )[0]


HEADER = " Surfels   size | raw 2DGS  pose+rows   blend   shade  render ms  ratio    FPS | with a sun | new map, ms"


def line(row: RelitRow) -> str:
    """One row as text under `HEADER`."""
    return (
        f"{row.surfels:>8}  {row.size_px:>4}² | {row.raw_ms:>8.3f}  {row.rows_ms:>9.3f}  {row.blend_ms:>6.3f}"
        f"  {row.shade_ms:>6.3f}  {row.render_ms:>9.3f}  {row.render_ratio:>5.2f}  {row.frames_per_s:>5.0f}"
        f" | {row.lamps_ms:>10.3f} | {row.environment_ms:>11.1f}"
    )


def as_json(row: RelitRow) -> dict[str, Any]:
    """The row as JSON values."""
    return asdict(row)
