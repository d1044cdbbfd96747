"""Sidebar panel: Edit, with its settings for experts and the versions of the selected avatar."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import edit_messages, messages
from ..logic.link import UNFINISHED, LinkState
from ..logic.versions import family_of, parent_of
from ..services.connection import CONNECTION
from ..services.pictures import PICTURES
from ..services.rig_info import avatar_of, proxy_of
from .drawing import duration, held_by_another, job_title, no_backend, numbers, waits_for_room, wrapped
from .operators_edit import chosen_editor
from .parts import sidebar_child, sidebar_part

CAPABILITY = "edit"
"""What a backend says that can edit by text."""
SHOWN_JOBS, SHOWN_VERSIONS = 3, 24
THUMBNAIL_SCALE, PICTURE_SCALE, SIDE_SCALE = 2.6, 9, 4
TOLD = ("total", "psnr_db")
"""Numbers of a running edit that say something to whoever watches it; its log has the others."""
PLACEHOLDER = "What is to change"
KNOWN_LETTERS = 200
"""Of what the editor knows, so much is told in the panel; the list beside the words has all."""


class EFFIGY_PT_edit(sidebar_part("edit"), bpy.types.Panel):
    """New versions of avatars, changed by words"""

    def draw_part(self, context: Any) -> None:
        """Draw what an edit is described by, and the edits under way; greyed with the reason where there is none."""
        layout, state, avatar = self.layout, CONNECTION.state, avatar_of(context.object)
        able = not no_backend(layout, context, state, CAPABILITY, "Editing by text")
        if able and avatar is None:
            wrapped(layout, context, "Select an avatar to edit", icon="RESTRICT_SELECT_OFF")
        if able and avatar is not None and CONNECTION.link is not None:
            CONNECTION.link.want_editors(avatar.data.effigy.avatar_id)
        column = layout.column()
        column.enabled = able and avatar is not None
        self._draw_words(context, column)
        self._draw_settings(context, column, avatar)
        column.operator("effigy.start_edit", text="Edit", icon="SHADERFX")
        window = context.window_manager.effigy_panels
        if window.edit_problem:
            wrapped(layout, context, window.edit_problem, icon="ERROR")
        if window.edit_known:
            known = shorten(window.edit_known, KNOWN_LETTERS, placeholder=" … all are in the list beside the words")
            wrapped(layout, context, f"Expected: {known}", icon="INFO")
        if able and state is not None:
            for job in [job for job in state.jobs if job.kind == "edit"][:SHOWN_JOBS]:
                self._draw_job(context, state, job)

    def _draw_words(self, context: Any, column: Any) -> None:
        edit, editor = context.scene.effigy_edit, chosen_editor(context)
        row = column.row(align=True)
        row.prop(edit, "prompt", text="", placeholder=PLACEHOLDER)
        looks = row.row(align=True)
        looks.enabled = editor is not None and bool(editor.looks)
        looks.operator_menu_enum("effigy.edit_look", "look", text="", icon="PRESET")
        title = editor.title if editor is not None else edit.editor or "None"
        column.operator_menu_enum("effigy.edit_editor", "editor", text=title)
        if editor is None:
            return
        if editor.problem:
            wrapped(column, context, editor.problem, icon="ERROR")
        elif editor.licence:
            wrapped(column, context, f"Licence: {editor.licence}")

    def _draw_settings(self, context: Any, column: Any, avatar: Any) -> None:
        edit, editor = context.scene.effigy_edit, chosen_editor(context)
        settings = column.column()
        settings.use_property_split = True
        settings.prop(edit, "strength")
        for name in guidances(editor):
            settings.prop(edit, name)
        settings.prop(edit, "where")
        proxy = proxy_of(avatar) if avatar is not None else None
        if edit.where == "REGION":
            settings.prop(edit, "region_name")
        elif edit.where == "PAINTED" and proxy is not None:
            settings.prop_search(edit, "group", proxy, "vertex_groups")
        elif edit.where == "PAINTED":
            wrapped(column, context, "The avatar's proxy mesh was deleted", icon="ERROR")
        settings.prop(edit, "seed")

    def _draw_job(self, context: Any, state: LinkState, job: messages.JobInfo) -> None:
        box = self.layout.box()
        row = box.row(align=True)
        job_title(row, job)
        buttons = row.row(align=True)
        buttons.enabled = not held_by_another(job)
        for action, icon, states in (
            ("pause", "PAUSE", ("queued", "running")),
            ("resume", "PLAY", ("paused", "failed", "cancelled")),
            ("cancel", "X", UNFINISHED),
            ("remove", "TRASH", ("done", "failed", "cancelled")),
        ):
            if job.state in states:
                button = buttons.operator("effigy.change_job", text="", icon=icon)
                button.job_id, button.action = job.job_id, action
        if job.state in UNFINISHED and job.steps:
            eta = f", {duration(job.eta_s)} left" if job.state == "running" and job.eta_s else ""
            box.progress(factor=min(1.0, job.step / job.steps), text=f"{job.step} / {job.steps}{eta}")
        if held_by_another(job):
            wrapped(box, context, f"Held by {job.owner}", icon="LOCKED")
            button = box.operator("effigy.change_job", text="Take Over")
            button.job_id, button.action = job.job_id, "take"
        if job.message and job.message.lower() != job.state:
            wrapped(box, context, job.message, icon="ERROR" if job.stalled_s or waits_for_room(job) else "NONE")
        if job.state in UNFINISHED:
            if job.losses:
                wrapped(box, context, numbers({name: job.losses[name] for name in TOLD if name in job.losses}))
            self._draw_preview(box, state.previews.get(job.job_id))
        elif job.state == "done" and job.avatar_id:
            self._draw_result(context, box, state, job)

    def _draw_preview(self, box: Any, preview: messages.JobPreview | None) -> None:
        if preview is None:
            return
        *sides, newest = parts_of(preview.image)
        name = f"edit {preview.job_id}"
        column = box.column(align=True)
        column.template_icon(PICTURES.icon(f"{name} now", preview.step, newest), scale=PICTURE_SCALE)
        row = column.row(align=True)
        for number, (label, part) in enumerate(zip(("Before", "Aim"), sides, strict=False)):
            side = row.column(align=True)
            side.template_icon(PICTURES.icon(f"{name} {number}", preview.step, part), scale=SIDE_SCALE)
            side.label(text=label)

    def _draw_result(self, context: Any, box: Any, state: LinkState, job: messages.JobInfo) -> None:
        """What to do with a new version while the avatar it was made from is selected."""
        avatar = avatar_of(context.object)
        shown = avatar.data.effigy.avatar_id if avatar is not None else ""
        family = [version.summary.avatar_id for version in family_of(shown, state.avatars)]
        if job.avatar_id == shown or job.avatar_id not in family:
            return
        row = box.row(align=True)
        row.operator("effigy.show_version", text="Keep", icon="CHECKMARK").avatar_id = job.avatar_id
        row.operator("effigy.wipe", text="Compare", icon="ARROW_LEFTRIGHT").avatar_id = job.avatar_id
        row.operator("effigy.discard_version", text="", icon="TRASH").avatar_id = job.avatar_id


class EFFIGY_PT_edit_advanced(sidebar_child("EFFIGY_PT_edit", "Advanced", order=1), bpy.types.Panel):
    """How the edit is brought onto the avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw what few need to change."""
        edit, state = context.scene.effigy_edit, CONNECTION.state
        column = self.layout.column()
        column.enabled = state is not None and state.can(CAPABILITY)
        column.use_property_split = True
        for name in ("wabe", "adversarial", "iterations", "gpus", "capture", "name"):
            column.prop(edit, name)


class EFFIGY_PT_edit_versions(sidebar_child("EFFIGY_PT_edit", "Versions", order=0, opened=True), bpy.types.Panel):
    """What the selected avatar was edited from, and what was made of it"""

    def draw_part(self, context: Any) -> None:
        """Draw the family of the selected avatar, oldest first, and the line of a comparison."""
        layout, state, avatar = self.layout, CONNECTION.state, avatar_of(context.object)
        if state is None or not state.connected or avatar is None:
            layout.label(text="Select an avatar" if avatar is None else "Connect to see versions", icon="INFO")
            return
        shown = avatar.data.effigy.avatar_id
        family = family_of(shown, state.avatars)
        if not family:
            wrapped(layout, context, f"{avatar.name} is not in this backend's library", icon="INFO")
            return
        window = context.window_manager.effigy_panels
        if window.wipe:
            row = layout.row(align=True)
            row.prop(window, "wipe_at", text="Before and After", slider=True)
            row.prop(window, "wipe", text="", icon="X", toggle=True)
        for version in family[:SHOWN_VERSIONS]:
            self._draw_version(context, state, version.summary, version.depth, shown)
        if len(family) > SHOWN_VERSIONS:
            layout.label(text=f"and {len(family) - SHOWN_VERSIONS} more (Library)")
        own = next(version.summary for version in family if version.summary.avatar_id == shown)
        if own.edit is not None:
            row = layout.row()
            row.enabled = parent_of(own, state.avatars) is not None
            row.operator("effigy.revert_version", icon="LOOP_BACK")
        if own.edit is not None and parent_of(own, state.avatars) is None:
            wrapped(layout, context, f"It was edited from {own.edit.parent_id}, which is not in the library")

    def _draw_version(
        self, context: Any, state: LinkState, summary: messages.AvatarSummary, depth: int, shown: str
    ) -> None:
        info, here = state.infos.get(summary.avatar_id), summary.avatar_id == shown
        row = self.layout.row(align=True)
        for _ in range(min(depth, 4)):
            row.label(text="", icon="BLANK1")
        icon = PICTURES.icon(f"avatar {summary.avatar_id}", summary.digest[:16], info.preview) if info else 0
        if icon:
            row.template_icon(icon, scale=THUMBNAIL_SCALE)
        words = row.column(align=True)
        words.scale_y = 0.9
        title = summary.edit.prompt if summary.edit is not None else summary.name or summary.avatar_id
        words.label(text=title, icon="RADIOBUT_ON" if here else "NONE")
        words.label(text=about(summary))
        buttons = row.row(align=True)
        choose = buttons.row(align=True)
        choose.enabled = not here and not summary.problem
        choose.operator("effigy.show_version", text="", icon="HIDE_OFF").avatar_id = summary.avatar_id
        compare = buttons.row(align=True)
        compare.enabled = not here or parent_of(summary, state.avatars) is not None
        compare.operator("effigy.wipe", text="", icon="ARROW_LEFTRIGHT").avatar_id = summary.avatar_id
        delete = buttons.row(align=True)
        delete.enabled = not here
        delete.operator("effigy.discard_version", text="", icon="TRASH").avatar_id = summary.avatar_id


def guidances(editor: edit_messages.EditorInfo | None) -> tuple[str, ...]:
    """The guidance settings that an editor heeds."""
    if editor is None:
        return ()
    known = (("text_guidance", editor.text_guidance), ("image_guidance", editor.image_guidance))
    return tuple(name for name, used in known if used)


def about(summary: messages.AvatarSummary) -> str:
    """A second line for a version: where and how it was edited, or how good the trained avatar is."""
    if summary.problem:
        return "damaged"
    if summary.edit is None:
        return "unedited"
    where = summary.edit.region or "everywhere"
    return f"{where}, seed {summary.edit.seed}"


def parts_of(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The square pictures that stand side by side in a preview; the whole where it is no row of them."""
    height, width = image.shape[:2]
    count = max(1, round(width / height)) if height else 1
    share = width // count
    return [image[:, number * share : (number + 1) * share] for number in range(count)]


CLASSES = (EFFIGY_PT_edit, EFFIGY_PT_edit_versions, EFFIGY_PT_edit_advanced)
