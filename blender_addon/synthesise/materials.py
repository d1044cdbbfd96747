"""Cycles materials of the person: skin, eyes, mouth, hair and cloth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import bpy

DATA = Path(__file__).parent / "data"
Colour = tuple[float, float, float]


def new_material(name: str) -> tuple[bpy.types.Material, bpy.types.NodeTree, bpy.types.Node]:
    """A material, its node tree and its Principled shader."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    return material, tree, tree.nodes["Principled BSDF"]


def _image(tree: bpy.types.NodeTree, path: Path, colour_space: str) -> bpy.types.Node:
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(str(path), check_existing=True)
    node.image.colorspace_settings.name = colour_space
    node.interpolation = "Cubic"
    return node


def rest_noise(tree: bpy.types.NodeTree, scale_per_m: float, detail: float) -> bpy.types.Node:
    """Noise fixed to the rest shape, so it moves with the skin or cloth."""
    rest = tree.nodes.new("ShaderNodeAttribute")
    rest.attribute_name = "rest"
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = scale_per_m, detail
    tree.links.new(rest.outputs["Vector"], noise.inputs["Vector"])
    return noise


def add_bump(
    tree: bpy.types.NodeTree, height: bpy.types.NodeSocket, shader: bpy.types.Node, strength: float, distance_m: float
) -> None:
    """Let `height` (0..1 times distance_m) bend the shader's normal."""
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value, bump.inputs["Distance"].default_value = strength, distance_m
    tree.links.new(height, bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])


def skin_material(preset: str) -> bpy.types.Material:
    """Painted albedo and roughness, pores as bump, light subsurface scattering."""
    material, tree, shader = new_material("skin")
    albedo = _image(tree, DATA / f"{preset}_albedo.webp", "sRGB")
    rough = _image(tree, DATA / f"{preset}_roughness.webp", "Non-Color")
    tree.links.new(albedo.outputs["Color"], shader.inputs["Base Color"])
    tree.links.new(rough.outputs["Color"], shader.inputs["Roughness"])
    add_bump(tree, rest_noise(tree, 800.0, 4.0).outputs["Fac"], shader, 0.5, 0.0009)
    shader.inputs["Subsurface Weight"].default_value = 0.15
    shader.inputs["Subsurface Radius"].default_value = (1.0, 0.35, 0.18)
    shader.inputs["Subsurface Scale"].default_value = 0.005
    shader.inputs["Specular IOR Level"].default_value = 0.45
    return material


