"""A teacher from end to end in seconds: trained by the shared loop, resumed bit for bit, stored, asked, rendered."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.relit_body.pose_set import PELVIS_M, poses_of_motion, varied_poses
from avatars.relit_body.pseudo_truth import open_pseudo_truth, render_pseudo_truth
from avatars.relit_body.taught import check_truth
from avatars.relit_body.teacher import PseudoTruth, Teacher, TeacherImages, in_poses_of
from avatars.relit_body.teachers import find_teacher
from avatars.relit_field.picture import picture
from avatars.relit_field.storage import FieldTeacher, open_teacher
from avatars.relit_field.trainer import TeacherTrainer
from avatars.rendering.cameras import CameraBatch
from avatars.templates.template import Template
from avatars.training.config import load_config, presets
from avatars.training.loop import Run
from avatars.training.trainer import RatedParameter
from backend.cli import main
from shared.errors import BadAvatar, BadCapture, Cancelled
from shared.motions import smpl_motion
from shared.types import Environment
from tests.body_layouts import write_peoplesnapshot

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = "relit_teacher_tiny"
CORRECTING = {"teacher.poses.correct": "true", "teacher.poses.starts_at": "3", "teacher.poses.rate": "0.001"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording and a teacher of it, trained by the command line with the original's words."""
    place = tmp_path_factory.mktemp("relight")
    write_peoplesnapshot(place / "load" / "peoplesnapshot" / "person")
    words = ["training_mode=teacher", "implicit_branch.mode=train", "implicit_branch/dataset=peoplesnapshot/person"]
    words += ["implicit_branch.trainer.max_steps=12", "implicit_branch.tag=ada"]
    options = ["--preset", TINY, "--data", str(place / "load"), "--output", str(place / "out"), "--device", "cpu"]
    options += [text for key, value in CORRECTING.items() for text in ("--set", f"{key}={value}")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("backend.devices.usable_cores", lambda: 1)  # tiny tensors: threads would only wait
        assert main(["relight", "teacher", *options, *words]) == 0
    return place


@pytest.fixture(scope="module")
def capture(folder: Path) -> Capture:
    return open_capture(folder / "load" / "peoplesnapshot" / "person")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> FieldTeacher:
    return open_teacher(folder / "out" / "ada.teacher")


def test_it_leaves_a_teacher_and_a_report(folder: Path) -> None:
    names = {path.name for path in (folder / "out" / "ada.teacher").iterdir()}
    assert names == {"teacher.json", "weights.safetensors", "mesh.ply", "environment.exr", "preview.png"}
    metrics = json.loads((folder / "out" / "report" / "metrics.json").read_text())
    assert metrics["images"] == 12
    assert metrics["psnr_db"] > 10
    assert "psnr_db_shaded" in metrics
    assert (folder / "out" / "report" / "maps.png").is_file()


def test_a_run_stopped_in_the_middle_ends_with_the_same_numbers(capture: Capture, tmp_path: Path) -> None:
    """Bit for bit, across the start of finer samples, of shading, of new levels and of corrected poses."""
    config = load_config(TINY, {"teacher.fields.start": "sphere", "schedule.images": "9", **CORRECTING})
    steps = 0

    def pause() -> str:
        nonlocal steps
        steps += 1
        return "pause" if steps == 5 else ""

    def run(place: str) -> Run:
        return Run(config, capture, tmp_path / place, "cpu", lambda told: None)

    whole = run("whole")
    assert whole.go(lambda: "") == "done"
    assert run("parts").go(pause) == "paused"
    resumed = run("parts")
    assert 0 < resumed.images < 9
    assert resumed.go(lambda: "") == "done"
    for state, wanted in (
        (resumed.optimiser.state(), whole.optimiser.state()),
        (resumed.trainer.state(), whole.trainer.state()),
    ):
        assert state.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(state[name], value), name
    trainer = whole.trainer
    assert isinstance(trainer, TeacherTrainer)
    moved = trainer.shifts.detach().abs().amax(1)
    assert 0 < float(moved.max()) < 0.02
    trained = [capture.images[index].frame for index in capture.split("train")]
    assert not moved[[frame for frame in range(len(moved)) if frame not in trained]].any()


def test_corrected_poses_go_with_the_teacher(teacher: FieldTeacher, capture: Capture, tmp_path: Path) -> None:
    trained = sorted({capture.images[index].frame for index in capture.split("train")})
    corrected = in_poses_of(teacher, capture)
    moved = np.abs(corrected.motion.translations - capture.motion.translations).max(1)
    turned = np.abs(corrected.motion.rotations - capture.motion.rotations).max((1, 2))
    assert (moved[trained] > 0).all()
    assert (turned[trained] > 0).all()
    assert max(moved.max(), turned.max()) < 0.02
    rest = [frame for frame in range(len(moved)) if frame not in trained]
    assert not moved[rest].any()
    render_pseudo_truth(teacher, capture, None, tmp_path / "truth", longest_px=8)
    truth = open_pseudo_truth(tmp_path / "truth")
    frame = capture.images[capture.split("train")[0]].frame
    np.testing.assert_array_equal(truth.pose(torch.tensor([0]))[0][0].numpy(), corrected.motion.rotations[frame])
    check_truth(truth, corrected)
    motion = replace(capture.motion, translations=capture.motion.translations + np.float32(1))
    other = replace(capture, motion=motion)
    assert in_poses_of(teacher, other) is other  # another recording of the person


def test_it_answers_as_a_teacher(teacher: FieldTeacher, capture: Capture) -> None:
    asked: Teacher = teacher
    assert asked.template() == capture.template
    vertices, faces = asked.mesh()
    corners = vertices[faces]
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.02 < float(volume) < 0.2  # outwards, and about as large as a person (0.07 m³)
    points = asked.query(vertices[:200])
    assert float(points.distance_m.abs().mean()) < 0.03
    torch.testing.assert_close(points.normals.norm(dim=-1), torch.ones(200), atol=1e-4, rtol=0)
    assert points.albedo.shape == (200, 3)
    assert 0.03 <= float(points.albedo.min()) <= float(points.albedo.max()) <= 0.81
    assert points.roughness.shape == points.metallic.shape == (200,)
    assert asked.environment().radiance.shape == (256, 512, 3)
    assert asked.query(torch.zeros(0, 3)).normals.shape == (0, 3)


def test_pictures_cover_the_person(teacher: FieldTeacher, capture: Capture) -> None:
    size = capture.train_size(40)
    cameras = CameraBatch.from_cameras([capture.camera_of(0, size)])
    motion = capture.motion
    drive = [torch.from_numpy(np.array(a[:1])) for a in (motion.rotations, motion.translations, motion.expressions)]
    found = teacher.images(*drive, cameras)
    mask = torch.from_numpy(capture.rgba(0, size)[..., 3] > 127)
    ours = found.alpha[0] > 0.5
    assert float((ours & mask).sum() / (ours | mask).sum()) > 0.5
    rest = template_depth(capture)
    assert abs(float(found.depth_m[0][ours & mask].mean()) - rest) < 0.15
    length = found.normals[0][ours].norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length), atol=1e-3, rtol=0)
    again = teacher.images(*drive, cameras)
    assert torch.equal(found.radiance, again.radiance)


