"""The node group of Composite Avatars: a scene's picture and its avatars, each over the other where it is nearer.

Depth has one value a pixel, so a pixel at a mesh's edge is either the mesh's or the avatar's; an anti-aliasing filter
smooths that. But the scene was rendered without the avatars: its pixels at edges of a mesh before an avatar are mixed
with what is behind the avatar, which would shine as a fringe. There the mesh's colour is taken from EDGE_PX further
inside it. Where the avatar is see-through (hair, its own edges) the scene's picture is right as it is; so it is where
the film is transparent, since its edges say then how much of them is mesh.
"""

from __future__ import annotations

from typing import Any

import bpy

EDGE_PX = 2
REACH_PX = 8  # sharp corners lie further from what is EDGE_PX inside
OPAQUE = 0.999


def group(name: str) -> Any:
    """A new node group. Inputs: Image, Depth, Avatars, Avatars Depth; output: Image."""
    tree = bpy.data.node_groups.new(name, "CompositorNodeTree")
    for socket, kind in (
        ("Image", "NodeSocketColor"),
        ("Depth", "NodeSocketFloat"),
        ("Avatars", "NodeSocketColor"),
        ("Avatars Depth", "NodeSocketFloat"),
    ):
        tree.interface.new_socket(socket, in_out="INPUT", socket_type=kind)
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    taken, given = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    nearer, farther = _maths(tree, "LESS_THAN"), _maths(tree, "SUBTRACT")
    smooth = tree.nodes.new("CompositorNodeAntiAliasing")
    behind, between, front = (tree.nodes.new("CompositorNodeAlphaOver") for _ in range(3))
    link = tree.links.new
    link(taken.outputs["Avatars Depth"], nearer.inputs[0])
    link(taken.outputs["Depth"], nearer.inputs[1])
    link(nearer.outputs[0], smooth.inputs[0])
    farther.inputs[0].default_value = 1.0
    link(smooth.outputs[0], farther.inputs[1])
    scene, cleaning = _without_fringe(tree, taken, nearer.outputs[0])
    # Avatars that are farther, then the scene over them, then avatars that are nearer: alpha counts on both sides.
    _over(tree, behind, farther.outputs[0], None, taken.outputs["Avatars"])
    _over(tree, between, None, behind.outputs[0], scene)
    _over(tree, front, smooth.outputs[0], between.outputs[0], taken.outputs["Avatars"])
    link(front.outputs[0], given.inputs["Image"])
    for row, nodes in enumerate(((taken, nearer, smooth, farther, behind, between, front, given), cleaning)):
        for column, node in enumerate(nodes):
            node.location = (200 * (column + row), -320 * row)
    return tree


def _without_fringe(tree: Any, taken: Any, nearer: Any) -> tuple[Any, list[Any]]:
    """The scene's picture with clean edges before avatars, and the nodes that make it."""
    link = tree.links.new
    kinds = ("DilateErode", "SetAlpha", "Inpaint", "SeparateColor", "SeparateColor", "AlphaOver")
    shrink, cut, fill, cover, own, clean = nodes = [tree.nodes.new(f"CompositorNode{kind}") for kind in kinds]
    mesh, opaque, where = (_maths(tree, operation) for operation in ("SUBTRACT", "GREATER_THAN", "MULTIPLY"))
    mesh.inputs[0].default_value = 1.0
    link(nearer, mesh.inputs[1])
    link(mesh.outputs[0], shrink.inputs[0])
    _set(shrink, "distance", "Size", -EDGE_PX)
    link(taken.outputs["Image"], cut.inputs["Image"])
    link(shrink.outputs[0], cut.inputs["Alpha"])
    _set(cut, "mode", "Type", "REPLACE_ALPHA" if hasattr(cut, "mode") else "Replace Alpha")
    link(cut.outputs[0], fill.inputs["Image"])
    _set(fill, "distance", "Size", REACH_PX)
    link(taken.outputs["Avatars"], cover.inputs["Image"])
    link(taken.outputs["Image"], own.inputs["Image"])
    link(own.outputs["Alpha"], opaque.inputs[0])
    opaque.inputs[1].default_value = OPAQUE
    link(opaque.outputs[0], where.inputs[0])
    link(cover.outputs["Alpha"], where.inputs[1])
    _over(tree, clean, where.outputs[0], taken.outputs["Image"], fill.outputs[0])
    return clean.outputs[0], [mesh, opaque, where, *nodes]


def _set(node: Any, attribute: str, socket: str, value: Any) -> None:
    """An option of a node, which from Blender 5 is one of its sockets."""
    if hasattr(node, attribute):
        setattr(node, attribute, value)
    else:
        node.inputs[socket].default_value = value


def _maths(tree: Any, operation: str) -> Any:
    """A Math node; from Blender 5 the compositor has the shader editor's."""
    kind = "CompositorNodeMath" if hasattr(bpy.types, "CompositorNodeMath") else "ShaderNodeMath"
    node = tree.nodes.new(kind)
    node.operation = operation
    return node


def _over(tree: Any, node: Any, amount: Any, below: Any, above: Any) -> None:
    """Link an Alpha Over node, whose sockets were renamed and reordered in Blender 5. None: all of it; nothing."""
    if "Background" in node.inputs:
        factor, bottom, top = node.inputs["Factor"], node.inputs["Background"], node.inputs["Foreground"]
    else:
        factor, bottom, top = node.inputs[0], node.inputs[1], node.inputs[2]
    bottom.default_value = (0.0, 0.0, 0.0, 0.0)
    factor.default_value = 1.0
    if amount is not None:
        tree.links.new(amount, factor)
    if below is not None:
        tree.links.new(below, bottom)
    tree.links.new(above, top)
