"""An RGB head as named tensors and JSON, and back, with every shape checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.gaussians.binding import UvBinding
from avatars.gaussians.frames import FRAME_KINDS
from avatars.rgb_head.driving import MODES, DrivingLayout, DrivingModes, DrivingRange
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.model import ATTRIBUTES, DELTAS, RANGES, RgbHead
from avatars.templates.opening import TemplateReference
from avatars.templates.template import Template
from shared.errors import BadAvatar

BINDING = {"face": torch.int64, "barycentrics": torch.float32, "group": torch.int64, "extent_m": torch.float32}
BINDING_FACES = {"triangles": torch.int64, "uv_corners": torch.float32}


def head_description(model: RgbHead) -> dict[str, Any]:
    """What of a head is not numbers by the thousand."""
    return {
        "gaussians": len(model),
        "blendshapes": model.blendshapes,
        "hidden": model.hidden,
        "frame": model.frame,
        "groups": list(model.binding.group_names),
        "driving": model.layout.as_json(),
    }


def head_tensors(model: RgbHead, *, half_deltas: bool = False) -> dict[str, Tensor]:
    """Every tensor of a head, on the CPU, by name.

    half_deltas: the blendshapes as float16, which halves the file; they are small numbers and lose about 0.05 %.
    """
    found: dict[str, Tensor] = {name: getattr(model, name) for name in ATTRIBUTES + DELTAS}
    found["seen"] = model.seen.to(torch.uint8)
    found |= {f"network.{key}": value for key, value in model.network.state_dict().items()}
    found |= {f"binding.{name}": getattr(model.binding, name) for name in (*BINDING, *BINDING_FACES)}
    found |= {f"driving.{name}": getattr(model.driving_range, name) for name in RANGES}
    modes = model.driving_range.modes
    if modes is not None:
        found |= {f"modes.{name}": getattr(modes, name) for name in MODES}
    found["rest_pose"] = torch.from_numpy(model.rest_pose)
    if model.captured_irradiance is not None:
        found["captured_irradiance"] = model.captured_irradiance
    if model.head.vertex_offset is not None:
        found["vertex_offset"] = model.head.vertex_offset
    stored = {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}
    return stored | ({name: stored[name].half() for name in DELTAS} if half_deltas else {})


def has_half_deltas(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a head's stored blendshapes are float16."""
    return all(name in tensors and tensors[name].dtype == torch.float16 for name in DELTAS)


def head_from_parts(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> RgbHead:
    """Inverse of `head_description` and `head_tensors`. Raises BadAvatar or BadTemplate."""
    arrays = reference.open()
    try:
        count, blendshapes = int(description["gaussians"]), int(description["blendshapes"])
        hidden, frame = int(description["hidden"]), description["frame"]
        groups = tuple(str(name) for name in description["groups"])
        layout = DrivingLayout.from_json(description["driving"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAvatar("avatar.json does not describe an RGB head", found=str(error)) from error
    if frame not in FRAME_KINDS or min(count, blendshapes, hidden) < 0:
        raise BadAvatar("avatar.json does not describe an RGB head", found=f"frame {frame!r}")
    layout.check(arrays.joint_names, arrays.expression_names)
    used = take_tensor(tensors, "binding.triangles", torch.int64, (None, 3)).shape[0]
    shapes: dict[str, tuple[torch.dtype, tuple[int | None, ...]]] = {
        "binding.triangles": (torch.int64, (used, 3)),
        "binding.uv_corners": (torch.float32, (used, 3, 2)),
        "binding.face": (torch.int64, (count,)),
        "binding.barycentrics": (torch.float32, (count, 3)),
        "binding.group": (torch.int64, (count,)),
        "binding.extent_m": (torch.float32, (count, 2)),
        "rest_pose": (torch.float32, (len(arrays.joint_names), 3)),
        "seen": (torch.uint8, (count,)),
        **{f"driving.{name}": (torch.float32, (layout.size(),)) for name in RANGES},
    }
    got = {name: take_tensor(tensors, name, *expected) for name, expected in shapes.items()}
    for name, most in (
        ("binding.triangles", len(arrays.vertices)),
        ("binding.face", used),
        ("binding.group", len(groups)),
    ):
        if got[name].numel() and (got[name].min() < 0 or got[name].max() >= most):
            raise BadAvatar(f"the weights' {name} point outside the template", expected=f"0 to {most - 1}")
    binding = UvBinding(
        got["binding.triangles"],
        got["binding.uv_corners"],
        got["binding.face"],
        got["binding.barycentrics"],
        got["binding.group"],
        groups,
        got["binding.extent_m"],
    )
    irradiance = None
    if "captured_irradiance" in tensors:
        irradiance = take_tensor(tensors, "captured_irradiance", torch.float32, (9, 3))
    offset = None
    if "vertex_offset" in tensors:
        offset = take_tensor(tensors, "vertex_offset", torch.float32, (len(arrays.vertices), 3))
    model = RgbHead(
        HeadTemplate.make(Template(arrays), reference.preset, reference.shape, offset),
        binding,
        layout,
        blendshapes=blendshapes,
        frame=frame,
        driving_range=DrivingRange(*(got[f"driving.{name}"] for name in RANGES), _modes(tensors, layout.size())),
        rest_pose=got["rest_pose"].numpy().astype(np.float32),
        captured_irradiance=irradiance,
        hidden=hidden,
    )
    with torch.no_grad():
        deltas = torch.float16 if has_half_deltas(tensors) else torch.float32
        for name in ATTRIBUTES + DELTAS:
            parameter = getattr(model, name)
            kind = deltas if name in DELTAS else torch.float32
            parameter.copy_(take_tensor(tensors, name, kind, tuple(parameter.shape)))
        for key, value in model.network.state_dict().items():
            value.copy_(take_tensor(tensors, f"network.{key}", torch.float32, tuple(value.shape)))
        model.seen.copy_(got["seen"].bool())
    return model.moved_to(device)


def _modes(tensors: Mapping[str, Tensor], size: int) -> DrivingModes | None:
    """What avatars of earlier versions do not have."""
    if any(f"modes.{name}" not in tensors for name in MODES):
        return None
    count = take_tensor(tensors, "modes.components", torch.float32, (None, size)).shape[0]
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name in ("neutral", "mean", "sigma", "low", "high")}
    shapes |= {"place_m": (3,), "components": (count, size), "residual": (1,)}
    shapes |= {"along_low": (count,), "along_high": (count,)}
    return DrivingModes(*(take_tensor(tensors, f"modes.{name}", torch.float32, shapes[name]) for name in MODES))


def take_tensor(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """The tensor of that name, of that type and shape (None: any length) and finite. Raises BadAvatar."""
    tensor = tensors.get(name)
    if tensor is None:
        raise BadAvatar(f"the avatar's weights lack {name!r}", do="Train or copy the avatar again")
    fits = len(shape) == tensor.dim() and all(
        want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        raise BadAvatar(
            f"the avatar's weights hold {name!r} in another form",
            found=f"{tensor.dtype} {list(tensor.shape)}",
            expected=f"{dtype} {list(shape)}",
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise BadAvatar(f"the avatar's weights hold values in {name!r} that are not finite")
    return tensor
