"""Runs inside the windowed Blender (`--python`): loads scripts and steps their generators from a timer.

A script defines `main(w)`, a generator; each `yield seconds` lets Blender handle events and draw for that long. What
it puts into `w.results` is written to result.json, with the error where one escaped; then Blender is closed. Several
scripts (separated by a comma) run one after the other, each in the file that Blender starts with; the results of each
stand under its name.
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


def steps_of(scripts: list[str], w: Window):
    """One generator of all scripts' steps."""
    if len(scripts) == 1:
        yield from load(scripts[0])(w)
        return
    results = w.results
    for number, script in enumerate(scripts):
        if number:
            bpy.ops.wm.read_homefile()
            yield SETTLE_S / 2
        w.results = results[Path(script).stem] = {}
        begin_s = time.monotonic()
        yield from load(script)(w)
        w.results["seconds"] = round(time.monotonic() - begin_s, 1)
    w.results = results


def begin() -> None:
    """Start stepping the scripts named after `--`, until they end, raise or take longer than allowed."""
    scripts, timeout_s, *arguments = sys.argv[sys.argv.index("--") + 1 :]
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
                steps = steps_of(scripts.split(","), w)
            wait_s = next(steps)
        except StopIteration:
            return end("")
        except BaseException:
            return end(traceback.format_exc())
        if time.monotonic() > until:
            return end(f"it took longer than {timeout_s} s")
        return 0.1 if wait_s is None else float(wait_s)

    bpy.app.timers.register(step, first_interval=SETTLE_S, persistent=True)


begin()
