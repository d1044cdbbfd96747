"""The parts of an edit by themselves: cache, gates, the mouth's mask, the adversary, terms, generated views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.rendering.cameras import CameraBatch
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.text_edit.adversary import GAIN, Adversary, paired, patch_discriminator
from avatars.text_edit.around import completed, unseen_yaws_deg
from avatars.text_edit.cache import EditCache
from avatars.text_edit.config import EditConfig, EditorSettings, EditWeights, check_edit_config, check_prompted
from avatars.text_edit.gates import (
    painted_gate,
    read_weights,
    region_gate,
    region_names,
    static_gate,
    visible_gate,
)
from avatars.text_edit.generated import cameras_around, generated_motion, views_of
from avatars.text_edit.mouth import MouthMasks
from avatars.text_edit.surface import surface_of
from avatars.text_edit.terms import PictureTerms, mouth_terms
from shared.errors import BadConfig
from tests.tiny import front_camera, moving, tiny_head


@pytest.fixture(scope="module")
def avatar() -> RgbHeadAvatar:
    return RgbHeadAvatar(tiny_head(900))


def test_the_cache_keeps_camera_and_instant_apart_and_forgets_the_oldest() -> None:
    cache, generator = EditCache(3), torch.Generator().manual_seed(0)
    pictures = torch.rand(5, 4, 4, 3)
    for step, key in enumerate([(0, 0), (1, 0), (0, 1), (2, 2)]):
        cache.put(key, step, pictures[step], step)
    assert sorted(cache.entries) == [(0, 1), (1, 0), (2, 2)]
    assert cache.full
    assert (cache.picture((1, 0)) - pictures[1]).abs().max() < 0.003
    assert cache.oldest(1) == [(1, 0)]
    assert len(set(cache.draw(3, generator))) == 3
    assert len(cache.draw(5, generator)) == 5
    other = EditCache(3)
    other.restore(cache.state(), torch.device("cpu"))
    assert other.entries.keys() == cache.entries.keys()
    assert torch.equal(other.picture((2, 2)), cache.picture((2, 2)))
    with pytest.raises(IndexError):
        EditCache(1).draw(1, generator)


def test_neither_side_of_the_adversary_touches_the_other() -> None:
    config = EditConfig(adversarial=True, crop_px=0)
    adversary, generator = Adversary(config, torch.device("cpu"), 0), torch.Generator().manual_seed(0)
    shown, edited = torch.rand(1, 48, 48, 3, requires_grad=True), torch.rand(1, 48, 48, 3)
    before = [p.detach().clone() for p in adversary.network.parameters()]
    adversary.loss(paired(edited, shown - edited), generator).backward()
    assert shown.grad is not None
    assert float(shown.grad.abs().max()) > 0
    assert all(p.grad is None for p in adversary.network.parameters())
    shown.grad = None
    adversary.learn(paired(edited, shown - edited), paired(edited, edited - edited), generator)
    assert shown.grad is None
    assert any(not torch.equal(a, b) for a, b in zip(before, adversary.network.parameters(), strict=True))
    assert patch_discriminator(0)(torch.zeros(1, 6, 256, 256)).shape == (1, 1, 30, 30)


def test_the_discriminator_learns_to_tell_residuals_and_resumes() -> None:
    config = EditConfig(adversarial=True, crop_px=32)
    one, generator = Adversary(config, torch.device("cpu"), 0), torch.Generator().manual_seed(1)
    edited = torch.rand(2, 40, 40, 3)
    fake, real = paired(edited, torch.full_like(edited, 0.8)), paired(edited, 0.1 * torch.randn(2, 40, 40, 3))
    losses = [one.learn(fake, real, generator) for _ in range(30)]
    assert min(losses[-5:]) < 0.7 * losses[1]
    assert one.loss(real, generator) < one.loss(fake, generator)
    two = Adversary(config, torch.device("cpu"), 5)
    two.restore(one.state())
    marks = [torch.Generator().manual_seed(3) for _ in range(2)]
    first, second = (each.learn(fake, real, mark) for each, mark in zip((one, two), marks, strict=True))
    assert first == pytest.approx(second, rel=1e-5)
    torch.testing.assert_close(one.loss(fake, marks[0]), two.loss(fake, marks[1]))


def test_what_flickers_more_than_before_is_pushed_back() -> None:
    config = EditConfig(adversarial=True, crop_px=0, weights=EditWeights(adversarial=1.0))
    adversary, generator = Adversary(config, torch.device("cpu"), 0), torch.Generator().manual_seed(2)
    edited = torch.rand(1, 40, 40, 3, generator=generator)
    change = torch.full((3,), 0.1, requires_grad=True)  # of the whole person from one view to the next
    moves = torch.optim.Adam([change], lr=0.005)
    for _ in range(40):
        before = 0.01 * torch.randn(1, 40, 40, 3, generator=generator)
        fake = paired(edited, before + change, GAIN)
        adversary.learn(fake, paired(edited, before, GAIN), generator)
        moves.zero_grad()
        if adversary.warm:
            adversary.loss(fake, generator).backward()
            moves.step()
    assert change.detach().norm() < 0.6 * 0.1 * 3**0.5


def test_gates_of_regions_and_paint(avatar: RgbHeadAvatar, tmp_path: Path) -> None:
    surface = surface_of(avatar)
    hair = region_gate(surface, "hair")
    groups = [avatar.model.binding.group_names[index] for index in avatar.model.binding.group.tolist()]
    on_hair = torch.tensor([name == "skin/hair1" for name in groups])
    inside = torch.tensor([name in ("teeth", "tongue") for name in groups])
    assert hair[on_hair].mean() > 3 * hair[~on_hair].mean()
    assert hair[inside].max() < 0.1
    assert static_gate(avatar, surface, EditConfig(), None)[inside].max() < 0.05
    assert static_gate(avatar, surface, EditConfig(keep_mouth=False), None).min() == 1
    chosen = EditConfig(gate="hard", keep_mouth=False, settings=EditorSettings(region="hair"))
    assert set(static_gate(avatar, surface, chosen, None).unique().tolist()) == {0.0, 1.0}
    proxy = avatar.proxy()
    painted = (proxy.vertices[:, 0] > 0).astype(np.float32)
    gate = painted_gate(avatar, surface, painted)
    left = surface.positions[:, 0] > 0.01
    assert gate[left].mean() > 0.95
    assert gate[surface.positions[:, 0] < -0.01].mean() < 0.05
    with pytest.raises(BadConfig, match="do not fit"):
        painted_gate(avatar, surface, painted[:-1])
    np.save(tmp_path / "w.npy", painted)
    np.savez(tmp_path / "w.npz", weights=painted)
    for name in ("w.npy", "w.npz"):
        assert np.array_equal(read_weights(tmp_path / name), painted)
    (tmp_path / "bad.npy").write_bytes(b"no numbers")
    with pytest.raises(BadConfig, match="is damaged"):
        read_weights(tmp_path / "bad.npy")
    assert region_names(" hair, Lips ,") == ("hair", "lips")
    with pytest.raises(BadConfig, match="hair"):
        region_names("hairs")


def test_gates_of_visibility() -> None:
    shares = torch.tensor([[0.0, 0.001, 0.1, 0.9], [0.0, 0.0, 0.0, 0.0]])
    assert visible_gate(shares, "exact", 6.0).tolist() == pytest.approx([0.0, 0.005, 0.5, 1.0])
    soft = visible_gate(shares, "mask", 6.0)
    assert soft[3] == 1
    assert soft[0] < 0.003
    assert visible_gate(shares, "hard_mask", 6.0).tolist() == [0, 0, 1, 1]
    assert visible_gate(shares, "off", 6.0).tolist() == [1, 1, 1, 1]


def test_the_mouths_inside_is_seen_when_it_is_open(avatar: RgbHeadAvatar) -> None:
    masks = MouthMasks(avatar)
    motion, camera = moving(4, avatar.model), CameraBatch.from_cameras([front_camera(96)] * 4)
    found = masks.mask(motion["rotations"], motion["translations"], motion["expressions"], camera)
    areas = found.flatten(1).sum(1)
    assert areas[0] == 0
    assert areas[2] > 10
    rows = found[2].any(1).nonzero()[:, 0]
    assert 48 < int(rows.min()) < int(rows.max()) < 90  # below the middle of a face


def test_a_changed_mouth_costs_by_its_own_area() -> None:
    kept, mask = torch.full((1, 64, 64, 3), 0.5), torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 30:36, 20:40] = True
    shown = (kept + 0.1 * mask[..., None]).requires_grad_()
    terms = mouth_terms(shown, kept, mask, EditWeights(mouth_l1=10.0))
    assert float(terms["mouth_l1"].detach()) == pytest.approx(1.0, rel=1e-4)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert shown.grad is not None
    assert shown.grad[0, :20].abs().max() == 0
    assert mouth_terms(shown, kept, torch.zeros_like(mask), EditWeights()) == {}


def test_structure_takes_the_place_of_lpips_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    terms = PictureTerms(EditWeights(lpips_folder="/nonexistent"), 1.0, torch.device("cpu"))
    assert "take the place of LPIPS" in caplog.text
    shown = torch.rand(1, 32, 32, 3)
    assert set(terms(shown, shown.clone(), 0.0)) == {"edit_l1", "edit_structure", "edit_gradient"}


def test_views_of_an_avatar_alone(avatar: RgbHeadAvatar) -> None:
    motion = generated_motion(avatar, 5, 0)
    assert np.array_equal(motion.rotations[0], avatar.rest_pose)
    assert len({tuple(row) for row in motion.expressions.round(3)}) == 5
    assert motion.expressions.max() <= 1
    views = views_of(
        avatar, "x", instants=3, orbit_cameras=4, most=6, size_px=48, seed=0, device="cpu", provenance={}, licence=""
    )
    assert len(views.split("test")) >= 1
    assert {views.images[index].frame for index in views.split("train")} == {0, 1, 2}
    for index in range(len(views.images)):
        alpha = views.rgba(index, (48, 48))[..., 3] / 255
        assert 0.15 < alpha.mean() < 0.8
        assert alpha[:2].max() < 0.2  # the top of the head is inside the picture
    assert len(cameras_around(avatar, 1, 32, "cpu")) == 1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(BadConfig, match="prompt"):
        check_prompted(EditConfig(prompt="  "))
    with pytest.raises(BadConfig, match="edit_interval"):
        check_edit_config(EditConfig(edit_interval=0))


def test_a_capture_from_ahead_gets_views_of_the_avatars_back(avatar: RgbHeadAvatar) -> None:
    ahead = views_of(
        avatar, "x", instants=2, orbit_cameras=2, most=4, size_px=40, seed=0, device="cpu", provenance={}, licence=""
    )
    whole = completed(avatar, ahead, 3, 40, "cpu")
    assert len(whole.images) == len(ahead.images) + 3
    centre = np.array([0.0, -0.1, 0.75])
    for index in range(len(ahead.images), len(whole.images)):
        assert whole.camera_of(index).world_from_camera[1, 3] > centre[1]  # behind: people face -y
        alpha = whole.rgba(index, (40, 40))[..., 3] / 255
        assert 0.1 < alpha.mean() < 0.9
    assert np.array_equal(whole.rgba(0, (40, 40)), ahead.rgba(0, (40, 40)))
    assert unseen_yaws_deg(whole, centre) != unseen_yaws_deg(ahead, centre)
    assert completed(avatar, ahead, 0, 40, "cpu") is ahead
