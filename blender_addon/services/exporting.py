"""What an export writes of an avatar in the scene: its poses over frames, and its mesh by Blender's own exporters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import errors
from . import pose_read
from .rig_info import rig_of

Float32 = NDArray[np.float32]
MAX_FRAMES = 20_000
MESH_ENDINGS = {"MESH": ".glb", "FBX": ".fbx", "USD": ".usdc"}


def no_poses() -> tuple[Float32, Float32, Float32]:
    """What stands for the pose of the capture."""
    return np.zeros((0, 0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 0), np.float32)


def read_poses(
    context: Any, armature: Any, frames: Sequence[int], progress: Callable[[int], None] = lambda done: None
) -> tuple[Float32, Float32, Float32]:
    """Evaluated rotations [T, J, 3] rad, translations [T, 3] m and expressions [T, E] of an avatar at these frames.

    The scene is left at the frame it was at. Raises NotFound where a frame does not show the avatar, BadConfig.
    """
    if len(frames) > MAX_FRAMES:
        raise errors.BadConfig(
            "The range is too long for one export", found=f"{len(frames)} frames", expected=f"at most {MAX_FRAMES}"
        )
    scene, states = context.scene, []
    now, part = scene.frame_current, scene.frame_subframe
    try:
        for done, frame in enumerate(frames):
            if list(frames) != [now]:
                scene.frame_set(frame)
            shown = pose_read.read_avatars(context.evaluated_depsgraph_get())
            state = next((item for item in shown if item.key == (armature.name_full,)), None)
            if state is None:
                raise errors.NotFound(
                    "The avatar is hidden, so Blender does not evaluate its pose",
                    found=f"frame {frame}",
                    do="Show its armature in the viewport",
                )
            states.append(state)
            progress(done + 1)
    finally:
        if list(frames) != [now]:
            scene.frame_set(now, subframe=part)
    return (
        np.stack([state.rotations for state in states]).astype(np.float32),
        np.stack([state.translation for state in states]).astype(np.float32),
        np.stack([state.expression for state in states]).astype(np.float32),
    )


def export_mesh(context: Any, armature: Any, form: str, path: Path) -> Path:
    """Write armature, skinned mesh and animation as 'MESH' (glTF binary), 'FBX' or 'USD'; returns the file's path.

    Selection and visibility are put back. Raises EnvironmentFailed where the exporter is off or refuses.
    """
    assert rig_of(armature) is not None
    path = path.with_suffix(MESH_ENDINGS[form])
    parts = [armature, *(child for child in armature.children if child.type == "MESH" and child.data.effigy_proxy)]
    layer = context.view_layer
    selected, active = list(context.selected_objects), layer.objects.active
    hidden = [(part, part.hide_get(view_layer=layer), part.hide_viewport) for part in parts]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for item in selected:
            item.select_set(False)
        for part in parts:
            part.hide_viewport = False
            part.hide_set(False, view_layer=layer)
            part.select_set(True)
        layer.objects.active = armature
        if form == "MESH":
            bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True, export_format="GLB", export_morph=True)
        elif form == "USD":
            bpy.ops.wm.usd_export(filepath=str(path), selected_objects_only=True, export_animation=True)
        else:
            bpy.ops.export_scene.fbx(
                filepath=str(path),
                use_selection=True,
                object_types={"ARMATURE", "MESH"},
                path_mode="COPY",
                embed_textures=True,
            )
    except (AttributeError, RuntimeError, OSError) as error:
        raise errors.EnvironmentFailed(
            "Blender's exporter did not write the mesh",
            found=str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__,
            do="Enable its add-on (Preferences > Add-ons > Import-Export), or choose another place",
        ) from error
    finally:
        for part, hide, never in hidden:
            part.select_set(False)
            part.hide_set(hide, view_layer=layer)
            part.hide_viewport = never
        for item in selected:
            item.select_set(True)
        layer.objects.active = active
    return path
