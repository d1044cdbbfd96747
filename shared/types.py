"""Plain immutable values that cross rooms: rigs, poses, cameras, light and frames.

World and model axes are Blender's: right-handed, z up, metres; a template faces -y. Camera axes are OpenCV's: x right,
y down, z forward, pixel centres at +0.5. Images have row 0 at the top. Files and Blender are converted once, where they
are read. Arrays are made read-only on construction, so a value can be shared between threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import EffigyError
from .lamps import LAMP_COLUMNS, SUN_COLUMNS, no_lamps, no_suns

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


def frozen_array(value: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """A read-only contiguous copy-if-needed of `value`; `None` in `shape` is any length. Raises EffigyError.

    An array that was made by this function is taken as it is.
    """
    try:
        array = np.ascontiguousarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise EffigyError(f"{name} is no array of numbers", found=str(error)[:80]) from error
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
        raise EffigyError(f"{name} has the wrong shape", found=str(list(array.shape)), expected=wanted)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EffigyError(f"{name} holds values that are not finite", expected="finite numbers")
    if array.base is not None or (array is value and array.flags.writeable):
        array = array.copy()
    array.setflags(write=False)
    return array


def _freeze(owner: object, name: str, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Replace an array field of a frozen dataclass by its checked read-only form, and return it."""
    array = frozen_array(getattr(owner, name), dtype, shape, f"{type(owner).__name__}.{name}")
    object.__setattr__(owner, name, array)
    return array


@dataclass(frozen=True, eq=False)
class Rig:
    """The skeleton and expression names an avatar is driven by.

    parents: [J] int32, -1 for the root, always smaller than the joint's own index.
    rest_joints: [J, 3] m, model axes. shape: [S] the template's shape coefficients this avatar was made with.
    expression_ranges: [E, 2] lowest and highest value that makes sense of each expression; None for 0 to 1.
    """

    template_id: str
    template_digest: str
    joint_names: tuple[str, ...]
    parents: Int32
    rest_joints: Float32
    expression_names: tuple[str, ...]
    shape: Float32
    expression_ranges: Float32 | None = None

    def __post_init__(self) -> None:
        joints = len(self.joint_names)
        object.__setattr__(self, "joint_names", tuple(self.joint_names))
        object.__setattr__(self, "expression_names", tuple(self.expression_names))
        _freeze(self, "parents", np.int32, (joints,))
        _freeze(self, "rest_joints", np.float32, (joints, 3))
        _freeze(self, "shape", np.float32, (None,))
        if joints == 0 or (self.parents >= np.arange(joints)).any() or (self.parents < -1).any():
            raise EffigyError("Rig.parents must list every parent before its child", expected="-1 for the root")
        if self.expression_ranges is not None:
            ranges = _freeze(self, "expression_ranges", np.float32, (len(self.expression_names), 2))
            if (ranges[:, 0] >= ranges[:, 1]).any():
                raise EffigyError("Rig.expression_ranges are out of order", expected="low below high")


@dataclass(frozen=True, eq=False)
class ProxyMesh:
    """A light skinned mesh standing for the avatar in Blender: rest shape, weights and expression offsets.

    vertices: [V, 3] m at rest. faces: [F, 4] int32, a triangle repeats its last index. group: [F] into group_names.
    joints: [V, W] int32 and weights: [V, W] rows summing to 1. colour: [V, 3] linear RGB to show before rendering.
    expression_vertices: [M] int32 rows touched by expressions; expression_offsets: [E, M, 3] m at full strength.
    """

    vertices: Float32
    faces: Int32
    group: Int32
    group_names: tuple[str, ...]
    joints: Int32
    weights: Float32
    colour: Float32
    expression_vertices: Int32
    expression_offsets: Float32

    def __post_init__(self) -> None:
        count = len(_freeze(self, "vertices", np.float32, (None, 3)))
        faces = _freeze(self, "faces", np.int32, (None, 4))
        _freeze(self, "group", np.int32, (len(faces),))
        joints = _freeze(self, "joints", np.int32, (count, None))
        _freeze(self, "weights", np.float32, joints.shape)
        _freeze(self, "colour", np.float32, (count, 3))
        touched = _freeze(self, "expression_vertices", np.int32, (None,))
        _freeze(self, "expression_offsets", np.float32, (None, len(touched), 3))
        object.__setattr__(self, "group_names", tuple(self.group_names))
        for name, index in (("faces", faces), ("expression_vertices", touched)):
            if index.size and (index.min() < 0 or index.max() >= count):
                raise EffigyError(f"ProxyMesh.{name} points outside the {count} vertices")


@dataclass(frozen=True, eq=False)
class Pose:
    """One instant of a rig. rotations: [J, 3] axis-angle rad, each joint relative to its parent, in model axes.

    translation: [3] m of the root. expression: [E], 0 neutral, 1 full (FLAME: standard deviations, either way).
    """

    rotations: Float32
    translation: Float32
    expression: Float32

    def __post_init__(self) -> None:
        _freeze(self, "rotations", np.float32, (None, 3))
        _freeze(self, "translation", np.float32, (3,))
        _freeze(self, "expression", np.float32, (None,))


