"""RGBAvatar's own files: the published numbers come out, every key is used, explained or refused."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from avatars.training.config import TrainConfig, load_config, original_config
from avatars.training.rgbavatar_yaml import is_original, read_original
from avatars.training.schedule import log_linear
from shared.errors import BadConfig

OFFLINE = """
data_dir: data
output_dir: output
template_type: Flame
dataset: {pin_memory: true, use_shape_weight: true, use_pose_weight: true}
model:
  tex_size: 256
  num_basis_in: 129
  num_basis_blend: 20
  use_blend: true
  use_weight_proj: true
  use_mlp_proj: true
  init_scaling: 0.0008
  init_opacity: 0.5
train:
  batch_size: 10
  iteration: 50_000
  recon:
    blend_start_iter: 3_000
    use_fast_forward: true
    random_bg_color: true
    bg_color: [1, 1, 1]
    scene_extent: 1.0
    position_lr: 8e-4
    position_lr_final: 8e-6
    position_lr_delay_mult: 0.01
    position_lr_max_steps: 30_000
    opacity_lr: 0.25
    scaling_lr: 0.025
    rotation_lr: 0.005
    feature_lr: 0.0125
    position_b_lr_scale: 0.05
    rotaion_b_lr_scale: 0.5
    feature_b_lr_scale: 0.5
    weight_module_lr: 1e-3
    lambda_l1: 1.0
    lambda_ssim: 0.0
    lambda_lpips: 0.0
    lambda_alpha: 0.0
    lambda_sparsity: 0.0
    lambda_orth: 0.0
"""
SAMPLER = {
    "local_pool_max_size": 99,
    "global_pool_max_size": 500,
    "max_global_ratio": 0.6,
    "local_sample_coef": 2.0,
    "force_opt_current": True,
    "force_local": False,
    "force_global": False,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The offline file with one key, dotted, set to something else (None: left out)."""
    values = yaml.safe_load(OFFLINE)
    *parents, last = path.split(".")
    place = values
    for name in parents:
        place = place[name]
    place[last] = value
    if value is None:
        del place[last]
    return values


def config_of(tmp_path: Path, values: dict[str, Any]) -> TrainConfig:
    (tmp_path / "offline.yaml").write_text(yaml.safe_dump(values))
    return load_config(str(tmp_path / "offline.yaml"))


def test_the_published_file_is_the_paper_preset(tmp_path: Path) -> None:
    (tmp_path / "offline.yaml").write_text(OFFLINE)
    theirs, ours = load_config(str(tmp_path / "offline.yaml")), load_config("rgb_head_offline")
    assert (theirs.schedule.images, theirs.schedule.batch, theirs.schedule.deltas_from) == (50_000, 10, 3_000)
    assert theirs.rates == ours.rates
    assert theirs.losses == ours.losses
    assert theirs.schedule.images == ours.schedule.images
    assert theirs.model == ours.model
    assert (theirs.background, ours.background) == ("random", "random")


@pytest.mark.parametrize(("at", "rate"), [(0, 8e-4), (15_000, 8e-5), (30_000, 8e-6), (50_000, 8e-6)])
def test_the_position_rate_of_the_paper(at: int, rate: float) -> None:
    rates = load_config("rgb_head_offline").rates
    assert log_linear(rates.position, rates.position_final, at / rates.position_until) == pytest.approx(rate, rel=1e-6)


def test_the_multi_view_preset_has_the_numbers_of_the_method_page() -> None:
    config = load_config("rgb_head_nersemble")
    plan, rates, losses = config.schedule, config.rates, config.losses
    assert (plan.images, plan.batch, plan.deltas_from) == (300_000, 10, 20_000)
    assert (rates.position, rates.position_final, rates.position_until) == (1.6e-4, 1.6e-6, 300_000)
    assert (rates.opacity, rates.scale, rates.rotation, rates.colour) == (0.025, 0.005, 0.001, 0.0025)
    assert (rates.delta_position, rates.delta_rotation, rates.delta_colour) == (0.05, 0.5, 0.5)
    assert (rates.network, rates.others_final) == (1e-3, 1.0)
    assert (config.model.tex_size, config.model.blendshapes, config.model.theta) == (300, 20, "expressions")
    assert (losses.l1, losses.ssim) == (0.8, 0.2)


