"""Avatars in a Cycles or EEVEE picture: a linked copy of the scene renders them, one group node joins the two by depth.

What the user made is left as it is: no node is changed, only links are led through the group, and `remove` leads them
back. The copy follows the scene at every render (`follow`), so it is never edited by hand. A mesh before an avatar
hides it and the other way round, see-through pixels of either show the other; shadows and reflections on the set come
from the avatars' proxy meshes, which Blender renders without showing them to the camera.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .._shared import errors
from ..logic.composite_record import Record, record_from_text
from ..logic.faults import GUARDS
from . import composite_nodes, rig_proxy
from .frame_files import WRITER
from .rig_info import avatar_of, proxy_of

GROUP = "Effigy Avatars"
SOURCE = "Effigy Avatar Layers"
FLAGS = ("visible_camera", "visible_shadow", "visible_glossy", "visible_diffuse", "visible_transmission")
"""What is switched on a proxy that shall only be seen indirectly."""


def record_of(scene: Any) -> Record | None:
    """What was done to a scene, None where nothing was or it is undone."""
    return record_from_text(scene.effigy.composite)


def is_copy(scene: Any) -> bool:
    """Whether a scene only renders the avatars of another one."""
    return any(each.effigy.composite and each.effigy.avatars_scene == scene.original for each in bpy.data.scenes)


def add(scene: Any, view_layer: Any) -> Any:
    """Join the avatars with a scene's own picture; the group node. Raises EffigyError."""
    if scene.render.engine == "EFFIGY":
        raise errors.EffigyError(
            "This scene is rendered by Effigy itself, so there is no other picture to join avatars with",
            do="Choose Cycles or EEVEE in Render Properties first",
        )
    if record_of(scene) is not None:
        raise errors.EffigyError("The avatars are in this scene's picture already", do="Remove them first")
    armatures = [item for item in scene.objects if avatar_of(item) is item]
    if not armatures:
        raise errors.EffigyError("The scene has no avatar", do="Add one from the library")
    tree, made, switched_on = _tree(scene, view_layer)
    try:
        source = _source(tree, scene, view_layer.name)
    except errors.EffigyError:
        if switched_on:
            scene.use_nodes = False
        raise
    proxies = {}
    for item in armatures:
        if rig_proxy.role_of(item) == "VISIBLE":
            proxy = proxy_of(item)
            proxies[proxy.name] = {name: getattr(proxy, name) for name in FLAGS}
            rig_proxy.set_role(item, "SHADOW")
    depth_switched_on = not view_layer.use_pass_z
    view_layer.use_pass_z = True
    avatars = _avatar_scene(scene, view_layer.name)
    active = tree.nodes.active
    nodes = _insert(tree, source, avatars, view_layer.name)
    tree.nodes.active = active
    names = tuple(node.name for node in nodes)
    record = Record(view_layer.name, names, made, switched_on, depth_switched_on, proxies)
    scene.effigy.composite, scene.effigy.avatars_scene = json.dumps(asdict(record)), avatars
    follow(scene)
    return nodes[0]


def remove(scene: Any) -> None:
    """Undo `add` exactly, keeping whatever the user did since. Raises EffigyError where there is nothing to undo."""
    record = record_of(scene)
    if record is None:
        raise errors.EffigyError("No avatars were composited in this scene", do="Use Composite Avatars first")
    tree = _existing_tree(scene)
    if tree is not None:
        for name in record.nodes:
            node = tree.nodes.get(name)
            if node is not None:
                _take_out(tree, node)
    made = bpy.data.node_groups.get(record.tree) if record.tree else None
    if made is not None and getattr(scene, "compositing_node_group", None) == made:
        scene.compositing_node_group = None
        bpy.data.node_groups.remove(made)
    elif record.nodes_switched_on:
        scene.use_nodes = False
    if record.depth_switched_on and record.layer in scene.view_layers:
        scene.view_layers[record.layer].use_pass_z = False
    for name, flags in record.proxies.items():
        proxy = scene.objects.get(name)
        if proxy is not None and not proxy.visible_camera:
            for flag, value in flags.items():
                setattr(proxy, flag, value)
    avatars = scene.effigy.avatars_scene
    scene.effigy.composite, scene.effigy.avatars_scene = "", None
    if avatars is not None:
        bpy.data.scenes.remove(avatars)


# --- the copy that renders the avatars --------------------------------------------------------------------------------
def _avatar_scene(scene: Any, layer: str) -> Any:
    made = scene.copy()
    made.name = f"{scene.name} Avatars"
    made.effigy.composite, made.effigy.avatars_scene = "", None
    made.render.engine = "EFFIGY"
    made.render.film_transparent = True
    made.render.use_compositing = made.render.use_sequencer = False
    made.view_layers[layer].use_pass_z = True  # before a node shows it: sockets are made of the passes there are
    if hasattr(made, "compositing_node_group"):
        made.compositing_node_group = None
    else:
        made.use_nodes = False
    return made


RENDER = (
    "resolution_x",
    "resolution_y",
    "resolution_percentage",
    "pixel_aspect_x",
    "pixel_aspect_y",
    "use_border",
    "use_crop_to_border",
    "border_min_x",
    "border_max_x",
    "border_min_y",
    "border_max_y",
    "fps",
    "fps_base",
    "frame_map_old",
    "frame_map_new",
    "use_motion_blur",
    "motion_blur_shutter",
    "motion_blur_position",
    "use_multiview",
    "views_format",
    "use_simplify",
    "simplify_subdivision_render",
)
OWN = ("address", "quality", "motion_blur_samples", "light")
RELIGHT = ("image", "rotation", "strength", "exposure", "use_lamps")


