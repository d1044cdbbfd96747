"""The Edit part: what it asks for, painted weights, versions and their order, switching them, what a wipe draws."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from blender_addon.logic.versions import family_of, pair_for, parent_of, version_name
from blender_addon.services import editing
from blender_addon.services.connection import CONNECTION
from blender_addon.services.rig_info import avatar_of, proxy_of
from blender_addon.ui.panels_edit import guidances, parts_of
from blender_addon.viewport import contents, overlay, wipe
from shared import desk_messages, edit_messages, errors, messages

from .conftest import ROOT


def summary(avatar_id: str, parent: str = "", created: str = "2026") -> messages.AvatarSummary:
    note = edit_messages.EditNote(parent, parent * 4, f"{avatar_id}!", "built_in") if parent else None
    return messages.AvatarSummary(avatar_id, avatar_id, "rgb_head", avatar_id * 4, "t", created, edit=note)


EYE = np.array([[1, 0, 0, 0], [0, 0, 1, -1.6], [0, -1, 0, -2.0], [0, 0, 0, 1]], float)
"""View from world of an eye two metres before an avatar."""
WINDOW = np.array([[2.2, 0, 0, 0], [0, 2.2, 0, 0], [0, 0, -1, -0.02], [0, 0, -1, 0]], float)
FAMILY = [summary("d", "b", "5"), summary("a"), summary("c", "a", "4"), summary("b", "a", "3"), summary("x")]


def test_versions_stand_below_what_they_were_edited_from() -> None:
    found = family_of("c", FAMILY)
    assert [(version.summary.avatar_id, version.depth) for version in found] == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]
    assert [version.summary.avatar_id for version in family_of("x", FAMILY)] == ["x"]
    assert family_of("nobody", FAMILY) == ()
    orphan = [one for one in FAMILY if one.avatar_id != "b"]
    assert [version.summary.avatar_id for version in family_of("d", orphan)] == ["d"]
    assert parent_of(FAMILY[0], orphan) is None


def test_the_earlier_version_is_on_the_left() -> None:
    assert pair_for("b", "a", FAMILY) == ("a", "b")
    assert pair_for("a", "d", FAMILY) == ("a", "d"), "an ancestor of the one that is shown"
    assert pair_for("d", "d", FAMILY) == ("b", "d"), "the shown one against its parent"
    assert pair_for("a", "a", FAMILY) is None


def test_small_things_of_the_panel() -> None:
    assert version_name("Anna", ' a "bronze" / statue ') == "Anna, a bronze statue"
    assert len(version_name("Anna", "b" * 100)) == 60
    row = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    assert [part.shape for part in parts_of(row)] == [(2, 2, 3)] * 3
    info = edit_messages.EditorInfo("ip2p", "InstructPix2Pix", "OpenRAIL", text_guidance=True)
    assert guidances(info) == ("text_guidance",)
    assert guidances(None) == ()


def test_what_is_asked_for(scene_with_avatar) -> None:
    bpy = scene_with_avatar
    edit, rig = bpy.context.scene.effigy_edit, avatar_of(bpy.context.object)
    with pytest.raises(errors.BadConfig, match="no words"):
        editing.edit_request(edit, rig)
    edit.prompt, edit.seed, edit.strength, edit.where, edit.region_name = "bronze", 7, 0.5, "REGION", "hair"
    asked = editing.edit_request(edit, rig)
    assert (asked.avatar_id, asked.digest) == ("tiny", rig.data.effigy.digest)
    assert (asked.prompt, asked.region, asked.seed, asked.strength) == ("bronze", "hair", 7, 0.5)
    assert (asked.name, len(asked.weights)) == ("tiny, bronze", 0)
    assert asked.overrides == {"wabe": "exact", "adversarial": "false"}
    edit.where, edit.iterations, edit.adversarial, edit.gpus = "PAINTED", 40, True, 2
    with pytest.raises(errors.BadConfig, match="No vertex group"):
        editing.edit_request(edit, rig)
    proxy = proxy_of(rig)
    group = proxy.vertex_groups.new(name="moustache")
    edit.group = group.name
    with pytest.raises(errors.BadConfig, match="Nothing is painted"):
        editing.edit_request(edit, rig)
    group.add([3, 5], 0.25, "REPLACE")
    group.add([9], 1.0, "REPLACE")
    asked = editing.edit_request(edit, rig)
    assert (asked.region, asked.overrides["iterations"], asked.overrides["adversarial"]) == ("", "40", "true")
    assert (asked.gpus, len(asked.weights)) == (2, len(proxy.data.vertices))
    assert {int(v): float(asked.weights[v]) for v in np.flatnonzero(asked.weights)} == {3: 0.25, 5: 0.25, 9: 1.0}


def test_a_version_is_shown_compared_and_taken_back_without_losing_keys(addon, backend, monkeypatch) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.edited import green_version; green_version(Path(sys.argv[1]))"
    )
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    bpy, tiny = addon, backend.home / "library" / "tiny.avatar"
    try:
        subprocess.run([backend.python, "-c", code, str(tiny)], cwd=ROOT, check=True)
        bpy.ops.effigy.add_avatar(avatar_id="tiny")
        rig = avatar_of(bpy.context.object)
        rig.pose.bones["head"].keyframe_insert("rotation_quaternion", frame=1)
        action, colours = rig.animation_data.action, _colours(rig)
        with pytest.raises(RuntimeError, match="not in the library"):
            bpy.ops.effigy.revert_version()
        window = bpy.context.window_manager.effigy_panels
        bpy.ops.effigy.wipe(avatar_id="tiny_green")
        assert (window.wipe, window.wipe_before, window.wipe_after) == (True, "tiny", "tiny_green")
        _check_sides(bpy)
        bpy.ops.effigy.wipe(avatar_id="tiny_green")
        assert not window.wipe
        bpy.ops.effigy.show_version(avatar_id="tiny_green")
        assert (rig.data.effigy.avatar_id, rig.data.effigy.avatar_name) == ("tiny_green", "tiny_green")
        assert rig.animation_data.action == action
        assert (_colours(rig).mean(0) < colours.mean(0) - 0.02)[[0, 2]].all(), "the proxy takes the version's colours"
        with pytest.raises(RuntimeError, match="shows this version"):
            bpy.ops.effigy.discard_version(avatar_id="tiny_green")
        bpy.ops.effigy.revert_version()
        assert rig.data.effigy.avatar_id == "tiny"
        assert np.array_equal(_colours(rig), colours)
        bpy.ops.effigy.discard_version(avatar_id="tiny_green")
        listed = [one.avatar_id for one in CONNECTION.ask_and_wait(messages.ListAvatars()).avatars]
        assert "tiny_green" not in listed
        detail = CONNECTION.ask_and_wait(messages.GetAvatar("tiny"))
        other = SimpleNamespace(rig=detail.rig, rest_pose=detail.rest_pose[:-1], summary=detail.summary)
        shorter = {name: getattr(detail.rig, name)[:-1] for name in ("joint_names", "parents", "rest_joints")}
        other.rig = messages.Rig(**{**vars(detail.rig), **shorter})
        with pytest.raises(errors.BadAvatar, match="another skeleton"):
            editing.show_version(rig, other)
    finally:
        shutil.rmtree(tiny.with_name("tiny_green.avatar"), ignore_errors=True)
        for thrown in CONNECTION.ask_and_wait(desk_messages.ListTrash()).avatars:
            bpy.ops.effigy.purge_avatar(avatar_id=thrown.avatar_id)


def _colours(rig) -> np.ndarray:
    data = proxy_of(rig).data.color_attributes["Colour"].data
    flat = np.empty(len(data) * 4, np.float32)
    data.foreach_get("color", flat)
    return flat.reshape(-1, 4)


def _check_sides(bpy) -> None:
    """The two wishes of a view differ in the compared avatar alone, and its line is where it is put."""
    bpy.context.view_layer.update()
    scene, layer = bpy.context.scene, bpy.context.view_layer
    content = contents.Contents().of(scene, layer, overlay.choose_light)
    seen = list(content.actors)
    compared = wipe.wanted(bpy.context)
    assert wipe.concerns(compared, seen)
    assert not wipe.concerns(compared, [])
    sides = [wipe.side(content, seen, compared.armature, one) for one in (compared.before, compared.after)]
    (_, before), (_, after) = sides
    wishes = [overlay.wish_for("v", scene, *one, EYE, WINDOW, (32, 32), stamp=()) for one in sides]
    assert [wish.request.instances[0].avatar_id for wish in wishes] == ["tiny", "tiny_green"]
    assert [actor.state.avatar_id for actor in (*before, *after)] == ["tiny", "tiny_green"]
    assert before == seen, "the version that is shown is as pinned as it was"
    assert (after[0].state.digest, after[0].stamp != seen[0].stamp) == ("", True)
    assert np.array_equal(after[0].state.rotations, seen[0].state.rotations)
    assert [wipe.Wipe("a", "b", "c", at).column(200) for at in (-1.0, 0.25, 2.0)] == [0, 50, 200]
