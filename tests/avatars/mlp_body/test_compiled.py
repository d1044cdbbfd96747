"""The compiled CPU forms against the plain torch ones: values, gradients, and any number of threads."""

from __future__ import annotations

import pytest
import torch

from avatars.mlp_body import cpu_express
from avatars.mlp_body.express import seen_colours
from avatars.mlp_body.model import Drive, MlpBody
from tests.tiny_body import body_motion, tiny_body

EYES = torch.tensor([[0.0, -2, 1], [1, 2, 1], [2, 0, 0]])


@pytest.fixture(scope="module")
def model() -> MlpBody:
    found = tiny_body()
    with torch.no_grad():
        found.neutral[6:10, 3] = 0
        found.bases[:, 6:10, 3] = 0
        found.neutral[0, 5] = -20.0  # a colour that is cut at 0
    return found


def found_by(model: MlpBody, *, active: bool, tinted: bool, refined: bool) -> tuple[list, dict]:
    """What a model makes of two poses seen by three cameras, and the gradients of a fixed random sum of it."""
    turned, moved, expressed = (torch.from_numpy(value) for value in body_motion(2).values())
    turned = turned.clone().requires_grad_(refined)
    drive = Drive(model.theta(turned.detach(), expressed), model.placed(turned, moved, expressed))
    found, controls = model(drive, active=active, view_dependent=tinted)
    colours = seen_colours(found, torch.tensor([0, 1, 1]), EYES)
    parts = [found.means, found.quats, found.scales, found.opacities, found.base, colours, controls]
    draw = torch.Generator().manual_seed(5)
    total = sum((part * torch.randn(part.shape, generator=draw)).sum() for part in parts)
    named = dict(model.named_parameters()) | ({"turned": turned} if refined else {})
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [part.detach() for part in parts], dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize(
    ("active", "tinted", "refined"),
    [(True, True, True), (True, False, False), (False, False, False), (False, True, False)],
)
def test_values_and_gradients_are_the_references(
    model: MlpBody, monkeypatch: pytest.MonkeyPatch, active: bool, tinted: bool, refined: bool
) -> None:
    mine, gradients = found_by(model, active=active, tinted=tinted, refined=refined)
    monkeypatch.setattr(cpu_express, "usable", lambda tensor: False)
    plain, wanted = found_by(model, active=active, tinted=tinted, refined=refined)
    for value, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(value, other, atol=2e-6, rtol=1e-5)
    assert gradients.keys() == wanted.keys()
    for name, other in wanted.items():
        assert (gradients[name] is None) == (other is None), name
        if other is not None:
            scale = other.abs().max().clamp_min(1e-6)
            torch.testing.assert_close(gradients[name] / scale, other / scale, atol=1e-5, rtol=0, msg=name)


def test_the_number_of_threads_changes_no_bit(model: MlpBody) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = found_by(model, active=True, tinted=True, refined=True)
        torch.set_num_threads(3)
        three = found_by(model, active=True, tinted=True, refined=True)
    finally:
        torch.set_num_threads(before)
    for first, second in zip(one[0], three[0], strict=True):
        assert torch.equal(first, second)
    for name in ("neutral", "bases", "sh1_bases", "wiggle", "control_offsets"):
        assert torch.equal(one[1][name], three[1][name]), name
