"""Several avatars, one light, one picture: what the viewport, the final render and the command line all call.

Colour. Models are trained by blending display-encoded sRGB, so the picture is blended encoded as well, and only the
finished pixel is taken to linear light (un-premultiplied, decoded, premultiplied again). There it is relit, by the
normal that was blended beside the colour (see lighting.relight). Sub-frames are averaged in linear light.

Light. A posed avatar's colours are those it would have had in the room of its capture in that pose: models learn how
shading changes as the head turns. So the captured light is taken at the posed normal in model axes, before the
object's own matrix; in the light of its capture an avatar then looks exactly as it was trained. (Taking the normal of
the rest pose instead cost 7 dB on held-out frames with the head turned by 30 degrees.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians, concatenate
from avatars.lighting import albedo, relighting
from avatars.lighting.colour import linear_from_srgb
from avatars.lighting.prefilter import FilteredLight
from avatars.lighting.scene_light import SceneLight
from avatars.lit_pixels import FIXED, facing, lit_pictures, pixel_points, pixel_rays, shade_pixels
from avatars.owners import Owners, plain_owners, shared_owners
from avatars.rendering import CameraBatch, rasterise, rasterise_surfels
from avatars.rendering.constants import EMPTY_ALPHA
from avatars.rendering.packed import pack
from avatars.rendering.sharpness import alike
from avatars.scene_layers import Layers
from shared.errors import EffigyError, nearest
from shared.types import PASS_CHANNELS, Camera, Captured, Environment

VISIBLE_ALPHA = 1.0 / 255.0  # with less cover a pixel has no depth and no normal
OWNED_ALPHA = 0.5  # with less cover a pixel belongs to nobody
_HALF_MAX = 65504.0
_QUALITIES = ("draft", "final")
_BY_OWNER = ("id", "coverage")
_LIT = ("combined", "diffuse", "specular")
_OF_SURFACE = {"albedo": slice(0, 3), "roughness": slice(3, 4), "metallic": slice(4, 5), "occlusion": slice(5, 6)}
_SHADED = (*_LIT, *_OF_SURFACE)


class Posable(Protocol):
    """The part of `avatars.avatar.Avatar` that rendering needs."""

    @property
    def captured_irradiance(self) -> Tensor | None:
        """[9, 3] irradiance coefficients of the light of the capture, None where unknown."""

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """Gaussians in model axes."""


@dataclass(frozen=True, eq=False)
class SceneInstance:
    """An avatar in S sub-frames. world_from_avatar: [S, 4, 4] rigid with uniform scale; rotations: [S, J, 3] rad;
    translations: [S, 3] m; expressions: [S, E]. holdout: it hides what is behind it and leaves a hole instead. light:
    None is the picture's.
    """

    avatar: Posable
    world_from_avatar: NDArray[Any]
    rotations: NDArray[Any]
    translations: NDArray[Any]
    expressions: NDArray[Any]
    holdout: bool = False
    light: Environment | Captured | None = None


@dataclass(frozen=True, eq=False)
class _Actor:
    """An instance as tensors. light: None is that of its capture."""

    avatar: Posable
    world_from_avatar: Tensor
    rotations: Tensor
    translations: Tensor
    expressions: Tensor
    holdout: bool
    light: SceneLight | None

    @staticmethod
    def of(item: SceneInstance, environment: Environment | None, device: torch.device) -> _Actor:
        places = (item.world_from_avatar, item.rotations, item.translations, item.expressions)
        tensors = (torch.as_tensor(np.array(values, np.float32), device=device) for values in places)
        shining = environment if item.light is None else item.light
        light = SceneLight(shining, device) if isinstance(shining, Environment) else None
        return _Actor(item.avatar, *tensors, item.holdout, light)

    def lamps(self) -> int:
        """How many lights stand beside the map that shines on it."""
        return 0 if self.light is None else self.light.lamps()

    def posed(self, frame: int, *, normals: bool) -> PosedGaussians:
        """In the world, at one sub-frame."""
        one = slice(frame, frame + 1)
        given = (self.rotations[one], self.translations[one], self.expressions[one])
        bare = getattr(self.avatar, "pose_material", None)  # without colours, which nobody would see
        posed = self.avatar.pose(*given, normals=normals) if bare is None else bare(*given)
        return posed.transformed(self.world_from_avatar[one])

    def model_normals(self, normals: Tensor, frame: int) -> Tensor:
        """World normals [P, 3] in the avatar's own axes, of the same lengths."""
        linear = self.world_from_avatar[frame, :3, :3]
        return normals @ (linear / torch.linalg.det(linear) ** (1 / 3))


