"""Presets and overrides: every wrong key or type names the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.training.config import load_config, presets
from shared.errors import BadConfig


def test_every_preset_loads_and_says_what_it_is_for() -> None:
    found = presets()
    assert {"demo_cpu", "rgb_head_offline", "rgb_head_quality", "tiny"} <= set(found)
    for name, text in found.items():
        assert load_config(name).description == text
        assert len(text) > 10


def test_the_published_schedule_is_kept() -> None:
    config = load_config("rgb_head_offline")
    assert (config.schedule.images, config.schedule.batch, config.schedule.deltas_from) == (50000, 10, 3000)
    rates = config.rates
    assert (rates.position, rates.position_final, rates.position_until) == (8e-4, 8e-6, 30000)
    assert (rates.opacity, rates.scale, rates.rotation, rates.colour) == (0.25, 0.025, 0.005, 0.0125)
    assert (rates.delta_position, rates.delta_rotation, rates.delta_colour, rates.network) == (0.05, 0.5, 0.5, 1e-3)
    assert (config.model.frame, config.model.blendshapes, config.model.hidden) == ("uv", 20, 128)
    assert (config.losses.l1, config.losses.ssim, config.losses.alpha) == (1.0, 0.0, 0.0)


def test_overrides_reach_nested_values() -> None:
    config = load_config(
        "tiny",
        {
            "schedule.images": "1_000",
            "rates.position": "1e-3",
            "model.density": "{skin: 2, teeth: 0}",
            "schedule.sizes_px": "[16]",
            "schedule.stages_from": "[0]",
            "background": "white",
        },
    )
    assert config.schedule.images == 1000
    assert config.rates.position == 1e-3
    assert config.model.density == {"skin": 2.0, "teeth": 0.0}
    assert config.schedule.sizes_px == (16,)
    assert config.background == "white"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"schedule.image": "3"}, "did you mean 'images'"),
        ({"shedule.images": "3"}, "did you mean 'schedule'"),
        ({"seed.deep": "3"}, "no group of settings"),
        ({"schedule.images": "many"}, "wrong type.*whole number"),
        ({"schedule.images": "2.5"}, "wrong type.*whole number"),
        ({"schedule.images": "true"}, "wrong type.*whole number"),
        ({"rates.position": "fast"}, "wrong type.*a number"),
        ({"rates.position": ".inf"}, "finite"),
        ({"schedule.colour_from_images": "1"}, "true or false"),
        ({"background": "wite"}, "did you mean 'white'"),
        ({"model.density": "[1]"}, "names and values"),
        ({"schedule.sizes_px": "16"}, "a list"),
        ({"schedule.sizes_px": "[16, 32, 64]"}, "do not fit"),
        ({"schedule.stages_from": "[0, -1]"}, "out of order"),
        ({"schedule": "3"}, "a group of settings"),
        ({"schedule.images": "0"}, "too small"),
        ({"model.initial_opacity": "1.0"}, "too large"),
        ({"seed": "[1"}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        load_config("tiny", overrides)


def test_files_serve_as_presets_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("description: mine\nseed: 4\n")
    assert load_config(str(path)).seed == 4
    path.write_text("- 1\n")
    with pytest.raises(BadConfig, match="no settings"):
        load_config(str(path))
    path.write_text("a: [")
    with pytest.raises(BadConfig, match="cannot be read"):
        load_config(str(path))
    with pytest.raises(BadConfig, match="did you mean 'demo_cpu'"):
        load_config("demo_cup")
