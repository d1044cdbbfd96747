"""Posed to canonical and back: roots of skinning, the weight volume, the guide's starts, and places with two roots."""

from __future__ import annotations

import numpy as np
import torch

from avatars.relit_field import cpu_roots
from avatars.relit_field.body import a_pose
from avatars.relit_field.fields import Fields
from avatars.relit_field.inverse_skinning import canonical_roots, part_of_joints, roots_plainly
from avatars.relit_field.settings import FieldSettings, GridSettings
from avatars.skinning.affine import inverse_affine
from tests.avatars.relit_field.bodies import lively_pose, small_body


def surface_points(count: int, off_m: float = 0.0) -> torch.Tensor:
    """Canonical places on the template (moved along a random direction by up to off_m)."""
    body = small_body()
    rng = np.random.default_rng(0)
    places = body.surface[rng.permutation(len(body.surface))[:count]]
    return torch.from_numpy(places + rng.uniform(-1, 1, places.shape) * off_m).float()


def test_the_canonical_pose_has_arms_down_and_legs_apart() -> None:
    body = small_body()
    rest = body.template.arrays.vertices
    width = lambda v: v[:, 0].max() - v[:, 0].min()  # noqa: E731
    assert width(body.surface) < 0.85 * width(rest)
    assert abs(float(a_pose(body.template.arrays.joint_names).abs().max()) - 0.8) < 1e-6
    tall = body.surface.max(0) - body.surface.min(0)
    assert tall.argmax() == 2


def test_weights_are_a_partition_and_near_the_templates() -> None:
    body = small_body()
    places = surface_points(300)
    weights = body.volume.at(places)
    torch.testing.assert_close(weights.sum(1), torch.ones(300), atol=1e-5, rtol=0)
    assert float(weights.min()) >= 0
    names = body.template.arrays.joint_names
    head = torch.tensor([[0.0, float(body.centre[1]), float(body.surface[:, 2].max()) - 0.03]])
    assert names[int(body.volume.at(head).argmax())] == "head"


def test_posed_places_find_their_canonical_ones() -> None:
    """Most exactly; where skinning folds over itself another root may be as right, so the skinned place is compared."""
    body = small_body()
    pose = body.posed(*lively_pose(body))
    canonical = surface_points(800, 0.02)
    posed = pose.blend.skinned(canonical)
    roots = canonical_roots(posed, pose.blend, pose.inverse, pose.guide, body.settings)
    assert float(roots.real.any(1).float().mean()) > 0.985
    back = pose.blend.skinned(roots.places[roots.real])
    wanted = posed[:, None].expand(-1, roots.real.shape[1], -1)[roots.real]
    assert float((back - wanted).norm(dim=-1).max()) < body.settings.accepted_m
    nearest = (roots.places - canonical[:, None]).norm(dim=-1).masked_fill(~roots.real, 9.0).amin(1)
    assert float((nearest < 2e-3).float().mean()) > 0.95


def test_the_canonical_pose_is_the_identity() -> None:
    body = small_body()
    pose = body.posed(body.rotations, torch.zeros(3))
    places = surface_points(100, 0.03)
    torch.testing.assert_close(pose.blend.skinned(places), places, atol=2e-5, rtol=0)
    turned = body.turned(pose, places, places)
    torch.testing.assert_close(turned, places, atol=1e-4, rtol=0)


def test_a_rigid_motion_is_undone_exactly() -> None:
    body = small_body()
    rotations = body.rotations.clone()
    rotations[0] = torch.tensor((0.0, 0.0, 1.2))
    pose = body.posed(rotations, torch.tensor((1.0, 2.0, 0.5)))
    places = surface_points(200, 0.03)
    posed = pose.blend.skinned(places)
    fields = Fields(
        FieldSettings(grid=GridSettings(levels=2, table_log2=8, base=4)), body.centre, body.half_m, torch.Generator()
    )
    found, ok = body.canonical(pose, posed, fields, None)
    assert bool(ok.all())
    torch.testing.assert_close(found, places, atol=1e-4, rtol=0)
    assert not body.canonical(pose, posed + 50, fields, None)[1].any()