def _check(instances: Sequence[SceneInstance], cameras: Sequence[Camera], passes: Sequence[str], quality: str) -> None:
    if quality not in _QUALITIES:
        raise EffigyError(f"unknown quality {quality!r}", expected=" or ".join(_QUALITIES))
    for name in passes:
        if name not in PASS_CHANNELS:
            raise EffigyError(f"unknown pass {name!r}{nearest(name, PASS_CHANNELS)}", expected=", ".join(PASS_CHANNELS))
    if not cameras:
        raise EffigyError("there is no camera to look through", expected="at least one sub-frame")
    for item in instances:
        counts = {len(item.world_from_avatar), len(item.rotations), len(item.translations), len(item.expressions)}
        if counts != {len(cameras)}:
            raise EffigyError(
                "an avatar has another number of sub-frames than the camera",
                found=", ".join(str(count) for count in sorted(counts)),
                expected=str(len(cameras)),
            )
        matrix = np.asarray(item.world_from_avatar, np.float64)[:, :3, :3]
        gram = matrix.transpose(0, 2, 1) @ matrix
        size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / 3
        if (
            not np.isfinite(matrix).all()
            or (np.abs(gram - size * np.eye(3)) > 0.01 * size).any()
            or (size < 1e-12).any()
        ):
            raise EffigyError(
                "an avatar's object has uneven scale, shear or no size",
                do="Apply the object's scale in Blender, or make it the same along all axes",
            )
        if (np.linalg.det(matrix) < 0).any():
            raise EffigyError("an avatar's object is mirrored", do="Make its scale positive in Blender")


def has_materials(avatar: Posable) -> bool:
    """Whether an avatar brings materials and with them the light of its capture as a map."""
    return getattr(avatar, "captured_light", None) is not None


def _shade(
    layers: dict[str, Tensor],
    alpha: Tensor,
    depth: Tensor,
    sets: Sequence[PosedGaussians],
    actors: Sequence[_Actor],
    frame: int,
    camera: CameraBatch,
    owners: Owners,
    names: Sequence[str],
) -> dict[str, Tensor]:
    """Those passes of one sub-frame that depend on light or materials, premultiplied linear [H, W, C] each."""
    if len(actors) == 1 and has_materials(actors[0].avatar) and "surface" in layers:
        return _lit_alone(layers, alpha, depth, actors[0], frame, camera, names)
    covered = alpha > 0
    cover = alpha[covered][:, None]
    linear = linear_from_srgb((layers["colour"][covered] / cover.clamp(min=1e-6)).clamp(min=0))
    found = {"diffuse": linear, "specular": torch.zeros_like(linear), "albedo": linear}
    found |= {name: linear[:, :1] * 0 for name in ("roughness", "metallic", "occlusion")}
    if "normal" in layers:
        away = pixel_rays(camera)[0][covered]
        points = pixel_points(camera, depth[None])[0][covered] if any(actor.lamps() for actor in actors) else None
        normals = facing(layers["normal"][covered] / cover.clamp(min=1e-6), away)
        covers = layers["owner"][covered] if len(actors) > 1 else cover
        groups = owners.groups(covers, covered) if len(actors) > 1 else [slice(None)]
        surfaces = layers["surface"][covered] if "surface" in layers else None
        found = {name: values.clone() for name, values in found.items()}
        for index, (actor, rows) in enumerate(zip(actors, groups, strict=True)):  # pixels are lit once, by their owner
            lit = (normals[rows], away[rows])
            if has_materials(actor.avatar) and surfaces is not None:
                part = owners.own(covers, index)[rows, None] if len(actors) > 1 else cover
                surface = surfaces[rows] / part.clamp(min=1e-6)
                mine = _lit_surface(actor, frame, surface, *lit, None if points is None else points[rows])
            else:
                mine = _lit_colours(actor, frame, linear[rows], lit[0], sets[index], "albedo" in names)
            for name, values in mine.items():
                found[name][rows] = values
    found["combined"] = found["diffuse"] + found["specular"]
    pictures = {}
    for name in names:
        pictures[name] = alpha.new_zeros(*alpha.shape, found[name].shape[-1])
        pictures[name][covered] = found[name] * cover
    return pictures


