"""What a student is shown: pictures of a teacher in memory as bytes, asked for by row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from avatars.captures.capture import Capture
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.relit_body.teacher import PseudoTruth, Teacher, TeacherImages
from avatars.rendering import CameraBatch
from shared.errors import BadCapture

BYTES = 12
"""Of a pixel: colour 3, alpha, normal 3, albedo 3 (display-encoded), roughness, metallic."""
Pose = tuple[Tensor, Tensor, Tensor]


class LiveTruth:
    """A teacher asked when it is needed, as a `PseudoTruth`: the training pictures, then `further` recombined poses.

    A further pose takes each joint from one of two training frames, with the place and camera of the first.
    """

    def __init__(self, teacher: Teacher, capture: Capture, further: int, seed: int, device: torch.device | str) -> None:
        self.teacher, self.capture, self.device = teacher, capture, torch.device(device)
        self.index = capture.split("train")
        self.training = len(self.index)
        motion = capture.motion
        frames = np.array([capture.images[index].frame for index in self.index])
        rotations = [np.array(motion.rotations[frames])]
        draw = np.random.default_rng(seed)
        self.seen_by = list(range(self.training))
        for _ in range(further):
            first, second = draw.integers(self.training, size=2)
            swap = draw.random(motion.rotations.shape[1]) < 0.5
            swap[0] = False  # the root stays where the camera expects it
            rotations.append(np.where(swap[:, None], rotations[0][second], rotations[0][first])[None])
            self.seen_by.append(int(first))
        self.rotations = torch.from_numpy(np.concatenate(rotations).astype(np.float32)).to(self.device)
        of_row = frames[self.seen_by]
        self.translations, self.expressions = (
            torch.from_numpy(np.array(part[of_row], np.float32)).to(self.device)
            for part in (motion.translations, motion.expressions)
        )

    def __len__(self) -> int:
        return len(self.rotations)

    def pose(self, rows: Tensor) -> Pose:
        """rotations [B, J, 3], translations [B, 3], expressions [B, E] of rows [B] int64."""
        rows = rows.to(self.device)
        return self.rotations[rows], self.translations[rows], self.expressions[rows]

    def cameras(self, rows: Tensor, longest_px: int) -> CameraBatch:
        """Their cameras, scaled so that the longer side has at most `longest_px`."""
        size = self.capture.train_size(longest_px)
        chosen = [self.capture.camera_of(self.index[self.seen_by[row]], size) for row in rows.tolist()]
        return CameraBatch.from_cameras(chosen, self.device)

    def images(self, rows: Tensor, longest_px: int) -> TeacherImages:
        """Asked from the teacher now."""
        with torch.no_grad():
            return self.teacher.images(*self.pose(rows), self.cameras(rows, longest_px))


class TaughtPictures:
    """Some rows of a `PseudoTruth` at one size, kept as bytes on the device once they were asked for.

    Where they would take more than `most_bytes` (None: half of the memory that is free) none is kept. size_px: width
    and height they are brought to, None for as they come.
    """

    def __init__(
        self,
        truth: PseudoTruth,
        rows: range,
        longest_px: int,
        device: torch.device | str,
        most_bytes: int | None = None,
        size_px: tuple[int, int] | None = None,
    ) -> None:
        self.truth, self.rows, self.longest_px, self.device = truth, rows, longest_px, torch.device(device)
        self.cameras = truth.cameras(torch.tensor(list(rows[:1])), longest_px) if rows else None
        self.kept: Tensor | None = None
        self.missing = set(range(len(rows)))
        if self.cameras is None:
            return
        self.size_px = size_px or (self.cameras.width_px, self.cameras.height_px)
        shape = (len(rows), self.size_px[1], self.size_px[0], BYTES)
        if int(np.prod(shape)) <= (free_bytes(self.device) // 2 if most_bytes is None else most_bytes):
            self.kept = torch.zeros(shape, dtype=torch.uint8, device=self.device)

    def read_all(self) -> None:
        """Fetch every row now, several at once: for rows that lie on disk."""
        if self.kept is None:
            return
        kept = self.kept
        with ThreadPoolExecutor(max_workers=max(2, torch.get_num_threads())) as pool:
            found = pool.map(lambda row: as_bytes(self._asked([row])), sorted(self.missing))
            for row, values in zip(sorted(self.missing), found, strict=True):
                kept[row] = values[0].to(self.device)
        self.missing.clear()

    def images(self, rows: Tensor) -> TeacherImages:
        """Rows [B] int64, counted from the first of these; on the device they are not read back once all are kept."""
        if self.kept is None:
            return self._asked(rows.tolist())
        if self.missing:
            for row in self.missing.intersection(rows.tolist()):
                self.kept[row] = as_bytes(self._asked([row]))[0].to(self.device)
                self.missing.discard(row)
        return from_bytes(self.kept[rows.to(self.device)])

    def _asked(self, rows: list[int]) -> TeacherImages:
        found = self.truth.images(torch.tensor([self.rows[row] for row in rows]), self.longest_px)
        return found if found.alpha.shape[2:0:-1] == self.size_px else resized(found, self.size_px)


def resized(images: TeacherImages, size_px: tuple[int, int]) -> TeacherImages:
    """The same pictures at (width, height) px, averaged or interpolated by cover."""
    parts = (images.radiance, images.normals, images.albedo, images.roughness[..., None], images.metallic[..., None])
    cover = images.alpha[..., None].float()
    both = torch.cat([torch.cat(parts, -1).float() * cover, cover], -1).permute(0, 3, 1, 2)
    size = (size_px[1], size_px[0])
    small = interpolate(both, size, mode="bilinear", align_corners=False, antialias=True).permute(0, 2, 3, 1)
    alpha = small[..., 11]
    straight = small[..., :11] / alpha[..., None].clamp(min=1e-4) * (alpha[..., None] > 1e-4)
    return TeacherImages(
        radiance=straight[..., :3],
        alpha=alpha,
        normals=normalize(straight[..., 3:6], dim=-1),
        albedo=straight[..., 6:9],
        roughness=straight[..., 9],
        metallic=straight[..., 10],
        depth_m=torch.zeros_like(alpha),
    )


def as_bytes(images: TeacherImages) -> Tensor:
    """[B, H, W, 12] uint8."""
    parts = (
        images.radiance,
        images.alpha[..., None],
        images.normals * 0.5 + 0.5,
        srgb_from_linear(images.albedo),
        images.roughness[..., None],
        images.metallic[..., None],
    )
    return (torch.cat([part.float() for part in parts], -1).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def from_bytes(stored: Tensor) -> TeacherImages:
    """Inverse of `as_bytes`, without depth."""
    values = stored.float() / 255
    shown = (stored[..., 3:4] > 0).float()
    return TeacherImages(
        radiance=values[..., :3],
        alpha=values[..., 3],
        normals=normalize(values[..., 4:7] * 2 - 1, dim=-1) * shown,
        albedo=linear_from_srgb(values[..., 7:10]) * shown,
        roughness=values[..., 10],
        metallic=values[..., 11],
        depth_m=torch.zeros_like(values[..., 3]),
    )


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def check_truth(truth: PseudoTruth, capture: Capture) -> None:
    """Refuse pseudo ground truth of another recording. Raises BadCapture."""
    images = capture.split("train")
    if truth.training not in (0, len(images)):
        raise BadCapture(
            f"the pseudo ground truth is of another recording than capture {capture.name!r}",
            found=f"{truth.training} training pictures",
            expected=str(len(images)),
            do="Render it again with: effigy relight pseudo-gt",
        )
    rotations = truth.pose(torch.tensor([0]))[0]
    if rotations.shape[1] != len(capture.joint_names):
        raise BadCapture(
            "the pseudo ground truth is of another template than the capture",
            found=f"{rotations.shape[1]} joints",
            expected=str(len(capture.joint_names)),
        )
    if truth.training:
        frame = capture.images[images[0]].frame
        theirs, ours = rotations[0].cpu(), torch.from_numpy(np.array(capture.motion.rotations[frame]))
        if not torch.allclose(theirs, ours, atol=1e-4):
            raise BadCapture(
                f"the pseudo ground truth is of another recording than capture {capture.name!r}",
                found="another first pose",
                do="Render it again with: effigy relight pseudo-gt",
            )
