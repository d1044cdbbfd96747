"""A day's work in real windows, Python 3.13 and 3.14: panels, typing, clicks, motions, files dropped from outside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.windows.conftest import Workday

EXPECTED = ("backend", "library", "train", "animate", "edit", "relight", "camera", "render")
PYTHONS = {"4.3": "3.13", "5.2": "3.14"}
pytestmark = pytest.mark.timeout(800)


def test_every_panel_draws(workday: Workday) -> None:
    found = workday.found["panels"]
    names = [name for name, _ in found["panels"]]
    assert set(names) >= {f"EFFIGY_PT_{name}" for name in EXPECTED}
    assert not [problem for _, problem in found["panels"] if problem]
    assert found["faults"] == []
    for name in names:
        picture = workday.blender.folder / "out" / f"panel_{name.removeprefix('EFFIGY_PT_')}.png"
        with Image.open(picture) as image:
            assert image.size == workday.blender.size


def test_an_edit_is_typed_watched_compared_kept_and_taken_back(workday: Workday) -> None:
    found = workday.found["edit"]
    assert found["editors"][0] == "built_in"
    assert "zzqq" in found["problem"]
    assert "bronze" in found["problem"], "what is known is told"
    assert (found["prompt"], found["problem_after_typing"]) == ("bronze", "")
    assert found["previewed"]
    assert found["job"][0] == "done", found["job"]
    assert found["pair"][0] == "tiny"
    assert found["pair"][1].startswith("tiny_bronze"), "a name of its own where the other Blender made one already"
    before, after, half = (np.array(found[name]) for name in ("before", "after", "half"))
    assert (np.abs(after - before).max(axis=1) > 5).all(), "the edit is seen on both cheeks"
    assert np.abs(half - [before[0], after[1]]).max() <= 2, "left of the line before, right of it after"
    assert found["pictures_for_moving_the_line"] == 0
    assert found["wipe_ended"]
    assert np.abs(np.array(found["kept"]) - after).max() <= 2
    assert np.abs(np.array(found["reverted"]) - before).max() <= 2
    assert found["keys"] == 4, "the keys of the head are still there"
    assert found["faults"] == []


def test_motions_are_stopped_keyed_and_undone(workday: Workday) -> None:
    found = workday.found["animate"]
    assert found["after_esc"] == 0
    assert found["actions_after_esc"] == 0
    assert found["keys"] == 6000
    assert found["after_undo"] == 0
    assert found["jaw_or_face_moves"] > 10


def test_files_dragged_from_outside_go_where_they_belong(workday: Workday) -> None:
    found = workday.found["drops"]
    assert found["fits"] == {name: [True, False] for name in ("avatar", "hdri", "motion", "video")}, (
        "onto 3D views only"
    )
    assert found["complaints"] == ["", "", ""], "Blender took part in the drag"
    assert found["keys"] == 5
    assert found["world"] == ["sky.exr"]
    assert found["faults"] == []


def test_a_face_drives_the_avatar_and_a_dropped_video_is_tracked(workday: Workday) -> None:
    found = workday.found["live"]
    assert found["faults"] == []
    assert found["complaint"] == ""
    assert found["keys"] >= 15
    assert found["bones"] == ["head", "jaw", "left_eye", "neck", "right_eye"]


def test_an_avatar_is_added_with_the_mouse_and_a_name_is_typed(workday: Workday, backend: str) -> None:
    found = workday.found["sidebar"]
    assert found["python"] == PYTHONS[workday.blender.version]
    assert "/mnt/user/extensions/" in found["zmq"], "pyzmq comes from the extension's wheels"
    assert found["avatars"] == ["tiny"]
    assert found["address"] == backend.replace("127.0.0.1", "localhost")
    assert found["connected_to"] == found["address"]
    assert found["after_disabling"] == {"panels": [], "handlers": 0, "threads": 0, "properties": False}
    assert (workday.blender.folder / "out" / "sidebar.png").stat().st_size > 10_000
