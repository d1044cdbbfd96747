"""Distillation through the one training loop: it learns what the teacher knows, resumes exactly, fills gaps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.relit_body.densify import densify
from avatars.relit_body.initial import first_surfels
from avatars.relit_body.teachers import check_teacher
from avatars.relit_body.trainer import RelitBodyTrainer
from avatars.rendering import CameraBatch
from avatars.training.config import TrainConfig, load_config
from avatars.training.loop import train
from shared.errors import BadConfig, BadTemplate
from tests.avatars.relit_files import front, painted_teacher, standing

SIZE = 64


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """Three poses of the painted woman from two sides, the last pose held out."""
    folder = tmp_path_factory.mktemp("painted")
    (folder / "images").mkdir()
    teacher = painted_teacher()
    arrays = teacher.person.arrays
    lenses = [front(SIZE), _from_behind(SIZE)]
    poses = [np.asarray(_pose(arm), np.float32) for arm in (1.2, 0.6, 0.9)]
    rotations = np.stack(poses)
    translations, expressions = np.zeros((3, 3), np.float32), np.zeros((3, len(arrays.expression_names)), np.float32)
    entries = []
    for camera, lens in enumerate(lenses):
        for frame in range(3):
            images = teacher.images(
                *(torch.from_numpy(part[frame : frame + 1]) for part in (rotations, translations, expressions)),
                CameraBatch.from_cameras([lens]),
            )
            rgba = torch.cat([images.radiance[0], images.alpha[0, ..., None]], -1).numpy()
            name = f"images/{camera:02d}_{frame:04d}.webp"
            Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(folder / name, lossless=True, exact=True)
            entries.append({"file": name, "camera": camera, "frame": frame, "split": "test" if frame == 2 else "train"})
    np.savez(
        folder / "parameters.npz",
        rotations=rotations,
        translations=translations,
        expressions=expressions,
        K=np.stack([lens.K for lens in lenses]),
        world_from_camera=np.stack([lens.world_from_camera for lens in lenses]),
    )
    np.savez(folder / "environment.npz", radiance=teacher.environment().radiance)
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": "painted",
        "kind": "body",
        "subject": "painted",
        "licence": "CC0-1.0",
        "synthetic": True,
        "template": teacher.template().as_json(),
        "joint_names": list(arrays.joint_names),
        "expression_names": list(arrays.expression_names),
        "width_px": SIZE,
        "height_px": SIZE,
        "fps": 25,
        "cameras": [{"name": "front"}, {"name": "behind"}],
        "images": entries,
    }
    (folder / "capture.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "LICENSE.md").write_text("CC0-1.0\n", encoding="utf-8")
    return open_capture(folder)


def _pose(arm_rad: float) -> np.ndarray:
    names = list(painted_teacher().person.arrays.joint_names)
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("left_shoulder"), 1] = arm_rad
    rotations[names.index("right_shoulder"), 1] = -arm_rad
    rotations[names.index("left_elbow"), 2] = 1.2 - arm_rad
    return rotations


def _from_behind(size: int):
    lens = front(size)
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    return replace(lens, world_from_camera=turn @ lens.world_from_camera)


def tiny(**relit: object) -> TrainConfig:
    config = load_config("relit_body_tiny")
    reporting = replace(config.reporting, curve_points=0, preview_s=1e9)
    return replace(config, relit=replace(config.relit, **relit), reporting=reporting)


def test_the_student_learns_what_the_teacher_knows(capture: Capture, tmp_path: Path) -> None:
    config = tiny()
    before = RelitBodyTrainer(config, capture, "cpu")
    known = before.teacher.query(before.surfels.positions)
    off_before = float((before.surfels.materials()[0] - known.albedo).abs().mean())
    result = train(config, capture, tmp_path, name="painted", device="cpu", on_event=lambda event: None)
    assert result.state == "done"
    assert result.metrics["psnr_db"] > 19
    avatar = load_avatar(tmp_path / "painted.avatar")
    known = painted_teacher().query(avatar.surfels.positions)
    assert float((avatar.surfels.materials()[0] - known.albedo).abs().mean()) < 0.5 * off_before
    assert float((avatar.surfels.normals() * known.normals).sum(-1).median()) > 0.9
    assert float(known.distance_m.abs().median()) < 0.006
    posed = standing(avatar)
    assert len(posed.rotations) == 1


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
