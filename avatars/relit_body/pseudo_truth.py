"""Pictures of a teacher on disk, rendered once ahead of the distillation (method page C.5 and D).

    pseudo_truth.json   what was asked for      poses.npz   poses and cameras of all rows
    images/0000-pbr_rgb.png RGBA, -pbr_albedo (sRGB), -normal (OpenGL camera), -pbr_roughness, -pbr_metallic, -depth

A folder that was stopped goes on where it was: each row is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from avatars.captures.capture import Capture, scaled_camera
from avatars.files import write_atomically
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.picture_files import open_picture
from avatars.relit_body.pose_set import PoseSet
from avatars.relit_body.teacher import Teacher, TeacherImages, in_poses_of
from avatars.rendering.cameras import CameraBatch
from shared.errors import BadCapture, Cancelled
from shared.npz import read_npy, read_npz
from shared.types import Camera

FORMAT, VERSION = "effigy-pseudo-truth", 1
DESCRIPTION, POSES, FOLDER, COLOUR = "pseudo_truth.json", "poses.npz", "images", "pbr_rgb"
MAPS = ("pbr_albedo", "normal", "pbr_roughness", "pbr_metallic")
MAX_BYTES = 1 << 28
WRITERS, PNG_LEVEL = 8, 2


def render_pseudo_truth(
    teacher: Teacher,
    capture: Capture,
    poses: PoseSet | None,
    folder: Path,
    *,
    longest_px: int,
    training: bool = True,
    identity: str = "",
    tell: Callable[[int, int], None] = lambda done, of: None,
    wanted: Callable[[], bool] = lambda: True,
) -> int:
    """Render every training picture's pose and camera, then `poses`; returns how many rows there are.

    longest_px: longest side. identity: what else decides the pictures (the teacher's digest). wanted: asked between
    rows, False stops with Cancelled and keeps what was rendered. Raises BadCapture where the folder holds another
    set or the teacher is of another template.
    """
    if teacher.template() != capture.template:
        raise BadCapture(
            f"the teacher is of another template or person than capture {capture.name!r}",
            found=f"{teacher.template().template_id} {teacher.template().preset}".strip(),
            expected=f"{capture.template.template_id} {capture.template.preset}".strip(),
            do="Give the capture it was trained on",
        )
    capture = in_poses_of(teacher, capture)
    images = capture.split("train") if training else ()
    size = capture.train_size(longest_px)
    cameras = [capture.camera_of(index, size) for index in images]
    frames = [capture.images[index].frame for index in images]
    rotations, translations = [capture.motion.rotations[frames]], [capture.motion.translations[frames]]
    if poses is not None:
        factor = min(1.0, longest_px / max(poses.camera.width_px, poses.camera.height_px))
        side = round(poses.camera.width_px * factor), round(poses.camera.height_px * factor)
        cameras += [scaled_camera(poses.camera, side)] * len(poses)
        rotations.append(poses.rotations)
        translations.append(poses.translations)
    if not cameras:
        raise BadCapture("there is nothing to render", expected="training pictures or poses")
    rows = _Rows(
        np.concatenate(rotations).astype(np.float32),
        np.concatenate(translations).astype(np.float32),
        np.stack([camera.K for camera in cameras]),
        np.stack([camera.world_from_camera for camera in cameras]),
        np.array([(camera.width_px, camera.height_px) for camera in cameras]),
    )
    document = {
        "format": FORMAT,
        "version": VERSION,
        "training": len(images),
        "rows": len(cameras),
        "expressions": len(capture.expression_names),
        "digest": rows.digest(identity),
    }
    _begin(folder, document, rows)
    device = teacher.canonical_rotations.device
    missing = [row for row in range(len(cameras)) if not (folder / FOLDER / f"{row:04d}-{COLOUR}.png").is_file()]
    done = len(cameras) - len(missing)
    tell(done, len(cameras))
    # Packing and syncing files takes as long as rendering does on a fast device: threads do it meanwhile.
    under_way: deque[Future[None]] = deque()
    with ThreadPoolExecutor(WRITERS) as writers:
        for row in missing:
            if not wanted():
                break
            found = teacher.images(
                torch.from_numpy(rows.rotations[row : row + 1]).to(device),
                torch.from_numpy(rows.translations[row : row + 1]).to(device),
                torch.zeros(1, len(capture.expression_names), device=device),
                CameraBatch.from_cameras([cameras[row]], device),
            )
            maps = row_maps(found, cameras[row])
            under_way.append(writers.submit(write_maps, folder / FOLDER, row, maps))
            while under_way and (len(under_way) > 2 * WRITERS or under_way[0].done()):
                under_way.popleft().result()
                done += 1
                tell(done, len(cameras))
        for writing in under_way:
            writing.result()
            done += 1
            tell(done, len(cameras))
    if done < len(cameras):
        raise Cancelled(f"Stopped after {done} of {len(cameras)} pictures; the same command goes on")
    return len(cameras)


@dataclass(frozen=True, eq=False)
class _Rows:
    rotations: NDArray[np.float32]
    translations: NDArray[np.float32]
    K: NDArray[np.float64]
    world_from_camera: NDArray[np.float64]
    size_px: NDArray[np.int64]

    def digest(self, identity: str) -> str:
        found = hashlib.sha256(identity.encode())
        for value in vars(self).values():
            found.update(np.ascontiguousarray(value).tobytes())
        return found.hexdigest()


def _begin(folder: Path, document: dict[str, Any], rows: _Rows) -> None:
    path = folder / DESCRIPTION
    if path.is_file():
        if _document(path) != document:
            raise BadCapture(
                f"{folder.name} holds other pseudo ground truth", do="Choose another folder, or delete that one"
            )
        return
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, **vars(rows))
    write_atomically(folder / POSES, content.getvalue())
    write_atomically(path, json.dumps(document, indent=1).encode())


def row_maps(images: TeacherImages, camera: Camera) -> dict[str, NDArray[Any]]:
    """What is stored of the first picture, by name: uint8 maps and "depth" (float16 m). Packed where the picture is."""
    device = images.alpha.device
    alpha = images.alpha[0].float()[..., None]
    back = torch.from_numpy(camera.camera_from_world()[:3, :3]).float().to(device)
    normals = images.normals[0].float() @ back.T * torch.tensor((1.0, -1.0, -1.0), device=device)
    maps = {
        "pbr_albedo": srgb_from_linear(images.albedo[0].float()),
        "normal": normals * 0.5 + 0.5,
        "pbr_roughness": images.roughness[0].float()[..., None],
        "pbr_metallic": images.metallic[0].float()[..., None],
        COLOUR: torch.cat((images.radiance[0].float(), alpha), -1),
    }
    whole = (torch.cat(tuple(maps.values()), -1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
    ends = np.cumsum([value.shape[-1] for value in maps.values()])[:-1]
    packed = dict(zip(maps, np.split(whole, ends, axis=-1), strict=True))
    return {"depth": images.depth_m[0].half().cpu().numpy(), **packed}


def write_maps(folder: Path, row: int, maps: Mapping[str, NDArray[Any]]) -> None:
    """The files of `row_maps`, in its order."""
    for name, value in maps.items():
        content = io.BytesIO()
        if name == "depth":
            np.save(content, value)
        else:
            picture = value[..., 0] if value.shape[-1] == 1 else value
            Image.fromarray(np.ascontiguousarray(picture)).save(content, format="PNG", compress_level=PNG_LEVEL)
        suffix = "npy" if name == "depth" else "png"
        write_atomically(folder / f"{row:04d}-{name}.{suffix}", content.getvalue())


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError("another format or version")
        return dict(document)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCapture(f"there is no pseudo ground truth in {path.parent}", found=str(error)[:100]) from error


class StoredPseudoTruth:
    """A finished folder as a `PseudoTruth`; pictures are read when asked for."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, torch.device(device)
        document = _document(folder / DESCRIPTION)
        try:
            self.training, self.rows = int(document["training"]), int(document["rows"])
            self.expressions = int(document["expressions"])
            content = (folder / POSES).read_bytes() if (folder / POSES).stat().st_size <= MAX_BYTES else b""
            arrays = read_npz(content, f"{POSES} of {folder.name}", BadCapture)
            self.stored = _Rows(*(arrays[name] for name in _Rows.__dataclass_fields__))
            if any(len(value) != self.rows for value in vars(self.stored).values()):
                raise ValueError("counts differ")
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise BadCapture(f"pseudo ground truth {folder.name} is damaged", found=str(error)[:100]) from error
        missing = [row for row in range(self.rows) if not (folder / FOLDER / f"{row:04d}-{COLOUR}.png").is_file()]
        if missing:
            raise BadCapture(
                f"pseudo ground truth {folder.name} is not finished",
                found=f"{self.rows - len(missing)} of {self.rows} pictures",
                do="Run the same command again: effigy relight pseudo-gt",
            )

    def __len__(self) -> int:
        return self.rows

    def pose(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rotations [B, J, 3], translations [B, 3], expressions [B, E] of rows [B] int64."""
        index = rows.cpu().numpy()
        rotations, translations = (
            torch.from_numpy(np.array(value[index])).to(self.device)
            for value in (self.stored.rotations, self.stored.translations)
        )
        return rotations, translations, torch.zeros(len(index), self.expressions, device=self.device)

    def cameras(self, rows: Tensor, longest_px: int) -> CameraBatch:
        """Their cameras, scaled so that the longer side has at most `longest_px`."""
        return CameraBatch.from_cameras([self._camera(row, longest_px) for row in rows.tolist()], self.device)

    def images(self, rows: Tensor, longest_px: int) -> TeacherImages:
        """What was rendered, at that size. Raises BadCapture for damaged files."""
        found = [self._row(row, self._camera(row, longest_px)) for row in rows.tolist()]
        names = list(TeacherImages.__dataclass_fields__)
        return TeacherImages(*(torch.cat([getattr(one, name) for one in found]).to(self.device) for name in names))

    def _camera(self, row: int, longest_px: int) -> Camera:
        width, height = (int(number) for number in self.stored.size_px[row])
        camera = Camera(width, height, self.stored.K[row], self.stored.world_from_camera[row])
        factor = min(1.0, longest_px / max(width, height))
        return (
            camera
            if factor == 1
            else scaled_camera(camera, (max(1, round(width * factor)), max(1, round(height * factor))))
        )

    def _row(self, row: int, camera: Camera) -> TeacherImages:
        size = tuple(int(number) for number in self.stored.size_px[row])
        colour = self._picture(row, COLOUR, "RGBA", size)
        albedo, normal = (self._picture(row, name, "RGB", size) for name in MAPS[:2])
        roughness, metallic = (self._picture(row, name, "L", size) for name in MAPS[2:])
        path = self.folder / FOLDER / f"{row:04d}-depth.npy"
        try:
            depth = read_npy(path.read_bytes(), path.name, BadCapture).astype(np.float32)
        except OSError as error:
            raise BadCapture(f"{path.name} of {self.folder.name} cannot be read", found=str(error)) from error
        if depth.shape != size[::-1]:
            raise BadCapture(f"{path.name} of {self.folder.name} has the wrong size", found=str(list(depth.shape)))
        turn = torch.from_numpy(camera.world_from_camera[:3, :3].astype(np.float32))
        world = (normal * 2 - 1) * torch.tensor((1.0, -1.0, -1.0)) @ turn.T
        parts = (
            colour[..., :3],
            world,
            linear_from_srgb(albedo),
            roughness,
            metallic,
            torch.from_numpy(depth)[..., None],
        )
        alpha, values = colour[..., 3:], torch.cat(parts, -1)
        if (camera.width_px, camera.height_px) != size:
            both = torch.cat((values * alpha, alpha), -1).permute(2, 0, 1)[None]
            small = interpolate(both, (camera.height_px, camera.width_px), mode="area")[0].permute(1, 2, 0)
            alpha, values = small[..., -1:], small[..., :-1] / small[..., -1:].clamp_min(1e-6)
        values = torch.where(alpha > 0, values, torch.zeros_like(values))[None]
        unit = normalize(values[..., 3:6], dim=-1, eps=1e-6)
        return TeacherImages(
            values[..., :3],
            alpha[None, ..., 0],
            unit,
            values[..., 6:9],
            values[..., 9],
            values[..., 10],
            values[..., 11],
        )

    def _picture(self, row: int, name: str, mode: str, size: tuple[int, ...]) -> Tensor:
        path = self.folder / FOLDER / f"{row:04d}-{name}.png"
        with open_picture(path, f"{path.name} of {self.folder.name}", BadCapture) as image:
            if image.size != size:
                raise BadCapture(f"{path.name} of {self.folder.name} has the wrong size", found=str(image.size))
            values = np.array(image.convert(mode))
        return torch.from_numpy(values.reshape(*values.shape[:2], -1)).float() / 255


def open_pseudo_truth(folder: Path, device: str = "cpu") -> StoredPseudoTruth:
    """The pseudo ground truth in a folder. Raises BadCapture where it is missing, damaged or not finished."""
    return StoredPseudoTruth(Path(folder), device)
