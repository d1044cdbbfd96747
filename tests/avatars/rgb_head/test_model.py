"""The RGB head: placement by hand, blending, gradients, clipping, batches."""

from __future__ import annotations

import pytest
import torch

from avatars.rgb_head.driving import DrivingRange
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.model import SH0, RgbHead
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import BadTemplate
from tests.tiny import bust_reference, moving, still_motion, tiny_head


@pytest.fixture
def model() -> RgbHead:
    head = tiny_head(300, blendshapes=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (head.position_deltas, head.rotation_deltas, head.colour_deltas):
            parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    return head


@pytest.mark.parametrize("frame", ["uv", "orthonormal"])
def test_one_gaussian_is_placed_as_the_formula_says(frame: str) -> None:
    model = new_head(bust_reference(), RgbHeadConfig(target_gaussians=200, blendshapes=2, frame=frame), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.seen.fill_(True)
        for parameter in (model.positions, model.rotations, model.position_deltas, model.rotation_deltas):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        model.colours.fill_(3.0)
        model.colour_deltas.copy_(torch.tensor([1.0, -9.0])[:, None, None].expand_as(model.colour_deltas))
        motion = moving(2, model)
        posed = model.pose(**motion)
        surface = model.surface(model.head.posed_vertices(**motion))
        psi = model.weights(model.theta(**motion))
        row = 17
        for item in range(2):
            local = model.positions[row] + psi[item] @ model.position_deltas[:, row]
            expected = surface.frames[item, row] @ local + surface.points[item, row]
            torch.testing.assert_close(posed.means[item, row], expected)
            raw = model.rotations[row] + psi[item] @ model.rotation_deltas[:, row]
            w, x, y, z = (raw / raw.norm()).tolist()
            turn = torch.tensor(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                ]
            )
            if frame == "orthonormal":
                w, x, y, z = posed.quats[item, row].tolist()
                found = torch.tensor([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
                torch.testing.assert_close(found, (surface.frames[item, row] @ turn)[:, 0], atol=1e-5, rtol=1e-4)
            colour = SH0 * (3.0 + psi[item] @ torch.tensor([1.0, -9.0])) + 0.5
            torch.testing.assert_close(posed.colours[item, row], colour.clamp_min(0).expand(3))
        torch.testing.assert_close(posed.quats.norm(dim=-1), torch.ones(2, len(model)))
        torch.testing.assert_close(posed.scales[1], model.scales.exp())
        torch.testing.assert_close(posed.opacities[0], torch.sigmoid(model.opacities))


def test_a_batch_equals_its_frames(model: RgbHead) -> None:
    motion = moving(4, model)
    with torch.no_grad():
        together = model.pose(**motion)
        for frame in range(4):
            alone = model.pose(**{name: value[frame : frame + 1] for name, value in motion.items()})
            for name in ("means", "quats", "colours", "normals"):
                torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[frame])


def test_turning_the_root_turns_the_head(model: RgbHead) -> None:
    still = still_motion(1, model)
    turned = still_motion(1, model)
    turned["rotations"][0, 0] = torch.tensor([0.2, -0.4, 0.7])
    turned["translations"][0] = torch.tensor([1.0, 2, 3])
    with torch.no_grad():
        before, after = model.pose(**still), model.pose(**turned)
        matrix = matrices_from_axis_angle(turned["rotations"][0, 0])
        root = model.head.joints[0]
        expected = (before.means[0] - root) @ matrix.T + root + turned["translations"][0]
        torch.testing.assert_close(after.means[0], expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(after.normals[0], before.normals[0] @ matrix.T, atol=2e-3, rtol=0)


def test_gradients_reach_everything_and_match_finite_differences(model: RgbHead) -> None:
    motion = moving(2, model)
    surface = model.surface(model.head.posed_vertices(**motion))
    theta = model.theta(**motion)
    generator = torch.Generator().manual_seed(5)
    probes = [torch.randn(2, len(model), width, generator=generator) for width in (3, 4, 3)]

    def value() -> torch.Tensor:
        posed = model.place(surface, model.weights(theta), hide_unseen=False)
        parts = zip(probes, (posed.means, posed.quats, posed.colours), strict=True)
        return sum((probe * part).double().sum() for probe, part in parts) + posed.scales.sum() + posed.opacities.sum()

    value().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    for parameter, index in (
        (model.positions, (5, 1)),
        (model.rotations, (7, 2)),
        (model.position_deltas, (1, 9, 0)),
        (model.rotation_deltas, (2, 11, 3)),
        (model.colour_deltas, (0, 4, 1)),
        (model.network[0].weight, (3, 24)),
    ):
        step = 1e-2 if parameter is not model.rotations else 1e-3
        with torch.no_grad():
            parameter[index] += step
            high = value()
            parameter[index] -= 2 * step
            low = value()
            parameter[index] += step
        assert parameter.grad[index].item() == pytest.approx(((high - low) / (2 * step)).item(), rel=2e-2, abs=2e-3)


def test_beyond_the_training_range_nothing_more_happens(model: RgbHead) -> None:
    size = model.layout.size()
    model.driving_range = DrivingRange(torch.zeros(size), torch.ones(size), -0.5 * torch.ones(size), torch.ones(size))
    far, edge = torch.full((1, size), 40.0), torch.ones(1, size)
    assert torch.equal(model.weights(far), model.weights(edge))
    assert torch.equal(model.weights(-far), model.weights(-0.5 * edge))


def test_unseen_gaussians_are_hidden_and_a_zero_quaternion_is_harmless(model: RgbHead) -> None:
    with torch.no_grad():
        model.seen[3] = False
        model.rotations[4] = 0
        model.rotation_deltas[:, 4] = 0
        posed = model.pose(**still_motion(1, model))
    assert posed.opacities[0, 3] == 0
    assert (posed.opacities[0, 4:] > 0).all()
    assert torch.isfinite(posed.quats).all()


def test_kept_is_the_same_head_with_fewer_gaussians(model: RgbHead) -> None:
    chosen = torch.arange(len(model)) % 3 == 1
    motion = moving(2, model)
    with torch.no_grad():
        torch.testing.assert_close(model.kept(chosen).pose(**motion).means, model.pose(**motion).means[:, chosen])


def test_a_patch_the_template_lacks_is_refused() -> None:
    with pytest.raises(BadTemplate, match="no patch"):
        new_head(bust_reference(), RgbHeadConfig(density={"skirt_of_fame": 1.0}), seed=0)
