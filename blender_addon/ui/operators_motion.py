"""Operators: motions from files, from armatures and from captures. (No `from __future__ import annotations` here.)"""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .._shared import errors, messages
from ..logic.motion_fit import FitOptions
from ..services import motion_import, retarget_live, sample_motions
from ..services.motion_import import Report, from_reply, key_source, scene_fps
from ..services.rig_info import avatar_of
from .asking import AskingOperator
from .on_avatar import OnAvatar
from .working import Steps, WorkingOperator

UP_ITEMS = [
    ("AUTO", "As Usual", "Z for AMASS; for registrations of captures, as the body stands in them"),
    *((axis, axis.upper(), f"The file's {axis.upper()} points up") for axis in ("z", "y", "-y", "-z", "x", "-x")),
]


class Fits:
    """Options of every operator that brings a motion onto the avatar."""

    start: IntProperty(
        name="Start Frame", description="Frame of its first key; 0 is the current frame", default=0, min=-1_000_000
    )
    source_fps: FloatProperty(
        name="Frames per Second", description="Of the source; 0 takes what it says", default=0.0, min=0.0, max=10000.0
    )
    scale: FloatProperty(
        name="Travel Scale",
        description="Of the way it goes; 0 takes the ratio of the legs' lengths",
        default=0.0,
        min=0.0,
        max=1000.0,
    )
    in_place: BoolProperty(name="In Place", description="Leave out the way over the floor", default=False)
    at_origin: BoolProperty(
        name="Start at Avatar", description="Begin above the avatar's origin, wherever it was recorded", default=True
    )
    forward: BoolProperty(
        name="Face Forward", description="Begin facing where the avatar's object faces", default=False
    )
    on_floor: BoolProperty(
        name="Feet on Floor", description="Raise or lower it so that the lowest sole touches the floor", default=True
    )

    def _options(self, context: Any) -> FitOptions:
        return FitOptions(
            scene_fps(context.scene),
            self.source_fps,
            self.scale,
            self.in_place,
            self.at_origin,
            self.forward,
            self.on_floor,
        )

    def _start(self, context: Any) -> int:
        return self.start or context.scene.frame_current

    def _tell_result(self, context: Any, report: Report) -> None:
        """One line, the scene's end where the motion reaches further, and what was left out."""
        last = self._start(context) + report.frames - 1
        context.scene.frame_end = max(context.scene.frame_end, last)
        for note in report.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{report.label}: keyed {report.frames} frames, to {last}")

    def _draw_options(self, layout: Any) -> None:
        column = layout.column()
        column.use_property_split = True
        for name in ("start", "source_fps", "scale", "in_place", "at_origin", "forward", "on_floor"):
            column.prop(self, name)


