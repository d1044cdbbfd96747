"""What the draw handler costs, its own work apart from what the graphics driver executes within its calls.

    python -m tests.windows run tests/windows/scripts/handler_cost.py --size 1920 1080 --library FOLDER -- AVATAR

Every case is drawn twice: as it is, and with each draw call cut to one triangle without an area, so that nothing is
left for the driver to execute: the handler's own Python, the data it prepares, upload and submission remain.
The backend is asked for one picture and then left in peace. `wall` is what passed, `own` the main thread's processor
time; a software driver executes vertices in the calling thread and pixels in others. Milliseconds: median, 9th decile.
"""

import dataclasses
import math
import time

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Euler, Vector

DRAWS = 15


class Meter:
    """Times of the handler's calls. empty: draw calls are cut to nothing."""

    def __init__(self, overlay, shaders, backdrop, bones):
        self.empty, self.drawing_ms, self.all = False, 0.0, []
        for module, name in ((shaders, "as_it_is"), (shaders, "moved"), (backdrop, "_shader")):
            setattr(module, name, self._counted(getattr(module, name)))
        real_lines = bones._batch
        bones._batch = lambda *given: self._wrapped(real_lines(*given), _no_line())
        self._handler, self._rendered = overlay.draw, overlay.draw_rendered
        overlay.draw, overlay.draw_rendered = self.draw, self.draw_rendered
        self._depth = 0

    def _counted(self, make):
        def made():
            shader, batch = make()
            nothing = batch_for_shader(shader, "TRIS", {"pos": ((2, 2), (2, 2), (2, 2))})
            return shader, self._wrapped(batch, nothing)

        made.cache_clear = make.cache_clear
        return made

    def _wrapped(self, batch, nothing):
        return None if batch is None else Batch(self, batch, nothing)

    def _timed(self, call, *given, **named):
        if self._depth:
            return call(*given, **named)
        self._depth, self.drawing_ms = 1, 0.0
        wall, own = time.perf_counter(), time.thread_time()
        try:
            return call(*given, **named)
        finally:
            now, own_now = time.perf_counter(), time.thread_time()
            self._depth = 0
            self.all.append(((now - wall) * 1e3, (own_now - own) * 1e3, self.drawing_ms))

    def draw(self, *given, **named):
        """Stands for Overlay.draw."""
        return self._timed(self._handler, *given, **named)

    def draw_rendered(self, *given):
        """Stands for Overlay.draw_rendered."""
        return self._timed(self._rendered, *given)


class Batch:
    """Stands for a batch: draws it, or nothing, and counts the time."""

    def __init__(self, meter, batch, nothing):
        self.meter, self.batch, self.nothing = meter, batch, nothing

    def draw(self, shader):
        """As gpu.types.GPUBatch.draw."""
        begin = time.perf_counter()
        (self.nothing if self.meter.empty else self.batch).draw(shader)
        self.meter.drawing_ms += (time.perf_counter() - begin) * 1e3


def _no_line():
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id="pos", comp_type="F32", len=3, fetch_mode="FLOAT")
    layout.attr_add(id="color", comp_type="F32", len=4, fetch_mode="FLOAT")
    ends = gpu.types.GPUVertBuf(layout, 2)
    ends.attr_fill("pos", np.full((2, 3), 9.0, np.float32))
    ends.attr_fill("color", np.ones((2, 4), np.float32))
    return gpu.types.GPUBatch(type="LINES", buf=ends)


class Case:
    """Changes the view or the scene before every draw."""

    def __init__(self, w, overlay, rig):
        self.w, self.overlay, self.rig = w, overlay, rig
        self.count = 0
        self.thread = overlay.thread
        self.first = dict(self.thread._pictures)
        self.turn = w.space.region_3d.view_rotation.copy()

    def next(self, new, moving, posing):
        """One step of a case."""
        self.count += 1
        if new:
            for name, picture in self.thread._pictures.items():
                self.thread._pictures[name] = dataclasses.replace(picture, number=10_000 + self.count)
        if moving:
            swing = Euler((0, 0, math.radians(3 * math.sin(self.count))))
            self.w.space.region_3d.view_rotation = swing.to_quaternion() @ self.turn
        if posing:
            self.rig.pose.bones["head"].rotation_mode = "XYZ"
            self.rig.pose.bones["head"].rotation_euler.x = 0.1 * math.sin(self.count)

    def reset(self):
        """The view as it was."""
        self.w.space.region_3d.view_rotation = self.turn


