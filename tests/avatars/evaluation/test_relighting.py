"""Relighting measured against ground truth: the truth is perfect, known faults are found, the report is whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.evaluation.relighting import OWN_LIGHT, measure_relighting, person_box
from avatars.evaluation.relit_maps import AvatarSubject, ConstantSubject, RelitMaps, TrueSubject, images_to_measure
from avatars.evaluation.relit_report import markdown, write_relit_report
from avatars.training.split import trained_on
from shared.errors import BadCapture
from tests.avatars.relit_captures import write_painted_capture
from tests.avatars.relit_files import painted_avatar

SIZE = (64, 64)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return write_painted_capture(tmp_path_factory.mktemp("relit") / "painted")


class _Faulty(TrueSubject):
    """The truth with half the albedo, turned normals and rougher surfaces."""

    name = "faulty"

    def maps(self, index: int, size: tuple[int, int]) -> RelitMaps:
        real = super().maps(index, size)
        assert real.albedo is not None
        assert real.normals is not None
        assert real.roughness is not None
        sine, cosine = np.sin(0.2), np.cos(0.2)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)
        return replace(real, albedo=real.albedo * 0.5, normals=real.normals @ turn.T, roughness=real.roughness + 0.1)


def test_the_truth_is_perfect_and_known_faults_are_found(capture: Capture) -> None:
    images = images_to_measure(capture)
    assert len(images) == 4
    figures = measure_relighting(capture, [TrueSubject(capture), _Faulty(capture)], images, SIZE, show=images[:2])
    assert [row.group for row in figures.rows if row.subject == "truth"] == [OWN_LIGHT, "evening", "all relit"]
    assert figures.row("truth", "evening").psnr_db == 100
    assert figures.row("truth", "evening").flip == pytest.approx(0, abs=1e-4)
    true, faulty = figures.materials
    assert (true.pictures, true.normal_error_deg) == (2, pytest.approx(0, abs=0.1))
    assert true.albedo_psnr_db is not None
    assert true.albedo_psnr_db > 80
    assert faulty.albedo_factors == pytest.approx((2, 2, 2), abs=1e-4), "one factor a channel is allowed"
    assert faulty.albedo_psnr_db == pytest.approx(true.albedo_psnr_db, abs=25)
    assert faulty.roughness_error == pytest.approx(0.1, abs=1e-4)
    assert faulty.metallic_error == pytest.approx(0, abs=1e-5)
    assert faulty.normal_error_deg is not None
    assert 3 < faulty.normal_error_deg < np.degrees(0.2) + 0.1, "less where the axis is near"


def test_surfels_that_know_the_materials_beat_one_colour(capture: Capture, tmp_path: Path) -> None:
    images = images_to_measure(capture)
    subjects = [AvatarSubject("student", painted_avatar(), capture, "cpu"), ConstantSubject(capture, SIZE)]
    figures = measure_relighting(capture, subjects, images, SIZE, show=images)
    for group in ("evening", OWN_LIGHT):
        ours, one_colour = (figures.row(name, group) for name in ("student", "constant"))
        assert ours.inside_psnr_db > one_colour.inside_psnr_db + 3, "surfels for 64 px are fat: outlines do not count"
    (student,) = figures.materials
    assert student.normal_error_deg is not None
    assert student.normal_error_deg < 30
    assert student.roughness_error is not None
    assert student.roughness_error < 0.1
    write_relit_report(tmp_path / "report", figures, capture, {"device": "cpu"})
    document = json.loads((tmp_path / "report/relighting.json").read_text())
    assert document["capture"] == "painted"
    assert len(document["relit"]) == 6
    assert "| student | all relit | 2 |" in markdown(figures)
    for name in ("relit.png", "materials.png"):
        assert (tmp_path / "report" / name).stat().st_size > 5000


def test_the_box_holds_the_person() -> None:
    alpha = np.zeros((100, 60), np.float32)
    alpha[40:70, 20:30] = 1
    rows, columns = person_box(alpha)
    assert (rows.start, columns.start) == (34, 14)
    assert alpha[rows, columns].sum() == 300
    assert alpha[person_box(alpha * 0)].shape == (100, 60)


def test_training_and_its_curves_see_one_light_only(capture: Capture) -> None:
    seen = trained_on(capture, "train")
    assert [image.light for image in seen.images] == [None] * 6
    relit_only = replace(capture, images=tuple(i for i in capture.images if i.split == "train" or i.light is not None))
    assert len(trained_on(relit_only, "train").split("test")) == 2, "where there is nothing else, it stays"


def test_captures_without_truth_and_bad_files_are_said(capture: Capture, tmp_path: Path) -> None:
    with pytest.raises(BadCapture, match="no ground truth"):
        images_to_measure(replace(capture, images=tuple(replace(image, aovs={}) for image in capture.images)))
    folder = tmp_path / "cut"
    shutil.copytree(capture.images[0].file.parents[1], folder)
    (folder / "lights/evening.exr").unlink()
    with pytest.raises(BadCapture, match=r"lacks a file.*no lights/evening.exr"):
        open_capture(folder)
    document = json.loads((folder / "capture.json").read_text())
    document["images"] = [image | {"aovs": {"albedo": "../other.png"}} for image in document["images"]]
    (folder / "capture.json").write_text(json.dumps(document))
    with pytest.raises(BadCapture, match="outside its folder"):
        open_capture(folder)
