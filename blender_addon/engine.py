"""The EFFIGY render engine: F12, `render.render(animation=True)` and `blender -b -E EFFIGY -a`.

The call blocks on the socket and asks Blender between slices of 50 ms whether the user wants out. Every failure is
reported as an error: Blender then writes no file, stops the animation, and exits with status 1 when it runs without a
window; `error_set` shows the sentence in the image editor. An exception that escaped instead would be printed, and a
black picture saved as if all were well.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ._shared import errors, messages, types
from .logic import camera_maths, cryptomatte, frames, passes, world_maths
from .logic.ahead import Place, Question
from .logic.faults import GUARDS
from .logic.settings import Settings
from .services import camera_read, composite, frame_files, pose_read, scene_light, world_read
from .services.look_ahead import LOOK_AHEAD, bytes_of
from .services.preferences import settings
from .viewport.overlay import OVERLAY

MAPS = world_read.MapCache()


@dataclass(frozen=True, eq=False)
class Shot:
    """Everything a picture of one eye needs, read from the scene. cameras: one a sub-frame; names: one an instance."""

    cameras: list[types.Camera]
    instances: tuple[messages.AvatarInstance, ...]
    names: tuple[pose_read.MatteNames, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What one view layer of one frame asks for. shots, places, questions: one an eye; a question of no avatar is None.
    choices: the avatars' own of light."""

    size: camera_maths.PictureSize
    world: world_read.World
    shots: list[Shot]
    choices: tuple[scene_light.OwnLight | None, ...]
    lights: scene_light.Lights
    places: list[Place]
    questions: list[Question | None]