CASES = {
    "still": {},
    "still, new picture": {"new": True},
    "moving": {"moving": True},
    "moving, new picture": {"moving": True, "new": True},
    "moving, bones": {"moving": True, "bones": True},
    "posing, new picture": {"posing": True, "new": True},
    "posing, new picture, bones": {"posing": True, "new": True, "bones": True},
    "engine's view, still": {"engine": True},
    "engine's view, moving, new picture": {"engine": True, "moving": True, "new": True},
}


def described(times):
    """Median and 9th decile of wall and own time, median of the time in draw calls."""
    wall, own, drawing = (np.array(values) for values in zip(*times, strict=True))
    line = {"n": len(wall), "wall": [float(np.quantile(wall, q)) for q in (0.5, 0.9)]}
    line |= {"own": [float(np.quantile(own, q)) for q in (0.5, 0.9)], "in_draw_calls": float(np.median(drawing))}
    return {name: value if name == "n" else np.round(value, 2).tolist() for name, value in line.items()}


def main(w):
    """Words: the avatar, then beginnings of the cases to draw; all without any."""
    connection = w.addon("services.connection").CONNECTION
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=w.arguments[0])
    yield from w.wait_for(lambda: any(item.type == "ARMATURE" for item in bpy.data.objects), "the avatar", 60)
    rig = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    with w.override():
        bpy.ops.screen.screen_full_area(use_hide_panels=True)
    yield 0.5
    overlay = w.addon("viewport.overlay").OVERLAY
    painter = w.addon("viewport.painter").Painter
    meter = Meter(overlay, *(w.addon(f"viewport.{name}") for name in ("shaders", "backdrop", "bones")))
    eye = w.space.region_3d
    head = rig.matrix_world @ rig.pose.bones["head"].head
    eye.view_location, eye.view_distance = head + Vector((0, 0, -0.02)), 0.9
    eye.view_rotation = Euler((math.radians(86), 0, math.radians(12))).to_quaternion()
    yield 0.5
    yield from w.wait_for(lambda: any(view.sharp for view in overlay.views.values()), "the picture", 120)
    overlay.thread.want = lambda wish: None
    uploads, upload = [], painter.upload

    def uploaded(self, picture):
        begin, before = time.perf_counter(), self._number
        upload(self, picture)
        if self._number != before:
            uploads.append((time.perf_counter() - begin) * 1e3)

    painter.upload = uploaded
    case = Case(w, overlay, rig)
    region = w.region()
    picture = next(iter(case.first.values()))
    w.results["region_px"], w.results["picture_px"] = [region.width, region.height], list(picture.packed.shape[:2])
    for name, options in CASES.items():
        if len(w.arguments) > 1 and not name.startswith(tuple(w.arguments[1:])):
            continue
        engine, bones = options.get("engine", False), options.get("bones", False)
        if engine and bpy.context.scene.render.engine != "EFFIGY":
            bpy.context.scene.render.engine = "EFFIGY"
        w.space.shading.type = "RENDERED" if engine else "SOLID"
        w.space.overlay.show_bones = bones
        rest = {key: options.get(key, False) for key in ("new", "moving", "posing")}
        for empty in (False, True):
            case.reset()
            for _ in range(3):
                w.area().tag_redraw()
                yield 0.05
            meter.empty = empty
            meter.all.clear()
            uploads.clear()
            while len(meter.all) < DRAWS:
                case.next(**rest)
                w.area().tag_redraw()
                yield 0.01
            found = described(meter.all)
            if uploads:
                found["upload"] = round(float(np.median(uploads)), 2)
            w.results[f"{name}{' (draw calls empty)' if empty else ''}"] = found
        meter.empty = False
    w.grab("last")
    guards = w.addon("logic.faults").GUARDS
    w.results["faults"] = [fault.sentence + fault.detail for fault in guards.log.newest()]
