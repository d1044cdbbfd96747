"""The editor that needs no weights: looks of a documented vocabulary, painted with the surface's own maps.

It knows the words in `vocabulary.py` and refuses all others. What it paints is a function of the place on the person,
so it agrees over views and instants without further ado.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from avatars.lighting.colour import linear_from_srgb
from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors.canvas import PARTS, Canvas, canvas_of, luminance, mix, smooth
from avatars.text_edit.editors.materials import Options
from avatars.text_edit.editors.painters import PAINTERS
from avatars.text_edit.editors.prompt import Step, parse_prompt
from avatars.text_edit.editors.vocabulary import NEW_COLOUR_OF, PART_OF, RECOLOUR, REGION_NAMES
from avatars.text_edit.views import Views
from shared.errors import BadConfig, nearest

BOX_MARGIN_PX = 2
FULL_STRENGTH = 0.8
"""EditorSettings' usual strength shows a look as it is meant; less blends with the picture, more deepens it."""


class BuiltInEditor:
    """Parametric looks. `edit` needs views with maps and gives the same picture for the same view."""

    name = "built_in"
    licence = "Apache-2.0 (part of Effigy)"
    needs_maps = True
    rounds = "interval"
    deterministic = True

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps: tuple[Step, ...] = ()
        self.settings = EditorSettings()
        self.regions: tuple[str, ...] = ()

    def prepare(self, prompt: str, settings: EditorSettings) -> None:
        """Read the prompt. Raises BadConfig with what is known, where it holds other words."""
        self.steps, self.settings = parse_prompt(prompt), settings
        named = dict.fromkeys(name for step in self.steps for name in step.regions)
        self.regions = () if "everything" in named else tuple(named)

    def edit(self, views: Views, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """The edited pictures [B, H, W, 3]. noise, generator: not needed; the seed of the settings decides."""
        del noise, generator
        with torch.no_grad():
            rows, columns = person_box(views.alpha)
            canvas = canvas_of(cropped(views, rows, columns), self.settings.seed)
            allowed = chosen_regions(self.settings.region)
            for step in self.steps:
                canvas = applied(canvas, step, self.settings.strength / FULL_STRENGTH, allowed)
            edited = views.images.clone()
            edited[:, rows, columns] = canvas.over_background(canvas.colour).clamp(0, 1)
            return edited


def person_box(alpha: Tensor) -> tuple[slice, slice]:
    """Rows and columns that hold all that is solid in alpha [B, H, W, 1], with a margin; at least one pixel."""
    seen = alpha[..., 0].amax(0) > 1 / 512
    found = []
    for axis, size in ((1, seen.shape[0]), (0, seen.shape[1])):
        held = torch.nonzero(seen.any(axis)).flatten()
        first, last = (int(held[0]), int(held[-1])) if len(held) else (0, 0)
        found.append(slice(max(0, first - BOX_MARGIN_PX), min(size, last + 1 + BOX_MARGIN_PX)))
    return found[0], found[1]


def cropped(views: Views, rows: slice, columns: slice) -> Views:
    """The same views of a part of their pictures."""
    maps = views.maps
    if maps is None:
        raise BadConfig("the built-in editor needs maps of the surface", found="pictures alone")
    K = views.cameras.K.clone()
    K[:, 0, 2] -= columns.start
    K[:, 1, 2] -= rows.start
    names = ("alpha", "depth", "normal", "rest_position", "rest_normal", "weights")
    return replace(
        views,
        images=views.images[:, rows, columns],
        conditions=views.conditions[:, rows, columns],
        alpha=views.alpha[:, rows, columns],
        cameras=replace(views.cameras, K=K, width_px=columns.stop - columns.start, height_px=rows.stop - rows.start),
        maps=replace(maps, **{name: getattr(maps, name)[:, rows, columns] for name in names}),
        where=None,
    )


def chosen_regions(text: str) -> tuple[str, ...]:
    """Comma-separated names of regions, () for everywhere. Raises BadConfig naming the nearest."""
    names = tuple(name for name in (part.strip().lower() for part in text.split(",")) if name)
    known = (*REGION_NAMES, "mouth", "lashes")
    for name in names:
        if name not in known:
            raise BadConfig(f"there is no region {name!r}{nearest(name, known)}", expected=", ".join(known))
    return () if "everything" in names else names


def applied(canvas: Canvas, step: Step, strength: float, allowed: tuple[str, ...]) -> Canvas:
    """The canvas with one more look on it, inside the `allowed` regions (all if empty)."""
    values = dict(step.look.values)
    if step.look is RECOLOUR:
        region = step.regions[0]
        values |= NEW_COLOUR_OF[PART_OF.get(region, region)]
        if region in PARTS:
            values["region"] = region
    fresh, share = PAINTERS[step.look.painter](canvas, Options(step.colours, values))
    where = share * covered(canvas, step.regions) * covered(canvas, allowed or ("everything",))
    # Above the usual strength a look covers more of what it covers in part; below it, all of it thins out.
    amount = min(1.0, strength * min(step.strength, 1.0))
    cover = (where * amount * max(1.0, step.strength * max(1.0, strength))).clamp(0, 1)
    colour = mix(canvas.colour, fresh, cover)
    linear = linear_from_srgb(colour)
    return replace(canvas, colour=colour, linear=linear, light=luminance(linear))


def covered(canvas: Canvas, regions: tuple[str, ...]) -> Tensor:
    """Membership [B, H, W, 1] of regions as a prompt names them; skin has the lips and brows on it with it."""
    if "everything" in regions:
        return torch.ones_like(canvas.alpha)
    return smooth(0.12, 0.75, canvas.region(*regions))  # a share of a tenth is a leak, not a border


def make_built_in(device: str) -> BuiltInEditor:
    """The editor for `editors.TABLE`."""
    return BuiltInEditor(device)
