"""The driving vector: order, 6D coding, the FLAME layout, ranges."""

from __future__ import annotations

import pytest
import torch

from avatars.rgb_head.driving import DrivingField, DrivingLayout, head_layout, measure_range, open_range
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import BadAvatar

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
EXPRESSIONS = tuple(f"exp{number:03d}" for number in range(100)) + ("eyelid_left", "eyelid_right")


def flame_layout() -> DrivingLayout:
    return DrivingLayout(
        (
            DrivingField("expressions", EXPRESSIONS[:100]),
            DrivingField("rotation_6d", ("neck", "jaw", "left_eye", "right_eye")),
            DrivingField("expressions", EXPRESSIONS[100:]),
            DrivingField("translation"),
        )
    )


def test_the_published_flame_vector_has_129_numbers_in_its_order() -> None:
    layout = flame_layout()
    assert layout.size() == 129
    rotations = torch.zeros(2, 5, 3)
    rotations[:, 2, 0] = 0.4
    expressions = torch.arange(204.0).view(2, 102)
    translations = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    theta = layout.vector(rotations, translations, expressions, JOINTS, EXPRESSIONS)
    torch.testing.assert_close(theta[:, :100], expressions[:, :100])
    torch.testing.assert_close(theta[0, 100:106], torch.tensor([1.0, 0, 0, 0, 1, 0]))
    jaw = matrices_from_axis_angle(torch.tensor([0.4, 0, 0]))
    torch.testing.assert_close(theta[1, 106:112], jaw[:2].flatten())
    torch.testing.assert_close(theta[:, 124:126], expressions[:, 100:])
    torch.testing.assert_close(theta[:, 126:], translations)


def test_a_field_in_flame_axes_turns_rotations_and_translations() -> None:
    fields = (DrivingField("rotation_6d", ("neck", "jaw"), "y_up"), DrivingField("translation", axes="y_up"))
    layout = DrivingLayout(fields)
    layout.check(JOINTS, EXPRESSIONS)
    assert DrivingLayout.from_json(layout.as_json()) == layout
    rotations, translations = torch.randn(3, 5, 3), torch.randn(3, 3)
    theta = layout.vector(rotations, translations, torch.zeros(3, 102), JOINTS, EXPRESSIONS)
    model_from_flame = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) becomes (x, -z, y)
    flame = model_from_flame.T @ matrices_from_axis_angle(rotations) @ model_from_flame
    torch.testing.assert_close(theta[:, :6], flame[:, 1, :2].flatten(1))
    torch.testing.assert_close(theta[:, 6:12], flame[:, 2, :2].flatten(1))
    torch.testing.assert_close(theta[:, 12:], translations @ model_from_flame)
    with pytest.raises(BadAvatar, match="unknown axes"):
        DrivingLayout((DrivingField("translation", axes="left"),)).check(JOINTS, EXPRESSIONS)
    with pytest.raises(BadAvatar, match="unknown axes"):
        DrivingLayout.from_json([{"kind": "translation", "names": [], "axes": "left"}])


def test_the_open_range_changes_nothing() -> None:
    theta = torch.randn(4, 7) * torch.logspace(-20, 20, 7)
    free = open_range(7)
    assert torch.equal((free.clipped(theta) - free.mean) / free.sigma.clamp_min(0.05), theta)


def test_a_layout_survives_json_and_refuses_what_is_not_there() -> None:
    layout = flame_layout()
    assert DrivingLayout.from_json(layout.as_json()) == layout
    layout.check(JOINTS, EXPRESSIONS)
    with pytest.raises(BadAvatar, match="did you mean 'jaw'"):
        DrivingLayout((DrivingField("rotation_6d", ("jaws",)),)).check(JOINTS, EXPRESSIONS)
    with pytest.raises(BadAvatar, match="unknown field"):
        DrivingLayout.from_json([{"kind": "colour", "names": []}])
    with pytest.raises(BadAvatar, match="damaged"):
        DrivingLayout.from_json([{"names": []}])


def test_the_head_layout_takes_what_the_rig_has() -> None:
    layout = head_layout(JOINTS, ("smile",))
    assert [field.names for field in layout.fields] == [("smile",), ("neck", "jaw", "left_eye", "right_eye")]
    empty = DrivingLayout(()).vector(torch.zeros(3, 5, 3), torch.zeros(3, 3), torch.zeros(3, 0), JOINTS, ())
    assert empty.shape == (3, 0)


def test_ranges_are_percentiles_and_clip_holds_theta_inside() -> None:
    values = torch.linspace(0, 1, 101)[:, None].repeat(1, 2)
    found = measure_range(values)
    torch.testing.assert_close(found.low, torch.tensor([0.01, 0.01]))
    torch.testing.assert_close(found.high, torch.tensor([0.99, 0.99]))
    torch.testing.assert_close(found.mean, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(
        found.clipped(torch.tensor([[-3.0, 0.4], [0.5, 9.0]])), torch.tensor([[0.01, 0.4], [0.5, 0.99]])
    )
    assert measure_range(torch.tensor([[2.0]])).sigma.item() == 0


def test_columns_of_the_face_and_of_learned_expressions() -> None:
    layout = DrivingLayout(
        (
            DrivingField("expressions", ("exp000", "exp001")),
            DrivingField("rotation_6d", ("neck", "jaw"), "y_up"),
            DrivingField("expressions", ("eyelid_left",)),
            DrivingField("translation"),
        )
    )
    assert layout.learned() == [0, 1]
    assert layout.face() == [0, 1, *range(8, 14), 14]
    assert layout.columns("translation") == [15, 16, 17]
    joints, expressions = ("neck", "jaw"), ("exp000", "exp001", "eyelid_left")
    still = layout.vector(torch.zeros(1, 2, 3), torch.zeros(1, 3), torch.zeros(1, 3), joints, expressions)
    assert torch.equal(layout.resting(), still[0])
