"""A recorded person: images with masks, the camera of each, and the template's parameters in each frame."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avatars.captures.aovs import read_aov
from avatars.captures.images import read_premultiplied
from avatars.captures.reading import EFFIGY_READING, Reading
from avatars.lighting.environment_files import read_environment
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture
from shared.types import Camera, Environment, Motion

SPLITS = ("train", "test")
"""What every capture has. A third, 'val', may hold pictures of training frames from a camera kept back."""


@dataclass(frozen=True)
class CaptureImage:
    """One picture: its file, and which camera saw which frame.

    split: 'train', 'test' (held out), 'val' (a camera kept back) or 'more' (held out, and counted in no figure).
    mask: a one-channel file that replaces the alpha of `file`, None where the picture brings its own; also_mask: a
    second one, what either covers is covered. parameters: the file this frame's template parameters came from. aovs:
    ground truth beside the picture, 'albedo', 'normal',
    'roughness' or 'metallic' -> file. light: the environment file it was lit by, where the picture has its own.
    """

    file: Path
    camera: int
    frame: int
    split: str
    mask: Path | None = None
    parameters: Path | None = None
    aovs: Mapping[str, Path] = field(default_factory=dict)
    light: Path | None = None
    also_mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """A whole recording. The motion is of the joints and expressions of the template's view.

    cameras: one for each view, of the recorded image size; a moving camera has one entry for each of its places.
    environment: the light it was recorded in, where known. vertex_offset: [V, 3] m, the subject's static offset from
    the shaped template in model axes, None without one. layout: which reader made it. masked: every picture must bring
    an alpha channel or a mask; where false, a picture that has neither counts as covered everywhere. notes: sentences
    about what the reader found and chose. reading: how the camera numbers in its files are meant. distortions: of each
    camera, OpenCV's five coefficients or () where the lens is straight; none for all straight. mask_threshold: masks
    brighter than it cover a pixel wholly, others not at all; None takes their brightness as alpha.
    world_from_file: [3, 3] turn of the file's world into ours; None where it is FLAME's, y up. normal_axes: of the
    ground-truth normals; light_rotation_rad: how far the pictures' light files are turned about +z.
    clothed_template: a mesh of the dressed person in the canonical pose (template.ply), where the recording has one.
    true_surfaces: the file with the person's true surfaces in some frames, where the recording has one.
    tracked: the motion is an estimate from the pictures, with its errors. confidence: [F] in 0..1, how far the tracker
    trusts each frame, where it says so.
    """

    name: str
    kind: str
    subject: str
    licence: str
    synthetic: bool
    template: TemplateReference
    joint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    motion: Motion
    cameras: tuple[Camera, ...]
    camera_names: tuple[str, ...]
    images: tuple[CaptureImage, ...]
    environment: Environment | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    vertex_offset: NDArray[np.float32] | None = None
    layout: str = "effigy"
    masked: bool = False
    notes: tuple[str, ...] = ()
    reading: Reading = EFFIGY_READING
    normal_axes: Literal["world", "opencv", "opengl"] = "world"
    light_rotation_rad: float = 0.0
    distortions: tuple[tuple[float, ...], ...] = ()
    mask_threshold: int | None = None
    world_from_file: NDArray[np.float64] | None = None
    clothed_template: Path | None = None
    true_surfaces: Path | None = None
    tracked: bool = False
    confidence: NDArray[np.float32] | None = None

    def split(self, name: str) -> tuple[int, ...]:
        """Indices of the images of 'train', 'test' or 'val'."""
        return tuple(index for index, image in enumerate(self.images) if image.split == name)

    def camera_of(self, index: int, size: tuple[int, int] | None = None) -> Camera:
        """The camera of image `index`, scaled to `size` (width, height) px when given."""
        camera = self.cameras[self.images[index].camera]
        return camera if size is None else scaled_camera(camera, size)

    def rgba(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Image `index` as premultiplied display-encoded RGBA [H, W, 4] uint8, resized to `size` (width, height) px.

        Raises BadCapture for a file that is missing, damaged, without a mask where the capture must have one, or of
        another size than the capture says.
        """
        image = self.images[index]
        camera = self.cameras[image.camera]
        stored = camera.width_px, camera.height_px
        lens = self.distortions[image.camera] if self.distortions else ()
        return read_premultiplied(
            image.file,
            stored,
            size,
            mask=image.mask,
            also_mask=image.also_mask,
            must_be_masked=self.masked,
            mask_threshold=self.mask_threshold,
            lens=(camera.K, lens) if lens else None,
        )

    def aov(self, index: int, name: str, size: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        """Ground truth of image `index`, [H, W, C] float32, at `size` (width, height) px; None where there is none.

        'albedo': [H, W, 3] linear; 'normal': [H, W, 3] unit, world axes, or 0 where a surface has none (hair);
        'roughness', 'metallic': [H, W, 1]. Outside the person the values mean nothing: mask them. Raises BadCapture for
        a damaged file.
        """
        image = self.images[index]
        if name not in image.aovs:
            return None
        camera = self.cameras[image.camera]
        axes = None if self.normal_axes == "world" else camera.world_from_camera[:3, :3]
        flipped = self.normal_axes == "opengl"
        return read_aov(image.aovs[name], name, (camera.width_px, camera.height_px), size, axes, flipped)

    def light(self, index: int) -> Environment | None:
        """The light image `index` was taken in: its own, else the capture's. Raises BadEnvironment."""
        file = self.images[index].light
        if file is None:
            return self.environment
        return replace(read_environment(file)[0], rotation_rad=self.light_rotation_rad)

    def train_size(self, longest_px: int) -> tuple[int, int]:
        """Width and height in px of this capture's images with the longer side brought down to `longest_px`."""
        width, height = self.cameras[0].width_px, self.cameras[0].height_px
        factor = min(1.0, longest_px / max(width, height))
        return max(1, round(width * factor)), max(1, round(height * factor))

    def training_frames(self) -> tuple[int, ...]:
        """Frames that at least one training image shows, in order."""
        return tuple(sorted({image.frame for image in self.images if image.split == "train"}))

    def numbers_digest(self) -> str:
        """SHA-256 of motion, cameras and static offset: two captures with equal pictures may be read differently."""
        found = hashlib.sha256()
        for values in (self.motion.rotations, self.motion.translations, self.motion.expressions, self.vertex_offset):
            found.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
        for camera in self.cameras:
            found.update(camera.K.tobytes() + camera.world_from_camera.tobytes())
        return found.hexdigest()


def scaled_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view in `size` (width, height) px; pixel centres stay at +0.5, so K scales row by row."""
    width, height = size
    K = camera.K.copy()
    K[0] *= width / camera.width_px
    K[1] *= height / camera.height_px
    return Camera(width, height, K, camera.world_from_camera, camera.near_m, camera.far_m)


def check_counts(capture: Capture, *, files: bool = True) -> None:
    """Refuse a capture whose parts do not fit together. files: ask the disk for every picture. Raises BadCapture."""
    frames = len(capture.motion)
    for image in capture.images:
        if not 0 <= image.camera < len(capture.cameras) or not 0 <= image.frame < frames:
            raise BadCapture(
                f"image {image.file.name} names a camera or frame the capture lacks",
                found=f"camera {image.camera}, frame {image.frame}",
                expected=f"below {len(capture.cameras)} and {frames}",
            )
        if image.split not in (*SPLITS, "val", "more"):
            raise BadCapture(
                f"image {image.file.name} has an unknown split {image.split!r}", expected="train, test or val"
            )
    for split in SPLITS:
        if not capture.split(split):
            raise BadCapture(f"capture {capture.name!r} has no {split} images", do="Mark some images with that split")
    if not files:
        return
    missing = [image.file.name for image in capture.images if not image.file.is_file()]
    if missing:
        raise BadCapture(
            f"capture {capture.name!r} lacks {len(missing)} of its {len(capture.images)} images",
            found=f"no {missing[0]}",
            do="Copy the capture again",
        )
    masks = [image.mask for image in capture.images if image.mask is not None]
    absent = [mask for mask in masks if not mask.is_file()]
    if absent:
        raise BadCapture(
            f"capture {capture.name!r} lacks {len(absent)} of its {len(masks)} masks",
            found=f"no {absent[0].parent.name}/{absent[0].name}",
            do="Copy the folder of masks beside the images, or make the masks",
        )


def check_names(capture: Capture, joint_names: Sequence[str], expression_names: Sequence[str]) -> None:
    """Refuse a capture whose joints or expressions are not the template's, in its order. Raises BadCapture."""
    for what, ours, theirs in (
        ("joints", tuple(joint_names), capture.joint_names),
        ("expressions", tuple(expression_names), capture.expression_names),
    ):
        if ours != theirs:
            odd = next((name for name in theirs if name not in ours), theirs[0] if theirs else "none")
            raise BadCapture(
                f"the {what} of capture {capture.name!r} are not those of its template",
                found=f"{len(theirs)} names, for example {odd!r}",
                expected=f"{len(ours)} names",
            )
