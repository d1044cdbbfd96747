"""Operators: cameras around the avatar, and their paths. (No `from __future__ import annotations` here.)"""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .._shared import camera_files, errors
from ..services import animation, camera_paths
from ..services.rig_info import avatar_of
from .on_avatar import OnAvatar
from .operators_motion import UP_ITEMS
from .working import Steps, WorkingOperator


def scene_frames(scene: Any) -> int:
    """How many frames the scene has, at least two."""
    return max(2, scene.frame_end - scene.frame_start + 1)


class EFFIGY_OT_add_camera_path(OnAvatar, bpy.types.Operator):
    """Add a camera that travels around the avatar over the scene's frames"""

    bl_idname = "effigy.add_camera_path"
    bl_label = "Add Camera Path"

    kind: EnumProperty(
        name="Path",
        items=[
            ("ARC", "Arc", "A slow arc before the face"),
            ("ORBIT", "Orbit", "All the way round, on a circle that can be edited as a curve"),
            ("TURNTABLE", "Turntable", "A still camera; the avatar turns about itself"),
        ],
    )
    part: EnumProperty(name="Part", items=camera_paths.PARTS)
    turns: FloatProperty(name="Turns", description="Over the scene's frames", default=1.0, min=0.05, max=100.0)

    def execute(self, context: Any) -> set[str]:
        """Add it."""
        scene, avatar = context.scene, avatar_of(context.object)
        frames = scene_frames(scene)
        if self.kind == "ARC":
            animation.add_camera_path(context, avatar, scene.frame_start, frames)
        elif self.kind == "ORBIT":
            camera_paths.add_orbit(context, avatar, scene.frame_start, frames, part=self.part, turns=self.turns)
        else:
            camera_paths.add_turntable(context, avatar, scene.frame_start, frames, part=self.part, turns=self.turns)
        return {"FINISHED"}


class EFFIGY_OT_fit_camera(OnAvatar, bpy.types.Operator):
    """Move the scene's camera so that the avatar fills the picture, looking the way it does"""

    bl_idname = "effigy.fit_camera"
    bl_label = "Fit to Avatar"

    part: EnumProperty(name="Part", items=camera_paths.PARTS)

    def execute(self, context: Any) -> set[str]:
        """Fit it."""
        camera = camera_paths.fit_camera(context, avatar_of(context.object), self.part)
        if any(not c.mute for c in camera.constraints) or camera.animation_data is not None:
            self.report({"WARNING"}, f"{camera.name} has keys or constraints, which may move it back")
        return {"FINISHED"}


class EFFIGY_OT_export_cameras(WorkingOperator, bpy.types.Operator):
    """Write the scene's camera to JSON, one entry a frame, as `--cam_path` and MMLPHuman's viewer read it"""

    bl_idname = "effigy.export_cameras"
    bl_label = "Export Camera Path"
    doing = "writing a camera path"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    whole_range: BoolProperty(
        name="All Frames",
        description="The scene's range; otherwise this frame alone, in the viewer's own form",
        default=True,
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file name."""
        if not self.filepath:
            self.filepath = "camera_path.json"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def steps(self, context: Any) -> Steps:
        """Read every frame, then write."""
        scene, text = context.scene, []
        if not self.filepath:
            raise errors.BadConfig("The camera path has no file name", do="Give one")
        path = Path(bpy.path.ensure_ext(bpy.path.abspath(self.filepath), ".json"))
        frames = range(scene.frame_start, scene.frame_end + 1)
        if not self.whole_range:
            frames = range(scene.frame_current, scene.frame_current + 1)
        yield from camera_paths.write_path(context, frames, text)
        beside = path.with_suffix(".partial")
        try:
            beside.write_text(text[0], encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise errors.EnvironmentFailed(
                "The camera path cannot be written", found=f"{path}: {error.strerror}", do="Choose another place"
            ) from error
        self._told = f"{len(frames)} cameras in {path.name}"

    def finished(self, context: Any) -> None:
        """Tell about it."""
        self.report({"INFO"}, self._told)


class EFFIGY_OT_import_cameras(bpy.types.Operator):
    """Make a camera that is keyed along a path from JSON: MMLPHuman's viewer's, Effigy's, nerfstudio's or 3DGS's"""

    bl_idname = "effigy.import_cameras"
    bl_label = "Import Camera Path"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    up: EnumProperty(name="Up", description="Which way is up in the file's world", items=UP_ITEMS[1:])
    start: IntProperty(name="Start Frame", description="0 is the current frame", default=0)
    set_size: BoolProperty(
        name="Picture Size", description="Also set the scene's resolution to the file's", default=True
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file, unless one was dropped."""
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Read and key."""
        path = Path(bpy.path.abspath(self.filepath))
        try:
            if not self.filepath or not path.is_file() or path.stat().st_size > camera_files.MAX_BYTES:
                raise errors.BadCapture("There is no such camera path", found=self.filepath or "no name")
            found = camera_files.read_path(path.read_bytes(), path.name, self.up)
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            self.report({"ERROR"}, f"{path.name} cannot be read: {error.strerror}")
            return {"CANCELLED"}
        start = self.start or context.scene.frame_current
        camera_paths.key_path(context, found, start, path.stem, set_size=self.set_size)
        last = start + found.frames[-1] - found.frames[0]
        context.scene.frame_end = max(context.scene.frame_end, last)
        self.report({"INFO"}, f"{found.label}: {len(found.cameras)} cameras, to frame {last}")
        return {"FINISHED"}


CLASSES = (EFFIGY_OT_add_camera_path, EFFIGY_OT_fit_camera, EFFIGY_OT_export_cameras, EFFIGY_OT_import_cameras)
