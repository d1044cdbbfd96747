"""`infer`, `extract-geometry` and `evaluate-mesh AVATAR CAPTURE` with a signed-distance body and the demo body."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar_folder import About, save_avatar
from avatars.captures.opening import open_capture
from avatars.evaluation.novel_poses import read_novel_poses
from avatars.evaluation.posed_surfaces import posed_proxy, surface_of
from avatars.skinning.closest_points import closest_points
from avatars.surface.metrics import distances_to
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.inference import field_mesh, field_of
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.plain import plain_avatar
from avatars.surface_body.settings import SurfaceConfig
from avatars.surface_body.storage import field_description, field_tensors
from avatars.training.config import load_config
from backend.cli import main
from shared.errors import BadCapture

FACES = 3000


@pytest.fixture(scope="module")
def surface() -> SurfaceConfig:
    return load_config("surface_tiny").surface


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory, surface: SurfaceConfig) -> Path:
    """An untrained surface body of demo_body's person: its mesh and its field are the template's surface."""
    capture = open_capture("demo_body")
    model = SurfaceModel(surface, capture.template, torch.device("cpu"))
    plain = plain_avatar(capture.template, model.body.person.canonical_rotations, FACES)
    made = SurfaceAvatar(
        plain.person,
        plain.mesh,
        plain.gaussians,
        plain.rest_pose,
        field=field_tensors(model),
        field_description=field_description(model),
    )
    folder = tmp_path_factory.mktemp("library") / "plain.avatar"
    about = About("plain", licence="CC0-1.0", provenance={"capture": "demo_body"})
    save_avatar(folder, made, about, np.zeros((8, 8, 4), np.uint8))
    return folder


def infer(avatar: Path, output: Path, *words: str) -> dict[str, object]:
    usual = ["--resolution_level", "4", "--device", "cpu", "--output", str(output)]
    assert main(["infer", str(avatar), *usual, *words]) == 0
    found: dict[str, object] = json.loads((output / "frames.json").read_text())
    return found


def test_infer_draws_and_measures_what_was_held_out(avatar: Path, tmp_path: Path) -> None:
    old = infer(avatar, tmp_path / "old", "--infer_mode", "val", "--every", "40", "--legacy-metrics")
    files = [row["file"] for row in old["frames"]]
    new = []
    for mode in ("nvs", "unseen"):
        found = infer(avatar, tmp_path / mode, "--infer_mode", mode, "--every", "40", "--through", "mesh")
        new += [row["file"] for row in found["frames"]]
    assert files == new
    assert {path.stem for path in (tmp_path / "old" / "prediction").iterdir()} == set(files)
    assert Image.open(tmp_path / "old" / "truth" / f"{files[0]}.png").size == (128, 128)
    for means in old["means"].values():
        assert means["psnr_db"] > 15
        assert {"ssim", "flip", "psnr_legacy"} <= means.keys()
        assert means["psnr_legacy"] < means["psnr_db"], "only the rectangle around the body counts"
    normals = np.asarray(Image.open(tmp_path / "old" / "normal" / f"{files[0]}.png"))
    assert normals.shape == (128, 128, 4)
    assert normals[normals[..., 3] > 0][:, 2].mean() > 160, "what is seen faces the eye"


def test_a_field_is_drawn_where_its_mesh_is(avatar: Path, tmp_path: Path) -> None:
    words = ("--infer_mode", "unseen", "--novel_view", "3", "--frames", "1")
    covered = {}
    for way in ("field", "mesh"):
        found = infer(avatar, tmp_path / way, *words, "--through", way)
        picture = Image.open(tmp_path / way / "normal" / f"{found['frames'][0]['file']}.png")
        covered[way] = np.asarray(picture)[..., 3] > 0
    both = (covered["field"] & covered["mesh"]).sum() / (covered["field"] | covered["mesh"]).sum()
    assert both > 0.75


def test_novel_poses_of_every_kind(avatar: Path, tmp_path: Path) -> None:
    capture = open_capture("demo_body")
    poses = np.zeros((3, 72))
    poses[:, 3 * 16 + 2] = (-1.2, -0.6, 0.0)  # the left shoulder
    np.savez(tmp_path / "amass.npz", poses=poses, trans=np.zeros((3, 3)), mocap_frame_rate=30.0)
    aist = {"smpl_poses": poses, "smpl_trans": np.full((3, 3), 93.0), "smpl_scaling": np.array([93.0])}
    (tmp_path / "aist.pkl").write_bytes(pickle.dumps(aist))
    infos = {f"frame_{k:06d}": {"poses": poses[k], "Rh": np.zeros(3), "Th": np.ones(3)} for k in range(3)}
    (tmp_path / "subject").mkdir()
    (tmp_path / "subject" / "mesh_infos.pkl").write_bytes(pickle.dumps(infos))
    from avatars.avatar_folder import load_avatar

    loaded = load_avatar(avatar)
    rig, template = loaded.rig(), loaded.template()
    read = {
        name: read_novel_poses(str(tmp_path / name), rig, template) for name in ("amass.npz", "aist.pkl", "subject")
    }
    assert [one.kind for one in read.values()] == ["SMPL motion", "AIST++ motion", "prepared subject"]
    for one in read.values():
        np.testing.assert_allclose(one.motion.rotations, read["amass.npz"].motion.rotations, atol=1e-5)
    moved = [read[name].motion.translations - read["amass.npz"].motion.translations for name in ("aist.pkl", "subject")]
    assert np.abs(np.abs(moved[0]) - 1).max() < 1e-4, "AIST++ places are divided by their scaling"
    assert np.abs(np.abs(moved[1]) - 1).max() < 1e-4, "with no turn the model's origin and its pelvis move alike"
    assert len(read_novel_poses("demo_relight", rig, template).motion) == 58
    found = infer(avatar, tmp_path / "out", "--infer_mode", "test", "--novel_pose", str(tmp_path / "aist.pkl"))
    assert [row["frame"] for row in found["frames"]] == [0, 1, 2]
    picture = np.asarray(Image.open(tmp_path / "out" / "prediction" / f"{found['frames'][0]['file']}.png"))
    assert (picture.min(-1) < 250).mean() > 0.03, "carried to where the person was recorded, so it is in the picture"
    np.savez(tmp_path / "no.npz", nothing=np.zeros(3))
    for name, match in (("no.npz", "no body motion"), ("gone.npz", "there is no motion"), (".", "does not hold one")):
        with pytest.raises(BadCapture, match=match):
            read_novel_poses(str(tmp_path / name), rig, template)
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadCapture, match=r"odd\.pkl is no motion"):
        read_novel_poses(str(tmp_path / "odd.pkl"), rig, template)
    assert len(capture.motion) == 40


def test_an_untrained_field_is_its_template(avatar: Path, surface: SurfaceConfig) -> None:
    """The last layer begins at zero: the surface is the template's within a cell of its distance grid."""
    from avatars.avatar_folder import load_avatar

    model = field_of(load_avatar(avatar), "cpu")
    found = field_mesh(model, 96)
    away = closest_points(found.vertices, model.body.vertices, model.body.faces).distance_m
    assert np.median(away) < surface.star.base_spacing_m / 2
    assert np.percentile(away, 95) < surface.star.base_spacing_m
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
    dense = 96**3 * np.prod(
        (model.body.high - model.body.low).numpy() / float((model.body.high - model.body.low).max())
    )
    assert found.evaluations < dense / 1.8, "only near the surface"


