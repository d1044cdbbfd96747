"""What Blender calls: the draw handlers of all 3D views, the timer that brings news, and the marks of changes.

Nothing here waits for the network. A handler reads the view's matrices, leaves a wish with the frame thread where
something changed, and draws the newest picture there is, moved to the present view where it is late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .._shared import messages
from ..logic import view_maths
from ..logic.faults import GUARDS
from ..services import scene_light, world_read
from ..services.backend import new_client
from ..services.connection import CONNECTION
from ..services.preferences import settings
from . import backdrop, banner, contents, plan, proxies, shaders, wipe
from .backdrop import Backdrop
from .frames import PASS, FrameThread, Wish
from .view import View

TICK_S = 1 / 60
IDLE_TICK_S = 0.25
CHECK_LINK_S = 0.25
KEPT_TIMES = 500
WIREFRAME_FADE = 0.5


class Overlay:
    """All views of this Blender. times: ms the handler took, without ('idle') and with ('new') a new picture."""

    def __init__(self) -> None:
        self.thread: FrameThread | None = None
        self.muted = False  # while a playblast draws views of its own
        self.views: dict[str, View] = {}
        self.contents = contents.Contents()
        self.backdrop = Backdrop()
        self.times: dict[str, deque[float]] = {kind: deque(maxlen=KEPT_TIMES) for kind in ("idle", "new")}
        self._settings: Any = None
        self._checked_s = 0.0
        self._changes = -1

    # --- drawing ------------------------------------------------------------------------------------------------------
    def draw_over(self) -> None:
        """POST_VIEW of every 3D view."""
        context = bpy.context
        space = context.space_data
        if space is None or not context.scene.effigy.show_avatars or self._engine_draws(context.scene, space):
            return
        test_depth, fade = look(space, context.scene.render.engine)
        lit = space.shading.type in {"MATERIAL", "RENDERED"}
        gain = 2.0**context.scene.view_settings.exposure if lit else 1.0
        self.draw(context, test_depth=test_depth, gain=gain, fade=fade)

    def _engine_draws(self, scene: Any, space: Any) -> bool:
        return space.shading.type == "RENDERED" and scene.render.engine == "EFFIGY"

    def draw_rendered(self, context: Any, depsgraph: Any) -> None:
        """Rendered shading with the EFFIGY engine: the World as final pictures show it, and the avatars.

        In linear light; Blender's colour management comes after it.
        """
        scene, matrices = depsgraph.scene_eval, context.region_data
        if not scene.render.film_transparent:
            from .. import engine

            seen = world_read.read_world(scene.world, engine.MAPS).seen
            self.backdrop.draw(seen, matrices.view_matrix, matrices.window_matrix)
        if not self.muted:
            self.draw(context, test_depth=False)

    def draw(self, context: Any, *, test_depth: bool, gain: float = 1.0, fade: float = 1.0) -> None:
        """Ask for and draw the avatars of one view into the bound framebuffer."""
        begin = time.perf_counter()
        view, region = self._view(context.region), context.region
        view.shading = context.space_data.shading.type
        content = self.contents.of(context.scene, context.view_layer, choose_light)
        view.problem = content.problem
        seen = [actor for actor in content.actors if contents.is_seen(actor, context.view_layer, context.space_data)]
        view.has_avatars = bool(seen)
        if not seen or self.thread is None:
            view.showing = frozenset()
            return
        size = (region.width, region.height)
        new = [
            self._draw_part(part, context, *shown, size, columns, (test_depth, gain, fade))
            for part, shown, columns in self._parts(view, context, content, seen, size)
        ]
        if all(one is None for one in new):
            view.showing = frozenset()
            return
        if not self._engine_draws(context.scene, context.space_data):  # Blender draws bones over the engine's view
            view.bones.draw(context, content, [actor.shown for actor in seen])
        view.showing = frozenset(actor.state.key[0] for actor in seen)
        self.times["new" if any(new) else "idle"].append((time.perf_counter() - begin) * 1000)

    def _parts(
        self, view: View, context: Any, content: contents.Content, seen: list[contents.Actor], size: tuple[int, int]
    ) -> list[tuple[View, tuple[contents.Content, list[contents.Actor]], wipe.Columns | None]]:
        """The whole view; where two versions are compared, each of its two sides with the version shown there."""
        compared = wipe.wanted(context)
        if compared is None or not wipe.concerns(compared, seen):
            view.alone(self.thread)
            return [(view, (content, seen), None)]
        column = compared.column(size[0])
        sides = ((view.beside(), compared.before, (0, column)), (view, compared.after, (column, size[0])))
        return [(part, wipe.side(content, seen, compared.armature, name), columns) for part, name, columns in sides]

    def _draw_part(
        self,
        view: View,
        context: Any,
        content: contents.Content,
        seen: list[contents.Actor],
        size: tuple[int, int],
        columns: wipe.Columns | None,
        how: tuple[bool, float, float],
    ) -> bool | None:
        """Ask for a picture and draw the newest; whether it is a new one, None where there is none yet."""
        matrices = context.region_data
        self._ask(view, context.scene, content, seen, matrices, size)
        picture = self.thread.picture(view.name)
        if picture is None or picture.wish.scene != context.scene.name_full:
            return None
        new = picture.number != view.number
        test_depth, gain, fade = how
        with wipe.only(columns, size[1]):
            view.sharp = view.painter.draw(
                picture, matrices.view_matrix, matrices.window_matrix, size, test_depth=test_depth, gain=gain, fade=fade
            )
        view.number = picture.number
        return new

    def _view(self, region: Any) -> View:
        name = f"view/{region.as_pointer():x}"
        if name not in self.views:
            self.views[name] = View(name)
        return self.views[name]

    def _ask(
        self,
        view: View,
        scene: Any,
        content: contents.Content,
        seen: list[contents.Actor],
        matrices: Any,
        size: tuple[int, int],
    ) -> None:
        window, eye = matrices.window_matrix, matrices.view_matrix
        stamp = (
            scene.name_full,
            tuple(actor.stamp for actor in seen),
            content.light_stamp,
            size,
            *(value for matrix in (window, eye) for row in matrix for value in row),
        )
        scale = view.plan.scale(stamp, time.monotonic(), size, self.thread.ms_per_megapixel)
        if scale is None:
            return
        picture_px = plan.scaled(size, scale)
        wish = wish_for(view.name, scene, content, seen, eye, window, picture_px, stamp=(stamp, scale))
        if wish is not None:
            self.thread.want(wish)

    def draw_text(self) -> None:
        """POST_PIXEL of every 3D view: what is wrong, where something is."""
        context = bpy.context
        if context.region is None or not context.scene.effigy.show_avatars:
            return
        view = self.views.get(f"view/{context.region.as_pointer():x}")
        if view is not None:
            compared = wipe.wanted(context)
            if compared is not None and compared.armature in view.showing:
                wipe.draw_line(context, compared)
            text = self.problem(view)
            if text:
                banner.draw(context, text)

    def problem(self, view: View) -> str:
        """The sentence a view should show, empty where all is well or it has no avatars."""
        if view.problem or self.thread is None or not view.has_avatars:
            return view.problem
        if self.thread.status == "lost":
            last = "this is the last picture" if view.showing else "avatars cannot be drawn"
            return f"The backend is away: {last}. Looking for it … ({self.thread.problem})"
        return self.thread.problem if self.thread.status == "refused" else ""

    # --- the timer ----------------------------------------------------------------------------------------------------
    def tick(self) -> float:
        """Redraw views that have news; the seconds until the next look."""
        now = time.monotonic()
        if now - self._checked_s > CHECK_LINK_S:
            self._checked_s = now
            self._follow_connection()
            self._forget_views()
            proxies.update(self)
        if self.thread is None or not self.views:
            return IDLE_TICK_S
        news = self.thread.changes != self._changes
        self._changes = self.thread.changes
        if news:
            proxies.update(self)
        for region in _regions():
            view = self.views.get(f"view/{region.as_pointer():x}")
            if view is not None and (news or view.refinement_is_due(now)):
                region.tag_redraw()
        return TICK_S

    def _follow_connection(self) -> None:
        """Be connected where, and only while, the panels are."""
        link = CONNECTION.link
        wanted = None
        if link is not None and bpy.context.scene is not None:
            own = settings(bpy.context.scene)
            wanted = (link.state.address, own.key, own.server_key)
        if wanted != self._settings:
            self.disconnect()
            self._settings = wanted
            if wanted is not None:
                connection = settings(bpy.context.scene)
                self.thread = FrameThread(lambda: new_client(connection, "Blender viewport"), wanted[0])
            redraw_views()

    def disconnect(self) -> None:
        """End the frame thread; pictures are gone with it."""
        thread, self.thread = self.thread, None
        self._settings = None
        if thread is not None:
            thread.close()
        for view in self.views.values():
            view.forget_picture()

    def _forget_views(self) -> None:
        there = {f"view/{region.as_pointer():x}" for region in _regions()}
        gone = [self.views.pop(name) for name in set(self.views) - there]
        if gone and self.thread is not None:
            self.thread.forget(name for view in gone for name in view.names())

    def forget_contents(self) -> None:
        """Another file or undo: references and pictures may be wrong."""
        self.contents.clear()
        for view in self.views.values():
            view.again()


OVERLAY = Overlay()


def look(space: Any, engine: str) -> tuple[bool, float]:
    """Whether meshes hide avatars in a 3D view, and how much of an avatar is seen.

    Through what Blender lets one see through, meshes in Wireframe and X-ray, avatars are seen through as well. Engines
    that are not Blender's own (Cycles) leave no depth of the meshes where the view's overlays are hidden.
    """
    shading = space.shading
    if shading.type == "WIREFRAME":
        return False, WIREFRAME_FADE
    if shading.type == "SOLID" and shading.show_xray:
        return False, shading.xray_alpha
    no_depth = shading.type == "RENDERED" and not engine.startswith("BLENDER_") and not space.overlay.show_overlays
    return not no_depth, 1.0


def wish_for(
    view: str,
    scene: Any,
    content: contents.Content,
    seen: list[contents.Actor],
    view_from_world: Any,
    clip_from_view: Any,
    size_px: tuple[int, int],
    *,
    stamp: tuple[Any, ...],
) -> Wish | None:
    """The wish for a picture of these avatars; None where all of them are behind the eye."""
    centres, reaches = [actor.centre_m for actor in seen], [actor.reach_m for actor in seen]
    camera = view_maths.view_camera(view_from_world, clip_from_view, size_px, centres, reaches)
    if camera is None:
        return None
    lights = content.lights.of([content.actors.index(actor) for actor in seen])
    request = messages.RenderRequest(
        view=view,
        instances=lights.on([contents.instance(actor) for actor in seen]),
        width_px=camera.width_px,
        height_px=camera.height_px,
        K=camera.K[None],
        world_from_camera=camera.world_from_camera[None],
        near_m=camera.near_m,
        far_m=camera.far_m,
        passes=(PASS,),
        orthographic=camera.orthographic,
        **lights.fields(),
    )
    live = any(actor.state.avatar_id.startswith("live-") for actor in seen)
    return Wish(view, scene.name_full, stamp, camera, request, lights.maps(), live)


def choose_light(depsgraph: Any, own: Sequence[scene_light.OwnLight | None]) -> scene_light.Lights:
    """The light of a dependency graph's final renders, as it is sent."""
    from .. import engine

    scene = depsgraph.scene_eval
    world = world_read.read_world(scene.world, engine.MAPS)
    return scene_light.chosen_lights(scene, own, depsgraph, world, engine.MAPS)


