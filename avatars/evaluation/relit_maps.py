"""What a relightable person looks like in a capture's pictures, each in its own light: of avatars and of teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.evaluation.frames import check_same_rig
from avatars.lighting.colour import srgb_from_linear
from avatars.relit_body.teacher import Teacher, in_poses_of
from avatars.relit_body.teachers import check_teacher
from avatars.relit_field.storage import FieldTeacher, open_teacher
from avatars.rendering.cameras import CameraBatch
from avatars.scene import SceneInstance, has_materials, render_scene
from shared.errors import BadAvatar, BadCapture

Map = NDArray[np.float32]
PASSES = ("combined", "albedo", "roughness", "metallic", "normal", "mask")


@dataclass(frozen=True, eq=False)
class RelitMaps:
    """One picture, straight (not multiplied by alpha). colour: [H, W, 3] display-encoded 0..1; alpha: [H, W].

    albedo: [H, W, 3] linear; normals: [H, W, 3] unit, world axes, 0 where unknown; roughness, metallic: [H, W]. The
    materials are None where a subject or a capture has none.
    """

    colour: Map
    alpha: Map
    albedo: Map | None = None
    normals: Map | None = None
    roughness: Map | None = None
    metallic: Map | None = None


class Subject(Protocol):
    """Somebody to be measured."""

    name: str

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        """Image `index` of the capture at (width, height) px, in that image's own light."""


class TrueSubject:
    """The recording itself."""

    name = "truth"

    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        """The photograph and its ground truth."""
        rgba = np.asarray(self.capture.rgba(index, size) / np.float32(255), np.float32)
        alpha = rgba[..., 3]
        found = {name: self.capture.aov(index, name, size) for name in ("albedo", "normal", "roughness", "metallic")}
        rough, metal = (None if (grey := found[name]) is None else grey[..., 0] for name in ("roughness", "metallic"))
        colour = np.clip(rgba[..., :3] / np.maximum(alpha[..., None], np.float32(1 / 255)), 0, 1).astype(np.float32)
        return RelitMaps(colour, alpha, found["albedo"], found["normal"], rough, metal)


class ConstantSubject:
    """The least one must beat: the person's outline as recorded, filled with the mean colour of training pictures."""

    name = "constant"

    def __init__(self, capture: Capture, size: tuple[int, int], most: int = 8) -> None:
        self.truth = TrueSubject(capture)
        rows = capture.split("train")
        colours = []
        for index in rows[:: max(1, len(rows) // most)]:
            seen = self.truth.maps(index, size)
            colours.append(seen.colour[seen.alpha > 0.5])
        self.colour = np.concatenate(colours).mean(0)

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        """The recorded outline in one colour."""
        alpha = self.truth.maps(index, size).alpha
        return RelitMaps(np.broadcast_to(self.colour, (*alpha.shape, 3)).astype(np.float32), alpha)


class AvatarSubject:
    """An avatar through the same renderer as the viewport and Blender. Raises BadCapture, BadAvatar."""

    def __init__(self, name: str, avatar: Avatar, capture: Capture, device: str) -> None:
        check_same_rig(avatar, capture)
        if not has_materials(avatar):
            raise BadAvatar(f"avatar {name} holds colours, no materials", expected="a relightable avatar")
        self.name, self.avatar, self.capture, self.device = name, avatar, capture, device

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        """Rendered in the image's light; without one of its own, in the light the avatar brings."""
        image, motion = self.capture.images[index], self.capture.motion
        at = slice(image.frame, image.frame + 1)
        actor = SceneInstance(
            self.avatar, np.eye(4)[None], motion.rotations[at], motion.translations[at], motion.expressions[at]
        )
        light = self.capture.light(index) if image.light is not None else None
        camera = self.capture.camera_of(index, size)
        drawn = {
            name: np.asarray(values, np.float32)
            for name, values in render_scene([actor], [camera], light, PASSES, device=self.device).items()
        }
        alpha = drawn["mask"].reshape(drawn["mask"].shape[:2])
        cover = np.maximum(alpha, 1e-4)[..., None]
        linear = torch.from_numpy(drawn["combined"][..., :3] / cover)
        return RelitMaps(
            srgb_from_linear(linear).clamp(0, 1).numpy(),
            alpha,
            np.asarray(drawn["albedo"][..., :3] / cover, np.float32),
            drawn["normal"],
            np.asarray((drawn["roughness"] / cover)[..., 0], np.float32),
            np.asarray((drawn["metallic"] / cover)[..., 0], np.float32),
        )


class TeacherSubject:
    """A trained field (or any `Teacher` without lights of its own) in each image's light. Raises BadTemplate.

    samples: light directions a pixel, 0 for as many as in training.
    """

    def __init__(self, name: str, teacher: Teacher, capture: Capture, device: str, samples: int = 0) -> None:
        check_teacher(teacher, capture)
        self.name, self.teacher, self.capture = name, teacher, in_poses_of(teacher, capture)
        self.device, self.samples = device, samples
        self.lit: dict[Path | None, Teacher] = {None: teacher}

    @classmethod
    def opened(cls, folder: Path, capture: Capture, device: str, samples: int = 0) -> TeacherSubject:
        """Of a NAME.teacher folder."""
        return cls("teacher", open_teacher(folder, device, samples=samples), capture, device, samples)

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        """Rendered in the image's light; without one of its own, in the light it learned."""
        image, motion = self.capture.images[index], self.capture.motion
        if image.light not in self.lit:
            if not isinstance(self.teacher, FieldTeacher):
                raise BadCapture("this teacher cannot be relit", found=type(self.teacher).__name__)
            light = self.capture.light(index)
            known = FieldTeacher(self.teacher.model, self.teacher.about, samples=self.samples, light=light)
            self.lit[image.light] = known
        rotations, translations, expressions = (
            torch.from_numpy(np.array(part[image.frame : image.frame + 1])).to(self.device)
            for part in (motion.rotations, motion.translations, motion.expressions)
        )
        cameras = CameraBatch.from_cameras([self.capture.camera_of(index, size)], self.device)
        found = self.lit[image.light].images(rotations, translations, expressions, cameras)
        colour, alpha, normals, albedo, roughness, metallic = (
            part[0].float().cpu().numpy()
            for part in (found.radiance, found.alpha, found.normals, found.albedo, found.roughness, found.metallic)
        )
        return RelitMaps(colour, alpha, albedo, normals, roughness, metallic)


def images_to_measure(capture: Capture, most: int = 0) -> tuple[int, ...]:
    """Held-out pictures, evenly thinned to at most `most` (0: all). Raises BadCapture where none has ground truth."""
    held_out: Sequence[int] = [index for index in capture.split("test") if capture.images[index].aovs]
    if not held_out:
        raise BadCapture(
            f"capture {capture.name!r} has no ground truth of materials beside its held-out pictures",
            do="Use demo_relight, or a RANA recording",
        )
    if most and len(held_out) > most:
        held_out = [held_out[round(k * (len(held_out) - 1) / max(most - 1, 1))] for k in range(most)]
    return tuple(held_out)
