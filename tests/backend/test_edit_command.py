"""`edit` and GaussianAvatar-Editor's options: what each says of the edit, and masks drawn onto pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatars.captures.opening import open_capture
from avatars.captures.overlay import projected
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.text_edit.drawn import drawn_weights, posed_proxy
from avatars.text_edit.generated import generated_motion
from avatars.text_edit.run import edit_config
from backend.cli_edit import add_edit, painted_weights, values_of
from shared.errors import BadConfig
from tests.tiny import tiny_capture, tiny_head


def told(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_edit(parser.add_subparsers())
    return parser.parse_args(["edit", "anna", "--text_prompt", "gold", *words])


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ((), "prompt", "gold"),
        ((), "wabe", "exact"),
        (("--use_in2n",), "editor", "ip2p"),
        (("--use_in2n", "--editor", "sdxl"), "editor", "sdxl"),
        (("--use_grad_mask",), "wabe", "hard_mask"),
        (("--use_grad_mask_alphaT",), "wabe", "mask"),
        (("--use_gan",), "adversarial", True),
        (("--use_in2nssim",), "late_structure", 0.9),
        (("--training_cano_only",), "instants", 1),
        (("--guidance_scale", "6"), "settings.text_guidance", 6.0),
        (("--image_guidance_scale", "2"), "settings.image_guidance", 2.0),
        (("--iterations", "300"), "schedule.images", 300),
        (("--iterations", "601000", "--start_checkpoint", "x/chkpnt600000.pth"), "schedule.images", 1000),
        (("--interval", "50"), "reporting.checkpoint_images", 50),
        (("--use_mouth_loss", "--use_mouth_mask", "--filter_close_mouth_mask", "--use_densify"), "keep_mouth", True),
        (("--different_data", "--eval", "--bind_to_mesh", "--port", "60000"), "keep_mouth", True),
    ],
)
def test_each_of_the_originals_options_says_what_it_said(words: tuple[str, ...], name: str, value: Any) -> None:
    config = edit_config(values_of(told(*words)), "edit_cpu")
    found: Any = config if name.startswith(("schedule", "reporting")) else config.edit
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    for words, said in (
        (("--use_grad_mask", "--use_grad_mask_alphaT"), "exclude each other"),
        (("--iterations", "5", "--start_checkpoint", "chkpnt600000.pth"), "before the checkpoint"),
        (("--start_checkpoint", "model.pth", "--iterations", "5"), "chkpntN.pth"),
    ):
        with pytest.raises(BadConfig, match=said):
            values_of(told(*words))
    for words, said in (
        (("--using_mask_continue",), "--edit_mask_dir"),
        (("--edit_mask_dir", str(tmp_path)), "needs -s"),
    ):
        with pytest.raises(BadConfig, match=said):
            painted_weights(told(*words), tmp_path)


def test_what_is_drawn_white_is_where_the_mesh_may_change(tmp_path: Path) -> None:
    avatar, size = RgbHeadAvatar(tiny_head(300)), 64
    capture = open_capture(tiny_capture(tmp_path / "bala", size=size, frames=2, cameras=2, gaussians=300))
    masks = tmp_path / "masks"
    masks.mkdir()
    with pytest.raises(BadConfig, match="no masks"):
        drawn_weights(avatar, capture, masks)
    drawn = np.zeros((2 * size, 2 * size), np.uint8)  # of another size than the pictures
    image = capture.images[0]
    Image.fromarray(drawn).save(masks / f"{image.file.stem}.png")
    with pytest.raises(BadConfig, match="black wherever"):
        drawn_weights(avatar, capture, masks)
    drawn[:, :size] = 255
    Image.fromarray(drawn).save(masks / f"{image.file.stem}.png")
    weights = drawn_weights(avatar, capture, masks)
    proxy, camera = avatar.proxy(), capture.cameras[image.camera]
    pixels = projected(
        posed_proxy(proxy, avatar.rig(), capture.motion, image.frame), camera.camera_from_world(), camera.K
    )
    left, right = pixels[:, 0] < size / 2 - 6, pixels[:, 0] > size / 2 + 6
    assert weights.shape == (len(proxy.vertices),)
    assert weights[right].max() < 0.05
    assert ((weights[left] > 0.9) | (weights[left] == 0)).all(), "seen from there, or hidden from it"
    assert 0.2 < (weights[left] > 0.5).mean() < 0.9
    (masks / "nobody.png").write_bytes((masks / f"{image.file.stem}.png").read_bytes())
    with pytest.raises(BadConfig, match="is named nobody"):
        drawn_weights(avatar, capture, masks)


def test_the_canonical_views_show_one_instant_at_rest() -> None:
    avatar = RgbHeadAvatar(tiny_head(50))
    motion = generated_motion(avatar, 1, seed=3)
    assert np.array_equal(motion.rotations[0], avatar.rest_pose)
    assert not motion.expressions.any()
