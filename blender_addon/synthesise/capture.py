"""Render a capture folder: the one entry of the generator, resumable and cancellable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .._shared import errors, template
from . import scene as stage
from .cameras import arc_cameras, ring_cameras
from .motion import Performance
from .motion_body import on_floor
from .painted_lights import PAINTED, radiance_file
from .performances import perform
from .person import Person
from .plain_materials import add_passes
from .settings import GENERATOR_VERSION, CaptureSettings, Shot
from .surface import Array
from .truth import render_with_truth, truth_files

Progress = Callable[[int, int, str], bool]
AIM = np.array([0.0, 0.055, -0.035])  # from the point between the eyes to where the cameras look, m
UNFINISHED, LIGHTS_FOLDER = "unfinished.json", "lights"
LICENCE = """# {name}

Synthetic images of a computer-generated person: no real person is shown. Made by Effigy's capture generator from the
template `{template}`. Dedicated to the public domain under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/).
{light}
"""
SHIPPED_LIGHT = "The light is `{light}.exr`, one of the HDRIs that ship with Blender (CC0)."
PAINTED_LIGHT = "The lights were computed by the generator as well."


@dataclass(frozen=True)
class CaptureResult:
    """What a run did. finished is False after a cancel; running again with the same settings goes on from there."""

    folder: Path
    rendered: int
    kept: int
    finished: bool


def synthesise_capture(
    settings: CaptureSettings,
    arrays: template.TemplateArrays,
    output: Path,
    progress: Progress,
    *,
    part: tuple[int, int] = (0, 1),
) -> CaptureResult:
    """Render a capture of the template's bust or whole body into folder `output`.

    The format is docs, "Effigy capture", version 1.

    progress(done, total, message) is called before and after every picture and returns False to stop. Pictures already
    written with the same settings are kept. `capture.json` is written last, so its presence means a whole capture.
    part (k, n) renders only every n-th frame from the k-th on, so that n processes can share a machine with many cores;
    a last run without it finds everything there and finishes the capture.
    Raises BadConfig for a folder that holds something else, NotFound for an unknown light, BadTemplate for a preset.
    """
    whole = settings.view == "body"
    bust = template.bust_view(arrays) if arrays.view == "body" and not whole else arrays
    digest = settings.digest(bust.digest)
    shots = settings.shots()
    names = {shot: f"images/{shot.stem()}.webp" for shot in shots}
    lights = {light: stage.light_radiance(light, 0.0, 1.0) for light in settings.lights()}
    _prepare_folder(output, digest)
    absent = [shot for shot in shots if not (output / names[shot]).is_file()]
    missing = [shot for shot in absent if shot.frame % part[1] == part[0]]
    kept = len(shots) - len(absent)
    performance = perform(settings.performance, bust, settings.frames, settings.seed, settings.fps, settings.test_last)
    if whole:
        performance = on_floor(performance, bust, preset=settings.preset, shape=np.array(settings.shape))
    rendered = 0
    with _own_data() as scene_name:
        scene = stage.new_scene(scene_name, settings.size_px, settings.samples, threads=settings.threads)
        if settings.device == "cuda" and missing:
            stage.compute_on_cuda(scene)
        radiance = stage.light_radiance(settings.light, settings.light_rotation_rad, settings.light_strength)
        worlds = {light: stage.set_light(scene, light, 0.0, 1.0) for light in lights}
        worlds[""] = stage.set_light(scene, settings.light, settings.light_rotation_rad, settings.light_strength)
        if lights:
            add_passes(scene)
        scene.render.image_settings.quality = settings.webp_quality
        camera = stage.add_camera(scene)
        person = Person(
            scene.collection,
            bust,
            settings.preset,
            np.array(settings.shape),
            strands=settings.strands,
            seed=settings.seed,
            hair_length=settings.hair_length,
            hair_melanin=settings.hair_melanin,
            plain=bool(lights),
        )
        if whole:
            K, world_from_camera = ring_cameras(settings.cameras, settings.size_px)
        else:
            K, world_from_camera = arc_cameras(settings.cameras, person.frame.origin + AIM, settings.size_px)
        posed = -1
        for shot in missing:
            frame, view = shot.frame, shot.camera
            if not progress(kept + rendered, len(shots), f"frame {frame + 1} of {settings.frames}, camera {view}"):
                return CaptureResult(output, rendered, kept, finished=False)
            if frame != posed:
                posed_vertices = person.pose(
                    performance.rotations[frame], performance.translations[frame], performance.expressions[frame]
                )
                posed = frame
            stage.aim_camera(camera, K[view], world_from_camera[view], settings.size_px)
            scene.world = worlds[shot.light]
            if whole:
                shown = posed_vertices[bust.group_vertices("skin")]
                stage.limit_to(scene, shown, K[view], world_from_camera[view], settings.size_px)
            if settings.has_truth(shot):
                render_with_truth(scene, output / names[shot], output, shot.stem())
            else:
                _render(scene, output / names[shot])
            rendered += 1
    if not all((output / name).is_file() for name in names.values()):
        return CaptureResult(output, rendered, kept, finished=False)
    for light, painted in lights.items():
        (output / LIGHTS_FOLDER).mkdir(exist_ok=True)
        (output / LIGHTS_FOLDER / f"{light}.hdr").write_bytes(radiance_file(painted))
    _write_tables(output, settings, bust, performance, K, world_from_camera, radiance, digest, names)
    progress(len(shots), len(shots), "capture complete")
    return CaptureResult(output, rendered, kept, finished=True)


@contextmanager
def _own_data() -> Iterator[str]:
    """Give a scene name; afterwards remove every data block made since, so that the user's file stays as it was."""
    collections = [
        getattr(bpy.data, name)
        for name in (
            "scenes",
            "objects",
            "meshes",
            "hair_curves",
            "materials",
            "images",
            "worlds",
            "cameras",
            "node_groups",
        )
    ]
    before = {block.as_pointer() for blocks in collections for block in blocks}
    try:
        yield "Synthesise capture"
    finally:
        made = [block for blocks in collections for block in blocks if block.as_pointer() not in before]
        bpy.data.batch_remove([block for block in made if block.name != "Render Result"])


