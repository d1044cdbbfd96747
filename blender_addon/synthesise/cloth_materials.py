"""Cycles materials of a whole outfit: striped jersey, denim, canvas shoes. Patterns are fixed to the rest shape."""

from __future__ import annotations

import bpy

from .materials import Colour, add_bump, attribute, map_range, maths, multiplied, new_material, rest_noise

CREAM: Colour = (0.62, 0.57, 0.48)
NAVY: Colour = (0.020, 0.032, 0.085)
DENIM: tuple[Colour, Colour] = ((0.028, 0.055, 0.120), (0.085, 0.140, 0.240))
BRICK: Colour = (0.30, 0.050, 0.032)
RUBBER: Colour = (0.62, 0.60, 0.55)
BRASS: Colour = (0.80, 0.56, 0.24)
STRIPE_M = 0.058


def striped_material(name: str) -> bpy.types.Material:
    """Cream jersey with navy stripes across "trunk" (m), and across "sleeve" (m) where that is above 0.

    "edge" (m from the border) draws the hems.
    """
    material, tree, shader = new_material(name)
    sleeve, trunk = attribute(tree, "sleeve"), attribute(tree, "trunk")
    on_sleeve = maths(tree, "GREATER_THAN", sleeve, 0.0)
    further = maths(tree, "MULTIPLY", maths(tree, "SUBTRACT", sleeve, trunk), on_sleeve)
    phase = maths(tree, "FRACT", maths(tree, "DIVIDE", maths(tree, "ADD", trunk, further), STRIPE_M))
    inside = maths(tree, "ABSOLUTE", maths(tree, "SUBTRACT", phase, 0.5))
    dark = map_range(tree, inside, (0.19, 0.21), (1.0, 0.0))
    edge = attribute(tree, "edge")
    dark = maths(tree, "MAXIMUM", dark, map_range(tree, edge, (0.011, 0.012), (1.0, 0.0)))
    mix = _mix(tree, dark, CREAM, NAVY)
    fibres = map_range(tree, rest_noise(tree, 700.0, 2.0).outputs["Fac"], (0.3, 0.7), (0.80, 1.12))
    tree.links.new(multiplied(tree, mix, fibres), shader.inputs["Base Color"])
    _cloth(shader)
    add_bump(tree, rest_noise(tree, 1300.0, 1.0).outputs["Fac"], shader, 0.35, 0.0010)
    return material


def denim_material(name: str) -> bpy.types.Material:
    """Blue denim, paler where "fade" (0..1) says it is worn, with stitched seams where "seam" (m) is near 0."""
    material, tree, shader = new_material(name)
    worn = maths(tree, "ADD", attribute(tree, "fade"), maths(tree, "MULTIPLY", _broad(tree), 0.5))
    mix = _mix(tree, map_range(tree, worn, (0.15, 1.15), (0.0, 1.0)), *DENIM)
    seam = map_range(tree, maths(tree, "ABSOLUTE", attribute(tree, "seam")), (0.002, 0.006), (0.55, 1.0))
    threads = map_range(tree, rest_noise(tree, 900.0, 2.0).outputs["Fac"], (0.3, 0.7), (0.72, 1.25))
    tree.links.new(multiplied(tree, multiplied(tree, mix, seam), threads), shader.inputs["Base Color"])
    _cloth(shader)
    add_bump(tree, rest_noise(tree, 1100.0, 1.0).outputs["Fac"], shader, 0.4, 0.0011)
    return material


def shoe_material(name: str) -> bpy.types.Material:
    """Brick-red canvas over a pale rubber sole; "sole" is the height above the ground in m."""
    material, tree, shader = new_material(name)
    mix = _mix(tree, map_range(tree, attribute(tree, "sole"), (0.026, 0.027), (1.0, 0.0)), BRICK, RUBBER)
    weave = map_range(tree, rest_noise(tree, 600.0, 2.0).outputs["Fac"], (0.3, 0.7), (0.85, 1.10))
    tree.links.new(multiplied(tree, mix, weave), shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.7
    shader.inputs["Specular IOR Level"].default_value = 0.3
    add_bump(tree, rest_noise(tree, 900.0, 1.0).outputs["Fac"], shader, 0.3, 0.0008)
    return material


def brass_material(name: str) -> bpy.types.Material:
    """Brushed brass: metal, half glossy."""
    material, _, shader = new_material(name)
    shader.inputs["Base Color"].default_value = (*BRASS, 1.0)
    shader.inputs["Metallic"].default_value, shader.inputs["Roughness"].default_value = 1.0, 0.30
    return material


def _broad(tree: bpy.types.NodeTree) -> bpy.types.NodeSocket:
    return map_range(tree, rest_noise(tree, 14.0, 3.0).outputs["Fac"], (0.35, 0.65), (-0.5, 0.5))


def _mix(tree: bpy.types.NodeTree, factor: bpy.types.NodeSocket, first: Colour, second: Colour) -> bpy.types.NodeSocket:
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs["A"].default_value, mix.inputs["B"].default_value = (*first, 1.0), (*second, 1.0)
    tree.links.new(factor, mix.inputs["Factor"])
    return mix.outputs["Result"]


def _cloth(shader: bpy.types.Node) -> None:
    shader.inputs["Roughness"].default_value = 0.9
    shader.inputs["Sheen Weight"].default_value = 0.10
    shader.inputs["Specular IOR Level"].default_value = 0.15
