"""A head on a FLAME template through the library and the studio: rig, proxy, pictures, and a missing template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.avatar_folder import describe_avatar
from backend.library import Library
from backend.rendering import Studio
from shared import messages as m
from shared import wire
from shared.errors import BadAvatar
from tests.flame_avatar import JAW_OPEN, flame_camera, tiny_flame_avatar


@pytest.fixture(scope="module")
def flame_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(home))
        tiny_flame_avatar(home)
    return home


@pytest.fixture
def studio(flame_home: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setenv("EFFIGY_HOME", str(flame_home))
    return Studio(Library(flame_home / "library"), "cpu")


def picture(studio: Studio, detail: m.AvatarDetail, size: int = 96, **change: dict[str, object]) -> np.ndarray:
    """Premultiplied RGBA; change: rotations {joint: vector}, expressions {name: value}."""
    rotations = np.zeros((1, len(detail.rig.joint_names), 3), np.float32)
    expressions = np.zeros((1, len(detail.rig.expression_names)), np.float32)
    for name, vector in change.get("rotations", {}).items():
        rotations[0, detail.rig.joint_names.index(name)] = vector
    for name, value in change.get("expressions", {}).items():
        expressions[0, detail.rig.expression_names.index(name)] = value
    camera = flame_camera(size)
    person = m.AvatarInstance(
        "flame", detail.summary.digest, np.eye(4)[None], rotations, np.zeros((1, 3), np.float32), expressions
    )
    request = m.RenderRequest(
        "final", (person,), size, size, camera.K[None], camera.world_from_camera[None], 0.05, 10.0, ("combined",)
    )
    return studio.render(request).images[0].astype(np.float32)


def test_what_blender_is_told_fits_flame(studio: Studio) -> None:
    detail = studio.detail("flame")
    rig, proxy = detail.rig, detail.proxy
    assert detail.summary.problem == ""
    assert rig.template_id == "flame2020_rgbavatar"
    assert rig.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert rig.parents.tolist() == [-1, 0, 1, 1, 1]
    assert rig.expression_names[0] == "exp000"
    assert rig.expression_names[-1] == "eyelid_right"
    assert rig.expression_ranges[0].tolist() == [-5.0, 5.0]
    assert rig.expression_ranges[-1, 1] < 2
    assert proxy.vertices.shape == (5083, 3)
    assert proxy.group_names == ("skin", "teeth")
    assert proxy.faces.shape == (10032, 4)
    assert proxy.weights.shape == (5083, 5)
    assert proxy.expression_offsets.shape[:2] == (102, 5023)
    assert proxy.colour.std(0).max() > 0.05, "coloured by its Gaussians"
    assert detail.summary.licence.startswith("CC0-1.0; FLAME is licensed"), "the capture's and the template's"
    parts = [bytes(part) for part in wire.encode(detail)]
    read = wire.decode(parts, limits=wire.FROM_SERVER).message
    np.testing.assert_array_equal(read.rig.expression_ranges, rig.expression_ranges)


def test_pictures_follow_neck_jaw_eyes_lids_and_expressions_either_way(studio: Studio) -> None:
    detail = studio.detail("flame")
    still = picture(studio, detail)
    assert 0.1 < (still[..., 3] > 0.5).mean() < 0.6
    assert np.isfinite(still).all()
    cases = {
        "neck": {"rotations": {"neck": (0, 0, 0.5)}},
        "jaw": {"rotations": {"jaw": (0.3, 0, 0)}},
        "lids": {"expressions": {"eyelid_left": 1.0}},
        "open": {"expressions": {JAW_OPEN: 1.0}},
        "wider": {"expressions": {JAW_OPEN: 2.0}},
        "pressed": {"expressions": {JAW_OPEN: -1.0}},
    }
    changed = {name: np.abs(picture(studio, detail, **change) - still) for name, change in cases.items()}
    for name, difference in changed.items():
        assert difference.max() > (0.05 if name == "lids" else 0.1), name
    assert changed["neck"].sum() > changed["jaw"].sum() > 0
    assert changed["wider"].sum() > 1.3 * changed["open"].sum(), "beyond 1 an expression goes on"
    left_half = changed["lids"][:, 48:].sum() / changed["lids"].sum()
    assert left_half > 0.95, "its left eye is on the right of the picture"


def test_without_the_template_the_avatar_says_what_to_do(
    flame_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    summary = describe_avatar(flame_home / "library" / "flame.avatar")
    assert "flame2020_rgbavatar" in summary.problem
    assert "effigy template add" in summary.problem
    with pytest.raises(BadAvatar, match=r"avatar flame\.avatar does not fit: the template 'flame2020_rgbavatar'"):
        Studio(Library(flame_home / "library"), "cpu").detail("flame")
