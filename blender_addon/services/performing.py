"""The avatar that acts along with a tracked face: poses come in by a thread, a timer puts the newest on the armature.

While it records, every pose is kept with its own time; keys are made of them at once when the recording ends.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..logic import rig_layout
from ..logic.faults import GUARDS
from ..logic.motion_fit import FitOptions, FittedMotion, fit
from ..logic.performer import LivePose, Performer, as_motion
from .connection import redraw_sidebars
from .motion_write import key_motion
from .pose_write import set_expressions
from .rig_info import rig_of

TICK_S = 1 / 60
SIDEBAR_EVERY = 15


class Performing:
    """The listening end, whom it drives, and what is being recorded; one instance per registered add-on."""

    def __init__(self) -> None:
        self.performer: Performer | None = None
        self.job_id = ""
        self.avatar_name = ""
        self.start_frame = 0
        self.shown = -1
        self._ticks = 0

    def begin(self, avatar: Any) -> str:
        """Listen for poses of this armature object; the address to push them to."""
        self.end()
        self.performer, self.avatar_name, self.shown = Performer(), avatar.name, -1
        if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=TICK_S)
        return self.performer.address

    def end(self) -> None:
        """Listen no more; the avatar keeps its last pose."""
        performer, self.performer, self.job_id = self.performer, None, ""
        if bpy.app.timers.is_registered(_tick):
            bpy.app.timers.unregister(_tick)
        if performer is not None:
            performer.close()

    @property
    def recording(self) -> bool:
        """Whether poses are kept."""
        return self.performer is not None and self.performer.recording

    def avatar(self) -> Any | None:
        """The armature that is driven, None where it is gone."""
        return bpy.data.objects.get(self.avatar_name)

    def tick(self) -> float | None:
        """Put the newest pose on the avatar; the seconds until the next look."""
        performer = self.performer
        if performer is None:
            return None
        pose, avatar = performer.newest, self.avatar()
        if pose is not None and avatar is not None and pose.number != self.shown:
            self.shown = pose.number
            show(avatar, pose, performer.expression_names)
        self._ticks += 1
        if self._ticks % SIDEBAR_EVERY == 0:
            redraw_sidebars()
        return TICK_S

    def record(self, frame: int) -> None:
        """Keep poses from now on; the first one belongs to `frame`."""
        if self.performer is not None:
            self.start_frame = frame
            self.performer.record()

    def keyed(self, scene: Any, soften_s: float, tolerance: float) -> int:
        """End the recording and key it on the avatar from its first frame on; the number of frames."""
        performer, avatar = self.performer, self.avatar()
        poses = performer.recorded() if performer is not None else []
        if performer is None or avatar is None or not poses:
            return 0
        fps = scene.render.fps / scene.render.fps_base
        fitted = fit(as_motion(poses, performer.expression_names, fps, soften_s), rig_of(avatar), options_of(fps))
        for _ in key_motion(avatar, fitted, self.start_frame, tolerance):
            pass
        return len(fitted.motion)


def options_of(fps: float) -> FitOptions:
    """A performance moves nothing but the face and the head."""
    return FitOptions(scene_fps=fps, at_origin=False, on_floor=False, forward=False)


def show(avatar: Any, pose: LivePose, expression_names: tuple[str, ...]) -> None:
    """Turn the joints that the pose knows and set its expressions; everything else stays as it is."""
    rig = rig_of(avatar)
    if rig is None:
        return
    fitted: FittedMotion = fit(as_motion([pose], expression_names, 25.0), rig, options_of(25.0))
    bones = avatar.pose.bones
    rest = np.array([avatar.data.bones[name].matrix_local for name in rig.joint_names])
    turns = rig.to_bones(fitted.motion.rotations[0])
    quaternions, _ = rig_layout.bones_from_pose(turns, np.zeros(3), rest, rig.parents)
    for name in fitted.joints:
        bone, quaternion = bones[name], quaternions[rig.joint_names.index(name)]
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = quaternion if np.dot(quaternion, bone.rotation_quaternion) >= 0 else -quaternion
    values = {
        name: float(fitted.motion.expressions[0, rig.expression_names.index(name)]) for name in fitted.expressions
    }
    set_expressions(avatar, values, others=None)
    avatar.update_tag()


PERFORMING = Performing()


def _tick() -> float | None:
    return GUARDS["live performance"].run(PERFORMING.tick)  # type: ignore[no-any-return]


def register() -> None:
    """Nothing to set up: the timer runs while a face is followed."""


def unregister() -> None:
    """Listen no more."""
    PERFORMING.end()