def follow(scene: Any) -> None:
    """Make the copy show what the scene shows now: settings, camera, World, objects, layers."""
    record, avatars = record_of(scene), scene.effigy.avatars_scene
    if record is None:
        return
    if avatars is None:
        raise errors.NotFound(
            f"The scene that renders the avatars of {scene.name!r} was deleted",
            do="Remove Avatars from the Composite, and composite them again",
        )
    for owner, target, names in (
        (scene.render, avatars.render, RENDER),
        (scene.effigy, avatars.effigy, OWN),
        (scene.effigy_relight, avatars.effigy_relight, RELIGHT),
    ):
        for name in names:
            _put(target, name, getattr(owner, name))
    for name in ("camera", "world", "frame_start", "frame_end", "frame_step"):
        _put(avatars, name, getattr(scene, name))
    avatars.render.engine, avatars.render.film_transparent = "EFFIGY", True
    for view in scene.render.views:
        other = avatars.render.views.get(view.name) or avatars.render.views.new(view.name)
        for name in ("use", "camera_suffix", "file_suffix"):
            _put(other, name, getattr(view, name))
    for kind in ("objects", "children"):
        wanted, found = getattr(scene.collection, kind), getattr(avatars.collection, kind)
        for item in [each for each in found if each.name not in wanted]:
            found.unlink(item)
        for item in [each for each in wanted if each.name not in found]:
            found.link(item)
    layer = avatars.view_layers.get(record.layer) or avatars.view_layers[0]
    if layer.name != record.layer:
        layer.name = record.layer
    for other in avatars.view_layers:
        other.use = other == layer
    _put(layer, "use_pass_z", True)
    if record.layer in scene.view_layers:
        _follow_layer(scene.view_layers[record.layer].layer_collection, layer.layer_collection)


def _follow_layer(own: Any, other: Any) -> None:
    for name in ("exclude", "holdout", "indirect_only", "hide_viewport"):
        _put(other, name, getattr(own, name))
    for child in own.children:
        if child.name in other.children:
            _follow_layer(child, other.children[child.name])


def _put(target: Any, name: str, value: Any) -> None:
    """Set only what differs: each set marks data for evaluation."""
    if getattr(target, name) != value:
        setattr(target, name, value)


# --- nodes ------------------------------------------------------------------------------------------------------------
def _existing_tree(scene: Any) -> Any | None:
    if hasattr(scene, "compositing_node_group"):  # from Blender 5
        return scene.compositing_node_group
    return scene.node_tree


def _tree(scene: Any, view_layer: Any) -> tuple[Any, str, bool]:
    """The scene's compositing tree, the name of one we had to make, and whether nodes had to be switched on."""
    if hasattr(scene, "compositing_node_group"):
        if scene.compositing_node_group is not None:
            return scene.compositing_node_group, "", False
        tree = bpy.data.node_groups.new(f"{scene.name} Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        source, output = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("NodeGroupOutput")
        source.scene, source.layer = scene, view_layer.name
        output.location.x = 900
        tree.links.new(source.outputs["Image"], output.inputs[0])
        scene.compositing_node_group = tree
        return tree, tree.name, False
    switched_on = not scene.use_nodes
    scene.use_nodes = True  # Blender 4 makes Render Layers and Composite, linked
    return scene.node_tree, "", switched_on


def _source(tree: Any, scene: Any, layer: str) -> Any:
    """The Render Layers node of the scene's view layer. Raises EffigyError."""
    for node in tree.nodes:
        if node.type == "R_LAYERS" and node.scene in {scene, None} and node.layer == layer:
            return node
    raise errors.EffigyError(f"The compositor does not show view layer {layer!r}", do="Add a Render Layers node for it")


def _insert(tree: Any, source: Any, avatars: Any, layer: str) -> list[Any]:
    """Lead the scene's picture through a new group node; the nodes that were added, the group first."""
    group = tree.nodes.new("CompositorNodeGroup")
    group.name = group.label = GROUP
    group.node_tree = composite_nodes.group(GROUP)
    people = tree.nodes.new("CompositorNodeRLayers")
    people.name = people.label = SOURCE
    people.scene, people.layer = avatars, layer
    group.location = (source.location.x + source.width + 60, source.location.y + 220)
    people.location = (source.location.x, source.location.y - 460)
    for node in (group, people):
        node.select = False
    for link in list(source.outputs["Image"].links):
        tree.links.new(group.outputs["Image"], link.to_socket)
    for origin, names in ((source, ("Image", "Depth")), (people, ("Avatars", "Avatars Depth"))):
        for output, name in zip(("Image", "Depth"), names, strict=True):
            tree.links.new(origin.outputs[output], group.inputs[name])
    return [group, people]


def _take_out(tree: Any, node: Any) -> None:
    """Remove one of our nodes; what it was led through goes straight again."""
    if node.type == "GROUP":
        incoming = node.inputs.get("Image")
        source = incoming.links[0].from_socket if incoming is not None and incoming.is_linked else None
        for link in list(node.outputs["Image"].links) if "Image" in node.outputs else ():
            target = link.to_socket
            if source is not None:
                tree.links.new(source, target)
        inner = node.node_tree
        tree.nodes.remove(node)
        if inner is not None and not inner.users:
            bpy.data.node_groups.remove(inner)
    else:
        tree.nodes.remove(node)


@persistent
def _follow(scene: Any, *_: Any) -> None:
    try:
        follow(scene)
    except errors.EffigyError as error:
        WRITER.failure = str(error)
        GUARDS.log.add("composite", error)


def register() -> None:
    """Let copies follow their scenes at every render."""
    bpy.app.handlers.render_init.append(_follow)
    bpy.app.handlers.render_pre.append(_follow)


def unregister() -> None:
    """No longer."""
    bpy.app.handlers.render_init.remove(_follow)
    bpy.app.handlers.render_pre.remove(_follow)
