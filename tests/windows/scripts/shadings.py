"""Each shading of the 3D view by itself: what hides the avatar and what it hides, and where all is seen through.

Words: the avatar, then any of: wireframe xray cycles cycles_bare material eevee. `bare` hides Blender's overlays.
"""

import time

import bpy
from mathutils import Vector
from stage import BOX, Stage, add_avatar, is_skin, near

PINK = tuple(255 * part for part in BOX)
SEEN_THROUGH = {"wireframe", "xray"}


def eevee():
    """The name EEVEE has here."""
    engines = bpy.types.RenderSettings.bl_rna.properties["engine"].enum_items.keys()
    return next((name for name in engines if name.startswith("BLENDER_EEVEE")), "BLENDER_EEVEE_NEXT")


def choose(stage, shading):
    """Switch the view to a shading, as cheap as it can be."""
    scene, view = bpy.context.scene, stage.w.space.shading
    stage.w.space.overlay.show_overlays = not shading.endswith("_bare")
    view.show_xray = shading == "xray"
    kind = shading.removesuffix("_bare")
    if kind in {"cycles", "eevee"}:
        scene.render.engine = "CYCLES" if kind == "cycles" else eevee()
        scene.cycles.preview_samples, scene.cycles.use_preview_denoising = 1, False
    scene.eevee.taa_samples = 1
    view.type = {"xray": "SOLID", "cycles": "RENDERED", "eevee": "RENDERED"}.get(kind, kind.upper())


def right(stage, shading):
    """Whether the points have the colours they should have."""
    seen = stage.colours()
    if shading in SEEN_THROUGH:
        faint = max(abs(a - b) for a, b in zip(seen["face"], stage.solid_face, strict=True)) > 20
        shown = is_skin(seen["face"]) if shading == "wireframe" else not near(seen["face"], PINK)
        box_is_drawn = near(seen["behind"], PINK) == (shading == "xray")
        return faint and shown and box_is_drawn and not near(seen["through"], PINK)
    if shading == "cycles_bare":  # Blender leaves no depth then: the avatar is over everything
        return is_skin(seen["face"]) and near(seen["behind"], PINK) and is_skin(seen["through"])
    return stage.right() and near(seen["through"], PINK)


def show(stage, shadings):
    """Go through the shadings; colours, seconds and a picture of each."""
    stage.points["through"] = stage.face + Vector((-0.05, -0.18, -0.02))
    stage.solid_face = stage.colours()["face"]
    for shading in shadings:
        begin = time.monotonic()
        choose(stage, shading)
        yield 0.3
        try:
            yield from stage.w.wait_for(lambda: right(stage, shading), f"the right colours: {shading}", 300)  # noqa: B023
            yield 0.3
        finally:
            stage.w.results[shading] = stage.colours()
            stage.w.results[f"{shading}_s"] = round(time.monotonic() - begin, 1)
            stage.w.grab(shading)
    choose(stage, "solid")


def main(w):
    """Steps for tests/windows/test_viewport.py."""
    yield from add_avatar(w, w.arguments[0])
    stage = Stage(w)
    yield from stage.settle("solid")
    yield from show(stage, w.arguments[1:])
    w.results["faults"] = [fault.sentence for fault in stage.faults.newest()]
