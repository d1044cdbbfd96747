"""Operators: a person as an ordinary mesh in this scene. (No `from __future__ import annotations` here.)"""

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from .._shared import desk_messages, errors, messages
from ..logic.link import UNFINISHED
from ..logic.settings import is_local
from ..services import exporting, mesh_build
from ..services.connection import CONNECTION
from ..services.preferences import settings
from ..services.rig_info import avatar_of, is_drawn

POLL_S, ASK_S = 0.25, 60.0


class EFFIGY_OT_mesh_to_scene(bpy.types.Operator):
    """Make a rigged, textured mesh of the selected avatar and bring it into this scene, for Cycles, EEVEE and export"""

    bl_idname = "effigy.mesh_to_scene"
    bl_label = "Mesh into Scene"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar the backend has."""
        if is_drawn(avatar_of(context.object)):
            return True
        cls.poll_message_set("Select an avatar")
        return False

    def execute(self, context: Any) -> set[str]:
        """Ask for it, and wait beside Blender's events; in a script without a window at once."""
        question = self._question(context)
        if not bpy.app.background and context.window is not None:
            self._begin(context, question)
            return {"RUNNING_MODAL"}
        job = CONNECTION.ask_and_wait(question, ASK_S)
        while job.state in UNFINISHED:
            time.sleep(POLL_S)
            job = self._of(CONNECTION.ask_and_wait(messages.ListJobs(), ASK_S), job)
        self._bring(context, job)
        return {"FINISHED"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Look after the job now and then."""
        if event.type == "ESC":
            if self._job is not None:
                CONNECTION.ask(messages.ChangeJob(self._job.job_id, "cancel"))
            self._end(context)
            self.report({"INFO"}, "Given up; nothing was changed")
            return {"CANCELLED"}
        if event.type != "TIMER" or not self._ticket.done:
            return {"PASS_THROUGH"}
        try:
            reply = self._ticket.result()
            self._job = reply if self._job is None else self._of(reply, self._job)
        except errors.EffigyError:
            self._end(context)
            raise
        if self._job.state in UNFINISHED:
            self._ticket = CONNECTION.ask(messages.ListJobs(), ASK_S)
            done = f" {self._job.step} / {self._job.steps}" if self._job.steps > 1 else ""
            context.workspace.status_text_set(f"Effigy: making the mesh{done} (Esc gives up)")
            return {"RUNNING_MODAL"}
        self._end(context)
        self._bring(context, self._job)
        return {"FINISHED"}

    def cancel(self, context: Any) -> None:
        """Blender ends the operator, for example because a file is opened."""
        self._end(context)

    def _question(self, context: Any) -> Any:
        if not is_local(settings(context.scene).address):
            raise errors.BadConfig(
                "The backend is on another machine, so its files cannot be read here",
                do="Run effigy mesh there, copy the folder, and use Import Mesh",
            )
        avatar = avatar_of(context.object)
        self._folder = Path(tempfile.mkdtemp(prefix="effigy_mesh_")) / "mesh"
        return desk_messages.StartExport(
            uuid.uuid4().hex,
            avatar.data.effigy.avatar_id,
            avatar.data.effigy.digest,
            "mesh",
            str(self._folder),
            *exporting.no_poses(),
        )

    def _begin(self, context: Any, question: Any) -> None:
        self._job: Any = None
        self._ticket = CONNECTION.ask(question, ASK_S)
        self._timer = context.window_manager.event_timer_add(POLL_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Effigy: making the mesh (Esc gives up)")

    def _of(self, listed: Any, job: Any) -> Any:
        found = next((one for one in listed.jobs if one.job_id == job.job_id), None)
        if found is None:
            raise errors.NotFound("The backend has forgotten the job that makes the mesh", do="Try again")
        return found

    def _bring(self, context: Any, job: Any) -> None:
        if job.state != "done":
            raise errors.BadAvatar(f"The mesh was not made: {job.message or job.state}")
        made = mesh_build.add_mesh(context, self._folder)
        faces = sum(len(child.data.polygons) for child in made.children if child.type == "MESH")
        self.report({"INFO"}, f"{made.name}: {faces} faces, skinned and painted")

    def _end(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)


class EFFIGY_OT_import_mesh(bpy.types.Operator):
    """Bring in a folder that effigy mesh wrote: armature, skinned mesh, textures"""

    bl_idname = "effigy.import_mesh"
    bl_label = "Import Mesh"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the folder, unless a script named it."""
        if self.directory:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Read and build."""
        made = mesh_build.add_mesh(context, Path(bpy.path.abspath(self.directory)))
        self.report({"INFO"}, f"Brought in {made.name}")
        return {"FINISHED"}


CLASSES = (EFFIGY_OT_mesh_to_scene, EFFIGY_OT_import_mesh)
