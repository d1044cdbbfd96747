"""How well people are relit, measured against ground truth: pictures, albedo, normals, roughness.

Pictures are compared over white in the box around the recorded person (a margin of 4 % of the longer side), since an
empty background says nothing. Sources: RANA's evaluation (method page H); FLIP: Andersson et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.evaluation.relit_maps import Map, RelitMaps, Subject, TrueSubject
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.training.evaluation import BEST_PSNR_DB
from avatars.training.flip import flip
from avatars.training.metrics import psnr
from avatars.training.ssim import ssim

OWN_LIGHT = "own light"
"""Group of held-out pictures in the light of training."""
MARGIN = 0.04
SOLID = 0.5


@dataclass(frozen=True)
class RelitRow:
    """What one subject reached on a group of pictures; the numbers of materials only where ground truth has them.

    group: a light, OWN_LIGHT, or "all relit" (every picture in a light that is not training's). gained_psnr_db: with
    one factor a channel on the subject's linear light over the whole group (albedo and light share a scale).
    inside_psnr_db: only where both are solid, so that outlines do not count.
    """

    subject: str
    group: str
    pictures: int
    psnr_db: float
    ssim: float
    flip: float
    gained_psnr_db: float
    inside_psnr_db: float


@dataclass(frozen=True)
class MaterialRow:
    """A subject's materials over all ground truth. albedo_psnr_db: linear, after one factor a channel (albedo_factors).

    normal_error_deg: mean angle; roughness_error, metallic_error: mean absolute difference. None: not told or unknown.
    """

    subject: str
    pictures: int
    albedo_psnr_db: float | None
    albedo_factors: tuple[float, ...]
    normal_error_deg: float | None
    roughness_error: float | None
    metallic_error: float | None


@dataclass(eq=False)
class RelitFigures:
    """All rows, and the pictures to look at: image -> subject -> maps (truth included)."""

    rows: list[RelitRow] = field(default_factory=list)
    materials: list[MaterialRow] = field(default_factory=list)
    shown: dict[int, dict[str, RelitMaps]] = field(default_factory=dict)

    def row(self, subject: str, group: str) -> RelitRow:
        """The row of that name."""
        return next(row for row in self.rows if (row.subject, row.group) == (subject, group))


def measure_relighting(
    capture: Capture,
    subjects: Sequence[Subject],
    images: Sequence[int],
    size: tuple[int, int],
    *,
    device: str = "cpu",
    show: Sequence[int] = (),
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> RelitFigures:
    """Every subject on `images` (indices into the capture's) at (width, height) px. show: images to keep maps of."""
    truth = TrueSubject(capture)
    sums = {subject.name: _Sums() for subject in subjects}
    figures = RelitFigures()
    told: set[Path] = set()
    done = 0
    for index in images:
        real = truth.maps(index, size)
        if index in show:
            figures.shown.setdefault(index, {})["truth"] = real
        group, file = _group(capture, index), capture.images[index].aovs["albedo"]
        for subject in subjects:
            found = subject.maps(index, size)
            sums[subject.name].add(group, real, found, device, file not in told)
            if index in show:
                figures.shown[index][subject.name] = found
            done += 1
            tell(done, len(images) * len(subjects))
        told.add(file)  # the same pose and camera in another light has the same materials
    for name, total in sums.items():
        figures.rows += total.rows(name)
        if total.material:
            figures.materials.append(total.materials(name))
    return figures


def _group(capture: Capture, index: int) -> str:
    light = capture.images[index].light
    return OWN_LIGHT if light is None else light.stem


def _on_white(maps: RelitMaps, box: tuple[slice, slice], device: str) -> Tensor:
    alpha = maps.alpha[box][..., None]
    return torch.from_numpy(maps.colour[box] * alpha + 1 - alpha).to(device)[None]


def person_box(alpha: Map) -> tuple[slice, slice]:
    """Rows and columns of the recorded person with the margin; everything where there is nobody."""
    margin = max(6, round(MARGIN * max(alpha.shape)))  # SSIM's window wants 11 px
    slices = []
    for axis in (1, 0):
        there = np.flatnonzero((alpha > SOLID).any(axis))
        low, high = (there[0], there[-1] + 1) if len(there) else (0, alpha.shape[1 - axis])
        slices.append(slice(max(0, int(low) - margin), int(high) + margin))
    return slices[0], slices[1]


class _Sums:
    """What is added up over the pictures of one subject."""

    def __init__(self) -> None:
        self.pictures: dict[str, list[tuple[float, ...]]] = {}
        self.pairs: dict[str, list[tuple[Tensor, Tensor, Tensor, Tensor]]] = {}
        self.material: list[dict[str, NDArray[np.float64]]] = []

    def add(self, group: str, real: RelitMaps, found: RelitMaps, device: str, materials: bool) -> None:
        box = person_box(real.alpha)
        ours, truth = _on_white(found, box, device), _on_white(real, box, device)
        values = tuple(float(metric(ours, truth).clamp_max(BEST_PSNR_DB)) for metric in (psnr, ssim, flip))
        self.pictures.setdefault(group, []).append((*values, _inside_psnr(real, found)))
        parts = (found.colour[box], found.alpha[box], real.colour[box], real.alpha[box])
        kept: Any = tuple(torch.from_numpy(np.array(part, np.float32)) for part in parts)
        self.pairs.setdefault(group, []).append(kept)
        if materials and real.albedo is not None and found.albedo is not None:
            self.material.append(_material_sums(real, found))

    def rows(self, name: str) -> list[RelitRow]:
        groups = {group: [group] for group in self.pictures}
        relit = [group for group in self.pictures if group != OWN_LIGHT]
        if relit:
            groups["all relit"] = relit
        made = []
        for title, members in groups.items():
            values = np.array([row for member in members for row in self.pictures[member]])
            gained = _gained_psnr([pair for member in members for pair in self.pairs[member]])
            psnr_db, likeness, difference, inside = (float(value) for value in values.mean(0))
            made.append(RelitRow(name, title, len(values), psnr_db, likeness, difference, gained, inside))
        return made

    def materials(self, name: str) -> MaterialRow:
        def total(key: str) -> Any:
            return sum(part[key] for part in self.material)

        count = float(total("albedo_count"))
        factors = total("cross") / np.maximum(total("square"), 1e-9)
        wrong = (total("true_square") - 2 * factors * total("cross") + factors**2 * total("square")).sum()
        psnr_db = None if not count else float(-10 * np.log10(max(wrong / (3 * count), 1e-10)))

        def mean(key: str) -> float | None:
            among = float(total(f"{key}_count"))
            return float(total(key)) / among if among else None

        return MaterialRow(
            name,
            len(self.material),
            psnr_db,
            tuple(float(value) for value in factors),
            mean("angle"),
            mean("roughness"),
            mean("metallic"),
        )


def _material_sums(real: RelitMaps, found: RelitMaps) -> dict[str, NDArray[np.float64]]:
    solid = (real.alpha > SOLID) & (found.alpha > SOLID)
    assert real.albedo is not None
    assert found.albedo is not None
    ours, truth = (part[solid].astype(np.float64) for part in (found.albedo, real.albedo))
    sums: dict[str, Any] = {
        "albedo_count": np.float64(len(ours)),
        "cross": (ours * truth).sum(0),
        "square": (ours * ours).sum(0),
        "true_square": (truth * truth).sum(0),
    }
    angle = np.zeros(0)
    if real.normals is not None and found.normals is not None:
        a, b = real.normals[solid].astype(np.float64), found.normals[solid].astype(np.float64)
        known = (np.linalg.norm(a, axis=1) > SOLID) & (np.linalg.norm(b, axis=1) > 0.1)
        cosine = (a[known] * b[known]).sum(1) / np.linalg.norm(b[known], axis=1)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    sums |= {"angle": angle.sum(), "angle_count": np.float64(len(angle))}
    for key in ("roughness", "metallic"):
        one, other = getattr(real, key), getattr(found, key)
        wrong = np.zeros(0) if one is None or other is None else np.abs(one[solid] - other[solid])
        sums |= {key: wrong.sum(dtype=np.float64), f"{key}_count": np.float64(len(wrong))}
    return sums


def _inside_psnr(real: RelitMaps, found: RelitMaps) -> float:
    solid = (real.alpha > SOLID) & (found.alpha > SOLID)
    if not solid.any():
        return 0.0
    wrong = float(np.square(real.colour[solid].astype(np.float64) - found.colour[solid]).mean())
    return min(BEST_PSNR_DB, -10 * float(np.log10(max(wrong, 1e-12))))


def _gained_psnr(pairs: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> float:
    cross, square = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for ours, alpha, truth, real_alpha in pairs:
        both = (alpha > SOLID) & (real_alpha > SOLID)
        a, b = linear_from_srgb(ours[both].double()), linear_from_srgb(truth[both].double())
        cross, square = cross + (a * b).sum(0), square + (a * a).sum(0)
    factors = (cross / square.clamp(min=1e-9)).float()
    values = []
    for ours, alpha, truth, real_alpha in pairs:
        encoded = srgb_from_linear(linear_from_srgb(ours) * factors).clamp(0, 1)
        model = encoded * alpha[..., None] + 1 - alpha[..., None]
        real = truth * real_alpha[..., None] + 1 - real_alpha[..., None]
        values.append(min(float(psnr(model[None], real[None])), BEST_PSNR_DB))
    return float(np.mean(values))
