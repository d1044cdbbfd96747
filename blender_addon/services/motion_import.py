"""From a file's name to keys on an avatar, whatever kind of motion it is."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from .._shared import errors, messages
from ..logic import motion_files
from ..logic.motion_fit import FitOptions, FittedMotion, fit
from ..logic.motion_source import REST, SourceMotion
from . import retarget
from .connection import CONNECTION
from .motion_write import Step, key_motion
from .rig_info import rig_of

ARMATURE_FILES = (".bvh", ".fbx", ".glb", ".gltf")
"""Files with a skeleton of their own: they are retargeted."""
MOTION_FILES = (".npz", ".frame")
FILTER = ";".join(f"*{ending}" for ending in (*MOTION_FILES, *ARMATURE_FILES))
ASK_TIMEOUT_S = 120.0
STEPS_TO_READ = 5


class Report:
    """What an import tells when it is done."""

    def __init__(self) -> None:
        self.label = ""
        self.frames = 0
        self.notes: tuple[str, ...] = ()


def scene_fps(scene: Any) -> float:
    """The scene's frames a second."""
    return float(scene.render.fps / scene.render.fps_base)


def import_numbers(
    armature_object: Any, path: Path, start: int, options: FitOptions, up: str, report: Report
) -> Iterator[Step]:
    """Key the motion of an .npz, a folder of FLAME parameters, or a tracker's folder. Raises EffigyError."""
    yield 0, 100
    if motion_files.is_tracker_folder(path):
        source = yield from _from_backend(armature_object, path if path.is_dir() else path.parent)
    else:
        source = motion_files.read_motion(path, up)
    yield from key_source(armature_object, source, start, options, report)


def import_armature(
    context: Any, armature_object: Any, path: Path, start: int, options: FitOptions, report: Report
) -> Iterator[Step]:
    """Key the motion of a .bvh, .fbx, .glb or .gltf by way of its armature, which is gone afterwards."""
    yield 0, 100
    with retarget.imported_armature(context, path) as (source, scene, fps):
        frames = retarget.action_range(source, scene)
        options = options if options.source_fps else replace(options, source_fps=fps)
        yield from bake_armature(scene, armature_object, source, frames, start, options, report)


def bake_armature(
    scene: Any,
    armature_object: Any,
    source: Any,
    frames: range | None,
    start: int,
    options: FitOptions,
    report: Report,
) -> Iterator[Step]:
    """Sample another armature in its scene and key its motion on the avatar. frames: None for its action's."""
    found = retarget.recognised(source)
    sampled = retarget.Sampled()
    wanted = frames if frames is not None else retarget.action_range(source, scene)
    for done, total in retarget.sample(scene, source, found, wanted, sampled):
        yield 50 * done // total, 100
    motion = retarget.source_of(armature_object, source, found, sampled.posed, scene_fps(scene), source.name)
    for done, total in key_source(armature_object, motion, start, options, report):
        yield 50 + done // 2, total


def key_source(
    armature_object: Any, source: SourceMotion, start: int, options: FitOptions, report: Report
) -> Iterator[Step]:
    """Fit a source onto the avatar and key it."""
    yield STEPS_TO_READ, 100
    fitted = fit(source, rig_of(armature_object), options)
    report.label, report.notes = source.label, fitted.notes
    yield from key_fitted(armature_object, fitted, start, report)


def key_fitted(armature_object: Any, fitted: FittedMotion, start: int, report: Report) -> Iterator[Step]:
    """Key what was fitted, counting on from where reading ended."""
    report.frames = len(fitted.motion)
    for done, total in key_motion(armature_object, fitted, start):
        yield STEPS_TO_READ + (100 - STEPS_TO_READ) * done // max(total, 1), 100


def _from_backend(armature_object: Any, folder: Path) -> Generator[Step, None, SourceMotion]:
    """A capture's motion as the backend reads it: trackers write files that only its Python can open."""
    question = messages.GetMotion(armature_object.data.effigy.avatar_id, str(folder))
    if bpy.app.background:
        return from_reply(folder.name, CONNECTION.ask_and_wait(question, ASK_TIMEOUT_S))
    ticket = CONNECTION.ask(question, ASK_TIMEOUT_S)
    try:
        while not ticket.done:
            time.sleep(0.005)  # Blender's window goes on between these steps
            yield 0, 100
    except GeneratorExit:
        ticket.cancel()
        raise
    return from_reply(folder.name, ticket.result())


def from_reply(name: str, reply: Any) -> SourceMotion:
    """The source in a MotionReply."""
    if not len(reply.rotations):
        raise errors.BadCapture(f"{name} has no frames")
    return SourceMotion(
        name,
        "Capture",
        reply.joint_names,
        reply.rotations.astype(float),
        reply.joint_names[0] if reply.joint_names else "",
        reply.translations.astype(float),
        REST,
        reply.expression_names,
        reply.expressions.astype(float),
        reply.fps,
        notes=reply.notes,
    )