def _lit_alone(
    layers: dict[str, Tensor],
    alpha: Tensor,
    depth: Tensor,
    actor: _Actor,
    frame: int,
    camera: CameraBatch,
    names: Sequence[str],
) -> dict[str, Tensor]:
    """As `_shade` of one person with materials: all pixels at once, without asking which are covered."""
    found = {name: layers["surface"][..., place].clamp(min=0) for name, place in _OF_SURFACE.items()}
    if set(_LIT) & set(names):
        turn, filtered = None, None if actor.light is None else actor.light.filtered()
        width = layers["surface"].shape[-1]
        if filtered is None:  # the light of the capture stays with the person
            filtered = actor.avatar.captured_light  # type: ignore[attr-defined]
            linear = actor.world_from_avatar[frame, :3, :3]
            turn, width = linear / torch.linalg.det(linear) ** (1 / 3), FIXED
        both = torch.cat([layers["surface"][..., :width], layers["normal"]], dim=-1)[None]
        places = {"surface": 0, "normal": width, "turn": turn, "depth_m": depth[None]}
        lit = lit_pictures(both, alpha[None], camera, filtered, **places)[0]
        found["diffuse"], found["specular"] = lit[..., :3], lit[..., 3:]
        found["combined"] = found["diffuse"] + found["specular"]
    return {name: found[name] for name in names}


def _lit_surface(
    actor: _Actor,
    frame: int,
    surface: Tensor,
    normals: Tensor,
    away: Tensor,
    points: Tensor | None,
) -> dict[str, Tensor]:
    """Passes of pixels [P, C] that show materials, in its light or in the capture's (in the avatar's axes)."""
    if actor.light is not None:
        surface = surface[:, : FIXED + actor.lamps()]
        shaded = shade_pixels(surface, normals, -away, actor.light.filtered(), points if actor.lamps() else None)
    else:
        captured: FilteredLight = actor.avatar.captured_light  # type: ignore[attr-defined]
        shaded = shade_pixels(
            surface[:, :FIXED], actor.model_normals(normals, frame), actor.model_normals(-away, frame), captured
        )
    parts = {name: surface[:, place].clamp(0, 1) for name, place in _OF_SURFACE.items()}
    return {"diffuse": shaded.diffuse, "specular": shaded.specular, **parts}


def _lit_colours(
    actor: _Actor,
    frame: int,
    linear: Tensor,
    normals: Tensor,
    posed: PosedGaussians,
    with_albedo: bool,
) -> dict[str, Tensor]:
    """Passes of pixels [P, C] that show trained colours, relit by estimate."""
    faced, captured = actor.model_normals(normals, frame), actor.avatar.captured_irradiance
    found = {}
    if actor.light is not None:
        shining = actor.light.irradiance(posed.means[0].median(dim=0).values)
        found["diffuse"] = linear * relighting(shining, captured, normals, faced)
    if with_albedo:
        found["albedo"] = albedo(linear, captured, faced)
    return found