class EffigyEngine(bpy.types.RenderEngine):
    """Renders Effigy's avatars"""

    bl_idname = "EFFIGY"
    bl_label = "Effigy"
    bl_use_preview = False
    bl_use_eevee_viewport = True  # Material Preview stays EEVEE's
    bl_use_postprocess = True
    bl_use_shading_nodes_custom = False

    last_failure: errors.EffigyError | None = None  # on the class: Blender drops the instance before anyone can ask
    recent_s: deque[float] = deque(maxlen=20)  # what the last pictures took, one of a view layer each
    _scene: Any = None  # set by `_render`; a failure before that belongs to no frame

    def update_render_passes(self, scene: Any = None, renderlayer: Any = None) -> None:
        """Tell Blender which passes a view layer will hold."""
        self.register_pass(scene, renderlayer, "Combined", 4, "RGBA", "COLOR")
        for name in wanted_passes(renderlayer)[1:]:
            if name in passes.BLENDER_PASSES:
                self.register_pass(scene, renderlayer, *passes.BLENDER_PASSES[name])
        for kind in wanted_mattes(renderlayer):
            for name in cryptomatte.pass_names(kind, renderlayer.pass_cryptomatte_depth):
                self.register_pass(scene, renderlayer, name, 4, "RGBA", "COLOR")

    def render(self, depsgraph: Any) -> None:
        """Render one view layer of one frame."""
        begin = time.monotonic()
        try:
            self._render(depsgraph)
            EffigyEngine.recent_s.append(time.monotonic() - begin)
        except errors.Cancelled as error:
            if not self.test_break():  # nobody asked for it here, so it must not end as a black picture
                self._fail(error)
        except errors.EffigyError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug must not pass for a black picture; see the module's text
            what = f"Effigy failed on its side ({type(error).__name__}: {error})"
            self._fail(errors.EffigyError(what, do="Please report this"))

    def view_update(self, context: Any, depsgraph: Any) -> None:
        """Rendered shading: something changed. What, the viewport's own marks know."""

    def view_draw(self, context: Any, depsgraph: Any) -> None:
        """Rendered shading: the World and the avatars; Blender draws bones and tools over them."""
        GUARDS["viewport"].run(OVERLAY.draw_rendered, context, depsgraph)

    def _fail(self, error: errors.EffigyError) -> None:
        scene, sentence = self._scene, str(error)
        EffigyEngine.last_failure = error
        frame_files.WRITER.failure = sentence
        missing = frames.ranges(frame_files.missing_frames(scene)) if self.is_animation and scene is not None else ""
        text = f"{sentence} Frames missing: {missing}." if missing else sentence
        self.report({"ERROR"}, text)
        self.error_set(text)

    def _render(self, depsgraph: Any) -> None:
        scene = self._scene = depsgraph.scene_eval
        if frame_files.WRITER.problem and not composite.is_copy(scene):  # a file must not go missing in silence
            raise errors.EffigyError(frame_files.WRITER.problem)
        layer = depsgraph.view_layer_eval
        own = settings(scene)
        plan = self._plan(depsgraph, own)
        self._warn(scene, layer, plan)
        opaque = not scene.render.film_transparent and layer.use_sky
        backgrounds = [behind(shot.cameras, plan.world) if opaque else None for shot in plan.shots]
        asked = [LOOK_AHEAD.fits(*one) for one in zip(plan.places, plan.questions, strict=True) if one[1] is not None]
        ready = bool(asked) and all(asked)
        if ready:  # the backend has its hands free for others while this picture comes
            self._look_ahead(depsgraph, own, plan)
        pictures = [
            self._picture(layer, shot, place, question)
            for shot, place, question in zip(plan.shots, plan.places, plan.questions, strict=True)
        ]
        if not ready:
            self._look_ahead(depsgraph, own, plan)
        for shot, place, background, frame in zip(plan.shots, plan.places, backgrounds, pictures, strict=True):
            mattes = matte_buffers(frame, shot.names, layer)
            self._hand_over(plan.size, layer, place[3], passes.buffers(frame, background) | mattes)
        self._name_mattes(layer, plan.shots[0].names)

    def _plan(self, depsgraph: Any, own: Settings) -> Plan:
        """What the view layer asks for at the frame that the dependency graph is at."""
        scene, layer = depsgraph.scene_eval, depsgraph.view_layer_eval
        size, world, eyes = camera_read.read_size(scene), world_read.read_world(scene.world, MAPS), self._eyes(scene)
        shots, choices = self._read(depsgraph, size, eyes)
        lights = scene_light.chosen_lights(scene, choices, depsgraph, world, MAPS)
        places = [(scene.name, layer.name, scene.frame_current, eye) for eye in eyes]
        questions = [Question(own, request_of(scene, layer, shot, lights), lights.maps()) for shot in shots]
        asked = [one if one.request.instances else None for one in questions]
        return Plan(size, world, shots, choices, lights, places, asked)

    def _warn(self, scene: Any, layer: Any, plan: Plan) -> None:
        if scene.camera is not None and scene.camera.type == "CAMERA" and scene.camera.data.dof.use_dof:
            self.report({"WARNING"}, "Effigy's pictures are sharp everywhere: depth of field is left to the compositor")
        unlit = [scene_light.problem(scene, plan.world)] if None in plan.choices else []
        unlit += [scene_light.own_problem(one, plan.world) for one in plan.choices if one is not None]
        for note in dict.fromkeys((*filter(None, unlit), *plan.lights.beside.notes)):
            self.report({"WARNING"}, note)
        for _ in filter(lambda question: question is None, plan.questions):
            self.report({"WARNING"}, f"View layer {layer.name!r} shows no Effigy avatar")

    def _look_ahead(self, depsgraph: Any, own: Settings, plan: Plan) -> None:
        """Ask for the pictures of frames that come; the dependency graph is at this frame again afterwards."""
        scene = depsgraph.scene_eval
        first = next((question.request for question in plan.questions if question is not None), None)
        if first is None or not self.is_animation:
            return
        needed = bytes_of(first, len(plan.questions))
        frames_wanted = LOOK_AHEAD.wanted(scene, depsgraph.view_layer_eval.name, own, needed, self.test_break)
        now, part = scene.frame_current, scene.frame_subframe
        try:
            for frame in frames_wanted:
                if self.test_break():
                    break
                self.frame_set(frame, 0.0)
                then = self._plan(depsgraph, own)
                for place, question in zip(then.places, then.questions, strict=True):
                    if question is not None:
                        LOOK_AHEAD.ask(place, question)
        except errors.EffigyError:
            pass  # that frame says so itself, if it comes to it
        finally:
            if frames_wanted:
                self.frame_set(now, part)

    def _eyes(self, scene: Any) -> list[str]:
        if not scene.render.use_multiview:
            return [""]
        # Stereo has two views by these names; the scene keeps others beside them.
        stereo = {"left", "right"} if scene.render.views_format == "STEREO_3D" else None
        return [view.name for view in scene.render.views if view.use and (stereo is None or view.name in stereo)]

    def _read(
        self, depsgraph: Any, size: camera_maths.PictureSize, eyes: list[str]
    ) -> tuple[list[Shot], tuple[scene_light.OwnLight | None, ...]]:
        """Poses and cameras at every sub-frame, for every eye; and the avatars' own choices of light."""
        scene = depsgraph.scene_eval
        render, now = scene.render, scene.frame_current + scene.frame_subframe
        samples = scene.effigy.motion_blur_samples if render.use_motion_blur else 1
        instants = frames.sub_frames(now, samples, render.motion_blur_shutter, render.motion_blur_position)
        states: list[list[pose_read.AvatarState]] = []
        cameras: list[list[types.Camera]] = [[] for _ in eyes]
        try:
            for instant in instants:
                if len(instants) > 1:
                    whole = int(np.floor(instant))
                    self.frame_set(whole, instant - whole)
                states.append(pose_read.read_avatars(depsgraph, depsgraph.view_layer))
                for index, eye in enumerate(eyes):
                    cameras[index].append(self._camera(depsgraph, size, eye))
        finally:
            if len(instants) > 1:
                self.frame_set(int(np.floor(now)), now - np.floor(now))
        instances, names = pose_read.stack(states), pose_read.matte_names(states)
        return [Shot(eye, instances, names) for eye in cameras], pose_read.own_lights(states)

    def _camera(self, depsgraph: Any, size: camera_maths.PictureSize, eye: str) -> types.Camera:
        camera = depsgraph.scene_eval.camera
        if camera is None or not eye:
            return camera_read.read_camera(camera, size)
        if depsgraph.scene_eval.render.views_format == "MULTIVIEW":
            return camera_read.read_camera(camera_read.camera_of_view(depsgraph.scene_eval, camera, eye), size)
        self.active_view_set(eye)
        matrix = np.array(self.camera_model_matrix(camera)).reshape(4, 4)
        return camera_read.read_camera(camera, size, world_from_camera=matrix, shift_x=self.camera_shift_x(camera))

    def _picture(self, layer: Any, shot: Shot, place: Place, question: Question | None) -> dict[str, np.ndarray]:
        """The passes of one eye, from the backend; a picture without avatars needs none."""
        if question is None:
            first = shot.cameras[0]
            shape = (first.height_px, first.width_px)
            return {name: np.zeros((*shape, types.PASS_CHANNELS[name]), np.float32) for name in wanted_passes(layer)}
        self.update_stats("Effigy", f"Avatars: {len(shot.instances)}, sub-frames: {len(shot.cameras)}")
        return dict(LOOK_AHEAD.picture(place, question, self.test_break).passes)

    def _hand_over(self, size: camera_maths.PictureSize, layer: Any, eye: str, buffers: dict[str, np.ndarray]) -> None:
        x0, y0, x1, y1 = size.rectangle
        result = self.begin_result(0, 0, x1 - x0, y1 - y0, layer=layer.name, view=eye)
        done = False
        try:
            for render_pass in result.layers[0].passes:
                if render_pass.name in buffers:
                    render_pass.rect.foreach_set(buffers[render_pass.name])
            done = True
        finally:
            self.end_result(result, cancel=not done)  # a result left open crashes Blender

    def _name_mattes(self, layer: Any, names: tuple[pose_read.MatteNames, ...]) -> None:
        """Write the ids' names into the metadata of files; what is added before `end_result` would be lost."""
        result = self.get_result()
        for kind in wanted_mattes(layer):
            fields = cryptomatte.header(layer.name, kind, [getattr(one, kind) for one in names])
            for field, value in fields.items():
                result.stamp_data_add_field(field, value)


