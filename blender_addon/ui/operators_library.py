"""Operators: the library. (No `from __future__ import annotations`: Blender reads the properties.)"""

import uuid
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from .._shared import desk_messages, errors
from ..services import assets
from ..services.connection import CONNECTION
from .asking import AskingOperator


class _OfAvatar(AskingOperator):
    """Operators on an avatar of the library, which `avatar_id` names."""

    action = ""

    def message(self, context: Any) -> Any:
        """The change."""
        return desk_messages.ChangeAvatar(self.avatar_id, self.action)


class EFFIGY_OT_show_avatar(bpy.types.Operator):
    """Show or hide what is known of this avatar: coverage, licence, consent, where it comes from"""

    bl_idname = "effigy.show_avatar"
    bl_label = "About this Avatar"
    bl_options = {"INTERNAL"}

    avatar_id: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        """Fold it open or shut."""
        window = context.window_manager.effigy_panels
        window.avatar_open = "" if window.avatar_open == self.avatar_id else self.avatar_id
        return {"FINISHED"}


class EFFIGY_OT_show_more_avatars(bpy.types.Operator):
    """Show more of the library"""

    bl_idname = "effigy.show_more_avatars"
    bl_label = "Show More"
    bl_options = {"INTERNAL"}

    def execute(self, context: Any) -> set[str]:
        """Show twice as many."""
        context.window_manager.effigy_panels.library_shown *= 2
        return {"FINISHED"}


class EFFIGY_OT_rename_avatar(AskingOperator, bpy.types.Operator):
    """Show this avatar by another name; scenes that use it go on working"""

    bl_idname = "effigy.rename_avatar"
    bl_label = "Rename Avatar"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    name: StringProperty(name="Name")

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the name, beginning with the one it has."""
        state = CONNECTION.state
        known = [avatar.name for avatar in state.avatars if avatar.avatar_id == self.avatar_id] if state else []
        self.name = known[0] if known else self.avatar_id
        return context.window_manager.invoke_props_dialog(self, width=260)

    def message(self, context: Any) -> Any:
        """The change."""
        return desk_messages.ChangeAvatar(self.avatar_id, "rename", self.name)

    def answered(self, context: Any, reply: Any) -> None:
        """Armatures of the open file show the new name as well."""
        for armature in bpy.data.armatures:
            if armature.effigy.avatar_id == self.avatar_id and armature.library is None:
                armature.effigy.avatar_name = self.name
        self.report({"INFO"}, f"Now called {self.name}")


class EFFIGY_OT_trash_avatar(_OfAvatar, bpy.types.Operator):
    """Move this avatar to the trash, from where it can be restored; scenes that use it cannot be rendered meanwhile"""

    bl_idname = "effigy.trash_avatar"
    bl_label = "Move to Trash"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    action = "trash"

    def answered(self, context: Any, reply: Any) -> None:
        """Tell where it is."""
        self.report({"INFO"}, "Moved to the trash (at the end of the Library)")


class EFFIGY_OT_restore_avatar(_OfAvatar, bpy.types.Operator):
    """Bring this avatar back into the library"""

    bl_idname = "effigy.restore_avatar"
    bl_label = "Restore"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    action = "restore"

    def answered(self, context: Any, reply: Any) -> None:
        """Tell its name."""
        self.report({"INFO"}, f"{reply.detail} is back in the library")


class EFFIGY_OT_purge_avatar(_OfAvatar, bpy.types.Operator):
    """Delete this avatar for good; nothing brings it back"""

    bl_idname = "effigy.purge_avatar"
    bl_label = "Delete for Good"

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    action = "purge"

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask whether that is meant."""
        return context.window_manager.invoke_confirm(self, event)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it is gone."""
        self.report({"INFO"}, "Deleted")


class EFFIGY_OT_import_avatar(AskingOperator, bpy.types.Operator):
    """Take an avatar into the library: a NAME.avatar folder, RGBAvatar's model.ply or GaussianAvatars' point_cloud.ply.

    The file is one of the backend's machine
    """

    bl_idname = "effigy.import_avatar"
    bl_label = "Import Avatar"

    filepath: StringProperty(name="File or Folder", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.ply;avatar.json", options={"HIDDEN"})
    name: StringProperty(name="Name", description="Empty takes the folder's")
    person: StringProperty(
        name="Whose Head", description="flame_param.npz or a tracker's .frame, where it does not lie beside the file"
    )
    mean_shape: BoolProperty(name="Mean Head", description="Do without the person's file: FLAME's mean head")
    licence: StringProperty(name="Licence", description="To be noted down with the avatar")
    consent: StringProperty(name="Consent", description="The person's consent, to be noted down with the avatar")

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        if self.filepath:
            return context.window_manager.invoke_props_dialog(self, width=320)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def message(self, context: Any) -> Any:
        """The errand."""
        path = bpy.path.abspath(self.filepath)
        if not path.strip():
            raise errors.BadAvatar("No file was chosen", expected="a NAME.avatar folder, model.ply or point_cloud.ply")
        if Path(path).name == "avatar.json":
            path = str(Path(path).parent)
        return desk_messages.StartImport(
            uuid.uuid4().hex,
            path,
            self.name.strip(),
            "",
            bpy.path.abspath(self.person) if self.person else "",
            "",
            self.mean_shape,
            self.licence,
            self.consent,
        )

    def answered(self, context: Any, reply: Any) -> None:
        """Tell where to look."""
        self.report({"INFO"}, f"{reply.name}: see the jobs in Capture & Train")


class EFFIGY_OT_mark_asset(bpy.types.Operator):
    """Put this avatar into the Asset Browser: its objects in the scene, with picture, licence and quality"""

    bl_idname = "effigy.mark_asset"
    bl_label = "Mark as Asset"
    bl_options = {"REGISTER", "UNDO"}

    avatar_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def _places(self, context: Any) -> list[tuple[str, str, str]]:
        _PLACE_ITEMS[:] = [(THIS_FILE, "This File", "Mark it here; save this file in a library to use it elsewhere")]
        for library in bpy.context.preferences.filepaths.asset_libraries:
            _PLACE_ITEMS.append((library.path, library.name, f"Write a file of its own into {library.path}"))
        return _PLACE_ITEMS

    place: EnumProperty(name="Library", items=_places)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask where to."""
        return context.window_manager.invoke_props_dialog(self, width=260)

    def execute(self, context: Any) -> set[str]:
        """Mark, and write where a library was chosen."""
        state = CONNECTION.state
        info = state.infos.get(self.avatar_id) if state is not None else None
        collection = assets.mark(context, self.avatar_id, info)
        if self.place != THIS_FILE:
            written = assets.write(collection, Path(self.place))
            self.report({"INFO"}, f"Written to {written}")
        else:
            self.report({"INFO"}, f"{collection.name} is in the Asset Browser of this file")
        return {"FINISHED"}


THIS_FILE = "THIS_FILE"
_PLACE_ITEMS: list[tuple[str, str, str]] = []
"""Blender keeps no reference to the texts of a dynamic list, so this module does."""

CLASSES = (
    EFFIGY_OT_show_avatar,
    EFFIGY_OT_show_more_avatars,
    EFFIGY_OT_rename_avatar,
    EFFIGY_OT_trash_avatar,
    EFFIGY_OT_restore_avatar,
    EFFIGY_OT_purge_avatar,
    EFFIGY_OT_import_avatar,
    EFFIGY_OT_mark_asset,
)
