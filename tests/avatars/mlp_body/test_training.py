"""Training of bodies: every loss against a plain form, pictures cut to the person, and the loop on a tiny capture."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import binary_dilation, binary_erosion

from avatars.captures.opening import open_capture
from avatars.mlp_body.memory import check_fits, needed_bytes
from avatars.mlp_body.objective import BodyObjective, oversize, pair_mixing, smoothness
from avatars.mlp_body.pictures import body_pictures, boundary_band
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.mlp_body.trainer import MlpBodyTrainer
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.training.checkpoint import checkpoints
from avatars.training.config import LossWeights, TrainConfig, load_config
from avatars.training.data import Batch, load_pictures
from avatars.training.loop import train
from avatars.training.optimiser import Optimiser
from avatars.training.progress import Progress, TrainResult
from avatars.training.sampler import Sampler
from avatars.training.trainer import RatedParameter
from shared.errors import BadConfig, BadTemplate, EnvironmentFailed
from tests.tiny_body import TINY, body_camera, body_motion, drive_of, tiny_body, tiny_body_capture

ROOT = Path(__file__).resolve().parents[3]
PRESET = "mlp_body_tiny"


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_body_capture(tmp_path_factory.mktemp("capture") / "tiny_body")


def run(folder: Path, output: Path, wanted=lambda: "", events=None, **overrides: str) -> TrainResult:
    config = load_config(PRESET, {key.replace("__", "."): value for key, value in overrides.items()})
    told = events if events is not None else []
    capture = open_capture(folder)
    return train(config, capture, output, name="tiny", device="cpu", on_event=told.append, wanted=wanted)


@pytest.fixture(scope="module")
def finished(capture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(capture_folder, tmp_path_factory.mktemp("run"))


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(str(result.avatar_folder / "weights.safetensors"))


def test_it_learns_new_views_and_measures_new_poses_apart(finished: TrainResult) -> None:
    curve = [point["psnr_db"] for point in finished.metrics["curve"]]
    assert curve[-1] > curve[0] + 2
    assert finished.metrics["psnr_db"] > 17
    assert finished.metrics["psnr_db_poses"] > 14
    assert {entry["file"][:2] for entry in finished.metrics["held_out"]} == {"03"}  # the camera kept back


def test_a_killed_run_resumes_to_the_same_bits(finished: TrainResult, capture_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from avatars.captures.opening import open_capture\nfrom avatars.training.config import load_config\n"
        "from avatars.training.loop import train\nimport torch\ntorch.set_num_threads(int(sys.argv[3]))\n"
        f"train(load_config('{PRESET}'), open_capture(sys.argv[1]), Path(sys.argv[2]), name='tiny', device='cpu',\n"
        "      on_event=lambda event: None, wanted=lambda: time.sleep(0.1) or '')\n"
    )
    arguments = [sys.executable, "-c", code, str(capture_folder), str(output), str(torch.get_num_threads())]
    child = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 200
        while len(checkpoints(output / "checkpoints")) < 2:
            assert child.poll() is None, "the child ended before it could be killed"
            assert time.monotonic() < deadline, "the child wrote no checkpoints"
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (output / "tiny.avatar").exists()
    events: list[Progress] = []
    result = run(capture_folder, output, events=events)
    resumed = [event.message for event in events if event.message.startswith("Resumed at")]
    assert 0 < int(resumed[0].split()[2]) < 60
    expected, found = weights(finished), weights(result)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_upgrades_train_and_change_only_what_they_should(capture_folder: Path, tmp_path: Path) -> None:
    """Pose refinement, exposure, boundary band and half storage together, for a few steps."""
    short = {
        "schedule__images": "16",
        "schedule__stages_from": "[0, 12]",
        "schedule__deltas_from": "4",
        "body__refine_pose_from": "8",
        "body__exposure": "true",
        "body__half": "true",
        "body__losses__boundary_px": "2",
        "body__losses__pose": "0.1",
        "body__losses__basis": "0.1",
        "reporting__curve_points": "0",
    }
    result = run(capture_folder, tmp_path, **short)
    assert weights(result)["bases"].dtype == torch.float16
    assert np.isfinite(result.metrics["psnr_db"])


def test_refined_poses_and_exposure_get_gradients(capture_folder: Path) -> None:
    capture = open_capture(capture_folder)
    config = load_config(PRESET, {"body.refine_pose_from": "0", "body.exposure": "true"})
    trainer = MlpBodyTrainer(config, capture, "cpu")
    images = capture.split("train")
    pictures = trainer.prepared(load_pictures(capture, images, 48, torch.device("cpu")), images)
    rows = torch.tensor([row for row, index in enumerate(images) if capture.images[index].frame == 2][:2])
    batch = pictures.batch(rows, torch.rand(2, 3))
    named = {entry.name: entry.parameter for entry in trainer.parameters()}
    wanted = ("turn_shift", "place_shift", "exposure")
    total = sum(trainer.losses(batch, 50.0).values())
    gradients = dict(zip(wanted, torch.autograd.grad(total, [named[name] for name in wanted]), strict=True))
    shown = batch.lenses.tolist()
    for name, rows_seen in (("turn_shift", [2]), ("place_shift", [2]), ("exposure", sorted(shown))):
        touched = gradients[name].flatten(1).abs().sum(1).nonzero()[:, 0].tolist()
        assert touched == rows_seen, name


def test_the_band_along_masks_is_the_published_one_of_the_recording(capture_folder: Path) -> None:
    capture = open_capture(capture_folder)
    images = capture.split("train")[:1]
    pictures = load_pictures(capture, images, 48, torch.device("cpu"))
    for layout, radius_px in (("avatarrex", 5), ("thuman4", 3), ("actorshq", 4)):
        found = body_pictures(pictures, replace(capture, layout=layout), images, MlpBodyConfig()).ignored
        wanted = boundary_band(pictures.rgba[0, ..., 3].numpy() >= 128, radius_px)
        assert found is not None
        np.testing.assert_array_equal(found[0].numpy(), wanted)
    assert body_pictures(pictures, capture, images, MlpBodyConfig()).ignored is None


def small_batch(seed: int = 0) -> Batch:
    """Two pictures of noise through one camera."""
    draw = torch.Generator().manual_seed(seed)
    alpha = (torch.rand(2, 24, 24, 1, generator=draw) > 0.5).float()
    pixels = torch.cat((torch.rand(2, 24, 24, 3, generator=draw) * alpha, alpha), -1)
    cameras = CameraBatch.from_cameras([body_camera(24), body_camera(24, 0.5)])
    ignored = torch.rand(2, 24, 24, generator=draw) > 0.8
    behind = torch.rand(2, 3, generator=draw)
    return Batch(pixels, cameras, torch.tensor([0, 0]), behind, torch.tensor([0, 1]), ignored)


def test_every_loss_is_its_plain_form() -> None:
    model, batch = tiny_body(), small_batch()
    config = TrainConfig(method="mlp_body", body=TINY, losses=LossWeights(l1=1.0, alpha=0.3))
    config = replace(config, body=replace(TINY, losses=replace(TINY.losses, basis=0.2)))
    objective = BodyObjective(config, model)
    expressed, controls = objective.expressed(drive_of(model, body_motion(1)), 1e6)
    terms = objective.losses(expressed, controls, torch.tensor([0, 0]), batch, 1e6)
    posed = model.pose(
        *(torch.from_numpy(body_motion(1)[k]) for k in ("rotations", "translations", "expressions")), clamped=False
    )
    image, alpha = [], []
    for row in range(2):
        lens = type(batch.cameras)(
            batch.cameras.K[row : row + 1], batch.cameras.camera_from_world[row : row + 1], 24, 24
        )
        seen = posed.seen_from(lens.positions())
        drawn = rasterise(seen, lens, seen.colours, background=batch.backgrounds[row : row + 1])
        image.append(drawn.features[0])
        alpha.append(drawn.alpha[0])
    keep = ~batch.ignored
    error = (torch.stack(image) - batch.target()).abs() * keep[..., None]
    torch.testing.assert_close(terms["l1"], error.mean(), atol=1e-5, rtol=1e-4)
    cover = ((torch.stack(alpha) - batch.alpha()).abs() * keep).mean()
    torch.testing.assert_close(terms["alpha"], 0.3 * cover, atol=1e-5, rtol=1e-4)
    pairs = model.points.control_pairs
    plain = [(controls[0, n] - controls[0, v]).norm() for v in range(len(controls[0])) for n in pairs[v]]
    torch.testing.assert_close(terms["smoothness"], 0.1 * torch.stack(plain).mean(), atol=1e-6, rtol=1e-4)
    sizes = posed.scales[0]
    wanted = sum(float(s) for s in sizes.detach().flatten() if s > 0.01) / sizes.numel()
    assert float(terms["size"]) == pytest.approx(wanted, rel=1e-4)
    squares = model.bases.square().mean() + model.control_bases.square().mean()
    torch.testing.assert_close(terms["basis"], 0.2 * squares)
    assert terms.keys() == {"l1", "alpha", "smoothness", "size", "basis"}


def test_control_points_that_have_not_moved_have_a_finite_gradient() -> None:
    offsets = torch.zeros(1, 5, 3, requires_grad=True)
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0]])
    (gradient,) = torch.autograd.grad(smoothness(offsets, pair_mixing(pairs)), offsets)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    scales = torch.tensor([[0.005, 0.02, 0.01]], requires_grad=True)
    value = oversize(scales, 0.01)
    assert value.item() == pytest.approx(0.02 / 3)
    assert torch.autograd.grad(value, scales)[0][0].tolist() == pytest.approx([0.0, 1 / 3, 0.0])


def test_without_its_weights_lpips_gives_way_to_other_terms_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    config = TrainConfig(method="mlp_body", body=TINY, losses=LossWeights(lpips=0.1, lpips_from=7))
    with caplog.at_level(logging.WARNING, logger="effigy.training"):
        objective = BodyObjective(config, tiny_body())
    assert objective.lpips is None
    assert (objective.weights.pyramid, objective.weights.pyramid_from, objective.weights.ssim) == (0.5, 7, 0.1)
    assert "take the place of LPIPS" in caplog.text


def test_the_boundary_is_dilation_without_erosion_by_a_disk() -> None:
    rng = np.random.default_rng(0)
    mask = binary_dilation(rng.random((40, 50)) > 0.97, iterations=4)
    y, x = np.mgrid[-3:4, -3:4]
    disk = x * x + y * y <= 9
    padded = np.pad(mask, 8, mode="edge")
    wanted = binary_dilation(padded, disk) & ~binary_erosion(padded, disk)
    inner = (slice(8, -8), slice(8, -8))
    found = np.pad(boundary_band(padded, 3), 0)[inner]
    assert np.array_equal(found, wanted[inner])
    assert not boundary_band(np.zeros((5, 5), bool), 3).any()
    assert not boundary_band(np.ones((5, 5), bool), 3).any()


def test_cut_pictures_show_the_same_through_moved_cameras(capture_folder: Path) -> None:
    capture = open_capture(capture_folder)
    images = capture.split("train")
    whole = load_pictures(capture, images, 64, torch.device("cpu"))
    cut = body_pictures(whole, capture, images, MlpBodyConfig(crop=True, crop_margin_px=2))
    high, wide = cut.rgba.shape[1:3]
    assert high % 16 == 0 or high == 64
    assert wide < 64
    for row in range(len(images)):
        left = round(float(whole.cameras.K[row, 0, 2] - cut.cameras.K[row, 0, 2]))
        top = round(float(whole.cameras.K[row, 1, 2] - cut.cameras.K[row, 1, 2]))
        assert torch.equal(cut.rgba[row], whole.rgba[row, top : top + high, left : left + wide])
        assert int((cut.rgba[row, ..., 3] > 0).sum()) == int((whole.rgba[row, ..., 3] > 0).sum())
    assert cut.cameras.width_px == wide
    assert cut.lenses.tolist() == [capture.images[index].camera for index in images]


def test_views_of_a_frame_come_together_and_every_picture_comes() -> None:
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    sampler = Sampler(8, 3, groups, 2)
    drawn = torch.cat([sampler.batch(4) for _ in range(3)])
    assert (groups[drawn[::2]] == groups[drawn[1::2]]).all()
    first = drawn[:10]  # four, four of three, two of one
    assert set(first.tolist()) == set(range(8))
    other = Sampler(8, 3, groups, 2)
    other.batch(4)
    state = other.state()
    again = Sampler(8, 9, groups, 2)
    again.restore(state)
    assert torch.equal(torch.cat([again.batch(4) for _ in range(2)]), drawn[4:])


def test_networks_decay_as_adamw_and_the_rest_does_not() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(7), [torch.randn(7) for _ in range(3)]
    plain, decayed = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimiser = Optimiser(
        (RatedParameter("plain", plain, 0.1, 0.1, 10), RatedParameter("decayed", decayed, 0.1, 0.1, 10, 0.5))
    )
    ours = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    theirs = [
        torch.optim.Adam([ours[0]], lr=0.1, eps=1e-15),
        torch.optim.AdamW([ours[1]], 0.1, eps=1e-15, weight_decay=0.5),
    ]
    for step in gradient:
        optimiser.step((plain * step).sum() + (decayed * step).sum(), 0)
        for parameter, adam in zip(ours, theirs, strict=True):
            parameter.grad = step.clone()
            adam.step()
    torch.testing.assert_close(plain, ours[0])
    torch.testing.assert_close(decayed, ours[1])


def test_presets_are_the_papers_and_fit_in_order_of_size() -> None:
    paper = load_config("mlp_body_paper")
    assert (paper.body, paper.schedule.images, paper.schedule.batch) == (
        replace(MlpBodyConfig(), losses=paper.body.losses), 800_000, 1
    )  # fmt: skip
    assert (paper.losses.lpips, paper.losses.lpips_from, paper.schedule.deltas_from) == (0.1, 6000, 2000)
    sizes = [needed_bytes(load_config(name)) for name in ("mlp_body_paper", "mlp_body_fast", "mlp_body_cpu")]
    assert sizes[2] < min(sizes[:2])
    assert max(sizes) < 24 << 30
    with pytest.raises(EnvironmentFailed, match="Use preset mlp_body_cpu, which fits"):
        check_fits(paper, sizes[2] + 1)
    check_fits(paper, sizes[0])


def test_a_recorded_head_is_no_body() -> None:
    with pytest.raises(BadTemplate, match="no whole body"):
        MlpBodyTrainer(load_config(PRESET), open_capture("demo_head"), "cpu")


def test_settings_that_make_no_sense_are_refused() -> None:
    for key, value in (("anchors", "2"), ("neighbours", "70"), ("widths", "[]"), ("initial_opacity", "1.5")):
        with pytest.raises(BadConfig, match=f"body.{key}"):
            load_config(PRESET, {f"body.{key}": value})
    with pytest.raises(BadConfig, match="gaussians"):
        load_config(PRESET, {"body.gaussianz": "3"})


def test_cameras_colour_maps_stay_straight_on_average(capture_folder: Path) -> None:
    capture = open_capture(capture_folder)
    trainer = MlpBodyTrainer(load_config(PRESET, {"body.exposure": "true"}), capture, "cpu")
    assert trainer.exposure is not None
    with torch.no_grad():
        trainer.exposure += torch.rand(trainer.exposure.shape, generator=torch.Generator().manual_seed(0))
    before = trainer.exposure.detach().clone()
    trainer.after_step(small_batch(), 1.0)
    used = sorted({capture.images[index].camera for index in capture.split("train")})
    torch.testing.assert_close(trainer.exposure[used].mean(0), torch.eye(3, 4))
    moved = trainer.exposure.detach() - before
    torch.testing.assert_close(moved[used], moved[used[:1]].expand(len(used), -1, -1))
    rest = [camera for camera in range(len(capture.cameras)) if camera not in used]
    assert not moved[rest].any()