def test_a_lattice_of_the_pose_draws_what_whole_rays_do(teacher: FieldTeacher, capture: Capture) -> None:
    person, motion = teacher.model.person, capture.motion
    pose = person.body.posed(*(torch.from_numpy(np.array(part[0])) for part in (motion.rotations, motion.translations)))
    cameras = CameraBatch.from_cameras([capture.camera_of(0, capture.train_size(32))])

    light = replace(teacher.model.config.light, coarse_steps=48, cell_m=0.03)
    config = replace(teacher.model.config, light=light)

    def drawn(lattice: bool) -> TeacherImages:
        return picture(person, pose, cameras, config, light=teacher.light, levels=teacher.levels, lattice=lattice)

    ours, plain = drawn(True), drawn(False)
    solid = (ours.alpha > 0.9) & (plain.alpha > 0.9)
    assert solid.sum() > 30
    assert float((ours.alpha - plain.alpha).abs().mean()) < 0.01
    assert float((ours.depth_m - plain.depth_m)[solid].abs().mean()) < 0.01
    assert float((ours.albedo - plain.albedo)[solid].abs().mean()) < 0.01
    # Whole rays see shadows of places without a root, which so small a teacher has: a few pixels differ by much.
    assert float((ours.radiance - plain.radiance)[solid].abs().median()) < 0.05


