"""Refinement of a track: what it applies, where its gradients come from, and that it mends what was put wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.captures.tracking_noise import MisledCapture, correlated, edges_moved, with_tracking_noise
from avatars.mlp_body.trainer import MlpBodyTrainer
from avatars.relit_head.trainer import RelitHeadTrainer
from avatars.rendering.cameras import CameraBatch
from avatars.rgb_head.objective import HeadObjective
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.training.changed_data import with_parameters
from avatars.training.config import load_config
from avatars.training.data import load_pictures
from avatars.training.evaluation import white_batch
from avatars.training.loop import train
from avatars.training.refine import TrackRefinement, is_refined, pixel_weights, weighed
from avatars.training.refine_settings import RefineConfig
from avatars.training.refit import fit_frames, refinement_of
from shared.errors import BadConfig
from shared.types import Motion
from tests.tiny import tiny_capture, tiny_head
from tests.tiny_body import tiny_body_capture

CPU = torch.device("cpu")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tiny_capture(tmp_path_factory.mktemp("capture") / "tiny", size=48, frames=4, cameras=1, gaussians=500)
    return open_capture(folder)


def test_changes_are_in_tracker_errors(capture: Capture) -> None:
    config = RefineConfig(jaw_deg=2, place_m=0.004, depth_m=0.02, action=0.1, gaze_deg=0)
    track = TrackRefinement(config, capture, CPU)
    frames = torch.tensor([2, 0])
    for found, own in zip(track.of(frames), (capture.motion.rotations, capture.motion.translations), strict=False):
        np.testing.assert_array_equal(found.detach().numpy(), own[[2, 0]])
    names = capture.joint_names
    assert [names[row] for row in track.joints] == ["spine3", "neck", "head", "jaw"]
    with torch.no_grad():
        track.changes[2] = 1
    rotations, translations, expressions = track.of(frames)
    turned = rotations.detach().numpy() - capture.motion.rotations[[2, 0]]
    np.testing.assert_allclose(turned[0, names.index("jaw")], np.deg2rad(2), atol=1e-6)
    np.testing.assert_allclose(turned[0, names.index("head")], np.deg2rad(2 / 2**0.5), atol=1e-6)
    assert not turned[1].any()
    moved = translations.detach().numpy()[0] - capture.motion.translations[2]
    seen = capture.cameras[0].camera_from_world()[:3, :3] @ moved  # across, down and along the view
    np.testing.assert_allclose(seen, (0.004, 0.004, 0.02), atol=1e-6)
    around = [replace(capture.cameras[0], world_from_camera=turned) for turned in _opposite(capture)]
    everywhere = TrackRefinement(config, replace(capture, cameras=tuple(around)), CPU)
    torch.testing.assert_close(everywhere.place_spread, 0.004 * torch.eye(3))
    np.testing.assert_allclose(expressions.detach().numpy()[0] - capture.motion.expressions[2], 0.1, atol=1e-6)


def _opposite(capture: Capture) -> list[np.ndarray]:
    """Where the capture's camera is, and turned right around."""
    place = np.array(capture.cameras[0].world_from_camera)
    return [place, place @ np.diag([-1.0, 1.0, -1.0, 1.0])]


def test_held_out_frames_begin_between_their_neighbours(capture: Capture) -> None:
    track = TrackRefinement(RefineConfig(), capture, CPU)
    track.trained = torch.tensor([0, 3])
    with torch.no_grad():
        track.changes[0], track.changes[3] = 3.0, 6.0
    track.spread_out(torch.tensor([2, 1, 3]))
    assert track.changes[:, 0].tolist() == pytest.approx([3, 4, 5, 6])
    track.trained = torch.tensor([2])  # outside: as the nearest; one that is trained on keeps what it has
    track.spread_out(torch.tensor([0, 2, 3]))
    assert track.changes[:, 0].tolist() == pytest.approx([5, 4, 5, 5])
    track.trained = torch.tensor([], dtype=torch.int64)
    track.spread_out(torch.tensor([1]))
    assert track.changes[:, 0].tolist() == pytest.approx([5, 4, 5, 5])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NEEDS_CUDA])])