def test_extracted_frames_have_the_originals_keys(
    avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract-geometry", str(avatar), "--device", "cpu", "--resolution", "48"]
    posed = [*words, "--space", "posed", "--n_frames", "1", "--mode", "unseen", "--format", "ply"]
    assert main([*posed, "--output", str(tmp_path / "posed")]) == 0
    (file,) = (tmp_path / "posed" / "meshes").glob("*.npz")
    assert {path.suffix for path in file.parent.iterdir()} == {".npz", ".ply", ".png"}
    with np.load(file) as arrays:
        assert set(arrays.files) == {
            *("vertices", "triangles", "E", "K", "camera_e", "rh", "th", "hit_mask", "alpha_mask", "H", "W")
        }
        world = arrays["vertices"] @ arrays["rh"] + arrays["th"]
        by_body = arrays["vertices"] @ arrays["E"][:3, :3].T + arrays["E"][:3, 3]
        np.testing.assert_allclose(by_body, world @ arrays["camera_e"][:3, :3].T + arrays["camera_e"][:3, 3], atol=1e-4)
        assert arrays["hit_mask"].shape == (int(arrays["H"]), int(arrays["W"]))
    from avatars.avatar_folder import load_avatar

    capture, loaded = open_capture("demo_body"), load_avatar(avatar)
    frame = int(file.stem.split("frame")[1])
    true, faces = surface_of(loaded)[0](capture.motion.at(frame))
    assert np.median(distances_to(world.astype(np.float64), (true, faces))) < 0.01
    again = [*words, "--space", "posed", "--posed", "field", "--n_frames", "1", "--mode", "unseen"]
    assert main([*again, "--output", str(tmp_path / "marched")]) == 0
    with np.load(tmp_path / "marched" / "meshes" / file.name) as arrays:
        marched = arrays["vertices"].astype(np.float64) @ arrays["rh"] + arrays["th"]
    assert np.median(distances_to(marched, (true, faces))) < 0.01
    rigged = [*words, "--rig", "--texture", "64", "--faces", "600", "--output", str(tmp_path / "rigged")]
    assert main(rigged) == 0
    assert (tmp_path / "rigged" / "canonical.obj").is_file()
    assert (tmp_path / "rigged" / "mesh" / "colour.png").is_file()
    painted = ["mesh", str(avatar), "--faces", "600", "--texture", "64", "--normals", "field", "--device", "cpu"]
    assert main([*painted, "--output", str(tmp_path / "painted")]) == 0
    for folder in (tmp_path / "rigged" / "mesh", tmp_path / "painted"):
        lean = np.asarray(Image.open(folder / "normal.png")).astype(np.float64) / 127.5 - 1
        assert lean[..., 2].mean() > 0.85, "the field's normals face as the mesh does"
        assert np.abs(lean[..., :2]).mean() > 0.05, "and are finer than it"
    for more, match in (
        (["--resolution", "4"], "--resolution is out of range"),
        (["--mode", "odp"], "belong together"),
        (["--mcthreshold", "3"], "no distance near a body"),
    ):
        capsys.readouterr()
        assert main([*words, *more, "--output", str(tmp_path / "no")]) == 2
        assert match in capsys.readouterr().err


def test_geometry_is_measured_in_recorded_poses(avatar: Path, tmp_path: Path) -> None:
    words = ["evaluate-mesh", str(avatar), "demo_body", "--frames", "0", "5", "--samples", "500", "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "geometry.json").read_text())
    assert {row["part"] for row in found["frames"]} == {"train", "unseen"}
    assert 0.005 < found["means"]["all"]["chamfer_m"] < 0.03, "a naked template beneath clothes"
    assert (tmp_path / "geometry.png").is_file()
    assert main([*words[:4], "1", "--device", "cpu"]) == 2


def test_a_stand_in_mesh_is_posed_as_blender_poses_it(avatar: Path) -> None:
    from avatars.avatar_folder import load_avatar

    loaded, capture = load_avatar(avatar), open_capture("demo_body")
    proxy, pose = loaded.proxy(), capture.motion.at(5)
    own, faces = surface_of(loaded)[0](pose)
    assert np.median(distances_to(posed_proxy(proxy, loaded.rig(), pose), (own, faces))) < 0.004


def test_the_benchmark_runs_in_parts_and_keeps_their_figures(avatar: Path, tmp_path: Path) -> None:
    words = ["benchmark", "surface", "--device", "cpu", "--avatar", str(avatar), "--output", str(tmp_path)]
    assert main([*words, "--parts", "extract", "--resolution", "48"]) == 0
    assert main([*words, "--parts", "geometry", "--samples", "200"]) == 0
    figures = json.loads((tmp_path / "surface.json").read_text())
    assert figures["extract"]["preset"]["faces"] > 500
    assert figures["geometry"]["preset"]["unseen"]["chamfer_m"] > 0.003
    report = (tmp_path / "surface.md").read_text()
    assert "| 48³ | preset |" in report
    assert "chamfer at most 3 mm" in report
    assert (tmp_path / "pictures" / "preset_geometry.png").is_file()
    assert main([*words, "--parts", "parity"]) == 2, "nothing says how long it may take"
    assert main([*words, "--parts", "everything"]) == 2


def test_too_few_views_are_refused_before_anything_is_made() -> None:
    from dataclasses import replace

    from avatars.surface_body.trainer import SurfaceTrainer

    capture = open_capture("demo_body")
    few = replace(capture, images=tuple(capture.images[index] for index in capture.split("train")[:3]))
    with pytest.raises(BadCapture, match="too few views for a surface") as caught:
        SurfaceTrainer(load_config("surface_tiny"), few, "cpu")
    assert caught.value.found == "3 training pictures"
