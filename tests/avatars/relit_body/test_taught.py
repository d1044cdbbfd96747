"""Where a student's knowledge comes from: pictures on disk, a live teacher, a synthetic capture's own ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.relit_body.capture_teacher import BAND_M, CaptureTeacher, CaptureTruth, has_truth
from avatars.relit_body.pose_set import varied_poses
from avatars.relit_body.pseudo_truth import render_pseudo_truth
from avatars.relit_body.taught import LiveTruth, TaughtPictures, as_bytes, check_truth, from_bytes
from avatars.relit_body.trainer import RelitBodyTrainer
from avatars.training.config import load_config
from avatars.training.data import load_pictures
from shared.errors import BadCapture
from tests.avatars.relit_files import painted_capture, painted_teacher


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return painted_capture(tmp_path_factory.mktemp("painted"), 48)


def test_pictures_are_kept_as_bytes_and_asked_for_once(capture: Capture) -> None:
    live = LiveTruth(painted_teacher(), capture, 3, seed=4, device="cpu")
    assert (live.training, len(live)) == (4, 7)
    rotations, translations, _ = live.pose(torch.arange(7))
    assert translations.shape == (7, 3)
    seen = torch.from_numpy(np.array(capture.motion.rotations[list(capture.training_frames())]))
    for row in (4, 5, 6):  # every joint's turn is one of the capture's
        assert ((rotations[row] - seen).abs().amax(-1).amin(0) < 1e-6).all()
    asked = []
    answer = live.images
    live.images = lambda rows, longest_px: asked.append(rows.tolist()) or answer(rows, longest_px)  # type: ignore[method-assign]
    store = TaughtPictures(live, range(4), 48, "cpu")
    first, again = store.images(torch.tensor([1, 2])), store.images(torch.tensor([2, 1]))
    assert asked == [[1], [2]]
    torch.testing.assert_close(first.albedo[0], again.albedo[1])
    truth = answer(torch.tensor([1, 2]), 48)
    for name, tolerance in (("albedo", 0.01), ("radiance", 0.003), ("normals", 0.02), ("roughness", 0.003)):
        torch.testing.assert_close(getattr(first, name), getattr(truth, name), atol=tolerance, rtol=0.02)
    assert torch.equal(from_bytes(as_bytes(first)).alpha, first.alpha)
    full = TaughtPictures(live, range(4, 7), 48, "cpu", most_bytes=10)
    assert full.kept is None
    assert full.images(torch.tensor([0])).alpha.sum() > 50
    assert asked[-1] == [4]
    wide = TaughtPictures(live, range(4), 24, "cpu", size_px=(48, 48)).images(torch.tensor([1]))  # rendered smaller
    assert wide.alpha.shape == (1, 48, 48)
    both = (wide.alpha > 0.9) & (first.alpha[:1] > 0.9)  # limbs are a pixel or two wide
    assert both.sum() > 20
    assert float((wide.albedo[both] - first.albedo[:1][both]).abs().median()) < 0.03
    assert float((wide.normals[both] * first.normals[:1][both]).sum(-1).median()) > 0.95


def test_a_student_learns_from_pictures_on_disk(capture: Capture, tmp_path: Path) -> None:
    poses = varied_poses(capture.template, 3)
    render_pseudo_truth(painted_teacher(), capture, poses, tmp_path / "gt", longest_px=48)
    wanted = {"relit.pseudo_truth": str(tmp_path / "gt"), "relit.surfels": "400", "relit.spare": "50"}
    trainer = RelitBodyTrainer(load_config("relit_body_tiny", wanted), capture, "cpu")
    with torch.no_grad():
        trainer.surfels.opacities.fill_(5.0)  # solid, so that the depth map has normals
    trainer.teacher.images = None  # type: ignore[method-assign,assignment]
    images = capture.split("train")
    pictures = trainer.prepared(load_pictures(capture, images, 48, torch.device("cpu")), images)
    batch = pictures.batch(torch.tensor([3, 0]), torch.zeros(2, 3))
    terms = trainer.losses(batch, 119.0 // 6 * 6)
    for name in ("normal", "albedo", "metallic", "novel_picture", "consistency", "smoothness", "isometry"):
        assert torch.isfinite(terms[name]), name
        assert float(terms[name]) > 0, name
    known = trainer.taught.images(torch.tensor([3]))  # type: ignore[union-attr]
    alpha = batch.alpha()[0]
    assert float((known.alpha[0] - alpha).abs().mean()) < 0.02  # the row of the very picture
    gradients = torch.autograd.grad(
        sum(terms.values()), [entry.parameter for entry in trainer.parameters()], allow_unused=True
    )
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert float(trainer.pulled[1].sum()) == 0  # by now none grows
    torch.autograd.grad(trainer.losses(batch, 0.0)["picture"], [trainer.surfels.positions])
    assert float(trainer.pulled[1].sum()) > 0
    with pytest.raises(BadCapture, match="another recording"):
        check_truth(trainer.truth, replace(capture, images=capture.images[2:]))
    with pytest.raises(BadCapture, match="no pseudo ground truth"):
        RelitBodyTrainer(load_config("relit_body_tiny", {"relit.pseudo_truth": str(tmp_path / "x")}), capture, "cpu")


def test_a_synthetic_capture_teaches_what_it_knows(capture: Capture) -> None:
    shown = open_capture("demo_relight")
    rows = [row for row, index in enumerate(shown.split("train")) if has_truth(shown, index)]
    few = set(rows[:2])
    kept = tuple(
        image if image.split != "train" or place in few else replace(image, aovs={})
        for place, image in zip(_places(shown), shown.images, strict=True)
    )
    shown = replace(shown, images=kept)
    teacher = CaptureTeacher(shown, torch.zeros(len(shown.joint_names), 3))
    truth = CaptureTruth(shown)
    assert len(truth) == truth.training == len(shown.split("train"))
    images = truth.images(torch.tensor([rows[0], rows[2]]), 96)
    assert images.alpha[0].sum() > 300
    assert not images.alpha[1].any()  # without maps nothing is taught
    inside = images.alpha[0] > 0.99
    assert float((images.normals[0][inside].norm(dim=-1) - 1).abs().max()) < 1e-3
    rotations, translations, expressions = truth.pose(torch.tensor([rows[0]]))
    drawn = teacher.images(rotations, translations, expressions, truth.cameras(torch.tensor([rows[0]]), 96))
    both = inside & (drawn.alpha[0] > 0.99)
    assert both.sum() > 0.6 * inside.sum()
    assert float((drawn.albedo[0] - images.albedo[0]).abs()[both].median()) < 0.05  # gathered from that very map
    points = teacher.vertices[teacher.used[::50]] + teacher.normals[teacher.used[::50]] * 0.5 * BAND_M
    assert float(teacher.query(points).distance_m.abs().max()) < 1e-6
    with pytest.raises(BadCapture, match="no ground truth"):
        CaptureTeacher(capture, torch.zeros(len(capture.joint_names), 3))


def _places(shown: Capture) -> list[int]:
    """For each image its place among the training pictures, -1 for others."""
    found = {index: place for place, index in enumerate(shown.split("train"))}
    return [found.get(index, -1) for index in range(len(shown.images))]
