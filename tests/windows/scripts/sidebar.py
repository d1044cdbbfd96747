"""Connect, type another address, add an avatar with the mouse, disable the extension; what was seen at each step."""

import os
import threading

import addon_utils
import bpy
import zmq
from window import python_version

NAME = "bl_ext.user_default.effigy"


def avatars():
    """Names of the avatars in the file."""
    return [item.data.effigy.avatar_id for item in bpy.data.objects if item.type == "ARMATURE"]


def main(w):
    """Steps for tests/windows/test_panels.py."""
    w.results["python"], w.results["zmq"] = python_version(), zmq.__file__
    connection = w.addon("services.connection").CONNECTION
    w.addon("logic.faults").GUARDS.log.notice = None  # what an earlier script of this window was told
    w.only_panels()
    yield from w.show_sidebar()
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library")
    other = os.environ.pop("EFFIGY_ADDRESS").replace("127.0.0.1", "localhost")  # it would win over what is typed
    yield from w.type_into("effigy.address", other)
    w.results["address"] = bpy.context.scene.effigy.address
    yield from w.click_button("effigy.connect")
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library at the typed address")
    w.results["connected_to"] = connection.state.address
    yield from w.click_button("effigy.add_avatar")
    yield from w.wait_for(avatars, "the avatar")
    w.results["avatars"] = avatars()
    yield from w.redraw()
    w.grab("sidebar")
    addon_utils.disable(NAME, default_set=False)
    yield from w.redraw()
    handlers = [getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)]
    ours = [f for h in handlers if isinstance(h, list) for f in h if getattr(f, "__module__", "").startswith(NAME)]
    w.results["after_disabling"] = {
        "panels": [name for name in dir(bpy.types) if name.startswith("EFFIGY_")],
        "handlers": len(ours),
        "threads": sum(thread.name.startswith("effigy") for thread in threading.enumerate()),
        "properties": hasattr(bpy.types.Scene, "effigy"),
    }
