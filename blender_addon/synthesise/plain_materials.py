"""Materials that are nothing but albedo, roughness and metallic, and told exactly as passes: for relighting captures.

What a relightable avatar cannot hold (scattering under the skin, sheen, coats, bumps, hair's own shader) is taken away,
so that the ground truth is the whole truth.
"""

from __future__ import annotations

import bpy

AOVS = ("albedo", "normal", "surface")
"""Passes: linear base colour; world normal; (roughness, metallic, 1)."""
ROUGHNESS = {"skin": None, "jersey": 0.75, "denim": 0.55, "shoes": 0.22, "teeth": 0.2, "tongue": 0.3}
"""By material; None keeps what is painted."""
EYE_ROUGHNESS, HAIR_ROUGHNESS = 0.12, 0.38
PLAIN = {"Subsurface Weight": 0.0, "Sheen Weight": 0.0, "Coat Weight": 0.0, "Specular IOR Level": 0.5}


def add_passes(scene: bpy.types.Scene) -> None:
    """Declare the passes on the scene's view layer."""
    for name in AOVS:
        made = scene.view_layers[0].aovs.add()
        made.name, made.type = name, "COLOR"


def make_plain(objects: list[bpy.types.Object]) -> None:
    """Reduce the materials of objects and let them tell their albedo, roughness, metallic and normal."""
    done = set()
    for thing in objects:
        for material in getattr(thing.data, "materials", ()) or ():
            if material is not None and material.name not in done:
                done.add(material.name)
                strands = thing.type == "CURVES"
                if strands:
                    _strand_material(material)
                _reduce(material, strands)


def _strand_material(material: bpy.types.Material) -> None:
    """Replace hair's shader by a Principled one of the colour its pigment gives (Chiang et al. 2016, a matt guess)."""
    tree = material.node_tree
    melanin = next(
        (float(node.inputs["Melanin"].default_value) for node in tree.nodes if node.type == "BSDF_HAIR_PRINCIPLED"), 0.9
    )
    tree.nodes.clear()
    output, shader = (tree.nodes.new(kind) for kind in ("ShaderNodeOutputMaterial", "ShaderNodeBsdfPrincipled"))
    share = max(1.0 - melanin, 0.02)
    shader.inputs["Base Color"].default_value = (0.42 * share, 0.25 * share, 0.14 * share, 1.0)
    shader.inputs["Roughness"].default_value = HAIR_ROUGHNESS
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])


def _reduce(material: bpy.types.Material, strands: bool) -> None:
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    for key, value in PLAIN.items():
        if key in shader.inputs:
            _unlink(tree, shader.inputs[key])
            shader.inputs[key].default_value = value
    _unlink(tree, shader.inputs["Normal"])
    name = material.name.split(".")[0]
    rough = EYE_ROUGHNESS if name.startswith("eye") else ROUGHNESS.get(name)
    if rough is not None:
        _unlink(tree, shader.inputs["Roughness"])
        shader.inputs["Roughness"].default_value = rough
    both = tree.nodes.new("ShaderNodeCombineXYZ")
    both.inputs["Z"].default_value = 1.0
    for key, place in (("Roughness", "X"), ("Metallic", "Y")):
        _same(tree, shader.inputs[key], both.inputs[place])
    nodes = {}
    for aov in AOVS:
        nodes[aov] = tree.nodes.new("ShaderNodeOutputAOV")
        setattr(nodes[aov], "aov_name" if hasattr(nodes[aov], "aov_name") else "name", aov)
    _same(tree, shader.inputs["Base Color"], nodes["albedo"].inputs["Color"])
    tree.links.new(both.outputs["Vector"], nodes["surface"].inputs["Color"])
    if strands:  # a ribbon's normal turns with the camera and means nothing
        nodes["normal"].inputs["Color"].default_value = (0.0, 0.0, 0.0, 1.0)
    else:
        geometry = tree.nodes.new("ShaderNodeNewGeometry")
        tree.links.new(geometry.outputs["Normal"], nodes["normal"].inputs["Color"])


def _unlink(tree: bpy.types.NodeTree, socket: bpy.types.NodeSocket) -> None:
    for link in list(socket.links):
        tree.links.remove(link)


def _same(tree: bpy.types.NodeTree, source: bpy.types.NodeSocket, target: bpy.types.NodeSocket) -> None:
    """Give `target` what `source` gets."""
    if source.links:
        tree.links.new(source.links[0].from_socket, target)
        return
    value = source.default_value
    if isinstance(value, float) or target.type == "VALUE":
        target.default_value = float(value)
    else:
        target.default_value = tuple(value)