def tongue_material(preset: str) -> bpy.types.Material:
    """Painted albedo of the skin's atlas, wet."""
    material, tree, shader = new_material("tongue")
    albedo = _image(tree, DATA / f"{preset}_albedo.webp", "sRGB")
    tree.links.new(albedo.outputs["Color"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.3
    return material


def eye_material(name: str, centre: Sequence[float], iris: Colour) -> bpy.types.Material:
    """An eyeball coloured by the angle from its gaze axis (-y at rest), under a clear wet coat that makes catch-lights.

    centre: of the ball at rest, m. iris: linear colour.
    """
    material, tree, shader = new_material(name)
    rest = tree.nodes.new("ShaderNodeAttribute")
    rest.attribute_name = "rest"
    ray = _vector_math(tree, "NORMALIZE", _vector_math(tree, "SUBTRACT", rest.outputs["Vector"], centre))
    towards = _vector_math(tree, "DOT_PRODUCT", ray, (0.0, -1.0, 0.0))
    angle = maths(tree, "ARCCOSINE", towards)
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    stops = [
        (at, tuple(shade * part for part in (iris if of_iris else (1, 1, 1)))) for at, of_iris, shade in _EYE_SHADES
    ]
    stops.append((_EYE_RAMP_END_RAD, (0.62, 0.36, 0.33)))
    elements = ramp.color_ramp.elements
    while len(elements) < len(stops):
        elements.new(1.0)
    for element, (at_rad, colour) in zip(elements, stops):
        element.position, element.color = at_rad / _EYE_RAMP_END_RAD, (*colour, 1.0)
    tree.links.new(maths(tree, "DIVIDE", angle, _EYE_RAMP_END_RAD), ramp.inputs["Fac"])
    around = _vector_math(tree, "NORMALIZE", _vector_math(tree, "MULTIPLY", ray, (1.0, 0.0, 1.0)))
    fibres = tree.nodes.new("ShaderNodeTexNoise")
    fibres.inputs["Scale"].default_value, fibres.inputs["Detail"].default_value = 9.0, 3.0
    tree.links.new(around, fibres.inputs["Vector"])
    strength = map_range(tree, fibres.outputs["Fac"], (0.3, 0.7), (0.55, 1.35))
    in_iris = map_range(tree, angle, (0.46, 0.50), (1.0, 0.0))
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
    tree.links.new(in_iris, mix.inputs["Factor"])
    tree.links.new(ramp.outputs["Color"], mix.inputs["A"])
    tree.links.new(strength, mix.inputs["B"])
    tree.links.new(mix.outputs["Result"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.5
    shader.inputs["Specular IOR Level"].default_value = 0.1
    shader.inputs["Coat Weight"].default_value = 0.75
    shader.inputs["Coat Roughness"].default_value = 0.02
    return material


_EYE_RAMP_END_RAD = 1.6
_EYE_SHADES = (  # (angle in rad, multiplies the iris colour, shade)
    (0.0, False, 0.004),
    (0.205, False, 0.004),
    (0.225, True, 1.5),
    (0.34, True, 1.15),
    (0.43, True, 0.75),
    (0.475, True, 0.22),
    (0.50, True, 0.30),
    (0.545, False, 0.66),
    (0.95, False, 0.66),
)


def _vector_math(
    tree: bpy.types.NodeTree, operation: str, first: bpy.types.NodeSocket, second: Sequence[float] = (0, 0, 0)
) -> bpy.types.NodeSocket:
    node = tree.nodes.new("ShaderNodeVectorMath")
    node.operation = operation
    tree.links.new(first, node.inputs[0])
    node.inputs[1].default_value = tuple(float(value) for value in second)
    return node.outputs["Value" if operation == "DOT_PRODUCT" else "Vector"]


def hair_material(name: str, *, melanin: float, redness: float = 0.4, roughness: float = 0.32) -> bpy.types.Material:
    """Cycles' principled hair (Chiang et al. 2016) coloured by pigment, a little different from strand to strand."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    hair = tree.nodes.new("ShaderNodeBsdfHairPrincipled")
    hair.model, hair.parametrization = "CHIANG", "MELANIN"
    values = {
        "Melanin": melanin,
        "Melanin Redness": redness,
        "Roughness": roughness,
        "Radial Roughness": 0.45,
        "Coat": 0.0,
        "Random Color": 0.25,
        "Random Roughness": 0.2,
    }
    for key, value in values.items():
        hair.inputs[key].default_value = value
    tree.links.new(hair.outputs["BSDF"], output.inputs["Surface"])
    return material


def teeth_material(name: str, centre: Sequence[float]) -> bpy.types.Material:
    """Ivory teeth parted by thin dark lines around the arch. centre: of both arches at rest, m."""
    material, tree, shader = new_material(name)
    rest = tree.nodes.new("ShaderNodeAttribute")
    rest.attribute_name = "rest"
    parts = tree.nodes.new("ShaderNodeSeparateXYZ")
    middle = (centre[0], centre[1] + 0.004, centre[2])
    tree.links.new(_vector_math(tree, "SUBTRACT", rest.outputs["Vector"], middle), parts.inputs[0])
    around = maths(tree, "ARCTAN2", parts.outputs["X"], parts.outputs["Y"])
    wave = maths(tree, "ABSOLUTE", maths(tree, "SINE", maths(tree, "MULTIPLY", around, _TEETH_PER_RAD * math.pi)))
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs["A"].default_value, mix.inputs["B"].default_value = (0.30, 0.22, 0.17, 1.0), (0.68, 0.63, 0.54, 1.0)
    tree.links.new(map_range(tree, wave, (0.0, 0.28), (0.0, 1.0)), mix.inputs["Factor"])
    tree.links.new(mix.outputs["Result"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.18
    return material


_TEETH_PER_RAD = 3.4


def cloth_material(name: str, dark: Colour, light: Colour, band_width: float) -> bpy.types.Material:
    """Heathered jersey: two linear colours mixed by fine fibres, matt with a little sheen, and a ribbed neckband.

    The mesh carries "depth", the distance from the neckline, which below `band_width` is the band, and "rib", the phase
    of the ribs in rad.
    """
    material, tree, shader = new_material(name)
    depth = tree.nodes.new("ShaderNodeAttribute")
    depth.attribute_name = "depth"
    in_band = map_range(tree, depth.outputs["Fac"], (0.96 * band_width, 1.0 * band_width), (1.0, 0.0))
    fibres = rest_noise(tree, 800.0, 2.0)
    heather = map_range(tree, fibres.outputs["Fac"], (0.35, 0.65), (0.0, 1.0))
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs["A"].default_value, mix.inputs["B"].default_value = (*dark, 1.0), (*light, 1.0)
    tree.links.new(heather, mix.inputs["Factor"])
    seam = map_range(
        tree,
        maths(tree, "ABSOLUTE", maths(tree, "SUBTRACT", depth.outputs["Fac"], band_width)),
        (0.0, 0.03),
        (0.45, 1.0),
    )
    shaded = tree.nodes.new("ShaderNodeMix")
    shaded.data_type, shaded.blend_type = "RGBA", "MULTIPLY"
    shaded.inputs["Factor"].default_value = 1.0
    tree.links.new(mix.outputs["Result"], shaded.inputs["A"])
    tree.links.new(seam, shaded.inputs["B"])
    tree.links.new(shaded.outputs["Result"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.9
    shader.inputs["Sheen Weight"].default_value = 0.12
    shader.inputs["Specular IOR Level"].default_value = 0.15
    rib = tree.nodes.new("ShaderNodeAttribute")
    rib.attribute_name = "rib"
    ribs = maths(tree, "MULTIPLY", maths(tree, "SINE", rib.outputs["Fac"]), in_band)
    weave = rest_noise(tree, 1500.0, 1.0)
    height = maths(tree, "ADD", maths(tree, "MULTIPLY", weave.outputs["Fac"], 0.6), ribs)
    add_bump(tree, height, shader, 0.45, 0.0011)
    return material


def maths(
    tree: bpy.types.NodeTree,
    operation: str,
    first: bpy.types.NodeSocket,
    second: bpy.types.NodeSocket | float | None = None,
) -> bpy.types.NodeSocket:
    """The result of a Math node; a number as second input is a constant."""
    node = tree.nodes.new("ShaderNodeMath")
    node.operation = operation
    tree.links.new(first, node.inputs[0])
    if isinstance(second, bpy.types.NodeSocket):
        tree.links.new(second, node.inputs[1])
    elif second is not None:
        node.inputs[1].default_value = float(second)
    return node.outputs[0]


def map_range(
    tree: bpy.types.NodeTree, value: bpy.types.NodeSocket, source: tuple[float, float], target: tuple[float, float]
) -> bpy.types.NodeSocket:
    """`value` mapped linearly from range `source` to `target`, clamped."""
    node = tree.nodes.new("ShaderNodeMapRange")
    limits = {"From Min": source[0], "From Max": source[1], "To Min": target[0], "To Max": target[1]}
    for key, limit in limits.items():
        node.inputs[key].default_value = limit
    tree.links.new(value, node.inputs["Value"])
    return node.outputs["Result"]


def attribute(tree: bpy.types.NodeTree, name: str) -> bpy.types.NodeSocket:
    """The number a mesh carries per vertex under `name`."""
    node = tree.nodes.new("ShaderNodeAttribute")
    node.attribute_name = name
    return node.outputs["Fac"]


def multiplied(
    tree: bpy.types.NodeTree, colour: bpy.types.NodeSocket, factor: bpy.types.NodeSocket
) -> bpy.types.NodeSocket:
    """A colour times a number."""
    node = tree.nodes.new("ShaderNodeVectorMath")
    node.operation = "SCALE"
    tree.links.new(colour, node.inputs[0])
    tree.links.new(factor, node.inputs["Scale"])
    return node.outputs["Vector"]
