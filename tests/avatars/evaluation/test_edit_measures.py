"""Figures of edits: known values, degenerate input, and CLIP's with a tiny random model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatars.evaluation.edit_clip import Clip, clip_figures, find_clip, measure_clip
from avatars.evaluation.edit_measures import flicker, hidden_movement, identity_outside
from shared.errors import BadConfig, EffigyError
from tests.tiny_editors import tiny_clip


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_movement_of_hidden_gaussians_is_the_mean_length_of_their_change() -> None:
    before = torch.zeros(4, 2)
    after = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 10.0], [0.0, 30.0]])
    found = hidden_movement(before, after, torch.tensor([True, True, False, False]))
    assert (found.hidden, found.shown, found.ratio) == (2.5, 20.0, 0.125)
    nothing = hidden_movement(before, before, torch.zeros(4, dtype=torch.bool))
    assert math.isnan(nothing.hidden)
    assert math.isnan(nothing.ratio)
    with pytest.raises(EffigyError, match="do not fit"):
        hidden_movement(before, after[:3], torch.zeros(4))


def sequence() -> tuple[Tensor, Tensor]:
    """A plane that slides 2 px to the right in each of 3 pictures of 8 x 16: its places [3, 8, 16, 3] m and alpha."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(16.0), indexing="ij")
    place = torch.stack([torch.stack((columns - 2 * t, rows, torch.zeros(8, 16)), -1) for t in range(3)]) * 0.001
    return place, torch.ones(3, 8, 16, 1)


def test_an_edit_that_moves_with_the_person_does_not_flicker_and_one_that_stays_in_the_picture_does() -> None:
    place, alpha = sequence()
    unedited = random(3, 8, 16, 3)
    bound = torch.sin(place * 900)
    found = flicker(unedited + bound, unedited, place, alpha)
    assert found.difference == pytest.approx(0, abs=1e-6)
    assert found.share == 14 / 16
    fixed = torch.sin(place[:1] * 900).expand(3, -1, -1, -1)
    assert flicker(unedited + fixed, unedited, place, alpha).difference > 0.1
    steps = torch.tensor([0.0, 0.2, 0.4]).view(3, 1, 1, 1)
    stepping = flicker(0.5 + steps + 0 * unedited, 0.5 + 0 * unedited, place, alpha)
    assert (stepping.difference, stepping.excess) == pytest.approx((0.2, 0.2), abs=1e-6)
    calmed = flicker(0.5 + 0 * unedited, 0.5 + steps + 0 * unedited, place, alpha)
    assert (calmed.difference, calmed.excess) == pytest.approx((0.2, 0.0), abs=1e-6)


def test_flicker_of_nothing_is_not_a_number() -> None:
    place, alpha = sequence()
    pictures = random(3, 8, 16, 3)
    assert math.isnan(flicker(pictures, pictures, place, alpha * 0).difference)
    assert math.isnan(flicker(pictures[:1], pictures[:1], place[:1], alpha[:1]).difference)
    apart = place + torch.arange(3.0).view(3, 1, 1, 1)
    assert flicker(pictures, pictures, apart, alpha).share == 0
    with pytest.raises(EffigyError, match="do not fit"):
        flicker(pictures, pictures, place[:, :4], alpha)


def test_identity_counts_only_what_should_have_stayed() -> None:
    before = random(1, 24, 24, 3)
    where = torch.zeros(1, 24, 24, 1)
    where[:, :12] = 1
    after = torch.where(where > 0.5, before + 0.5, before)
    inside = identity_outside(before, after, where)
    assert inside.psnr_db == 100.0
    assert inside.share == 0.5
    assert inside.ssim < 1  # the window reaches over the border
    moved = identity_outside(before, before + 0.1, torch.zeros_like(where), torch.ones_like(where))
    assert moved.psnr_db == pytest.approx(20.0, abs=1e-3)
    assert identity_outside(before, before, where).ssim == pytest.approx(1, abs=1e-6)
    assert math.isnan(identity_outside(before, after, torch.ones_like(where)).psnr_db)


def test_clip_figures_are_the_cosines_they_are_called() -> None:
    vectors = {0.0: (1.0, 0.0, 0.0), 0.5: (0.0, 1.0, 0.0), 1.0: (0.0, 0.0, 1.0)}

    def features(images: Tensor) -> Tensor:
        return torch.tensor([vectors[float(image.mean())] for image in images])

    before = torch.zeros(2, 4, 4, 3)
    edited = torch.stack((torch.full((4, 4, 3), 0.5), torch.ones(4, 4, 3)))
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = clip_figures(edited, before, texts, features)
    assert found.similarity == pytest.approx(0.5)
    assert found.direction == pytest.approx((1 + 0.5) / 2)
    assert found.consistency == pytest.approx(0)
    assert found.directional_consistency == pytest.approx(0.5)
    assert math.isnan(clip_figures(edited[:1], before[:1], texts, features).consistency)


def test_clip_from_a_folder_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason='CLIP is tried where "effigy[edit]" is installed')
    (tmp_path / "words").mkdir()
    clip = Clip(tiny_clip(tmp_path / "clip"))
    pictures = random(3, 20, 30, 3)
    assert clip.of_images(pictures).norm(dim=1) == pytest.approx(1, abs=1e-5)
    assert clip.of_texts(["one", "two"]).shape == (2, 8)
    found = measure_clip(clip, pictures, pictures, "gold")
    assert abs(found.similarity) <= 1
    assert found.consistency > 0.5
    assert found.direction == 0
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find_clip() is None
    with pytest.raises(BadConfig, match="no CLIP model"):
        Clip(tmp_path / "words")
