"""Operators: editing avatars by words. (No `from __future__ import annotations`: Blender reads the properties.)"""

from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .._shared import desk_messages, errors, messages
from ..logic.faults import GUARDS
from ..logic.versions import pair_for, parent_of
from ..services import editing
from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of
from .asking import AskingOperator

_ITEMS: dict[str, list[tuple[str, str, str]]] = {"looks": [], "editors": []}
"""Blender keeps no reference to the texts of a dynamic list, so this module does."""


def editors_of(context: Any) -> Any:
    """The backend's answer about the selected avatar's editors and regions, None where it is not there yet."""
    avatar, state = avatar_of(context.object), CONNECTION.state
    return state.editors.get(avatar.data.effigy.avatar_id) if avatar is not None and state is not None else None


def chosen_editor(context: Any) -> Any:
    """What the backend says about the chosen editor, None where it does not know it."""
    known = editors_of(context)
    wanted = context.scene.effigy_edit.editor
    return next((editor for editor in known.editors if editor.name == wanted), None) if known is not None else None


def tell(window: Any, error: errors.EffigyError | None) -> None:
    """Let the part say why an edit could not begin and what to do, and below it what would have been understood."""
    window.edit_problem = window.edit_known = ""
    if error is not None:
        found = f" (found {error.found})" if error.found else ""
        window.edit_problem = f"{error.what}{found}. {error.do}".strip()
        window.edit_known = error.expected


class _OnAvatar(AskingOperator):
    """Operators on the selected avatar that ask the backend."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar and a backend."""
        if avatar_of(context.object) is None:
            cls.poll_message_set("Select an avatar")
            return False
        state = CONNECTION.state
        if bpy.app.background or (state is not None and state.connected):
            return True
        cls.poll_message_set("Connect to a backend first")
        return False


class EFFIGY_OT_start_edit(_OnAvatar, bpy.types.Operator):
    """Make a new version of the selected avatar, changed as the words say; the avatar itself stays as it is"""

    bl_idname = "effigy.start_edit"
    bl_label = "Edit Avatar"

    def message(self, context: Any) -> Any:
        """The job as the panel describes it."""
        tell(context.window_manager.effigy_panels, None)
        return editing.edit_request(context.scene.effigy_edit, avatar_of(context.object))

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it began."""
        self.report({"INFO"}, f"The edit {reply.name} is {reply.state}")

    def _failed(self, error: errors.EffigyError) -> set[str]:
        window = bpy.context.window_manager.effigy_panels
        tell(window, error)
        # notice and report go without what is known, which fills a sidebar: the part lists it
        GUARDS.log.add(self.bl_label, type(error)(error.what, found=error.found, do=error.do))
        self.report({"ERROR"}, window.edit_problem)
        return {"CANCELLED"}


class EFFIGY_OT_edit_look(bpy.types.Operator):
    """Take one of the looks that this editor knows as the prompt"""

    bl_idname = "effigy.edit_look"
    bl_label = "Look"
    bl_options = {"REGISTER", "UNDO"}

    def _looks(self, context: Any) -> list[tuple[str, str, str]]:
        editor = chosen_editor(context) if context is not None else None
        looks = editor.looks if editor is not None else ()
        _ITEMS["looks"][:] = [(look.prompt, look.name, look.about) for look in looks]
        return _ITEMS["looks"]

    look: EnumProperty(name="Look", items=_looks)

    def execute(self, context: Any) -> set[str]:
        """Write it into the prompt."""
        context.scene.effigy_edit.prompt = self.look
        return {"FINISHED"}


class EFFIGY_OT_edit_editor(bpy.types.Operator):
    """Choose what changes the pictures"""

    bl_idname = "effigy.edit_editor"
    bl_label = "Editor"
    bl_options = {"REGISTER", "UNDO"}

    def _editors(self, context: Any) -> list[tuple[str, str, str]]:
        known = editors_of(context) if context is not None else None
        _ITEMS["editors"][:] = [
            (one.name, one.title + (" (not installed)" if one.problem else ""), one.problem or one.licence)
            for one in (known.editors if known is not None else ())
        ]
        return _ITEMS["editors"]

    editor: EnumProperty(name="Editor", items=_editors)

    def execute(self, context: Any) -> set[str]:
        """Choose it."""
        context.scene.effigy_edit.editor = self.editor
        tell(context.window_manager.effigy_panels, None)
        return {"FINISHED"}


class _ShowingVersion(_OnAvatar):
    """Operators that switch the selected armature to another version."""

    bl_options = {"REGISTER", "UNDO"}

    def ask_for(self, context: Any, avatar_id: str) -> Any:
        """The question what that version is like."""
        self._rig = avatar_of(context.object).name_full
        return messages.GetAvatar(avatar_id)

    def answered(self, context: Any, reply: Any) -> None:
        """Switch to it, and end a comparison, which was about another choice."""
        rig_object = next((item for item in bpy.data.objects if item.name_full == self._rig), None)
        if rig_object is None:
            raise errors.NotFound("The avatar's object is gone", found=self._rig)
        editing.show_version(rig_object, reply)
        context.window_manager.effigy_panels.wipe = False
        self.report({"INFO"}, f"{rig_object.name} shows {reply.summary.name or reply.summary.avatar_id}")


class EFFIGY_OT_show_version(_ShowingVersion, bpy.types.Operator):
    """Show this version on the selected armature; pose, keys and expressions stay as they are"""

    bl_idname = "effigy.show_version"
    bl_label = "Show Version"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def message(self, context: Any) -> Any:
        """What the version is like."""
        return self.ask_for(context, self.avatar_id)


class EFFIGY_OT_revert_version(_ShowingVersion, bpy.types.Operator):
    """Show what the selected avatar's version was edited from; pose, keys and expressions stay as they are"""

    bl_idname = "effigy.revert_version"
    bl_label = "Revert"

    def message(self, context: Any) -> Any:
        """What the parent is like. Raises NotFound."""
        shown, avatars = avatar_of(context.object).data.effigy.avatar_id, _avatars()
        summary = next((avatar for avatar in avatars if avatar.avatar_id == shown), None)
        parent = parent_of(summary, avatars) if summary is not None else None
        if parent is None:
            raise errors.NotFound(
                "What this version was edited from is not in the library",
                found=summary.edit.parent_id if summary is not None and summary.edit is not None else "no edit",
                do="Bring it back from the trash (Library)",
            )
        return self.ask_for(context, parent.avatar_id)


