"""Templates the user added: stored once, found by id and digest, never half-written or silently replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars.templates.installed import install, installed_arrays, installed_names, remove, templates_folder
from avatars.templates.opening import (
    TemplateReference,
    embedded_template,
    installed_templates,
    open_template,
    reference_of,
)
from avatars.templates.stored import template_bytes
from shared.errors import BadTemplate, EnvironmentFailed
from shared.template import TemplateArrays


@pytest.fixture(scope="module")
def flame(flame_template: TemplateArrays) -> TemplateArrays:
    return flame_template


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_what_was_added_is_found_bit_for_bit(flame: TemplateArrays, home: Path) -> None:
    path = install(flame)
    assert path == home / "templates" / "flame2020_rgbavatar.npz"
    found = open_template("flame2020_rgbavatar", flame.digest, "head")
    assert found.digest == flame.digest
    for name in ("vertices", "shape_dirs", "pose_dirs", "weights", "joint_regressor", "uv", "expression_ranges"):
        np.testing.assert_array_equal(getattr(found, name), getattr(flame, name), err_msg=name)
    for group, faces in flame.faces.items():
        np.testing.assert_array_equal(found.faces[group], faces)
        np.testing.assert_array_equal(found.uv_faces[group], flame.uv_faces[group])
    assert found.licence == flame.licence
    assert "non-commercial" in found.licence
    reference = reference_of("flame2020_rgbavatar", shape=(0.5, 1.0))
    assert reference == TemplateReference("flame2020_rgbavatar", flame.digest, "head", "", (0.5, 1.0))
    assert reference.open().digest == flame.digest
    assert installed_names() == ("flame2020_rgbavatar",)
    assert list(installed_templates()) == ["effigy_human", "flame2020_rgbavatar"]
    assert "5083 vertices, 10032 faces, 5 joints" in installed_templates()["flame2020_rgbavatar"]


def test_adding_again_is_quiet_and_another_one_needs_leave(flame: TemplateArrays) -> None:
    path = install(flame)
    before = path.read_bytes()
    install(flame)
    assert path.read_bytes() == before
    moved = replace(flame, vertices=flame.vertices + np.float32(0.01))
    with pytest.raises(BadTemplate, match=r"another template 'flame2020_rgbavatar' is there.*--replace"):
        install(moved)
    assert path.read_bytes() == before
    install(moved, replace=True)
    assert installed_arrays("flame2020_rgbavatar").digest != flame.digest
    with pytest.raises(BadTemplate, match=r"has changed since this was made.*effigy template add"):
        open_template("flame2020_rgbavatar", flame.digest, "head")


def test_a_damaged_file_is_told_and_written_anew(flame: TemplateArrays) -> None:
    path = install(flame)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(BadTemplate, match=r"flame2020_rgbavatar\.npz is damaged"):
        reference_of("flame2020_rgbavatar")
    assert "damaged" in installed_templates()["flame2020_rgbavatar"]
    install(flame)
    assert reference_of("flame2020_rgbavatar").digest == flame.digest


def test_a_full_disk_leaves_nothing_behind(flame: TemplateArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentFailed, match="No space left"):
        install(flame)
    assert list(templates_folder().iterdir()) == []


def test_unknown_ids_views_and_names(flame: TemplateArrays) -> None:
    with pytest.raises(BadTemplate, match=r"'flame2020_rgbavatar' is not known here \(found none added yet\)"):
        open_template("flame2020_rgbavatar", flame.digest, "head")
    install(flame)
    with pytest.raises(BadTemplate, match="did you mean 'flame2020_rgbavatar'"):
        open_template("flame2020_rgbavater", flame.digest, "head")
    with pytest.raises(BadTemplate, match=r"no view 'bust'.*head"):
        open_template("flame2020_rgbavatar", flame.digest, "bust")
    for name in ("../secrets", "", "a/b", "A", "x" * 100, "con", "com1"):
        with pytest.raises(BadTemplate, match="no template's id"):
            open_template(name, flame.digest, "head")
    own = embedded_template("bust")
    assert open_template(own.template_id, own.digest, "bust") is own


def test_a_file_under_another_name_is_refused(flame: TemplateArrays) -> None:
    path = install(flame)
    path.rename(path.with_name("flame2023.npz"))
    with pytest.raises(BadTemplate, match=r"flame2023\.npz holds another template"):
        reference_of("flame2023")


def test_removing(flame: TemplateArrays) -> None:
    path = install(flame)
    assert remove("flame2020_rgbavatar") == path
    assert installed_names() == ()
    with pytest.raises(BadTemplate, match="no template 'flame2020_rgbavatar' was added"):
        remove("flame2020_rgbavatar")


def test_storing_is_the_same_every_time(flame: TemplateArrays) -> None:
    assert template_bytes(flame) == template_bytes(flame)