def _prepare_folder(output: Path, digest: str) -> None:
    """Make the folder, or check that it holds a capture of ours and drop pictures of other settings."""
    marker = output / UNFINISHED
    done = output / "capture.json"
    if output.exists() and not output.is_dir():
        raise errors.BadConfig(f"{output} is a file", do="Choose another output folder")
    if output.is_dir() and any(output.iterdir()) and not marker.is_file() and not done.is_file():
        raise errors.BadConfig(f"{output} holds other files", do="Choose an empty folder or an earlier capture")
    found = ""
    for path, keys in ((done, ("generator", "digest")), (marker, ("digest",))):
        if path.is_file():
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                for key in keys:
                    value = value[key]
                found = str(value)
            except (ValueError, KeyError, TypeError, RecursionError):
                found = ""
    (output / "images").mkdir(parents=True, exist_ok=True)
    if found != digest:
        for image in (*output.glob("images/[0-9]*_[0-9]*.webp"), *output.glob("truth/[0-9]*_[0-9]*.webp")):
            image.unlink()
        done.unlink(missing_ok=True)
        _write_text(marker, json.dumps({"digest": digest}))


def _render(scene: bpy.types.Scene, path: Path) -> None:
    """Render to a temporary name first: a picture that exists under its own name is whole."""
    partial = path.with_suffix(".partial")
    scene.render.filepath = str(partial)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    if not partial.is_file():
        raise errors.EnvironmentFailed(
            f"Blender did not write {path.name}", do="Check free space and permissions of the folder"
        )
    os.replace(partial, path)


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _write_tables(
    output: Path,
    settings: CaptureSettings,
    bust: template.TemplateArrays,
    performance: Performance,
    K: Array,
    world_from_camera: Array,
    radiance: Array,
    digest: str,
    names: dict[Shot, str],
) -> None:
    np.savez_compressed(
        output / "parameters.npz",
        rotations=performance.rotations,
        translations=performance.translations,
        expressions=performance.expressions,
        K=K,
        world_from_camera=world_from_camera,
    )
    np.savez_compressed(output / "environment.npz", radiance=radiance)
    light = (PAINTED_LIGHT if settings.light in PAINTED else SHIPPED_LIGHT).format(light=settings.light)
    licence = LICENCE.format(name=settings.name, template=bust.template_id, light=light)
    _write_text(output / "LICENSE.md", licence)
    about = {
        "format": "effigy-capture",
        "version": 1,
        "name": settings.name,
        "kind": "body" if bust.view == "body" else "head",
        "subject": settings.subject,
        "licence": "CC0-1.0",
        "synthetic": True,
        "generator": {
            "name": "effigy-synthesise",
            "version": GENERATOR_VERSION,
            "blender": bpy.app.version_string,
            "digest": digest,
            "settings": asdict(settings),
        },
        "template": {
            "id": bust.template_id,
            "digest": bust.digest,
            "view": bust.view,
            "preset": settings.preset,
            "shape": list(settings.shape),
        },
        "joint_names": list(bust.joint_names),
        "expression_names": list(bust.expression_names),
        "width_px": settings.size_px,
        "height_px": settings.size_px,
        "fps": settings.fps,
        "cameras": [{"name": f"{camera:02d}"} for camera in range(settings.cameras)],
        "images": [_image_entry(settings, shot, name) for shot, name in names.items()],
    }
    _write_text(output / "capture.json", json.dumps(about, indent=1))
    (output / UNFINISHED).unlink(missing_ok=True)


def _image_entry(settings: CaptureSettings, shot: Shot, name: str) -> dict[str, Any]:
    split = settings.split(shot.frame, shot.camera)
    entry: dict[str, Any] = {"file": name, "camera": shot.camera, "frame": shot.frame, "split": split}
    if shot.light:
        entry["light"] = f"{LIGHTS_FOLDER}/{shot.light}.hdr"
    own = shot._replace(light="")
    if settings.has_truth(own):
        entry["aovs"] = truth_files(own.stem())
    return entry
