"""Distillation through the one training loop: it learns what the teacher knows, resumes exactly, fills gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.relit_body.densify import densify
from avatars.relit_body.initial import first_surfels
from avatars.relit_body.teachers import check_teacher
from avatars.relit_body.trainer import RelitBodyTrainer
from avatars.training.config import TrainConfig, load_config
from avatars.training.loop import train
from shared.errors import BadConfig, BadTemplate
from tests.avatars.relit_files import painted_capture, painted_teacher, standing


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return painted_capture(tmp_path_factory.mktemp("painted"), 48)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than these trainings, and have tests of their own."""
    for figure in ("loss_figure", "psnr_figure", "coverage_figure"):
        monkeypatch.setattr(f"avatars.training.report.{figure}", lambda *given: None)


def tiny(**relit: object) -> TrainConfig:
    config = load_config("relit_body_tiny")
    reporting = replace(config.reporting, curve_points=0, preview_s=1e9)
    return replace(config, relit=replace(config.relit, **relit), reporting=reporting)


def test_the_student_learns_what_the_teacher_knows(capture: Capture, tmp_path: Path) -> None:
    config = tiny(surfels=1000, spare=200, further=2, begin="grey")
    config = replace(config, schedule=replace(config.schedule, images=80))
    before = RelitBodyTrainer(config, capture, "cpu")
    known = before.teacher.query(before.surfels.positions)
    off_before = float((before.surfels.materials()[0].detach() - known.albedo).abs().mean())
    result = train(config, capture, tmp_path, name="painted", device="cpu", on_event=lambda event: None)
    assert result.state == "done"
    assert result.metrics["psnr_db"] > 19
    avatar = load_avatar(tmp_path / "painted.avatar")
    known = painted_teacher().query(avatar.surfels.positions)
    assert float((avatar.surfels.materials()[0].detach() - known.albedo).abs().mean()) < 0.5 * off_before
    assert float((avatar.surfels.normals() * known.normals).sum(-1).median()) > 0.9
    assert float(known.distance_m.abs().median()) < 0.006
    posed = standing(avatar)
    assert len(posed.rotations) == 1


def test_a_student_begins_with_what_the_teacher_answers(capture: Capture) -> None:
    surfels = RelitBodyTrainer(tiny(surfels=300, spare=0, further=0), capture, "cpu").surfels
    known = painted_teacher().query(surfels.positions.detach())
    albedo, roughness, metallic = (part.detach() for part in surfels.materials())
    torch.testing.assert_close(albedo, known.albedo.clamp(0.05, 0.78))
    torch.testing.assert_close(roughness[:, 0], known.roughness.clamp(0.12, 0.96))
    torch.testing.assert_close(metallic[:, 0], known.metallic.clamp(0.03, 0.97))


def test_resuming_is_exact(capture: Capture, tmp_path: Path) -> None:
    config = tiny(surfels=400, spare=100, densify_at=(0.3,))
    config = replace(config, schedule=replace(config.schedule, images=12))
    whole = train(config, capture, tmp_path / "a", name="x", device="cpu", on_event=lambda event: None)
    asked = iter(["", "", "", "pause"])
    train(
        config, capture, tmp_path / "b", name="x", device="cpu", on_event=lambda e: None, wanted=lambda: next(asked, "")
    )
    again = train(config, capture, tmp_path / "b", name="x", device="cpu", on_event=lambda event: None)
    assert again.state == whole.state == "done"
    first, second = load_avatar(tmp_path / "a" / "x.avatar"), load_avatar(tmp_path / "b" / "x.avatar")
    for name, values in first.tensors().items():
        assert torch.equal(values, second.tensors()[name]), name


def test_gaps_are_filled_from_the_teachers_surface() -> None:
    teacher = painted_teacher()
    vertices, faces = teacher.mesh()
    surfels = first_surfels(teacher.person, vertices, faces, 3000, spare=800, opacity=0.9)
    head = surfels.positions[:, 2] > vertices[:, 2].max() - 0.2
    surfels.alive &= ~head
    with torch.no_grad():
        surfels.albedo[5] = float("nan")
        surfels.opacities[6] = -9.0
    put = densify(surfels, vertices, faces, seed=1)
    assert put > 20
    new = surfels.positions[surfels.alive][:, 2] > vertices[:, 2].max() - 0.2
    assert int(new.sum()) > 10
    assert all(torch.isfinite(parameter).all() for parameter in surfels.parameters())
    assert torch.sigmoid(surfels.opacities[surfels.alive]).min() >= 0.05


def test_bad_teachers_are_refused(capture: Capture) -> None:
    with pytest.raises(BadConfig, match="no teacher 'nobody'"):
        RelitBodyTrainer(tiny(teacher="nobody"), capture, "cpu")
    other = replace(capture, template=replace(capture.template, view="bust"))
    with pytest.raises(BadTemplate, match="another template"):
        check_teacher(painted_teacher(), other)
    with pytest.raises(BadConfig, match=r"relit\.surfels"):
        load_config("relit_body_tiny", {"relit.surfels": "2"})
