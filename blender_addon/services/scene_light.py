"""What shines on a scene's avatars: the World, an HDRI of their own, or what they were captured in.

The scene chooses for all its avatars, and each avatar may choose for itself. Lamps of the scene shine along with the
first two. They never join the light of the capture, which is already complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .._shared import messages
from ..logic.light_maps import LightMaps
from . import lamp_read, world_read

FOLLOWS_WORLD = ("AUTO", "WORLD")


@dataclass(frozen=True, eq=False)
class OwnLight:
    """What an avatar says of its own light, apart from Blender's data: read while that is valid."""

    light: str
    image: Any
    rotation: float
    strength: float
    exposure: float
    use_lamps: bool


def own_light(item: Any) -> OwnLight | None:
    """The choice of an (evaluated) object that is an avatar; None: it is lit as the scene."""
    own = item.effigy_light
    if own.light == "SCENE":
        return None
    return OwnLight(own.light, own.image, own.rotation, own.strength, own.exposure, own.use_lamps)


def chosen_map(
    choice: str, own: Any, world: world_read.World, cache: world_read.MapCache
) -> world_read.WorldMap | None:
    """The light, with its exposure; None keeps the light each avatar was captured in.

    own: a scene's effigy_relight, or an OwnLight. world: the scene's World as it was read with the same cache. Raises
    NotFound for an HDRI that cannot be read.
    """
    light = None
    if choice == "OWN" and own.image is not None:
        light = world_read.image_map(own.image, own.rotation, own.strength, cache)
    elif choice in FOLLOWS_WORLD and world.light is not None and (choice == "WORLD" or world.light.is_image):
        light = world.light
    if light is None:
        return None
    return replace(light, gain=np.asarray(light.gain) * exposure_gain(own))


def exposure_gain(own: Any) -> float:
    """What the light on avatars is multiplied by."""
    return math.pow(2.0, own.exposure)


@dataclass(frozen=True, eq=False)
class Lights:
    """What shines on the avatars of a picture, ready for the wire.

    picture: where they say nothing; None is the light of the capture. own: for each avatar None (as the picture), or
    its light and how bright the scene's lamps are in it; a light of None is that of the capture.
    beside: the scene's lamps, for whoever takes them.
    """

    picture: world_read.SentLight | None = None
    own: tuple[tuple[world_read.SentLight | None, float] | None, ...] = ()
    beside: lamp_read.SceneLights = field(default_factory=lamp_read.SceneLights)

    def alone(self) -> Lights:
        """The light on the first avatar as that of a picture of it alone."""
        if not self.own or self.own[0] is None:
            return replace(self, own=())
        sent, lamps = self.own[0]
        return Lights(sent, (), self.beside.dimmed(lamps))

    def of(self, places: Sequence[int]) -> Lights:
        """Those of some of the avatars."""
        return replace(self, own=tuple(self.own[place] for place in places))

    def fields(self) -> dict[str, Any]:
        """What requests say of the picture's light beside its map's digest."""
        turned = {}
        if self.picture is not None:
            turned["environment_rotation_rad"] = self.picture.rotation_rad
            turned["environment_strength"] = self.picture.strength
        return turned | {"environment_lights": self.beside.suns, "environment_lamps": self.beside.near}

    def on(self, instances: Sequence[messages.AvatarInstance]) -> tuple[messages.AvatarInstance, ...]:
        """The avatars with their own lights; digests of maps are still to come."""
        lit = []
        for item, own in zip(instances, self.own, strict=True):
            light = None
            if own is not None:
                sent, lamps = own
                turned = () if sent is None else ("", sent.rotation_rad, sent.strength, lamps)
                light = messages.InstanceLight(*turned)
            lit.append(replace(item, light=light))
        return tuple(lit)

    def maps(self) -> LightMaps:
        """What has to be handed over."""
        own = [None if one is None or one[0] is None else one[0].radiance for one in self.own]
        return LightMaps(None if self.picture is None else self.picture.radiance, tuple(own))

    def stamps(self) -> tuple[Any, tuple[Any, ...]]:
        """Of the picture's light and of each avatar's own; equal for equal light, as long as maps are kept."""
        each = tuple(
            None if one is None else (one[0].stamp() if one[0] is not None else (), one[1]) for one in self.own
        )
        beside = (self.beside.suns.tobytes(), self.beside.near.tobytes())
        return (None if self.picture is None else self.picture.stamp(), beside), each


def chosen_lights(
    scene: Any,
    own: Sequence[OwnLight | None],
    depsgraph: Any,
    world: world_read.World,
    cache: world_read.MapCache,
) -> Lights:
    """The light of a picture of these avatars. Raises NotFound for an HDRI that cannot be read."""
    settings = scene.effigy_relight
    light = chosen_map(scene.effigy.light, settings, world, cache)
    gain = exposure_gain(settings)
    each = []
    for one in own:
        found = None if one is None else chosen_map(one.light, one, world, cache)
        lamps = exposure_gain(one) / gain if one is not None and one.use_lamps else 0.0
        each.append(None if one is None else (None if found is None else world_read.sent_light(found, cache), lamps))
    takes_lamps = light is not None or any(one is not None and one[0] is not None for one in each)
    beside = lamp_read.SceneLights()
    if takes_lamps and settings.use_lamps:
        beside = lamp_read.read_lights(depsgraph, gain)
    return Lights(None if light is None else world_read.sent_light(light, cache), tuple(each), beside)


def problem(scene: Any, world: world_read.World) -> str:
    """Why the avatars are not lit as the scene asks, in one sentence; empty where they are."""
    return _problem(scene.effigy.light, scene.effigy_relight, world)


def own_problem(own: OwnLight, world: world_read.World) -> str:
    """The same of an avatar's own light."""
    return _problem(own.light, own, world)


def _problem(choice: str, own: Any, world: world_read.World) -> str:
    if choice in FOLLOWS_WORLD:
        return world.problem
    if choice == "OWN" and own.image is None:
        return "No HDRI is chosen: avatars keep the light they were captured in"
    return ""
