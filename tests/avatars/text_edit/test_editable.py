"""Every method's avatars under edit: what is trained gets a gradient, what is kept stays, and it is stored again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar import Avatar
from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.gaussian_head.avatar import GaussianHeadAvatar, make_gaussian_head
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.relit_head.avatar import RelitHeadAvatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.text_edit.config import EditRates
from avatars.text_edit.editable import EDITABLES, Motion, editable_of
from avatars.text_edit.run import METHODS
from avatars.text_edit.surface import rest_vertices
from avatars.text_edit.trainer import gate_of
from shared.errors import BadAvatar
from tests.avatars.relit_files import painted_avatar
from tests.avatars.relit_head.files import lit_head, side_light
from tests.avatars.surface_body.people import small_avatar
from tests.tiny import tiny_head
from tests.tiny_body import tiny_body


def gaussian_head() -> Avatar:
    """Gaussians on the open template's faces, with colours by direction."""
    head = tiny_head(300)
    draw, count = torch.Generator().manual_seed(0), 400
    reference = head.head.reference()
    raw = {
        "positions": 0.1 * torch.randn(count, 3, generator=draw),
        "rotations": torch.randn(count, 4, generator=draw),
        "scales": torch.full((count, 3), -0.3),
        "opacities": torch.full((count,), 2.0),
        "sh": 0.3 * torch.randn(count, 4, 3, generator=draw),
        "face": torch.randint(0, 2000, (count,), generator=draw),
    }
    return GaussianHeadAvatar(make_gaussian_head(reference, raw, None, np.array(head.rest_pose)))


def relit_head() -> Avatar:
    return RelitHeadAvatar(lit_head(), torch.from_numpy(np.array(side_light(1.0).radiance)))


MAKERS: dict[str, Callable[[], Avatar]] = {
    "rgb_head": lambda: RgbHeadAvatar(tiny_head(400)),
    "relit_head": relit_head,
    "gaussian_head": gaussian_head,
    "mlp_body": lambda: MlpBodyAvatar(tiny_body()),
    "relit_body": lambda: painted_avatar(800, 4),
    "surface_body": small_avatar,
}


def motion_of(avatar: Avatar) -> Motion:
    rig = avatar.rig()
    turned = torch.from_numpy(np.repeat(avatar.rest_pose[None], 2, 0))
    turned[1, -1] += 0.1
    return turned, torch.zeros(2, 3), torch.zeros(2, len(rig.expression_names))


@pytest.mark.parametrize("method", list(MAKERS))
def test_an_avatar_can_be_edited_and_stored(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "parent.avatar"
    picture = np.full((8, 8, 4), 255, np.uint8)
    save_avatar(folder, MAKERS[method](), About("parent"), picture)
    parent, avatar = load_avatar(folder), load_avatar(folder)
    motion = motion_of(avatar)
    before = parent.pose(*motion)
    editable = editable_of(avatar, EditRates(), motion)
    posed = editable.posed(torch.tensor([0, 1]))
    for name in ("means", "scales", "opacities", "colours"):
        torch.testing.assert_close(getattr(posed, name), getattr(before, name), rtol=2e-3, atol=2e-4)
    positions = torch.tensor([[0.0, -3.0, 1.0]] * 2)
    loss = posed.seen_from(positions).colours.sum() + posed.opacities.sum() + posed.means.sum() + posed.scales.sum()
    parameters = [entry.parameter for entry in editable.trained]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    count = posed.count
    gate = (torch.arange(count) < count // 2).float()
    colours = 0
    with torch.no_grad():
        for entry, gradient in zip(editable.trained, gradients, strict=True):
            assert entry.rate > 0
            assert entry.parameter.shape[entry.axis] == count
            if gradient is not None and float(gradient.abs().max()) > 0:
                colours += entry.name in ("colours", "base", "neutral", "albedo")
                old = entry.parameter.clone()
                stepped = entry.parameter + entry.rate * gradient.sign()
                entry.parameter.copy_(torch.lerp(old, stepped, gate_of(entry, gate).expand_as(old)))
                moved = (entry.parameter != old).movedim(entry.axis, 0).reshape(count, -1).any(1)
                assert moved[: count // 2].any()
                assert not moved[count // 2 :].any()
    assert colours == 1
    child = editable.finish()
    assert child.method == method
    child_folder = tmp_path / "child.avatar"
    save_avatar(child_folder, child, About("child"), picture)
    stored = load_avatar(child_folder).pose(*motion)
    still = slice(count // 2, None)
    torch.testing.assert_close(stored.colours[:, still], before.colours[:, still], rtol=1e-3, atol=1e-4)
    assert (stored.colours[:, : count // 2] - before.colours[:, : count // 2]).abs().max() > 1e-3


def test_deltas_are_frozen_unless_asked_for() -> None:
    motion = motion_of(RgbHeadAvatar(tiny_head(60)))
    frozen = editable_of(RgbHeadAvatar(tiny_head(60)), EditRates(), motion)
    adapted = editable_of(RgbHeadAvatar(tiny_head(60)), EditRates(deltas=0.1, position=0.0), motion)
    assert not any("deltas" in entry.name for entry in frozen.trained)
    names = [entry.name for entry in adapted.trained]
    assert "colour_deltas" in names
    assert "positions" not in names


def test_other_methods_are_refused() -> None:
    avatar = RgbHeadAvatar(tiny_head(60))
    avatar.method = "sculpture"
    with pytest.raises(BadAvatar, match="cannot be edited"):
        editable_of(avatar, EditRates(), motion_of(avatar))
    assert tuple(EDITABLES) == METHODS


@pytest.mark.parametrize("method", ["relit_body", "mlp_body"])
def test_a_body_has_all_vertices_of_its_template_at_rest(method: str) -> None:
    avatar = MAKERS[method]()
    arrays = avatar.template().open()
    found = rest_vertices(avatar, arrays)
    assert found.shape == arrays.vertices.shape
    assert np.isfinite(found).all()