@dataclass(frozen=True, eq=False)
class Motion:
    """T instants of a rig. rotations: [T, J, 3] rad; translations: [T, 3] m; expressions: [T, E]; fps in 1/s."""

    rotations: Float32
    translations: Float32
    expressions: Float32
    fps: float

    def __post_init__(self) -> None:
        _freeze(self, "rotations", np.float32, (None, None, 3))
        count = len(self.rotations)
        _freeze(self, "translations", np.float32, (count, 3))
        _freeze(self, "expressions", np.float32, (count, None))
        if not math.isfinite(self.fps):
            raise EffigyError("Motion.fps is not finite", found=str(self.fps))

    def __len__(self) -> int:
        return len(self.rotations)

    def at(self, index: int) -> Pose:
        """The pose of instant `index`."""
        return Pose(self.rotations[index], self.translations[index], self.expressions[index])


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera. K: [3, 3] px; world_from_camera: [4, 4] rigid, OpenCV axes; near, far in m.

    orthographic: parallel rays instead; K then maps camera x, y in m (not x/z, y/z) to px, so its focals are px per m.
    """

    width_px: int
    height_px: int
    K: Float64
    world_from_camera: Float64
    near_m: float = 0.01
    far_m: float = 100.0
    orthographic: bool = False

    def __post_init__(self) -> None:
        _freeze(self, "K", np.float64, (3, 3))
        pose = _freeze(self, "world_from_camera", np.float64, (4, 4))
        if not (0 < self.width_px <= 16384 and 0 < self.height_px <= 16384):
            raise EffigyError(
                "Camera size is out of range", found=f"{self.width_px}x{self.height_px}", expected="1 to 16384 px"
            )
        if np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-3 or np.linalg.det(pose[:3, :3]) < 0:
            raise EffigyError("Camera.world_from_camera is not rigid", do="Remove scale and mirroring from the camera")
        if not 0 < self.near_m < self.far_m:
            raise EffigyError(
                "Camera near and far planes are out of order", found=f"near {self.near_m}, far {self.far_m}"
            )

    def camera_from_world(self) -> Float64:
        """[4, 4], the inverse rigid transform."""
        return np.asarray(np.linalg.inv(self.world_from_camera), np.float64)


@dataclass(frozen=True, eq=False)
class Environment:
    """Light from infinitely far away. radiance: [H, W, 3] linear float32, latitude-longitude.

    Row 0 looks towards +z. Column u in 0..1 looks towards azimuth (0.5 - u) * 2 pi measured from +x to +y: the centre
    column is +x (Blender's own equirectangular mapping). rotation_rad turns the light about +z; strength multiplies.
    lights: [N, 7] suns beside the map, not turned or multiplied with it, in world axes: direction towards it,
    irradiance of a surface facing it (radiance units times sr, red, green, blue), and half the angle it is wide, rad.
    lamps: [M, 13] lights near by, in the columns of `shared.lamps`, likewise.
    """

    radiance: Float32
    rotation_rad: float = 0.0
    strength: float = 1.0
    lights: Float32 = field(default_factory=no_suns)
    lamps: Float32 = field(default_factory=no_lamps)

    def __post_init__(self) -> None:
        _freeze(self, "radiance", np.float32, (None, None, 3))
        _freeze(self, "lights", np.float32, (None, SUN_COLUMNS))
        _freeze(self, "lamps", np.float32, (None, LAMP_COLUMNS))


Captured: TypeAlias = Literal["captured"]
CAPTURED: Captured = "captured"
"""In the place of an Environment: the light each avatar was captured in."""

PASS_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"combined": 4, "depth": 1, "normal": 3, "albedo": 3, "mask": 1, "id": 1, "coverage": 0, "packed": 2}
    | {"roughness": 1, "metallic": 1, "occlusion": 1, "diffuse": 3, "specular": 3}
)
"""Passes a frame can hold and their channels; 0: one for each avatar of the picture, in the request's order.

combined: premultiplied linear RGBA; depth: m along the camera's z; coverage: each avatar's part of mask; packed:
colour, cover and depth for a viewport (shared.packed). diffuse + specular is combined's colour; roughness, metallic and
occlusion (open sky 1) are of avatars that hold materials.
"""


@dataclass(frozen=True, eq=False)
class Frame:
    """A rendered picture: named passes, each [H, W, C] (C as in PASS_CHANNELS), row 0 at the top."""

    width_px: int
    height_px: int
    passes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    render_ms: float = 0.0

    def __post_init__(self) -> None:
        for name, image in self.passes.items():
            if name not in PASS_CHANNELS:
                raise EffigyError(f"unknown pass {name!r}", expected=", ".join(PASS_CHANNELS))
            wanted = (self.height_px, self.width_px, PASS_CHANNELS[name] or image.shape[-1])
            if image.ndim != 3 or image.shape != wanted:
                raise EffigyError(f"pass {name!r} has the wrong shape", found=str(image.shape))
        object.__setattr__(self, "passes", MappingProxyType(dict(self.passes)))