def test_what_drives_the_network_is_held_to_what_it_became(capture: Capture, device: str) -> None:
    config = load_config("tiny", {"refine.mode": "always", "model.target_gaussians": "200"})
    trainer = RgbHeadTrainer(config, capture, device, record=False)
    far = trainer.theta + 50
    torch.testing.assert_close(trainer.model.driving_range.clipped(far), far)
    track, before = trainer.refinement, trainer.model.driving_range
    assert track is not None
    with torch.no_grad():
        track.changes[track.trained] = torch.linspace(-3, 3, len(track.trained), device=device)[:, None]
    trainer.retable()
    trainer.hold_range()
    after, theta = trainer.model.driving_range, trainer.theta[track.trained]
    torch.testing.assert_close(after.high, torch.quantile(theta, 0.99, dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((after.mean, after.sigma), (before.mean, before.sigma))
    assert after.modes is not None


def test_it_is_held_to_the_track_and_to_its_neighbours(capture: Capture) -> None:
    track = TrackRefinement(RefineConfig(ridge=2, smooth=3), capture, CPU)
    every = torch.arange(4)
    assert float(track.penalty(every).detach()) == 0
    with torch.no_grad():
        track.changes[1, 0], track.zoom[0] = 0.5, 0.1
    # one of four frames changed; frames 0, 1 (twice) and 2 see the step
    held = 2 * (0.25 / 4 + 0.01) + 3 * 4 * 0.25 / 8
    assert float(track.penalty(every).detach()) == pytest.approx(held, rel=1e-5)
    gradient = torch.autograd.grad(track.penalty(every), [track.changes])[0]
    assert gradient[1, 0] > 0 > gradient[0, 0]
    assert not gradient[:, 1:].any()
    with torch.no_grad():
        track.changes[:] = 0.3
    track.centre()
    assert float(track.changes[track.trained].detach().abs().max()) < 1e-6


def test_a_longer_lens_has_the_slope_of_larger_pictures(capture: Capture) -> None:
    track = TrackRefinement(RefineConfig(focal=0.5), capture, CPU)
    with torch.no_grad():
        track.zoom[0] = 0.2
    cameras = CameraBatch.from_cameras([capture.cameras[0]] * 2)
    means = torch.from_numpy(np.random.default_rng(0).normal(capture.motion.translations[0], 0.1, (2, 5, 3))).float()

    def pixels(points: torch.Tensor, seen: CameraBatch) -> torch.Tensor:
        turned = torch.einsum("bij,bnj->bni", seen.camera_from_world[:, :3, :3], points)
        local = turned + seen.camera_from_world[:, None, :3, 3]
        return (seen.K[:, (0, 1), (0, 1)][:, None] * local[..., :2]) / local[..., 2:]

    same = track.zoomed(means, cameras)
    torch.testing.assert_close(same.detach(), means)
    slope = torch.autograd.grad(pixels(same, track.cameras(cameras)).square().sum(), [track.zoom])[0]
    step = 1e-3
    values = []
    for sign in (-1, 1):
        with torch.no_grad():
            track.zoom[0] = 0.2 + sign * step
        values.append(pixels(means, track.cameras(cameras)).square().sum())
    assert float(slope) == pytest.approx(float(values[1] - values[0]) / (2 * step), rel=1e-2)


def test_weights_change_gradients_alone() -> None:
    values, weights = torch.randn(2, 3, 4, requires_grad=True), torch.rand(2, 3, 1)
    found = weighed(values, weights)
    assert torch.equal(found, values)
    (gradient,) = torch.autograd.grad(found.square().sum(), [values])
    torch.testing.assert_close(gradient, 2 * values.detach() * weights)


def test_pixels_near_the_masks_edge_count_less() -> None:
    alpha = torch.zeros(2, 64, 64)
    alpha[0, :, 32:] = 1
    found = pixel_weights(alpha, torch.tensor([1.0, 0.5]), 8, 0.25)
    assert (found[0, :, [10, 30, 31, 32, 33, 60]] == torch.tensor([1, 1, 0.25, 0.25, 1, 1])).all()
    assert (found[1] == 0.5).all()  # nothing is covered: no edge
    assert (pixel_weights(alpha, torch.ones(2), 0, 0.25) == 1).all()


def test_what_is_refined_is_said_by_the_capture_or_the_user(capture: Capture) -> None:
    assert not is_refined(RefineConfig(), capture)
    assert is_refined(RefineConfig(), replace(capture, tracked=True))
    assert is_refined(RefineConfig("always"), capture)
    assert not is_refined(RefineConfig("never"), replace(capture, tracked=True))
    trusted = replace(capture, confidence=np.array([0, 0.5, 1, 1], np.float32))
    assert TrackRefinement(RefineConfig(), trusted, CPU).trust.tolist() == [0, 0.5, 1, 1]
    with pytest.raises(BadConfig, match=r"refine\.ridge"):
        load_config("tiny", {"refine.ridge": "-1"})


def test_noise_is_as_large_as_measured_and_repeats(capture: Capture) -> None:
    noise = correlated(np.random.default_rng(1), 4000, 8, 25.0)
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert (noise[1:] * noise[:-1]).mean() > 0.8  # correlated in time
    frames = 400
    parts = (np.repeat(values[:1], frames, 0) for values in (capture.motion.rotations, capture.motion.translations))
    still = Motion(*parts, np.full((frames, capture.motion.expressions.shape[1]), 0.5, np.float32), 25.0)
    exact = replace(capture, motion=still)
    found, again = (with_tracking_noise(exact, 1, 3).motion for _ in range(2))
    np.testing.assert_array_equal(found.rotations, again.rotations)
    assert (found.rotations != with_tracking_noise(exact, 1, 4).motion.rotations).any()
    names = capture.joint_names
    turned = found.rotations - still.rotations
    head = np.linalg.norm(turned[:, names.index("neck")] + turned[:, names.index("head")], axis=1)
    assert np.rad2deg(head).mean() == pytest.approx(2, rel=0.35)
    assert np.linalg.norm(found.translations - still.translations, axis=1).mean() == pytest.approx(0.003, rel=0.35)
    assert found.expressions.min() >= 0
    assert found.expressions.max() <= 1
    noisy = with_tracking_noise(capture, 1, 3)
    assert noisy.tracked
    assert (noisy.rgba(0) != capture.rgba(0)).any()
    empty = np.zeros((16, 16, 4), np.uint8)
    np.testing.assert_array_equal(edges_moved(empty, np.full((2, 8, 8), 2.0)), empty)


def test_wrong_masks_change_slowly_and_by_as_much_as_is_said(capture: Capture) -> None:
    frames = 200
    parts = (np.repeat(values[:1], frames, 0) for values in (capture.motion.rotations, capture.motion.translations))
    still = Motion(*parts, np.repeat(capture.motion.expressions[:1], frames, 0), 25.0)
    noisy = with_tracking_noise(replace(capture, motion=still), 1, 0)
    assert isinstance(noisy, MisledCapture)
    edges = noisy.edges_px
    assert edges is not None
    assert edges.shape[:3] == (len(capture.cameras), frames, 2)
    assert edges.std() == pytest.approx(1.5, rel=0.1)
    assert np.abs(np.diff(edges, axis=1)).mean() < 0.4 * np.abs(edges).mean()
    square = np.zeros((64, 64, 4), np.uint8)
    square[16:48, 16:48] = 255
    moved = edges_moved(square, np.full((2, 8, 8), 3.0))
    np.testing.assert_array_equal(moved[:-3, :-3, 3], square[3:, 3:, 3])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NEEDS_CUDA])])