def test_the_guide_never_excludes_what_is_near() -> None:
    body = small_body()
    pose = body.posed(*lively_pose(body))
    posed = pose.blend.skinned(surface_points(400, 0.03))
    assert bool(pose.guide.near(posed, 0.1).all())
    assert not bool(pose.guide.near(posed + torch.tensor((0.0, 0.0, 3.0)), 0.1).any())


def test_parts_follow_the_tree() -> None:
    names = ("pelvis", "spine1", "left_hip", "left_knee", "left_foot")
    assert part_of_joints(names, (-1, 0, 0, 2, 3)) == [0, 0, 1, 2, 2]
    assert part_of_joints(("root", "neck"), (-1, 0)) == [0, 0]


def test_affine_inverse_of_a_collapsed_blend_is_finite() -> None:
    flat = torch.zeros(1, 3, 4)
    assert torch.isfinite(inverse_affine(flat)).all()
    made = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    back = inverse_affine(made)
    torch.testing.assert_close(back[..., :3] @ made[..., :3], torch.eye(3).expand(5, 3, 3), atol=1e-4, rtol=1e-4)


def test_canonical_places_follow_a_change_of_the_pose() -> None:
    """Where a fixed posed place comes from, by its slope and by doing it: exactly for shifts, nearly for turns."""
    body = small_body()
    rotations, translations = lively_pose(body)
    knee = body.template.arrays.joint_names.index("right_knee")
    canonical = surface_points(300, 0.01)
    posed = body.posed(rotations, translations).blend.skinned(canonical)
    turn, shift = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    pose = body.posed(rotations.index_add(0, torch.tensor([knee]), turn[None]), translations + shift)
    follows = body.following(pose, canonical)
    torch.testing.assert_close(follows.detach(), canonical)
    for number, (parameter, step) in enumerate(((turn, 2e-3), (shift, 1e-3))):
        for axis in range(3):
            moved = []
            for sign in (step, -step):
                turned, shifted = rotations.clone(), translations.clone()
                (turned[knee] if number == 0 else shifted)[axis] += sign
                other = body.posed(turned, shifted)
                roots = canonical_roots(posed, other.blend, other.inverse, other.guide, body.settings)
                off = (roots.places - canonical[:, None]).norm(dim=-1).masked_fill(~roots.real, 9.0)
                moved.append(roots.places[torch.arange(len(posed)), off.argmin(1)])
            near = torch.stack([(place - canonical).norm(dim=-1) < 0.01 for place in moved]).all(0)
            wanted = (moved[0] - moved[1]) / (2 * step) * near[:, None]
            (along,) = torch.autograd.grad((follows * wanted).sum(), parameter, retain_graph=True)
            assert float(near.float().mean()) > 0.9
            assert abs(float(along[axis] / wanted.square().sum()) - 1) < 0.1, (number, axis)


def test_compiled_roots_and_blends_are_the_plain_ones() -> None:
    body = small_body()
    pose = body.posed(*lively_pose(body))
    canonical = surface_points(60, 0.02)
    torch.testing.assert_close(pose.blend.at(canonical), pose.blend.at_plainly(canonical), atol=1e-5, rtol=1e-5)
    weighed = (body.volume.at(canonical) @ pose.transforms.flatten(1)).view(-1, 3, 4)
    torch.testing.assert_close(pose.blend.at(canonical), weighed, atol=1e-4, rtol=1e-4)
    posed = pose.blend.skinned(canonical)
    starts = pose.guide.starts[pose.guide.rows(posed)[0]]
    given = (posed, starts, pose.inverse, pose.blend, body.settings)
    (plain, missed), (ours, off) = roots_plainly(*given), cpu_roots.roots(*given)
    sure = missed < 1e-4
    assert float(sure.float().mean()) > 0.3
    torch.testing.assert_close(ours[sure], plain[sure], atol=1e-4, rtol=1e-4)
    assert float((off[sure] - missed[sure]).abs().max()) < 2e-5
    nothing = (posed[:0], starts[:0], *given[2:])
    assert cpu_roots.roots(*nothing)[0].shape == (0, starts.shape[1], 3)
