"""The driving vector θ of a head: which numbers of a pose the network sees, in what order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from avatars.templates.rotations import matrices_from_axis_angle, six_numbers
from shared.errors import BadAvatar, nearest
from shared.reenact import neutral_of

KINDS = ("expressions", "rotation_6d", "translation")
AXES = ("model", "y_up")
FACE_JOINTS = ("jaw",)
LEARNED = re.compile(r"exp\d+")
HEAD_JOINTS = ("neck", "head", "jaw", "left_eye", "right_eye")


@dataclass(frozen=True)
class DrivingField:
    """One run of numbers in θ.

    kind 'expressions': the named weights; 'rotation_6d': each named joint's first two matrix rows, row-major (6 each);
    'translation': the root's 3 m, no names.
    axes: which the rotations and the translation are written in, 'model' (z up) or 'y_up', FLAME's own (y up, facing
    +z), in which RGBAvatar's files are trained. The two rows kept of a rotation are other numbers in other axes.
    """

    kind: str
    names: tuple[str, ...] = ()
    axes: str = "model"

    def size(self) -> int:
        """How many numbers it takes."""
        return {"expressions": len(self.names), "rotation_6d": 6 * len(self.names), "translation": 3}[self.kind]


@dataclass(frozen=True)
class DrivingLayout:
    """The fields of θ in order.

    RGBAvatar's FLAME vector of 129 numbers (method page 2.3) is expressions exp000..exp099, rotations of neck, jaw,
    left_eye, right_eye, expressions eyelid_left, eyelid_right, and a translation.
    """

    fields: tuple[DrivingField, ...]

    def size(self) -> int:
        """Length of θ."""
        return sum(field.size() for field in self.fields)

    def columns(self, kind: str, names: Sequence[str] | None = None) -> list[int]:
        """Which numbers of θ are of this kind, of these names only where they are given."""
        found, start = [], 0
        for field in self.fields:
            if field.kind == kind:
                each = field.size() // max(len(field.names), 1)
                for index, name in enumerate(field.names or ("",)):
                    if names is None or name in names:
                        first = start + index * each
                        found += range(first, first + (each if field.names else field.size()))
            start += field.size()
        return found

    def face(self) -> list[int]:
        """The numbers that move the face itself: expressions, lids and jaw, not where head and eyes turn."""
        return sorted(self.columns("expressions") + self.columns("rotation_6d", FACE_JOINTS))

    def learned(self) -> list[int]:
        """The numbers of expressions learned from scans (FLAME's exp000 …), in which a calm face need not be zero."""
        names = {name for field in self.fields for name in field.names if LEARNED.fullmatch(name)}
        return self.columns("expressions", tuple(names))

    def resting(self) -> Tensor:
        """θ [size] of a face at rest that looks straight ahead, at the origin."""
        found = torch.zeros(self.size())
        turned = self.columns("rotation_6d")
        found[turned] = torch.tensor((1.0, 0.0, 0.0, 0.0, 1.0, 0.0)).repeat(len(turned) // 6)
        return found

    def check(self, joint_names: Sequence[str], expression_names: Sequence[str]) -> None:
        """Refuse a layout that names what the rig lacks. Raises BadAvatar."""
        for field in self.fields:
            if field.kind not in KINDS:
                raise BadAvatar(f"unknown driving field {field.kind!r}", expected=", ".join(KINDS))
            if field.axes not in AXES:
                raise BadAvatar(f"unknown axes {field.axes!r} of a driving field", expected=", ".join(AXES))
            known = expression_names if field.kind == "expressions" else joint_names
            for name in field.names:
                if name not in known:
                    raise BadAvatar(f"the driving layout names {name!r}, which the rig lacks{nearest(name, known)}")

    def vector(
        self,
        rotations: Tensor,
        translations: Tensor,
        expressions: Tensor,
        joint_names: Sequence[str],
        expression_names: Sequence[str],
    ) -> Tensor:
        """θ [B, size] from rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E]."""
        parts = []
        for field in self.fields:
            turned = field.axes == "y_up"
            if field.kind == "translation":
                parts.append(y_up_vectors(translations) if turned else translations)
            elif field.kind == "expressions":
                parts.append(expressions[:, _places(field.names, tuple(expression_names), expressions.device)])
            else:
                chosen = rotations[:, _places(field.names, tuple(joint_names), rotations.device)]
                chosen = y_up_vectors(chosen) if turned else chosen  # the axis turns, the angle stays
                parts.append(six_numbers(matrices_from_axis_angle(chosen)).flatten(1))
        return torch.cat(parts, 1) if parts else rotations.new_zeros(len(rotations), 0)

    def as_json(self) -> list[dict[str, Any]]:
        """JSON form, read back by `from_json`. Axes are written where they are not the model's."""
        return [
            {"kind": field.kind, "names": list(field.names)} | ({} if field.axes == "model" else {"axes": field.axes})
            for field in self.fields
        ]

    @staticmethod
    def from_json(value: Sequence[Mapping[str, Any]]) -> DrivingLayout:
        """Inverse of `as_json`. Raises BadAvatar."""
        try:
            fields = tuple(
                DrivingField(str(item["kind"]), tuple(map(str, item["names"])), str(item.get("axes", "model")))
                for item in value
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise BadAvatar("the driving layout is damaged", expected="a list of kind and names") from error
        if any(field.kind not in KINDS for field in fields):
            raise BadAvatar("the driving layout has an unknown field", expected=", ".join(KINDS))
        if any(field.axes not in AXES for field in fields):
            raise BadAvatar("the driving layout has a field in unknown axes", expected=", ".join(AXES))
        return DrivingLayout(fields)


@lru_cache(maxsize=64)
def _places(names: tuple[str, ...], among: tuple[str, ...], device: torch.device) -> Tensor:
    """Indices of names, kept on the device: sending a list there for each frame would wait for all under way."""
    return torch.tensor([among.index(name) for name in names], dtype=torch.int64, device=device)


def y_up_vectors(vectors: Tensor) -> Tensor:
    """Vectors [..., 3] of model axes (z up, facing -y) in FLAME's (y up, facing +z): (x, y, z) becomes (x, z, -y)."""
    x, y, z = vectors.unbind(-1)
    return torch.stack((x, z, -y), -1)


def head_layout(joint_names: Sequence[str], expression_names: Sequence[str]) -> DrivingLayout:
    """All expressions, then the rotations of neck, head, jaw and eyes as far as the rig has them."""
    joints = tuple(name for name in HEAD_JOINTS if name in joint_names)
    return DrivingLayout((DrivingField("expressions", tuple(expression_names)), DrivingField("rotation_6d", joints)))


def rgbavatar_layout(joint_names: Sequence[str], expression_names: Sequence[str]) -> DrivingLayout:
    """RGBAvatar's own order and axes (method page 2.3): expressions, rotations, eyelids, translation; 129 for FLAME."""
    lids = tuple(name for name in expression_names if name.startswith("eyelid_"))
    others = tuple(name for name in expression_names if name not in lids)
    joints = tuple(name for name in HEAD_JOINTS if name in joint_names)
    fields = (
        DrivingField("expressions", others),
        DrivingField("rotation_6d", joints, "y_up"),
        DrivingField("expressions", lids),
        DrivingField("translation", axes="y_up"),
    )
    return DrivingLayout(tuple(field for field in fields if field.size()))


def expression_layout(joint_names: Sequence[str], expression_names: Sequence[str]) -> DrivingLayout:
    """Expressions only, without eyelids, as RGBAvatar drives multi-view captures (method page 2.3)."""
    del joint_names
    names = tuple(name for name in expression_names if not name.startswith("eyelid_"))
    return DrivingLayout((DrivingField("expressions", names),))


LAYOUTS = {"head": head_layout, "rgbavatar": rgbavatar_layout, "expressions": expression_layout}
"""Name in a training configuration -> the layout for a rig's joints and expressions."""


@dataclass(frozen=True, eq=False)
class DrivingModes:
    """How θ went in training, whatever the network makes of it: what another person's motion is held to (`reenact`).

    neutral: [size], the person's calm face (`shared.reenact.neutral_of`). mean, sigma, low, high: [size] as in
    `DrivingRange`. place_m: [3], the root's median translation. components: [K, size] orthonormal rows, the principal
    directions of (θ - mean) / max(sigma, LEAST_SPREAD) over the numbers of the face, strongest first; along_low,
    along_high: [K] 1st and 99th percentile along them; residual: [1], how far from their span 99 % of training was.
    """

    neutral: Tensor
    mean: Tensor
    sigma: Tensor
    low: Tensor
    high: Tensor
    place_m: Tensor
    components: Tensor
    along_low: Tensor
    along_high: Tensor
    residual: Tensor

    def to(self, device: str) -> DrivingModes:
        """The same on another device."""
        return DrivingModes(*(getattr(self, name).to(device) for name in MODES))


MODES = (
    *("neutral", "mean", "sigma", "low", "high"),
    *("place_m", "components", "along_low", "along_high", "residual"),
)
MOST_COMPONENTS = 32
LEAST_SPREAD = 0.05


@dataclass(frozen=True, eq=False)
class DrivingRange:
    """What θ did in training: mean, sigma, low (1st percentile) and high (99th), each [size]; modes where known."""

    mean: Tensor
    sigma: Tensor
    low: Tensor
    high: Tensor
    modes: DrivingModes | None = None

    def clipped(self, theta: Tensor) -> Tensor:
        """θ [B, size] held inside the training range: outside it the network has never been taught and spikes."""
        return torch.minimum(torch.maximum(theta, self.low), self.high)

    def to(self, device: str) -> DrivingRange:
        """The same on another device."""
        modes = None if self.modes is None else self.modes.to(device)
        return DrivingRange(*(value.to(device) for value in (self.mean, self.sigma, self.low, self.high)), modes)


def open_range(size: int) -> DrivingRange:
    """The range that changes nothing: θ is neither clipped nor standardised, as in RGBAvatar's own files."""
    most = torch.full((size,), torch.finfo(torch.float32).max)
    return DrivingRange(torch.zeros(size), torch.ones(size), -most, most)


def unheld(found: DrivingRange) -> DrivingRange:
    """The same standardisation, nothing clipped: while θ itself is being learned."""
    most = torch.full_like(found.high, torch.finfo(found.high.dtype).max)
    return replace(found, low=-most, high=most)


def reheld(found: DrivingRange, theta: Tensor, layout: DrivingLayout, translations: Tensor) -> DrivingRange:
    """The same standardisation, clipped to what θ [T, size] of training has become; translations: [T, 3] m."""
    low, high = _percentiles(theta.detach().cpu())
    return with_modes(replace(found, low=low.to(found.low), high=high.to(found.high)), theta, layout, translations)


def measure_range(theta: Tensor) -> DrivingRange:
    """Statistics of θ [T, size] over training frames, without modes."""
    return DrivingRange(theta.mean(0), theta.std(0, unbiased=False), *_percentiles(theta))


def with_modes(
    found: DrivingRange, theta: Tensor, layout: DrivingLayout, translations: Tensor | None = None
) -> DrivingRange:
    """The range with the modes of θ [T, size] measured. translations: [T, 3] m of the root, zero if left out."""
    theta = theta.detach().cpu()
    places = torch.zeros(len(theta), 3) if translations is None else translations.detach().cpu()
    measured, face = measure_range(theta), layout.face()
    spread = measured.sigma.clamp_min(LEAST_SPREAD)
    standard = torch.zeros(theta.shape, dtype=torch.float64)
    standard[:, face] = ((theta - measured.mean) / spread)[:, face].double()
    _, directions = torch.linalg.eigh(standard.T @ standard)  # ascending
    count = min(MOST_COMPONENTS, max(len(theta) - 1, 0), len(face))
    components = directions.T.flip(0)[:count]
    components[:, [column for column in range(theta.shape[1]) if column not in set(face)]] = 0
    along = standard @ components.T
    far = torch.quantile((standard - along @ components).norm(dim=1), 0.99).float()
    modes = DrivingModes(
        torch.tensor(neutral_of(theta.numpy(), layout.resting().numpy(), layout.learned())),
        *(measured.mean, measured.sigma, measured.low, measured.high),
        torch.quantile(places.double(), 0.5, dim=0).float(),
        components.float(),
        *_percentiles(along.float()),
        far.reshape(1),
    )
    return replace(found, modes=modes.to(str(found.mean.device)))


def _percentiles(values: Tensor) -> tuple[Tensor, Tensor]:
    if not values.numel():
        return values.new_zeros(values.shape[1]), values.new_zeros(values.shape[1])
    found = torch.quantile(values.double(), values.new_tensor([0.01, 0.99], dtype=torch.float64), dim=0).float()
    return found[0], found[1]