def test_what_was_put_wrong_is_mended(capture: Capture, device: str) -> None:
    """The very head that was filmed, frozen, its poses made wrong: fitting them takes most of the error away."""
    names, rng = capture.joint_names, np.random.default_rng(2)
    turned = np.array(capture.motion.rotations)
    turned[:, names.index("head")] += np.deg2rad(3) * rng.choice([-1, 1], (4, 3))
    moved = capture.motion.translations + 0.005 * rng.choice([-1, 1], (4, 3)).astype(np.float32)
    wrong = replace(capture, motion=Motion(turned, moved, capture.motion.expressions, 25.0))
    config = load_config("tiny", {"refine.mode": "always", "refine.ridge": "1e-5", "refine.smooth": "0"})
    config = replace(config, refine=replace(config.refine, gaze_deg=0, jaw_deg=0, action=0, joint_deg=0))
    trainer = RgbHeadTrainer(replace(config, model=replace(config.model, first_look_px=0)), wrong, device, record=False)
    trainer.model = tiny_head(500).moved_to(device)
    trainer.objective = HeadObjective(config, trainer.model)
    images = tuple(range(4))
    before = trainer.vertices.clone()
    pictures = load_pictures(wrong, images, 48, torch.device(device))
    fit_frames(trainer, pictures, 60, 30)
    exact = RgbHeadTrainer(
        replace(config, refine=RefineConfig("never"), model=replace(config.model, first_look_px=0)),
        capture,
        device,
        record=False,
    ).vertices
    face = trainer.model.binding.triangles.unique()
    errors = [(vertices - exact)[:, face].norm(dim=-1).mean() for vertices in (before, trainer.vertices)]
    assert float(errors[1]) < 0.5 * float(errors[0])


