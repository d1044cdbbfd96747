"""The add-on's preferences and the settings made of them. (No `from __future__ import annotations` here.)"""

from typing import Any

import bpy
from bpy.props import BoolProperty, FloatProperty, StringProperty

from ..logic.key_file import KeyFile
from ..logic.settings import DEFAULT_ADDRESS, Settings, resolved

KEY = KeyFile()
ADDON_NAME = __package__.rpartition(".")[0]


def _get_key(self: Any) -> str:
    return KEY.text()


def _set_key(self: Any, value: str) -> None:
    KEY.put(value)


class EffigyPreferences(bpy.types.AddonPreferences):
    """How this Blender reaches the backend."""

    bl_idname = ADDON_NAME

    address: StringProperty(
        name="Address",
        description="Where the backend listens; a scene or the variable EFFIGY_ADDRESS may name another",
        default=DEFAULT_ADDRESS,
    )
    key: StringProperty(
        name="Key",
        description="The backend's key, where it asks for one (or EFFIGY_KEY); kept in a file that only you can read",
        subtype="PASSWORD",
        get=_get_key,
        set=_set_key,
    )
    server_key: StringProperty(
        name="Backend's Public Key",
        description="Of a backend that encrypts, as all on other machines do; 'effigy keys show' tells it there",
    )
    start_automatically: BoolProperty(
        name="Start the Backend when Needed",
        description="Start a backend on this machine when none answers, and stop it when Blender closes",
        default=False,
    )
    keep_training: BoolProperty(
        name="Trainings Go On without Blender",
        description="When Blender closes or ends, trainings of the backend it started go on; else they keep their "
        "place and go on with the next backend",
        default=True,
    )
    python: StringProperty(
        name="Backend's Python",
        description="The Python of the environment the backend is installed in, such as .venv/bin/python",
        subtype="FILE_PATH",
    )
    data_folder: StringProperty(
        name="Data Folder",
        description="Where a backend started from here keeps avatars and jobs; empty uses its own default",
        subtype="DIR_PATH",
    )
    retry_s: FloatProperty(
        name="Keep Trying for",
        description="How long a final render looks for an unreachable backend before it gives up",
        default=5.0,
        min=0.0,
        max=600.0,
        subtype="TIME_ABSOLUTE",
    )

    def draw(self, context: Any) -> None:
        """Draw the preferences."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "address")
        layout.prop(self, "key")
        layout.prop(self, "server_key")
        row = layout.row()
        row.operator("effigy.copy_own_key", icon="COPYDOWN")
        row.operator("effigy.open_connection", icon="FILE_FOLDER")
        layout.prop(self, "retry_s")
        layout.prop(self, "start_automatically")
        column = layout.column()
        column.active = self.start_automatically
        column.prop(self, "keep_training")
        column.prop(self, "python")
        column.prop(self, "data_folder")


def preferences() -> Any | None:
    """The stored preferences, None where the add-on runs from source and Blender keeps none for it."""
    addon = bpy.context.preferences.addons.get(ADDON_NAME)
    return addon.preferences if addon else None


def settings(scene: Any | None = None) -> Settings:
    """How to reach the backend from this scene."""
    stored = preferences()
    own = Settings()
    if stored is not None:
        own = Settings(
            address=stored.address,
            key=stored.key,
            start_automatically=stored.start_automatically,
            python=bpy.path.abspath(stored.python) if stored.python else "",
            data_folder=bpy.path.abspath(stored.data_folder) if stored.data_folder else "",
            retry_s=stored.retry_s,
            server_key=stored.server_key,
            keep_training=stored.keep_training,
        )
    return resolved(own, scene.effigy.address if scene is not None else "")


def register() -> None:
    """Register the preferences."""
    bpy.utils.register_class(EffigyPreferences)


def unregister() -> None:
    """Unregister the preferences."""
    bpy.utils.unregister_class(EffigyPreferences)
