"""Runs inside the windowed Blender (`--python`): loads a script and steps its generator from a timer.

The script defines `main(w)`, a generator; each `yield seconds` lets Blender handle events and draw for that long. What
it puts into `w.results` is written to result.json, with the error where one escaped; then Blender is closed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import traceback
from pathlib import Path

import bpy

sys.path.insert(0, os.path.dirname(__file__))
from window import Window

OUT = Path("/mnt/out")
SETTLE_S = 1.0


def load(path: str):
    """The script's main()."""
    spec = importlib.util.spec_from_file_location("windowed_script", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["windowed_script"] = module
    spec.loader.exec_module(module)
    return module.main


def begin() -> None:
    """Start stepping the script named after `--`, until it ends, raises or takes longer than allowed."""
    script, timeout_s, *arguments = sys.argv[sys.argv.index("--") + 1 :]
    view = bpy.context.preferences.view
    view.show_splash = False
    bpy.context.preferences.filepaths.use_auto_save_temporary_files = False
    bpy.context.preferences.use_preferences_save = False
    w = Window(OUT, arguments)
    until = time.monotonic() + float(timeout_s)
    steps = None

    def end(error: str) -> None:
        if error:
            w.grab("error")
            print(error, file=sys.stderr, flush=True)
        result = {"error": error, **w.results}
        (OUT / "result.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
        bpy.ops.wm.quit_blender()

    def step() -> float | None:
        nonlocal steps
        try:
            if steps is None:
                steps = load(script)(w)
            wait_s = next(steps)
        except StopIteration:
            return end("")
        except BaseException:
            return end(traceback.format_exc())
        if time.monotonic() > until:
            return end(f"the script took longer than {timeout_s} s")
        return 0.1 if wait_s is None else float(wait_s)

    bpy.app.timers.register(step, first_interval=SETTLE_S, persistent=True)


begin()
