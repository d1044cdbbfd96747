"""Read a scene's lights: suns, point, spot and area lights, in the units avatars are lit in (see `shared.lamps`).

Cycles' own conventions, measured: a sun's strength is the irradiance of a surface that faces it; a point or spot light
of P watts has an intensity of P / (4 pi) each way, an area light P / pi on its axis. Exposure, temperature,
normalising or not, and an Emission node of constants in the light's nodes count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import lamps

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SceneLights:
    """suns: [N, 7]; near: [M, 13] lamps; world axes. notes: what was left out and why, a sentence each."""

    suns: Rows = field(default_factory=lamps.no_suns)
    near: Rows = field(default_factory=lamps.no_lamps)
    notes: tuple[str, ...] = ()

    def dimmed(self, gain: float) -> SceneLights:
        """The same lights, `gain` times as bright; none at 0."""
        if gain <= 0:
            return SceneLights()
        suns, near = self.suns.copy(), self.near.copy()
        suns[:, lamps.IRRADIANCE] *= gain
        near[:, lamps.INTENSITY] *= gain
        return SceneLights(suns, near, self.notes)

    def __len__(self) -> int:
        return len(self.suns) + len(self.near)


def read_lights(depsgraph: Any, gain: float = 1.0) -> SceneLights:
    """All lights a dependency graph shows, instanced ones too; brightest first where there are too many."""
    suns: list[Rows] = []
    near: list[Rows] = []
    notes: list[str] = []
    for instance in depsgraph.object_instances:
        item = instance.object
        if item.type != "LIGHT" or not (item.visible_diffuse or item.visible_glossy):
            continue
        # An instance is only valid inside this loop: everything is copied out of it.
        colour, unread = _colour(item.data)
        if unread:
            notes.append(f"Light {item.original.name!r} has nodes that avatars are not lit by")
        if not (np.isfinite(colour).all() and colour.max() > 0):
            continue
        matrix = np.array(instance.matrix_world, dtype=np.float64)
        if item.data.type == "SUN":
            suns.append(_sun(item.data, matrix, colour * gain))
        else:
            near.append(_lamp(item.data, matrix, colour * gain))
    dropped = len(suns) + len(near) - lamps.MOST_LIGHTS
    if dropped > 0:
        notes.append(f"Avatars are lit by at most {lamps.MOST_LIGHTS} lights; the {dropped} weakest lamps are left out")
        near.sort(key=lambda row: -float(row[lamps.INTENSITY].max()))
        suns, near = suns[: lamps.MOST_LIGHTS], near[: max(0, lamps.MOST_LIGHTS - len(suns))]
    return SceneLights(
        lamps.stacked(suns, lamps.SUN_COLUMNS), lamps.stacked(near, lamps.LAMP_COLUMNS), tuple(dict.fromkeys(notes))
    )


def _colour(light: Any) -> tuple[NDArray[np.float64], bool]:
    """Energy times colour [3], and whether it has nodes that are not understood."""
    colour = np.array(light.color, dtype=np.float64) * light.energy * 2.0 ** getattr(light, "exposure", 0.0)
    if getattr(light, "use_temperature", False):
        colour = colour * np.array(light.temperature_color)
    tree = light.node_tree if light.use_nodes else None
    if tree is None:
        return np.maximum(colour, 0), False
    output = next((node for node in tree.nodes if node.type == "OUTPUT_LIGHT" and node.is_active_output), None)
    link = output.inputs["Surface"].links[0] if output is not None and output.inputs["Surface"].is_linked else None
    if link is None:
        return colour * 0, False  # Cycles renders such a light dark
    node = link.from_node
    if node.type != "EMISSION" or node.inputs["Color"].is_linked or node.inputs["Strength"].is_linked:
        return np.maximum(colour, 0), True
    gain = np.array(node.inputs["Color"].default_value[:3]) * node.inputs["Strength"].default_value
    return np.maximum(colour * gain, 0), False


def _sun(light: Any, matrix: NDArray[np.float64], colour: NDArray[np.float64]) -> Rows:
    if not getattr(light, "normalize", True):
        colour = colour * (math.pi * math.sin(light.angle / 2) ** 2)
    return lamps.sun(_unit(matrix[:3, 2]), colour, light.angle)


def _lamp(light: Any, matrix: NDArray[np.float64], colour: NDArray[np.float64]) -> Rows:
    place, axis = matrix[:3, 3], -_unit(matrix[:3, 2])
    normal = getattr(light, "normalize", True)
    if light.type == "AREA":
        size = np.linalg.norm(matrix[:3, :2], axis=0) * (light.size, light.size)
        if light.shape in {"RECTANGLE", "ELLIPSE"}:
            size[1] *= light.size_y / max(light.size, 1e-9)
        area_m2 = float(size.prod()) * (math.pi / 4 if light.shape in {"DISK", "ELLIPSE"} else 1.0)
        half = light.spread / 2
        narrowed = math.tan(half) / (math.tan(half) - half) if 1e-3 < half < math.pi / 2 - 1e-3 else 1.0
        strength = colour / math.pi * (1.0 if normal else area_m2) * narrowed
        return lamps.panel(place, axis, strength, area_m2, half)
    radius = float(light.shadow_soft_size)
    strength = colour * (1 / (4 * math.pi) if normal else radius**2)
    if light.type == "SPOT":
        return lamps.cone(place, axis, strength, light.spot_size / 2, light.spot_blend, radius)
    return lamps.ball(place, strength, radius)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else np.array([0.0, 0.0, 1.0])
