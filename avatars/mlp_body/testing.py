"""What MMLPHuman's test does: a body through its capture's cameras beside the truth, or in novel poses (page A.11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.evaluation.frames import Shot, capture_shots, over, render_shots
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.training.evaluation import METRICS, MS_SSIM_SIDE_PX, as_uint8
from avatars.training.inception import Inception, frechet_distance
from avatars.training.lpips import Lpips
from shared.errors import BadAvatar, BadCapture
from shared.motions import SMPLX_JOINTS, SmplMotion, in_model_axes, likely_up
from shared.types import Camera, Motion, Rig

LPIPS_PX, FID_MARGIN_PX = 512, 50
FOLDERS = ("gt", "result", "mask")


def as_body(avatar: Avatar, *, clamped: bool) -> MlpBodyAvatar:
    """The avatar as a body whose novel poses are clamped or not. Raises BadAvatar for another kind of avatar."""
    if not isinstance(avatar, MlpBodyAvatar):
        raise BadAvatar("this avatar is no body of MMLPHuman's kind", found=avatar.method, expected="mlp_body")
    avatar.clamped = clamped
    return avatar


def motion_for(rig: Rig, motion: SmplMotion, up: str = "", every: int = 1) -> tuple[Motion, str]:
    """A file's motion on a rig, and the file's up axis (told, or found from the body). every: keep each n-th frame.

    Expressions are carried over where the rig has as many as the file (SMPL-X templates); else they stay neutral.
    Raises BadCapture where the rig has none of the body's joints.
    """
    up = up or likely_up(motion)
    turned, pelvis = in_model_axes(motion, up)
    frames = slice(None, None, every)
    known = [name for name in rig.joint_names if name in SMPLX_JOINTS]
    if "pelvis" not in known:
        raise BadCapture(
            f"{motion.name} cannot drive this avatar", found="a rig without a pelvis", expected="a body's joints"
        )
    rotations = np.zeros((len(motion), len(rig.joint_names), 3), np.float32)
    for name in known:
        rotations[:, rig.joint_names.index(name)] = turned[:, SMPLX_JOINTS.index(name)]
    place = pelvis - rig.rest_joints[rig.joint_names.index("pelvis")]
    expressions = np.zeros((len(motion), len(rig.expression_names)), np.float32)
    if motion.expressions.shape[1] == expressions.shape[1]:
        expressions[:] = motion.expressions
    fps = (motion.fps or 30.0) / every
    return Motion(rotations[frames], place[frames].astype(np.float32), expressions[frames], fps), up


def body_view(vertices: NDArray[np.float32], motion: Motion, width_px: int, height_px: int) -> Camera:
    """A camera before the place where a motion happens, far enough to see all of it. vertices: [V, 3] m at rest."""
    low, high = vertices.min(0) + motion.translations.min(0), vertices.max(0) + motion.translations.max(0)
    centre = (low + high) / 2
    fov = 0.6
    reach = max((high[2] - low[2]) / 2, (high[0] - low[0]) / 2 * height_px / width_px)
    distance = 1.15 * reach / np.tan(fov / 2) + (high[1] - low[1]) / 2
    pose = np.eye(4)
    pose[:3, :3] = np.array(((1.0, 0, 0), (0, 0, 1), (0, -1, 0)))
    pose[:3, 3] = centre - (0, distance, 0)
    focal = height_px / 2 / np.tan(fov / 2)
    K = np.array([[focal, 0, width_px / 2], [0, focal, height_px / 2], [0, 0, 1.0]])
    return Camera(width_px, height_px, K, pose)


def render_motion(
    avatar: MlpBodyAvatar, motion: Motion, camera: Camera, folder: Path, device: str, tell: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    """Write each frame over white as eight-digit PNGs into `folder` and give it out, [H, W, 3] uint8."""
    shots = [Shot(frame, camera) for frame in range(len(motion))]
    for number, drawn in enumerate(render_shots(avatar, motion, shots, device, 1)):
        picture = as_uint8(over(drawn, 1.0)[0])
        _save(folder / f"{number:08d}.png", picture)
        tell(number + 1)
        yield picture


def compare(
    avatar: MlpBodyAvatar,
    capture: Capture,
    images: Sequence[int],
    folder: Path,
    device: str,
    *,
    longest_px: int,
    lpips: Lpips | None,
    inception: Inception | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Render pictures of a capture beside the truth into gt/, result/ and mask/, and the means of their metrics.

    PSNR, SSIM and FLIP on whole pictures over white; LPIPS on the square around the mask, resized to 512, as the
    original's evaluation does. FID between all pictures and all truths, cut 50 px around the mask and brought to 512,
    as AnimatableGaussians measures it; two pictures at least.
    """
    size = capture.train_size(longest_px)
    shots = capture_shots(capture, images, longest_px)
    cameras = {capture.images[index].camera for index in images}
    values: dict[str, list[float]] = {}
    features: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    drawings = render_shots(avatar, capture.motion, shots, device, 1)
    for number, (index, drawn) in enumerate(zip(images, drawings, strict=True)):
        rgba = torch.from_numpy(capture.rgba(index, size)).to(device).float()[None] / 255
        model, truth = over(drawn, 1.0).clamp(0, 1), over(rgba, 1.0)
        image = capture.images[index]
        inner = "" if len(cameras) == 1 else capture.camera_names[image.camera]
        for name, picture in zip(FOLDERS, (truth[0], model[0], rgba[0, ..., 3]), strict=True):
            (folder / name / inner).mkdir(parents=True, exist_ok=True)
            _save(folder / name / inner / f"{image.frame:08d}.png", as_uint8(picture))
        for name, metric in METRICS.items():
            if name != "ms_ssim" or min(size) >= MS_SSIM_SIDE_PX:
                values.setdefault(name, []).append(float(metric(model, truth).clamp_max(100.0)))
        if lpips is not None:
            pair = (around_mask(picture, rgba[0, ..., 3]) for picture in (model, truth))
            values.setdefault("lpips", []).append(float(lpips(*pair)))
        if inception is not None:
            for kept, picture in zip(features, (model, truth), strict=True):
                cut = around_mask(picture, rgba[0, ..., 3], FID_MARGIN_PX).clamp(0, 1)
                with torch.no_grad():
                    kept.append(inception((cut * 255).round() / 255)[0].cpu().numpy())
        tell(number + 1)
    means = {name: float(np.mean(numbers)) for name, numbers in values.items()}
    if len(features[0]) > 1:
        means["fid"] = frechet_distance(*(np.stack(kept) for kept in features))
    return means


