"""Directions, coverage, what the contact sheet shows, and the curves of a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.training.evaluation import Curves, curve_subset
from avatars.training.figures import contact_sheet
from avatars.training.views import coverage, notable_images, view_angles_deg
from tests.tiny import tiny_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return open_capture(
        tiny_capture(tmp_path_factory.mktemp("views") / "c", size=16, frames=8, cameras=3, gaussians=200)
    )


def test_angles_follow_camera_and_head(capture: Capture) -> None:
    head = capture.joint_names.index("head")
    for index in range(len(capture.images)):
        image = capture.images[index]
        yaw, pitch = view_angles_deg(capture, [index])[0]
        camera_yaw = np.degrees(np.linspace(-0.6, 0.6, 3)[image.camera])
        turned = np.degrees(capture.motion.rotations[image.frame, head, 2])
        assert yaw == pytest.approx(
            camera_yaw - turned, abs=4
        )  # the camera circles a point near the head, not its joint
        assert abs(pitch) < 6
    assert view_angles_deg(capture, []).shape == (0, 2)


def test_coverage_counts_cells() -> None:
    found = coverage(np.array([[0.0, 0], [1, 1], [16, 1], [46, 1]]))
    assert (found["cells_filled"], found["cells"]) == (3, 4)
    assert (found["yaw_min_deg"], found["yaw_max_deg"]) == (0, 46)
    assert coverage(np.zeros((0, 2))) == {}


def test_notable_images_show_what_they_say(capture: Capture) -> None:
    images = tuple(range(len(capture.images)))
    chosen = {what: index for index, what in notable_images(capture, images, 12) if what}
    assert len(notable_images(capture, images, 12)) == 12
    jaw = np.abs(capture.motion.rotations[:, capture.joint_names.index("jaw"), 0])
    assert jaw[capture.images[chosen["mouth open"]].frame] > 0.9 * jaw.max()
    blink = capture.motion.expressions[:, capture.expression_names.index("eyeBlinkLeft")]
    assert blink[capture.images[chosen["blink"]].frame] > 0.9 * blink.max()
    angles = view_angles_deg(capture, images)[:, 0]
    assert angles[chosen["from its left"]] == angles.max()
    assert angles[chosen["from its right"]] == angles.min()
    assert len({index for index, _ in notable_images(capture, images, 12)}) == 12
    assert [index for index, _ in notable_images(capture, (3,), 12)] == [3]


def test_curves_stay_short_and_survive_json() -> None:
    curves = Curves()
    for step in range(5000):
        curves.add_loss(step, {"l1": 1.0 / (1 + step)})
    assert len(curves.losses) <= 1000
    assert curves.losses[0][0] == 0
    assert curves.losses[-1][0] > 4900
    curves.add_psnr(100, 1.5, 20.0)
    assert curves.due(0.0, 10.0)
    assert not curves.due(9.0, 10.0)
    again = Curves.from_json(curves.as_json())
    assert again.losses == curves.losses
    assert again.psnr == curves.psnr
    assert not again.due(9.0, 10.0)
    assert again.due(10.0, 10.0)


def test_the_watched_subset_is_even_and_fixed() -> None:
    assert curve_subset(10, 4) == (0, 3, 6, 9)
    assert curve_subset(2, 5) == (0, 1)
    assert curve_subset(1, 4) == (0,)


def test_a_contact_sheet_puts_truth_model_and_error_below_one_another(tmp_path: Path) -> None:
    truth, model = np.full((8, 60, 3), 100, np.uint8), np.full((8, 60, 3), 110, np.uint8)
    contact_sheet(tmp_path / "sheet.png", [("a", truth, model)] * 3, per_row=2)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * (14 + 24), 120, 3)
    assert (pixels[14:22, :60] == 100).all()
    assert (pixels[22:30, :60] == 110).all()
    assert (pixels[30:38, :60] == 50).all()
    assert (pixels[38:, 60:] == 255).all()

    # A person in the middle of much background is shown near, moved together in truth and model.
    truth, model = np.full((100, 200, 3), 255, np.uint8), np.full((100, 200, 3), 255, np.uint8)
    truth[20:60, 90:130], model[20:62, 90:130] = 100, 110
    contact_sheet(tmp_path / "near.png", [("a", truth, model), ("a", truth, truth)])
    with Image.open(tmp_path / "near.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (14 + 3 * (42 + 4), 2 * (40 + 8), 3)
    assert (pixels[14 + 2 : 14 + 42, 4:44] == 100).all()
    assert (pixels[14 + 46 + 2 : 14 + 46 + 44, 4:44] == 110).all()
    contact_sheet(tmp_path / "none.png", [])
    assert not (tmp_path / "none.png").exists()


@pytest.mark.cuda
def test_training_on_cuda_learns_as_on_the_cpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from avatars.avatar_folder import load_avatar
    from avatars.training.config import load_config
    from avatars.training.loop import train

    capture = open_capture(tiny_capture(tmp_path / "c", size=48, frames=5, cameras=3, gaussians=500))
    found = {}
    for device in ("cpu", "cuda"):
        result = train(
            load_config("tiny"), capture, tmp_path / device, name="t", device=device, on_event=lambda event: None
        )
        found[device] = result.metrics["psnr_db"]
        assert load_avatar(result.avatar_folder, device).rig().joint_names == capture.joint_names
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1.0)
