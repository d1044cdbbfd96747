"""A day's work in real windows, Python 3.13 and 3.14: panels, typing, clicks, motions, files dropped from outside."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.windows.conftest import Workday

EXPECTED = ("backend", "library", "train", "animate", "edit", "relight", "camera", "render")
PYTHONS = {"4.3": "3.13", "5.2": "3.14"}
pytestmark = pytest.mark.timeout(500)


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


def test_motions_are_stopped_keyed_and_undone(workday: Workday) -> None:
    found = workday.found["animate"]
    assert found["after_esc"] == 0
    assert found["actions_after_esc"] == 0
    assert found["keys"] == 6000
    assert found["after_undo"] == 0
    assert found["jaw_or_face_moves"] > 10


def test_files_dragged_from_outside_go_where_they_belong(workday: Workday) -> None:
    found = workday.found["drops"]
    assert found["fits"] == {name: [True, False] for name in ("avatar", "hdri", "motion")}, "onto 3D views only"
    assert found["complaints"] == ["", "", ""], "Blender took part in the drag"
    assert found["keys"] == 5
    assert found["world"] == ["sky.exr"]
    assert found["faults"] == []


def test_an_avatar_is_added_with_the_mouse_and_a_name_is_typed(workday: Workday, backend: str) -> None:
    found = workday.found["sidebar"]
    assert found["python"] == PYTHONS[workday.blender.version]
    assert "/mnt/user/extensions/" in found["zmq"], "pyzmq comes from the extension's wheels"
    assert found["avatars"] == ["tiny"]
    assert found["address"] == backend.replace("127.0.0.1", "localhost")
    assert found["connected_to"] == found["address"]
    assert found["after_disabling"] == {"panels": [], "handlers": 0, "threads": 0, "properties": False}
    assert (workday.blender.folder / "out" / "sidebar.png").stat().st_size > 10_000