def _regions() -> list[Any]:
    """The main region of every 3D view of every window."""
    return [
        region
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "VIEW_3D"
        for region in area.regions
        if region.type == "WINDOW"
    ]


def redraw_views() -> None:
    """Draw every 3D view again."""
    for region in _regions():
        region.tag_redraw()


# --- what Blender holds -----------------------------------------------------------------------------------------------
_HANDLES: list[Any] = []


def _draw_over() -> None:
    GUARDS["viewport"].run(OVERLAY.draw_over)


def _draw_text() -> None:
    GUARDS["viewport"].run(OVERLAY.draw_text)


def _tick() -> float:
    return GUARDS["viewport timer"].run(OVERLAY.tick) or IDLE_TICK_S


@persistent
def _on_update(scene: Any, depsgraph: Any) -> None:
    GUARDS["viewport"].run(OVERLAY.contents.changed, depsgraph)


@persistent
def _on_frame(scene: Any, depsgraph: Any) -> None:
    GUARDS["viewport"].run(OVERLAY.contents.frame_changed, depsgraph)


@persistent
def _on_other_data(*_: Any) -> None:
    OVERLAY.forget_contents()


_MARKS = (
    ("depsgraph_update_post", _on_update),
    ("frame_change_post", _on_frame),
    ("load_post", _on_other_data),
    ("undo_post", _on_other_data),
    ("redo_post", _on_other_data),
)


def register() -> None:
    """With a window: draw handlers, marks and the timer."""
    if bpy.app.background:
        return
    add = bpy.types.SpaceView3D.draw_handler_add
    _HANDLES.extend([add(_draw_over, (), "WINDOW", "POST_VIEW"), add(_draw_text, (), "WINDOW", "POST_PIXEL")])
    for name, mark in _MARKS:
        getattr(bpy.app.handlers, name).append(mark)
    bpy.app.timers.register(_tick, first_interval=IDLE_TICK_S, persistent=True)


def unregister() -> None:
    """Take everything away; proxies are shown again."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for name, mark in _MARKS:
        if mark in getattr(bpy.app.handlers, name):
            getattr(bpy.app.handlers, name).remove(mark)
    for handle in _HANDLES:
        bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    _HANDLES.clear()
    OVERLAY.disconnect()
    if not bpy.app.background:
        proxies.show_all()
        redraw_views()
    OVERLAY.views.clear()
    OVERLAY.contents.clear()
    shaders.forget()
    backdrop.forget()