def request_of(scene: Any, layer: Any, shot: Shot, lights: scene_light.Lights) -> messages.RenderRequest:
    """The picture of one eye; the digests of its maps are still to come."""
    first = shot.cameras[0]
    return messages.RenderRequest(
        view=f"final/{os.getpid()}/{scene.name}/{layer.name}",
        instances=lights.on(shot.instances),
        width_px=first.width_px,
        height_px=first.height_px,
        K=np.stack([camera.K for camera in shot.cameras]),
        world_from_camera=np.stack([camera.world_from_camera for camera in shot.cameras]),
        near_m=first.near_m,
        far_m=first.far_m,
        passes=wanted_passes(layer),
        quality=scene.effigy.quality,
        orthographic=first.orthographic,
        **lights.fields(),
    )


def behind(cameras: Sequence[types.Camera], world: world_read.World) -> np.ndarray:
    """The World as the cameras of all sub-frames see it: their mean, [H, W, 3]."""
    seen = world.seen
    each = [world_maths.background(camera, seen.radiance, seen.map_from_world) for camera in cameras]
    return np.mean(each, axis=0) * seen.gain


def matte_buffers(
    frame: dict[str, np.ndarray], names: tuple[pose_read.MatteNames, ...], layer: Any
) -> dict[str, np.ndarray]:
    """Blender's Cryptomatte passes of a frame, flat and ready for `rect.foreach_set`."""
    buffers: dict[str, np.ndarray] = {}
    levels = layer.pass_cryptomatte_depth
    for kind in wanted_mattes(layer):
        coverage = np.asarray(frame["coverage"], np.float32)
        ranks = cryptomatte.ranked(coverage, [getattr(one, kind) for one in names], levels)
        buffers |= dict(zip(cryptomatte.pass_names(kind, levels), map(passes.flattened, ranks), strict=True))
    return buffers