def template_depth(capture: Capture) -> float:
    """Mean camera depth in m of the posed template in the first frame."""
    motion = capture.motion
    drive = [torch.from_numpy(np.array(a[:1])) for a in (motion.rotations, motion.translations, motion.expressions)]
    shape = torch.tensor(capture.template.shape)
    vertices = Template(capture.template.open())(*drive, shape=shape).vertices[0].double().numpy()
    matrix = capture.camera_of(0).camera_from_world()
    return float((vertices @ matrix[:3, :3].T + matrix[:3, 3])[:, 2].mean())


def test_another_light_changes_the_picture(folder: Path, teacher: FieldTeacher, capture: Capture) -> None:
    red = np.zeros((8, 16, 3), np.float32)
    red[..., 0] = 1.0
    lit = open_teacher(folder / "out" / "ada.teacher", samples=32, light=Environment(red))
    cameras = CameraBatch.from_cameras([capture.camera_of(0, capture.train_size(24))])
    motion = capture.motion
    drive = [torch.from_numpy(np.array(a[:1])) for a in (motion.rotations, motion.translations, motion.expressions)]
    found = lit.images(*drive, cameras)
    seen = found.radiance[0][found.alpha[0] > 0.5]
    assert float(seen[:, 0].mean()) > 2 * float(seen[:, 1].mean())


def test_pseudo_truth_is_written_resumed_and_read(teacher: FieldTeacher, capture: Capture, tmp_path: Path) -> None:
    poses = varied_poses(teacher.template(), 2)
    place, asked = tmp_path / "truth", 0

    def wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked <= 3

    options = {"longest_px": 24, "identity": "x"}
    with pytest.raises(Cancelled, match="3 of 6"):
        render_pseudo_truth(teacher, capture, poses, place, wanted=wanted, **options)
    with pytest.raises(BadCapture, match="not finished"):
        open_pseudo_truth(place)
    before = (place / "images" / "0001-pbr_rgb.png").stat().st_mtime_ns
    assert render_pseudo_truth(teacher, capture, poses, place, **options) == 6
    assert (place / "images" / "0001-pbr_rgb.png").stat().st_mtime_ns == before
    with pytest.raises(BadCapture, match="other pseudo ground truth"):
        render_pseudo_truth(teacher, capture, poses, place, longest_px=24, identity="y")
    truth: PseudoTruth = open_pseudo_truth(place)
    assert (truth.training, len(truth)) == (4, 6)
    row = torch.tensor([1])
    cameras = truth.cameras(row, 24)
    direct = teacher.images(*truth.pose(row), cameras)
    stored = truth.images(row, 24)
    solid = direct.alpha > 0.9
    assert solid.any()
    for name, tolerance in (
        ("radiance", 0.01),
        ("albedo", 0.02),
        ("roughness", 0.01),
        ("normals", 0.03),
        ("depth_m", 0.01),
    ):
        ours, theirs = getattr(stored, name)[solid], getattr(direct, name)[solid]
        assert float((ours - theirs).abs().max()) < tolerance, name
    small = truth.images(torch.tensor([4, 5]), 12)
    assert small.radiance.shape == (2, 12, 12, 3)
    (place / "images" / "0001-normal.png").write_bytes(b"no")
    with pytest.raises(BadCapture, match="cannot be read"):
        truth.images(row, 24)


def test_a_teacher_of_another_person_is_refused(teacher: FieldTeacher, capture: Capture, tmp_path: Path) -> None:
    other = Capture(
        **{**vars(capture), "template": teacher.template().from_json({**teacher.template().as_json(), "shape": []})}
    )
    with pytest.raises(BadCapture, match="another template or person"):
        render_pseudo_truth(teacher, other, None, tmp_path / "t", longest_px=16)


