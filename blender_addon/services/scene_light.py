"""What shines on a scene's avatars by its choice: the World, an HDRI of their own, or what they were captured in.

Lamps of the scene shine along with the first two. They never join the light of the capture, which is already complete.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from . import lamp_read, world_read

FOLLOWS_WORLD = ("AUTO", "WORLD")


def chosen_map(scene: Any, world: world_read.World, cache: world_read.MapCache) -> world_read.WorldMap | None:
    """The light, with the scene's exposure; None keeps the light each avatar was captured in.

    world: the scene's World as it was read with the same cache. Raises NotFound for an HDRI that cannot be read.
    """
    choice, own = scene.effigy.light, scene.effigy_relight
    light = None
    if choice == "OWN" and own.image is not None:
        light = world_read.image_map(own.image, own.rotation, own.strength, cache)
    elif choice in FOLLOWS_WORLD and world.light is not None and (choice == "WORLD" or world.light.is_image):
        light = world.light
    if light is None:
        return None
    return replace(light, gain=np.asarray(light.gain) * exposure_gain(scene))


def exposure_gain(scene: Any) -> float:
    """What the light on avatars is multiplied by."""
    return math.pow(2.0, scene.effigy_relight.exposure)


def chosen_light(
    scene: Any, depsgraph: Any, world: world_read.World, cache: world_read.MapCache
) -> world_read.SentLight | None:
    """The same with the lamps that a dependency graph shows, ready for the wire."""
    light = chosen_map(scene, world, cache)
    if light is None:
        return None
    sent = world_read.sent_light(light, cache)
    if not scene.effigy_relight.use_lamps:
        return sent
    return replace(sent, lights=lamp_read.read_lights(depsgraph, exposure_gain(scene)))


def problem(scene: Any, world: world_read.World) -> str:
    """Why the avatars are not lit as the scene asks, in one sentence; empty where they are."""
    if scene.effigy.light in FOLLOWS_WORLD:
        return world.problem
    if scene.effigy.light == "OWN" and scene.effigy_relight.image is None:
        return "No HDRI is chosen: avatars keep the light they were captured in"
    return ""
