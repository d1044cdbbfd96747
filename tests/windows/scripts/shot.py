"""Run by `blender -b --python`: save two shots of the avatar 'tiny', and try point clouds that can be resized."""

import importlib

import bpy
import numpy as np

ADDON = "bl_ext.user_default.effigy"
animation = importlib.import_module(f"{ADDON}.services.animation")
splats = importlib.import_module(f"{ADDON}.logic.splat_attributes")

bpy.ops.wm.read_homefile(use_empty=True)
bpy.ops.effigy.add_avatar(avatar_id="tiny")
scene = bpy.context.scene
scene.render.resolution_x = scene.render.resolution_y = 48
scene.render.resolution_percentage = 100
scene.frame_start, scene.frame_end = 1, 3
scene.view_settings.view_transform = "Standard"
scene.render.image_settings.file_format = "PNG"
animation.add_camera_path(bpy.context, bpy.context.object, 1, 3)
scene.render.engine = "EFFIGY"
scene.render.filepath = "//frames/####"
bpy.ops.wm.save_as_mainfile(filepath="/mnt/shot.blend")

scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = 1, False  # Debian's builds have no denoiser
scene.frame_end = 1
scene.frame_set(1)
camera = scene.camera.matrix_world
bpy.ops.mesh.primitive_plane_add(size=0.05, location=camera.translation - 0.5 * camera.col[2].to_3d())
plate = bpy.context.object
plate.rotation_euler = camera.to_euler()
material = bpy.data.materials.new("Green")
material.use_nodes = True
glow = material.node_tree.nodes.new("ShaderNodeEmission")
glow.inputs["Color"].default_value = (0, 1, 0, 1)
output = next(node for node in material.node_tree.nodes if node.type == "OUTPUT_MATERIAL")
material.node_tree.links.new(glow.outputs[0], output.inputs["Surface"])
plate.data.materials.append(material)
bpy.ops.effigy.composite()
bpy.ops.effigy.composite_remove()
assert len(bpy.data.scenes) == 1
bpy.ops.effigy.composite()
scene.render.filepath = "//composite/####"
bpy.ops.wm.save_as_mainfile(filepath="/mnt/composite.blend")
engines = bpy.types.RenderSettings.bl_rna.properties["engine"].enum_items.keys()
scene.render.engine = next((name for name in engines if name.startswith("BLENDER_EEVEE")), "BLENDER_EEVEE_NEXT")
scene.eevee.taa_render_samples = 1
scene.render.filepath = "//composite_eevee/####"
bpy.ops.wm.save_as_mainfile(filepath="/mnt/composite_eevee.blend")

if "resize" in bpy.types.PointCloud.bl_rna.functions:
    data, cloud = bpy.data.pointclouds.new("try"), splats.three_points()
    splats.fill(data, cloud)
    splats.fill(data, cloud)
    for name, (kind, values) in splats.attributes(cloud).items():
        back = np.empty_like(values)
        data.attributes[name].data.foreach_get(splats.MEMBERS[kind], back)
        assert (back == values).all(), name
    print("POINT CLOUD", len(data.points), sorted(each.name for each in data.attributes))