@torch.no_grad()
def render_scene(
    instances: Sequence[SceneInstance],
    cameras: Sequence[Camera],
    environment: Environment | None,
    passes: Sequence[str],
    *,
    quality: str = "final",
    device: torch.device | str = "cpu",
) -> dict[str, NDArray[Any]]:
    """Render S sub-frames and average them. One array [H, W, C] for each pass asked for (C as in PASS_CHANNELS).

    environment None keeps the light each avatar was captured in; otherwise colours are relit by it (estimated). An
    instance's own light goes before it.
    combined: float16 premultiplied linear RGBA. depth: float32 m along the camera's z, the nearest sub-frame's, 0 where
    nothing is. normal: float16 unit, world axes, 0 where nothing is. albedo: float16 premultiplied linear. mask:
    float16 cover. id: int32, 1 for the first instance, that which covers most, 0 where less than half is covered.
    coverage: float16 [H, W, instances], each one's part of the cover. Held out instances are in none of them.
    packed: float32, all a viewport needs (shared.packed), its depth between the first camera's near and far planes.
    diffuse, specular: float16 premultiplied linear; together they are combined. roughness, metallic, occlusion (1 where
    nothing of the sky is hidden): float16 times cover, 0 for avatars that hold colours.
    quality "draft" renders the middle sub-frame only. Raises EffigyError for input that does not fit together.
    """
    _check(instances, cameras, passes, quality)
    where = torch.device(device)
    lens = CameraBatch.from_cameras(cameras, where)
    actors = [_Actor.of(item, environment, where) for item in instances]
    layers = Layers(
        [actor.holdout for actor in actors],
        [actor.light for actor in actors],
        coloured=bool({*_SHADED, "packed"} & set(passes)),
        albedo="albedo" in passes,
        materials=any(has_materials(actor.avatar) for actor in actors),
        normal="normal" in passes,
        owners=bool(set(_BY_OWNER) & set(passes)),
    )
    frames = [len(cameras) // 2] if quality == "draft" else list(range(len(cameras)))
    size = (lens.height_px, lens.width_px)
    sums = {
        name: torch.zeros(*size, len(instances) if name in _BY_OWNER else min(3, PASS_CHANNELS[name]), device=where)
        for name in ("normal", *_SHADED, *_BY_OWNER)
        if name in passes or (name == "combined" and "packed" in passes)
    }
    cover, depth = torch.zeros(size, device=where), torch.zeros(size, device=where)
    for frame in frames if actors else ():
        camera = lens.one(frame)
        sets = [actor.posed(frame, normals="normal" in layers.slices).seen_from(camera.positions()) for actor in actors]
        sets = alike(sets, camera)
        flat = all(gaussians.material is not None and gaussians.material.flat for gaussians in sets)
        draw = rasterise_surfels if flat else rasterise
        owners = (shared_owners if "owner" in layers.slices else plain_owners)(sets, camera)
        image = draw(concatenate(sets), camera, layers.features(sets, camera, owners))
        alpha, here = image.alpha[0], image.depth[0]
        found = {name: image.features[0, ..., place] for name, place in layers.slices.items()}
        if "shown" in found:
            alpha, depth_sum = found["shown"].unbind(dim=-1)
            here = depth_sum / alpha.clamp(min=EMPTY_ALPHA)
        wanted = [name for name in _SHADED if name in sums]
        if wanted:
            found |= _shade(found, alpha, here, sets, actors, frame, camera, owners, wanted)
        for name in sums:
            sums[name] += owners.spread(found["owner"]) if name in _BY_OWNER else found[name]
        cover += alpha
        nearer = (alpha > VISIBLE_ALPHA) & ((depth == 0) | (here < depth))
        depth = torch.where(nearer, here, depth)
    count = float(len(frames))
    found = {name: _finished(name, sums, cover / count, depth, count) for name in passes if name != "packed"}
    if "packed" in passes:
        packed = pack(sums["combined"] / count, cover / count, depth, cameras[0].near_m, cameras[0].far_m)
        found["packed"] = packed.cpu().numpy()
    return found


def _finished(name: str, sums: dict[str, Tensor], cover: Tensor, depth: Tensor, count: float) -> NDArray[Any]:
    """One pass as it leaves, from sums over `count` sub-frames."""
    if name == "depth":
        return np.ascontiguousarray(depth[..., None].cpu().numpy(), np.float32)
    if name == "id":
        owner = torch.zeros_like(cover, dtype=torch.int32)
        if sums[name].shape[-1]:
            owner = torch.where(cover >= OWNED_ALPHA, sums[name].argmax(dim=-1).to(torch.int32) + 1, owner)
        return np.ascontiguousarray(owner[..., None].cpu().numpy(), np.int32)
    if name == "mask":
        image = cover[..., None]
    elif name == "combined":
        image = torch.cat([sums[name] / count, cover[..., None]], dim=-1)
    elif name == "normal":
        unit = torch.nn.functional.normalize(sums[name], dim=-1)
        image = torch.where((cover > VISIBLE_ALPHA)[..., None], unit, torch.zeros_like(unit))
    else:
        image = sums[name] / count
    half = image.clamp(-_HALF_MAX, _HALF_MAX).half()  # where it was drawn: half the bytes to copy, and not by one core
    return np.ascontiguousarray(half.cpu().numpy())
