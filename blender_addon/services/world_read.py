"""Read a scene's World: the light avatars stand in and the background the camera sees behind them.

Understood: World Output <- Background (or Emission) <- Environment Texture (equirectangular) or a colour, with a
Mapping node (rotation, scale), Multiply mixes by constant colours, constant Value, RGB and reroute nodes; and a Mix
Shader by Light Path "Is Camera Ray", which shows the camera another background than the one that gives light. Anything
else is told in `World.problem`, and avatars keep the light they were captured in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Matrix
from numpy.typing import NDArray

from .._shared import errors
from ..logic import world_maths

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
MAX_CACHED_MAPS = 8  # as many as one picture can name


@dataclass(frozen=True, eq=False)
class WorldMap:
    """Light from all around. radiance [H, W, 3] is looked up at map_from_world [3, 3] and multiplied by gain [3]."""

    radiance: Float32
    map_from_world: Float64
    gain: Float64
    source: tuple[Any, ...]  # names the content of radiance
    is_image: bool


@dataclass(frozen=True, eq=False)
class World:
    """light: what shines on avatars, None keeps their captured light. seen: what the camera sees. problem: why not."""

    light: WorldMap | None
    seen: WorldMap
    problem: str = ""


@dataclass(frozen=True, eq=False)
class SentLight:
    """A map ready for the wire: radiance [H, W, 3] float16, then turned by rotation_rad and multiplied by strength."""

    radiance: NDArray[np.float16]
    rotation_rad: float
    strength: float

    def stamp(self) -> tuple[Any, ...]:
        """Equal for equal light, as long as the map is kept."""
        return (id(self.radiance), self.rotation_rad, self.strength)


@dataclass
class MapCache:
    """Pixels and wire maps of the newest worlds, so an animation does not read a file per frame.

    load False reads no pixels at all: for panels, which only tell what kind of light there is.
    """

    load: bool = True
    pixels: dict[tuple[Any, ...], Float32] = field(default_factory=dict)
    sent: dict[tuple[Any, ...], NDArray[np.float16]] = field(default_factory=dict)

    def keep(self, table: dict[tuple[Any, ...], Any], key: tuple[Any, ...], value: Any) -> Any:
        """Store under key, dropping the oldest entries."""
        table[key] = value
        while len(table) > MAX_CACHED_MAPS:
            del table[next(iter(table))]
        return value


class _NotUnderstood(Exception):
    """A node set-up this reader does not know; the text says which."""


def read_world(world: Any, cache: MapCache) -> World:
    """The light and background of an evaluated World datablock, or of None."""
    if world is None:
        return World(None, _plain((0.0, 0.0, 0.0)))
    # From Blender 5 every World has nodes and the switch is about to go.
    tree = world.node_tree if bpy.app.version >= (5, 0) or world.use_nodes else None
    if tree is None:
        plain = _plain(world.color)
        return World(plain, plain)
    try:
        output = next((node for node in tree.nodes if node.type == "OUTPUT_WORLD" and node.is_active_output), None)
        surface = _source(output.inputs["Surface"]) if output else None
        if surface is None:
            return World(_plain((0.0, 0.0, 0.0)), _plain((0.0, 0.0, 0.0)))
        if surface.type == "MIX_SHADER":
            factor = _link(surface.inputs[0])
            if factor is None or factor.from_node.type != "LIGHT_PATH" or factor.from_socket.name != "Is Camera Ray":
                raise _NotUnderstood("a Mix Shader by something else than Is Camera Ray")
            light, seen = (_shader(_source(surface.inputs[slot]), cache) for slot in (1, 2))
            return World(light, seen)
        both = _shader(surface, cache)
        return World(both, both)
    except _NotUnderstood as problem:
        text = f"The World {world.name!r} has {problem}: avatars keep the light they were captured in"
        return World(None, _plain(world.color), text)


def image_map(image: Any, rotation_rad: float, strength: float, cache: MapCache) -> WorldMap:
    """Light from an equirectangular image turned about z, without a World. Raises NotFound for one that is missing.

    Read as Blender's World reads it through a Mapping node with this rotation.
    """
    try:
        radiance, source = _pixels(image, cache)
    except _NotUnderstood as problem:
        raise errors.EffigyError(f"The HDRI {image.name!r} is {problem}", do="Choose a still picture") from problem
    turn = np.array(Matrix.Rotation(rotation_rad, 3, "Z"), dtype=np.float64)
    return WorldMap(radiance, turn, np.full(3, float(strength)), source, True)


def sent_light(light: WorldMap, cache: MapCache) -> SentLight:
    """What the backend gets: at most 512x256 px, turned there when the turn is about z, turned here otherwise."""
    rotation = world_maths.turn_about_z(light.map_from_world)
    strength = float(light.gain.max())
    tint = light.gain / strength if strength > 0 else np.ones(3)
    turned_here = () if rotation is not None else tuple(np.round(light.map_from_world, 6).ravel())
    key = (*light.source, tuple(np.round(tint, 6)), turned_here)
    radiance = cache.sent.get(key)
    if radiance is None:
        small = world_maths.shrink(light.radiance)
        if rotation is None:
            small = world_maths.turned(small, light.map_from_world)
        radiance = cache.keep(cache.sent, key, world_maths.half(small * tint))
    return SentLight(radiance, rotation or 0.0, strength)


def _plain(colour: Any) -> WorldMap:
    values = tuple(float(n) for n in colour[:3])
    return WorldMap(world_maths.constant(values), np.eye(3), np.ones(3), ("plain", *values), False)


def _link(socket: Any) -> Any | None:
    """The link into a socket, seen through reroutes; None where nothing arrives."""
    link = socket.links[0] if socket.is_linked else None
    while link is not None and link.from_node.type == "REROUTE":
        link = link.from_node.inputs[0].links[0] if link.from_node.inputs[0].is_linked else None
    return link


def _source(socket: Any) -> Any | None:
    link = _link(socket)
    return link.from_node if link else None


def _constant(socket: Any) -> Any:
    """The value of an input that is not linked, or linked to a Value or RGB node."""
    node = _source(socket)
    if node is None:
        return socket.default_value
    if node.type in {"VALUE", "RGB"}:
        return node.outputs[0].default_value
    raise _NotUnderstood(f"a {node.bl_label} node at {socket.node.name}: {socket.name}")


def _shader(node: Any | None, cache: MapCache) -> WorldMap:
    if node is None:
        return _plain((0.0, 0.0, 0.0))
    if node.type not in {"BACKGROUND", "EMISSION"}:
        raise _NotUnderstood(f"a {node.bl_label} node as its surface")
    colour = _colour(node.inputs["Color"], cache)
    strength = float(_constant(node.inputs["Strength"]))
    return WorldMap(colour.radiance, colour.map_from_world, colour.gain * strength, colour.source, colour.is_image)


def _colour(socket: Any, cache: MapCache) -> WorldMap:
    node = _source(socket)
    if node is None or node.type == "RGB":
        return _plain(_constant(socket))
    if node.type == "TEX_ENVIRONMENT":
        return _environment(node, cache)
    if (
        node.type in {"MIX", "MIX_RGB"}
        and node.blend_type == "MULTIPLY"
        and getattr(node, "data_type", "RGBA") == "RGBA"
    ):
        # The Mix node has sockets for every data type; its colour ones are the last of their names.
        sockets = [s for s in node.inputs if s.type == "RGBA"]
        factor = float(_constant(next(s for s in node.inputs if s.type == "VALUE")))
        texture, tint = sockets if _source(sockets[0]) is not None else sockets[::-1]
        base = _colour(texture, cache)
        gain = base.gain * ((1 - factor) + factor * np.asarray(_constant(tint)[:3], dtype=np.float64))
        return WorldMap(base.radiance, base.map_from_world, gain, base.source, base.is_image)
    raise _NotUnderstood(f"a {node.bl_label} node as its colour")


def _environment(node: Any, cache: MapCache) -> WorldMap:
    if node.image is None:
        raise _NotUnderstood("an Environment Texture without an image")
    if node.projection != "EQUIRECTANGULAR":
        raise _NotUnderstood("a mirror ball texture")
    if any(node.texture_mapping.rotation) or any(node.texture_mapping.translation):
        raise _NotUnderstood("texture mapping inside its Environment Texture (use a Mapping node)")
    radiance, source = _pixels(node.image, cache)
    return WorldMap(radiance, _lookup(node.inputs["Vector"]), np.ones(3), source, True)


def _lookup(socket: Any) -> Float64:
    """[3, 3] from world directions to the directions the image is read at."""
    link = _link(socket)
    if link is None:
        return np.eye(3)
    node = link.from_node
    if node.type == "TEX_COORD" and (
        link.from_socket.name == "Generated" or (link.from_socket.name == "Object" and node.object is None)
    ):
        return np.eye(3)
    if node.type != "MAPPING" or node.vector_type == "NORMAL":
        raise _NotUnderstood(f"a {node.bl_label} node as texture coordinates")
    location = _constant(node.inputs["Location"]) if node.vector_type != "VECTOR" else (0.0, 0.0, 0.0)
    if any(abs(n) > 1e-6 for n in location):
        raise _NotUnderstood("a Mapping node with a location")
    turn = Euler(_constant(node.inputs["Rotation"])).to_matrix()
    scale = Matrix.Diagonal(_constant(node.inputs["Scale"]))
    matrix = np.array(turn @ scale, dtype=np.float64)
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise _NotUnderstood("a Mapping node with a scale of zero")
    if node.vector_type == "TEXTURE":  # "texture" means: move the texture, so the look-up goes the other way
        matrix = np.linalg.inv(matrix)
    return matrix @ _lookup(node.inputs["Vector"])


def _pixels(image: Any, cache: MapCache) -> tuple[Float32, tuple[Any, ...]]:
    """Scene-linear radiance [H, W, 3], row 0 at the top, and a key that changes with the content."""
    if image.source not in {"FILE", "GENERATED"}:
        raise _NotUnderstood(f"an image that is a {image.source.lower()}")
    path = bpy.path.abspath(image.filepath, library=image.library)
    modified = os.path.getmtime(path) if image.packed_file is None and os.path.isfile(path) else 0.0
    space = image.colorspace_settings.name
    source = (image.name_full, path, modified, tuple(image.size), space, tuple(image.generated_color))
    if not cache.load:
        return world_maths.constant((0.0, 0.0, 0.0)), source
    known = cache.pixels.get(source)
    if known is not None and not image.is_dirty:
        return known, source
    flat = np.empty(len(image.pixels), np.float32)
    if not flat.size:
        raise errors.NotFound(
            f"The World's image {image.name!r} cannot be read", found=path, do="Find missing files, or choose another"
        )
    image.pixels.foreach_get(flat)
    width, height = image.size
    rgb = flat.reshape(height, width, image.channels)[::-1, :, : min(3, image.channels)]
    rgb = np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb
    # Blender hands out files of floats in linear light and files of bytes as they are stored.
    linear = image.is_float or space in {"Non-Color", "Raw"} or space.startswith("Linear")
    radiance = np.ascontiguousarray(rgb if linear else world_maths.linear_from_srgb(rgb), dtype=np.float32)
    if image.is_dirty:  # painted on: content is told by the pixels themselves
        source = (*source, hash(radiance.tobytes()))
    return cache.keep(cache.pixels, source, radiance), source