def test_the_command_renders_and_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher_words = f"implicit_branch.resume={folder}/out/ada.teacher/epoch\\=219-step=25000.ckpt"
    options = ["--data", str(folder / "load"), "--size", "12", "--poses", "1", "--no-training", "--device", "cpu"]
    assert main(["relight", "pseudo-gt", *options, teacher_words, "implicit_branch/dataset=peoplesnapshot/person"]) == 0
    assert len(open_pseudo_truth(folder / "out" / "ada.pseudo-gt")) == 1
    assert main(["relight", "pseudo-gt", "--teacher", "nowhere.teacher", "--capture", "demo_head"]) != 0
    assert "no teacher" in capsys.readouterr().err
    assert main(["relight", "teacher", "implicit_branch.tgg=x"]) != 0
    assert "did you mean 'implicit_branch.tag'" in capsys.readouterr().err
    assert main(["train", "--local", "--preset", TINY, "--capture", "demo_head", "--home", str(folder / "home")]) != 0
    assert "effigy relight teacher" in capsys.readouterr().err


def test_damaged_teachers_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "out" / "ada.teacher", tmp_path / "ada.teacher"))
    (copy / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(BadAvatar, match="digest of its weights"):
        open_teacher(copy)
    (copy / "teacher.json").write_text("{}")
    with pytest.raises(BadAvatar, match="no teacher of this version"):
        open_teacher(copy)


def test_poses_are_as_published(teacher: FieldTeacher) -> None:
    reference = teacher.template()
    first, again = varied_poses(reference, 14, seed=3), varied_poses(reference, 14, seed=3)
    assert np.array_equal(first.rotations, again.rotations)
    assert len(varied_poses(reference)) == 310
    arrays = reference.open()
    posed = Template(arrays)(
        torch.from_numpy(first.rotations), torch.from_numpy(first.translations), shape=torch.tensor(reference.shape)
    )
    np.testing.assert_allclose(posed.joints[:, 0].numpy(), np.tile(PELVIS_M, (14, 1)), atol=1e-4)
    seen = posed.vertices.double().numpy() @ first.camera.camera_from_world()[:3, :3].T
    pixels = seen @ first.camera.K.T
    inside = ((pixels[..., :2] / pixels[..., 2:] > 0) & (pixels[..., :2] / pixels[..., 2:] < 1080)).all(-1)
    assert float(inside.mean()) > 0.97
    wide = posed.joints[:10, arrays.joint("left_ankle")] - posed.joints[:10, arrays.joint("right_ankle")]
    assert float(wide.norm(dim=-1).min()) > 0.6  # legs apart, from every side
    motion = smpl_motion({"poses": np.zeros((5, 66)), "trans": np.zeros((5, 3))}, "still.npz")
    assert len(poses_of_motion(reference, motion, 3)) == 3


def test_rates_follow_the_published_course() -> None:
    entry = RatedParameter(
        "x", torch.nn.Parameter(torch.zeros(1)), 1e-3, 1e-3, 1, warm_up_images=1000, drops=(12500, 18750), drop=0.3
    )
    assert [round(entry.rate(at) * 1e3, 5) for at in (0, 500, 1000, 12499, 12500, 20000)] == [
        0.01,
        0.505,
        1,
        1,
        0.3,
        0.09,
    ]
    teachers = {f"relit_teacher_{name}" for name in ("paper", "fast", "cpu", "tiny")}
    assert {load_config(name).method for name in teachers} == {"relit_teacher"}
    assert not teachers & set(presets())
    paper = load_config("relit_teacher_paper")
    assert (
        paper.schedule.images,
        paper.teacher.march.rays,
        paper.teacher.light.rows * paper.teacher.light.columns,
    ) == (25000, 4096, 512)


def test_a_student_finds_it_by_its_folder(folder: Path, capture: Capture) -> None:
    found = find_teacher(str(folder / "out" / "ada.teacher"), capture, "cpu")
    assert found.template() == capture.template
    with pytest.raises(BadAvatar, match="no teacher"):
        find_teacher("nowhere.teacher", capture, "cpu")
