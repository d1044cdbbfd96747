"""A body as named tensors and JSON, and back, with every shape checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avatars.mlp_body.model import MlpBody, Points
from avatars.mlp_body.neighbours import Mixing
from avatars.mlp_body.pose_range import PoseRange
from avatars.mlp_body.skeleton import Canonical, DrivingPose
from avatars.rgb_head.storage import take_tensor
from avatars.templates.opening import TemplateReference
from shared.errors import BadAvatar

MIXINGS = ("gaussian_anchors", "control_anchors", "gaussian_controls")
RANGE = ("mean", "components", "sigmas", "limit")
MOST = 1 << 24
"""More Gaussians, controls, anchors or coefficients than this are no description of a body."""


def body_description(model: MlpBody) -> dict[str, Any]:
    """What of a body is not numbers by the thousand."""
    points = model.points
    return {
        "gaussians": len(model),
        "controls": len(points.controls),
        "anchors": len(points.anchors),
        "basis": model.basis,
        "control_basis": model.control_basis,
        "widths": list(model.widths),
        "wiggle_m": model.wiggle_m,
        "view_dependent": model.view_dependent,
        "driving": model.driving.as_json(),
    }


def body_tensors(model: MlpBody, *, half: bool = False) -> dict[str, Tensor]:
    """Every tensor of a body, on the CPU, by name. half: what was trained as float16, which halves the file."""
    trained = {name: value for name, value in model.named_parameters()}
    points = model.points
    found: dict[str, Tensor] = {
        f"points.{name}": getattr(points, name)
        for name in Points.__dataclass_fields__
        if name not in MIXINGS and name != "anchor_sees"
    }
    found["points.anchor_sees"] = points.anchor_sees.to(torch.uint8)
    for name in MIXINGS:
        mixing: Mixing = getattr(points, name)
        found |= {f"{name}.index": mixing.index.to(torch.int32), f"{name}.weight": mixing.weight}
    if model.pose_range is not None:
        found |= {f"range.{name}": getattr(model.pose_range, name) for name in RANGE}
    found["rest_pose"] = torch.from_numpy(model.rest_pose.copy())
    if model.captured_irradiance is not None:
        found["captured_irradiance"] = model.captured_irradiance
    found |= {name: value.half() if half else value for name, value in trained.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def has_half(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a body's trained numbers are stored as float16."""
    return "bases" in tensors and tensors["bases"].dtype == torch.float16


def body_from_parts(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> MlpBody:
    """Inverse of `body_description` and `body_tensors`. Raises BadAvatar or BadTemplate."""
    canonical = Canonical.of(reference)
    arrays = canonical.arrays
    try:
        count, controls, anchors = (_count(description, name) for name in ("gaussians", "controls", "anchors"))
        basis, control_basis = (_count(description, name) for name in ("basis", "control_basis"))
        widths = tuple(int(width) for width in description["widths"])
        wiggle_m, view_dependent = float(description["wiggle_m"]), bool(description["view_dependent"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAvatar("avatar.json does not describe a body", found=str(error)) from error
    if not widths or not all(0 < width <= 1 << 16 for width in widths):
        raise BadAvatar("avatar.json does not describe a body", found=f"widths {list(widths)[:8]}")
    driving = DrivingPose.from_json(description.get("driving"), arrays)
    points = _points(tensors, count, controls, anchors, len(arrays.joint_names), driving, len(arrays.expression_names))
    known = None
    if "range.mean" in tensors:
        kept = take_tensor(tensors, "range.components", torch.float32, (None, driving.size())).shape[0]
        shapes = ((driving.size(),), (kept, driving.size()), (kept,), (1,))
        known = PoseRange(
            *(take_tensor(tensors, f"range.{n}", torch.float32, s) for n, s in zip(RANGE, shapes, strict=True))
        )
    light = (
        take_tensor(tensors, "captured_irradiance", torch.float32, (9, 3)) if "captured_irradiance" in tensors else None
    )
    rest_pose = take_tensor(tensors, "rest_pose", torch.float32, (len(arrays.joint_names), 3))
    model = MlpBody(
        canonical,
        points,
        driving,
        basis=basis,
        control_basis=control_basis,
        widths=widths,
        wiggle_m=wiggle_m,
        view_dependent=view_dependent,
        pose_range=known,
        rest_pose=rest_pose.numpy(),
        captured_irradiance=light,
    )
    kind = torch.float16 if has_half(tensors) else torch.float32
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(take_tensor(tensors, name, kind, tuple(parameter.shape)))
    return model.moved_to(device)


def _count(description: Mapping[str, Any], name: str) -> int:
    value = int(description[name])
    if not 0 < value <= MOST:
        raise ValueError(f"{name} {value}")
    return value


def _points(
    tensors: Mapping[str, Tensor],
    count: int,
    controls: int,
    anchors: int,
    joints: int,
    driving: DrivingPose,
    expressions: int,
) -> Points:
    floats, whole = torch.float32, torch.int64
    moved = take_tensor(tensors, "points.expression_rows", whole, (None,)).shape[0]
    near = take_tensor(tensors, "points.control_pairs", whole, (controls, None)).shape[1]
    shapes: dict[str, tuple[torch.dtype, tuple[int | None, ...]]] = {
        "xyz": (floats, (count, 3)),
        "normals": (floats, (count, 3)),
        "controls": (floats, (controls, 3)),
        "anchors": (floats, (anchors, 3)),
        "weights": (floats, (count, joints)),
        "expression_rows": (whole, (moved,)),
        "expression_dirs": (floats, (expressions, moved, 3)),
        "control_pairs": (whole, (controls, near)),
        "anchor_sees": (torch.uint8, (anchors, driving.size())),
    }
    got = {name: take_tensor(tensors, f"points.{name}", *expected) for name, expected in shapes.items()}
    for name, most in (("expression_rows", count), ("control_pairs", controls)):
        _inside(name, got[name], most)
    mixings = {}
    for name, rows, most in (
        ("gaussian_anchors", count, anchors),
        ("control_anchors", controls, anchors),
        ("gaussian_controls", count, controls),
    ):
        index = take_tensor(tensors, f"{name}.index", torch.int32, (rows, None)).long()
        weight = take_tensor(tensors, f"{name}.weight", floats, tuple(index.shape))
        _inside(name, index, most)
        mixings[name] = Mixing.of(index, weight, most)
    return Points(**(got | {"anchor_sees": got["anchor_sees"].float()}), **mixings)


def _inside(name: str, index: Tensor, most: int) -> None:
    if index.numel() and (index.min() < 0 or index.max() >= most):
        raise BadAvatar(f"the weights' {name} point outside the body", expected=f"0 to {most - 1}")