class EFFIGY_OT_discard_version(_OnAvatar, bpy.types.Operator):
    """Move this version to the trash; an armature that shows it goes back to what it was edited from"""

    bl_idname = "effigy.discard_version"
    bl_label = "Delete Version"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def message(self, context: Any) -> Any:
        """The change. Raises BadConfig while the version is shown."""
        if avatar_of(context.object).data.effigy.avatar_id == self.avatar_id:
            raise errors.BadConfig("The selected avatar shows this version", do="Revert first, or show another one")
        window = context.window_manager.effigy_panels
        if self.avatar_id in (window.wipe_before, window.wipe_after):
            window.wipe = False
        return desk_messages.ChangeAvatar(self.avatar_id, "trash")

    def answered(self, context: Any, reply: Any) -> None:
        """Tell where it is."""
        self.report({"INFO"}, "Moved to the trash (at the end of the Library)")


class EFFIGY_OT_wipe(bpy.types.Operator):
    """Compare in the 3D views: the earlier version left of a line, the later one right of it"""

    bl_idname = "effigy.wipe"
    bl_label = "Before and After"
    bl_options = {"INTERNAL"}

    avatar_id: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar."""
        return avatar_of(context.object) is not None

    def execute(self, context: Any) -> set[str]:
        """Begin; asked again for the same pair, end."""
        rig_object, window = avatar_of(context.object), context.window_manager.effigy_panels
        pair = pair_for(self.avatar_id, rig_object.data.effigy.avatar_id, _avatars())
        if pair is None:
            raise errors.NotFound("There is no earlier version to compare with", do="Choose another version")
        again = window.wipe and (window.wipe_before, window.wipe_after) == pair
        window.wipe_armature, (window.wipe_before, window.wipe_after) = rig_object.name_full, pair
        window.wipe = not (again and window.wipe_armature == rig_object.name_full)
        return {"FINISHED"}


def _avatars() -> Any:
    """The library's list; a script without a window asks for it."""
    if bpy.app.background:
        return CONNECTION.ask_and_wait(messages.ListAvatars()).avatars
    return CONNECTION.state.avatars if CONNECTION.state is not None else ()


CLASSES = (
    EFFIGY_OT_start_edit,
    EFFIGY_OT_edit_look,
    EFFIGY_OT_edit_editor,
    EFFIGY_OT_show_version,
    EFFIGY_OT_revert_version,
    EFFIGY_OT_discard_version,
    EFFIGY_OT_wipe,
)