def wanted_mattes(layer: Any) -> list[str]:
    """The kinds of Cryptomatte a view layer asks for."""
    return [kind for kind in cryptomatte.KINDS if getattr(layer, f"use_pass_cryptomatte_{kind}")]


def wanted_passes(layer: Any) -> tuple[str, ...]:
    """The frame passes a view layer asks for, combined first."""
    own = layer.effigy
    chosen = {
        "depth": layer.use_pass_z,
        "mask": own.use_pass_mask,
        "normal": layer.use_pass_normal,
        "id": own.use_pass_id,
        "coverage": bool(wanted_mattes(layer)),
    } | {name: getattr(own, f"use_pass_{name}") for name in passes.SURFACE_PASSES}
    return ("combined", *(name for name, wanted in chosen.items() if wanted))


def _panels() -> list[Any]:
    """Blender's own render, output and view-layer panels that make sense for any engine."""
    left_out = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_simplify"}
    return [
        panel
        for panel in bpy.types.Panel.__subclasses__()
        if "BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ()) and panel.__name__ not in left_out
    ]


def register() -> None:
    """Register the engine and show Blender's own output panels for it."""
    bpy.utils.register_class(EffigyEngine)
    for panel in _panels():
        panel.COMPAT_ENGINES.add(EffigyEngine.bl_idname)


def unregister() -> None:
    """Take the engine out again."""
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(EffigyEngine.bl_idname)
    MAPS.pixels.clear()
    MAPS.sent.clear()
    bpy.utils.unregister_class(EffigyEngine)
