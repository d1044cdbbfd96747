"""An executable that is the bpy module in the place of an installed Blender with the add-on."""

from __future__ import annotations

import sys
from pathlib import Path

from .conftest import ROOT

BLENDER = """#!{python}
# The bpy module as `blender -b FILE --command effigy_render …`. The first time it has begun to write one of the frames
# HELD it says so, with its process, and hangs: that is when somebody kills it.
import os, sys, time
sys.path.insert(0, {root!r})
import bpy, blender_addon
from blender_addon import batch
given = [word for word in sys.argv[1:] if word != "-y"]
assert given[0] == "-b" and given[2:4] == ["--command", batch.COMMAND], sys.argv
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()

@bpy.app.handlers.persistent
def hold(scene, *_):
    note = os.path.join({notes!r}, str(scene.frame_current))
    if scene.frame_current in {held!r} and not os.path.exists(note):
        with open(note + ".new", "w") as file:
            array, task = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
            file.write(f"{{os.getpid()}} {{array}}_{{task}}")
        os.rename(note + ".new", note)
        time.sleep(600)
bpy.app.handlers.render_write.insert(0, hold)
os._exit(batch.run(["--file", given[1], *given[4:]]))
"""


def blender_at(folder: Path, held: tuple[int, ...] = ()) -> Path:
    """Write `folder`/blender. held: frames at which it hangs once, with a note in `folder`/notes."""
    (folder / "notes").mkdir(exist_ok=True)
    path = folder / "blender"
    text = BLENDER.format(python=sys.executable, root=str(ROOT), notes=str(folder / "notes"), held=held)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