class EFFIGY_OT_import_motion(OnAvatar, Fits, WorkingOperator, bpy.types.Operator):
    """Key a motion from a file on the selected avatar: AMASS, SMPL-X, FLAME, BVH, FBX, glTF or a folder of them"""

    bl_idname = "effigy.import_motion"
    bl_label = "Import Motion"
    bl_options = {"UNDO"}
    doing = "importing a motion"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=motion_import.FILTER, options={"HIDDEN"})
    up: EnumProperty(name="Up", description="Which way is up in the file's world", items=UP_ITEMS)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file, unless one was dropped."""
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: Any) -> None:
        """Options beside the file list."""
        self.layout.prop(self, "up")
        self._draw_options(self.layout)

    def steps(self, context: Any) -> Steps:
        """Read, fit and key."""
        path = Path(bpy.path.abspath(self.filepath))
        self._result = Report()
        avatar, start, options = avatar_of(context.object), self._start(context), self._options(context)
        if not self.filepath or not path.exists():
            raise errors.BadCapture("There is no such motion file", found=self.filepath or "no name", do="Choose one")
        if path.suffix.lower() in motion_import.ARMATURE_FILES:
            yield from motion_import.import_armature(context, avatar, path, start, options, self._result)
        else:
            yield from motion_import.import_numbers(avatar, path, start, options, self.up, self._result)

    def finished(self, context: Any) -> None:
        """Tell about it."""
        self._tell_result(context, self._result)


class EFFIGY_OT_retarget(OnAvatar, Fits, WorkingOperator, bpy.types.Operator):
    """Bring the motion of another armature onto the selected avatar, as keys or as live constraints"""

    bl_idname = "effigy.retarget"
    bl_label = "Retarget"
    bl_options = {"UNDO"}
    doing = "retargeting"

    mode: EnumProperty(
        items=[
            ("BAKE", "Keys", "Key every frame of the range"),
            ("LIVE", "Live", "Follow the armature by constraints, for as long as both are in the scene"),
            ("UNLINK", "Stop", "Take the live constraints away"),
        ]
    )
    first: IntProperty(name="First", description="First frame of the source; its action's where both are 0", default=0)
    last: IntProperty(name="Last", description="Last frame of the source; its action's where both are 0", default=0)

    def steps(self, context: Any) -> Steps:
        """Sample and key, or constrain."""
        avatar, source = avatar_of(context.object), context.scene.effigy.retarget_source
        self._result = Report()
        if self.mode == "UNLINK":
            retarget_live.unlink(avatar)
            yield 1, 1
            return
        if source is None or source.type != "ARMATURE" or source == avatar:
            raise errors.BadConfig("No armature to take the motion from", do="Choose one under Source")
        if self.mode == "LIVE":
            retarget_live.link(context, avatar, source)
            yield 1, 1
            return
        frames = range(self.first, self.last + 1) if self.first or self.last else None
        yield from motion_import.bake_armature(
            context.scene, avatar, source, frames, self._start(context), self._options(context), self._result
        )

    def finished(self, context: Any) -> None:
        """Tell about it."""
        if self.mode == "BAKE":
            self._tell_result(context, self._result)
        else:
            self.report({"INFO"}, "Following" if self.mode == "LIVE" else "No longer following")


class EFFIGY_OT_reenact(OnAvatar, Fits, AskingOperator, bpy.types.Operator):
    """Key another person's performance on the avatar, relative to both neutral faces and within what it learned"""

    bl_idname = "effigy.reenact"
    bl_label = "Reenact"
    bl_options = {"UNDO"}
    ask_timeout_s = 300.0

    def message(self, context: Any) -> Any:
        """The capture, and how much of it."""
        wanted = context.scene.effigy.reenactment
        source = bpy.path.abspath(wanted.source) if wanted.source.startswith("//") else wanted.source
        if not source:
            raise errors.BadConfig("No capture to take the performance from", do="Choose one under Capture")
        return messages.GetMotion(
            avatar_of(context.object).data.effigy.avatar_id,
            source,
            True,
            wanted.strength,
            wanted.clip,
            wanted.neutral_frame,
            wanted.smooth_hz,
        )

    def answered(self, context: Any, reply: Any) -> None:
        """Key it."""
        wanted, avatar, report = context.scene.effigy.reenactment, avatar_of(context.object), Report()
        options = FitOptions(scene_fps(context.scene), at_origin=False, on_floor=False, in_place=not wanted.move)
        source = from_reply(Path(wanted.source).name, reply)
        for _ in key_source(avatar, source, self._start(context), options, report):
            pass
        self._tell_result(context, report)


class EFFIGY_OT_sample_motion(OnAvatar, Fits, WorkingOperator, bpy.types.Operator):
    """Key one of the motions that come with Effigy"""

    bl_idname = "effigy.sample_motion"
    bl_label = "Sample Motion"
    bl_options = {"UNDO"}
    doing = "keying a motion"

    motion: EnumProperty(name="Motion", items=sample_motions.items)
    cycles: IntProperty(name="Cycles", description="How often a loop is repeated", default=4, min=1, max=1000)

    def steps(self, context: Any) -> Steps:
        """Read, repeat and key."""
        avatar, self._result = avatar_of(context.object), Report()
        source = sample_motions.read(self.motion, self.cycles)
        options = FitOptions(scene_fps(context.scene), in_place=self.in_place)
        yield from key_source(avatar, source, self._start(context), options, self._result)

    def finished(self, context: Any) -> None:
        """Tell about it."""
        self._tell_result(context, self._result)


CLASSES = (EFFIGY_OT_import_motion, EFFIGY_OT_retarget, EFFIGY_OT_reenact, EFFIGY_OT_sample_motion)