def test_a_run_keeps_its_changes_over_a_pause_and_leaves_them_behind(capture: Capture, tmp_path: Path) -> None:
    few = {"schedule.images": "16", "schedule.sizes_px": "[32, 32]", "refine.start": "0.25", "refine.test_steps": "1"}
    few |= {"schedule.deltas_from": "4", "reporting.curve_points": "0", "model.target_gaussians": "200"}

    def run(output: Path, wanted=lambda: "", **more: str):
        config = load_config(
            "tiny", few | {"refine.mode": "always"} | {k.replace("__", "."): v for k, v in more.items()}
        )
        return train(config, capture, output, name="a", device="cpu", on_event=lambda e: None, wanted=wanted)

    whole = run(tmp_path / "whole")
    asked = iter(["", "", "", "", "", "pause"])
    assert run(tmp_path / "broken", wanted=lambda: next(asked, "")).state == "paused"
    resumed = run(tmp_path / "broken")
    one, other = (np.load(result.report_folder / "refined.npz") for result in (whole, resumed))
    for name in ("rotations", "translations", "expressions", "K"):
        np.testing.assert_array_equal(one[name], other[name])
    assert (one["rotations"] != capture.motion.rotations).any()
    assert {"psnr_db", "psnr_db_fitted", "refined"} <= set(whole.metrics)
    second = with_parameters(capture, whole.report_folder / "refined.npz")
    np.testing.assert_array_equal(second.motion.rotations, one["rotations"])
    np.testing.assert_array_equal(second.cameras[0].K, one["K"][0])
    motion = capture.motion
    short = Motion(motion.rotations[:2], motion.translations[:2], motion.expressions[:2], 25.0)
    with pytest.raises(BadConfig, match="not refined from"):
        with_parameters(replace(capture, motion=short), whole.report_folder / "refined.npz")


def test_bodies_refine_their_poses_and_fit_held_out_ones(tmp_path: Path) -> None:
    body = open_capture(tiny_body_capture(tmp_path / "body", size=48, frames=3, cameras=2))
    config = load_config("mlp_body_tiny")
    assert MlpBodyTrainer(config, body, "cpu").refinement is None
    trainer = MlpBodyTrainer(config, replace(body, tracked=True), "cpu")
    track, end = trainer.refinement, config.schedule.images
    assert track is not None
    assert {"refine.changes", "refine.zoom"} <= {entry.name for entry in trainer.parameters()}
    pictures = load_pictures(body, body.split("test"), 48, CPU)
    assert "track" not in trainer.losses(white_batch(pictures, [0]), 0)
    frames = pictures.frames.unique()
    fit_frames(trainer, pictures, end, 1)
    changed = track.changes.detach().abs().amax(1) > 0
    assert changed[frames].all()
    assert int(changed.sum()) == len(frames)
    other = track.changes.detach()[frames][:, -len(body.expression_names) - 3 : -len(body.expression_names)]
    assert (other.abs() > 0).all()  # the whole body's place, too


def test_relightable_heads_refine_as_their_rgb_head_does(capture: Capture) -> None:
    trainer = RelitHeadTrainer(load_config("relit_head_tiny", {"refine.mode": "always"}), capture, "cpu")
    pictures = load_pictures(capture, capture.split("test"), 32, CPU)
    before, frames = trainer.base.vertices.clone(), pictures.frames
    fit_frames(trainer, pictures, 60, 1)
    track = refinement_of(trainer)
    assert track is trainer.base.refinement
    moved = (trainer.base.vertices - before).abs().flatten(1).amax(1) > 1e-5
    assert moved[frames].all()
    assert not moved[track.trained].any()