@pytest.mark.parametrize(
    ("key", "value", "where", "expected"),
    [
        ("model.tex_size", 300, "model.tex_size", 300),
        ("model.num_basis_blend", 5, "model.blendshapes", 5),
        ("model.num_basis_in", 100, "model.theta", "expressions"),
        ("dataset.use_pose_weight", False, "model.theta", "expressions"),
        ("model.init_scaling", 0.001, "model.initial_scale_m", 0.001),
        ("model.init_opacity", 0.3, "model.initial_opacity", 0.3),
        ("model.use_blend", False, "schedule.deltas_from", 50_000),
        ("train.batch_size", 4, "schedule.batch", 4),
        ("train.iteration", 1_000, "schedule.images", 1_000),
        ("train.recon.blend_start_iter", 0, "schedule.deltas_from", 0),
        ("train.recon.scene_extent", 2.0, "rates.position", 8e-4 * 4),
        ("train.recon.position_lr", "1e-3", "rates.position", 1e-3),
        ("train.recon.position_lr_final", 1e-5, "rates.position_final", 1e-5),
        ("train.recon.position_lr_max_steps", 9, "rates.position_until", 9),
        ("train.recon.opacity_lr", 0.1, "rates.opacity", 0.1),
        ("train.recon.scaling_lr", 0.1, "rates.scale", 0.1),
        ("train.recon.rotation_lr", 0.1, "rates.rotation", 0.1),
        ("train.recon.feature_lr", 0.1, "rates.colour", 0.1),
        ("train.recon.position_b_lr_scale", 0.1, "rates.delta_position", 0.1),
        ("train.recon.rotaion_b_lr_scale", 0.1, "rates.delta_rotation", 0.1),
        ("train.recon.feature_b_lr_scale", 0.1, "rates.delta_colour", 0.1),
        ("train.recon.weight_module_lr", 0.1, "rates.network", 0.1),
        ("train.recon.lambda_l1", 0.8, "losses.l1", 0.8),
        ("train.recon.lambda_ssim", 0.2, "losses.ssim", 0.2),
        ("train.recon.lambda_alpha", 0.1, "losses.alpha", 0.1),
        ("train.recon.lambda_lpips", 0.05, "losses.lpips", 0.05),
        ("train.recon.lambda_sparsity", 0.01, "losses.sparsity", 0.01),
        ("train.recon.lambda_orth", 0.02, "losses.orthogonality", 0.02),
        ("train.recon.lambda_orth", None, "losses.orthogonality", 0.0),
        ("train.recon.random_bg_color", False, "background", "white"),
    ],
)
def test_a_key_reaches_our_setting(tmp_path: Path, key: str, value: Any, where: str, expected: Any) -> None:
    found: Any = config_of(tmp_path, changed(key, value))
    for name in where.split("."):
        found = getattr(found, name)
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("template_type", "FuHead", "FaceWarehouse"),
        ("model.use_mlp_proj", False, "use_mlp_proj false"),
        ("model.use_weight_proj", False, "use_weight_proj false"),
        ("model.num_basis_in", 50, "num_basis_in 50"),
        ("dataset.use_shape_weight", False, "use_shape_weight false"),
        ("train.recon.rotation_b_lr_scale", 0.5, "did you mean 'rotaion_b_lr_scale'"),
        ("train.batch_size", "ten", "batch_size has the wrong type"),
        ("trian", {}, "did you mean 'train'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(key: str, value: Any, told: str) -> None:
    with pytest.raises(BadConfig, match="offline") as caught:
        read_original(changed(key, value), "offline.yaml")
    assert told in str(caught.value)


def test_a_background_in_colour_is_refused() -> None:
    values = changed("train.recon.bg_color", [0.5, 0.5, 0.5])
    values["train"]["recon"]["random_bg_color"] = False
    with pytest.raises(BadConfig, match="over a colour"):
        read_original(values, "offline.yaml")


def test_keys_that_change_nothing_are_explained() -> None:
    told = " ".join(read_original(yaml.safe_load(OFFLINE), "offline.yaml").remarks)
    for key in ("pin_memory", "use_fast_forward", "position_lr_delay_mult"):
        assert key in told


def test_an_online_file_brings_its_sampler(tmp_path: Path) -> None:
    values = changed("train.iteration", None)
    values["train"] |= {"sampler": SAMPLER, "post_process": True, "post_process_iteration": 7_000}
    (tmp_path / "online.yaml").write_text(yaml.safe_dump(values))
    found = original_config(str(tmp_path / "online.yaml"))
    assert found is not None
    assert found.sampler is not None
    assert (found.sampler.ring, found.sampler.pool, found.sampler.max_pool_share) == (99, 500, 0.6)
    assert (found.sampler.age_coefficient, found.sampler.force_newest, found.polish_images) == (2.0, True, 7_000)


def test_our_own_files_stay_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(textwrap.dedent("size_px: 64\nlosses: {l1: 0.5}\n"))
    assert not is_original(yaml.safe_load((tmp_path / "mine.yaml").read_text()))
    assert original_config(str(tmp_path / "mine.yaml")) is None
    assert load_config(str(tmp_path / "mine.yaml")).losses.l1 == 0.5
