"""Settings of live training: presets, overrides, RGBAvatar's own file, and refusals that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.online.config import load_online_config, online_presets
from avatars.online.sampler import SamplerConfig
from shared.errors import BadConfig

ORIGINAL = """
data_dir: data
output_dir: output
template_type: Flame
dataset: {pin_memory: true}
model: {tex_size: 256, num_basis_in: 129, num_basis_blend: 20, init_scaling: 0.0008, init_opacity: 0.5}
train:
  batch_size: 10
  post_process: true
  post_process_iteration: 10_000
  sampler: {local_pool_max_size: 120, global_pool_max_size: 900, max_global_ratio: 0.6, force_opt_current: true}
  recon: {blend_start_iter: 0, position_lr_max_steps: 30_000, rotaion_b_lr_scale: 0.5}
"""


@pytest.mark.parametrize("name", ["online", "online_rgbavatar", "online_cpu", "online_tiny"])
def test_presets_learn_blendshapes_from_the_first_image(name: str) -> None:
    config = load_online_config(name)
    assert config.training.schedule.deltas_from == 0
    assert online_presets()[name] == config.description
    assert load_online_config(name, {"sampler.pool": "7", "training.seed": "3"}).sampler.pool == 7


def test_a_preset_is_the_papers() -> None:
    config = load_online_config("online_rgbavatar")
    assert config.sampler == SamplerConfig()
    assert (config.training.schedule.batch, config.training.model.blendshapes) == (10, 20)
    assert (config.training.rates.position, config.training.rates.position_until) == (8e-4, 30000)


def test_rgbavatars_own_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "online.yaml").write_text(ORIGINAL, encoding="utf-8")
    config = load_online_config(str(tmp_path / "online.yaml"), {"frame_px": "256"})
    assert config.sampler == SamplerConfig(ring=120, pool=900, max_pool_share=0.6, force_newest=True)
    assert (config.post_process_images, config.frame_px) == (10_000, 256)
    assert config.training.schedule.deltas_from == 0
    offline = ORIGINAL.replace("  sampler:", "  # sampler:")
    (tmp_path / "offline.yaml").write_text(offline, encoding="utf-8")
    with pytest.raises(BadConfig, match="configuration of offline training"):
        load_online_config(str(tmp_path / "offline.yaml"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"sampler.pol": "3"}, "did you mean 'pool'"),
        ({"snapshot_every": "0"}, "snapshot_every is out of range"),
        ({"min_mask_iou": "1.5"}, "min_mask_iou is out of range"),
        ({"sampler.ring": "4"}, "at least the batch of 10"),
        ({"sampler.pool_kind": "sorted"}, "reservoir"),
        ({"training.schedule.batch": "0"}, "schedule.batch"),
    ],
)
def test_wrong_values_are_named(overrides: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        load_online_config("online", overrides)