def around_mask(picture: torch.Tensor, alpha: torch.Tensor, margin_px: int = 0) -> torch.Tensor:
    """The square of a picture [1, H, W, 3] around what alpha [H, W] covers, at 512 px; all of it where nothing is."""
    rows, columns = torch.nonzero(alpha.amax(1) > 0.5)[:, 0], torch.nonzero(alpha.amax(0) > 0.5)[:, 0]
    height, width = alpha.shape
    if len(rows):
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        side = min(max(bottom - top, right - left) + 2 * margin_px, height, width)
        top = min(max((top + bottom - side) // 2, 0), height - side)
        left = min(max((left + right - side) // 2, 0), width - side)
        picture = picture[:, top : top + side, left : left + side]
    channels = picture.permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(channels, (LPIPS_PX, LPIPS_PX), mode="bilinear", antialias=True)
    return found.permute(0, 2, 3, 1)


def timed(avatar: MlpBodyAvatar, motion: Motion, shots: Sequence[Shot], device: str) -> tuple[float, float]:
    """Milliseconds of all pictures and pictures a second: posed, drawn, brought to bytes, each waited for.

    One picture is made before the clock starts.
    """

    def one(shot: Shot) -> None:
        drawn = next(render_shots(avatar, motion, [shot], device, 1))
        (over(drawn, 1.0).clamp(0, 1) * 255).to(torch.uint8)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    one(shots[0])
    begun = time.perf_counter()
    for shot in shots:
        one(shot)
    seconds = time.perf_counter() - begun
    return 1000 * seconds, len(shots) / seconds


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    Image.fromarray(picture).save(path)
