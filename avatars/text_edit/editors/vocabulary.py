"""All the built-in editor knows, as data: looks (in `looks.yaml`), regions, colours, amounts, words that say nothing.

`docs/editing.md` lists it for users. No torch here: panels and `effigy editors` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

Colour = tuple[float, float, float]
EVERYWHERE = ("everything",)


@dataclass(frozen=True)
class Look:
    """One thing the built-in editor can do.

    words: any of these phrases calls for it. prompt: an example, for a list of presets. about: what it does. painter: a
    key of `painters.PAINTERS`. on: regions it covers unless the prompt names others. stage: looks of one prompt are
    applied in this order: 0 materials, 1 colours, 2 paint and make-up, 3 drawing, 4 tone. values: the painter's own.
    yields: left out where the prompt names another look of the same stage.
    """

    name: str
    words: tuple[str, ...]
    prompt: str
    about: str
    painter: str
    on: tuple[str, ...] = EVERYWHERE
    stage: int = 2
    values: Mapping[str, float | str | Colour] = field(default_factory=dict)
    yields: bool = False


LOOKS_FILE = Path(__file__).parent / "looks.yaml"


@lru_cache(maxsize=1)
def looks() -> tuple[Look, ...]:
    """All looks, in the order they are listed in. Read from `looks.yaml` once."""
    found = []
    for entry in yaml.safe_load(LOOKS_FILE.read_text(encoding="utf-8")):
        given: dict[str, Any] = entry.pop("values", {})
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        words, on = tuple(entry.pop("words")), tuple(entry.pop("regions", EVERYWHERE))
        found.append(Look(words=words, on=on, values=values, **entry))
    return tuple(found)


RECOLOUR = Look(
    "colour",
    (),
    "turn her hair red",
    "a new colour for hair, skin, lips, eyes, brows or clothes",
    "recolour",
    ("skin",),
    stage=1,
)
"""What a colour without a look asks for."""
NEW_COLOUR_OF: Mapping[str, Mapping[str, float | str]] = {
    "hair": {"region": "hair", "contrast": 0.62, "shine": 1.5, "floor": 0.02},
    "skin": {"region": "skin", "contrast": 0.9},
    "lips": {"region": "lips", "contrast": 0.8},
    "eyes": {"region": "eyes", "iris": 1.0, "contrast": 0.6, "floor": 0.0},
    "brows": {"region": "brows", "contrast": 0.6},
    "clothes": {"region": "clothes", "contrast": 0.85},
}
"""How each region takes a colour; finer parts are treated as the region they are cut from."""

REGION_WORDS: Mapping[str, tuple[str, ...]] = {
    "hair": ("hair", "haircut", "hairstyle", "locks", "haired"),
    "skin": ("skin", "complexion", "body", "skinned"),
    "face": ("face", "faced", "head"),
    "lips": ("lips", "lip", "mouth"),
    "eyes": ("eyes", "eye", "iris", "irises", "pupils", "eyed"),
    "brows": ("eyebrows", "brows", "eyebrow"),
    "beard": ("jaw", "chin"),
    "hands": ("hands", "hand", "gloves"),
    "top": (
        "shirt",
        "t-shirt",
        "tshirt",
        "sweater",
        "jumper",
        "pullover",
        "top",
        "jacket",
        "blouse",
        "hoodie",
        "collar",
    ),
    "bottom": ("trousers", "pants", "jeans", "skirt", "shorts", "leggings"),
    "shoes": ("shoes", "shoe", "boots", "trainers", "sneakers"),
    "clothes": ("clothes", "clothing", "outfit", "dress", "suit", "uniform", "costume", "wearing"),
    "everything": ("everything", "all over", "whole person", "completely", "entirely"),
}
"""Region or part of one -> the words for it."""
PART_OF: Mapping[str, str] = {
    "face": "skin",
    "beard": "skin",
    "hands": "skin",
    "top": "clothes",
    "bottom": "clothes",
    "shoes": "clothes",
    "everything": "skin",
}
REGION_NAMES = tuple(REGION_WORDS)

COLOURS: Mapping[str, Colour] = {
    "red": (0.80, 0.06, 0.08),
    "crimson": (0.65, 0.03, 0.12),
    "scarlet": (0.90, 0.10, 0.05),
    "burgundy": (0.40, 0.03, 0.10),
    "orange": (0.95, 0.48, 0.06),
    "yellow": (0.95, 0.83, 0.12),
    "green": (0.12, 0.55, 0.18),
    "lime": (0.55, 0.88, 0.15),
    "olive": (0.40, 0.42, 0.15),
    "mint": (0.55, 0.88, 0.72),
    "teal": (0.05, 0.50, 0.50),
    "turquoise": (0.15, 0.75, 0.72),
    "cyan": (0.15, 0.80, 0.92),
    "blue": (0.10, 0.25, 0.80),
    "navy": (0.06, 0.09, 0.30),
    "purple": (0.45, 0.12, 0.65),
    "violet": (0.50, 0.20, 0.80),
    "lavender": (0.72, 0.62, 0.90),
    "magenta": (0.85, 0.10, 0.62),
    "pink": (0.95, 0.48, 0.65),
    "brown": (0.36, 0.20, 0.11),
    "chestnut": (0.42, 0.20, 0.10),
    "auburn": (0.48, 0.17, 0.08),
    "beige": (0.85, 0.76, 0.62),
    "cream": (0.96, 0.92, 0.80),
    "black": (0.06, 0.06, 0.07),
    "white": (0.94, 0.94, 0.94),
    "grey": (0.50, 0.50, 0.51),
    "gray": (0.50, 0.50, 0.51),
    "hazel": (0.45, 0.36, 0.16),
    "amber": (0.85, 0.55, 0.10),
    "emerald green": (0.05, 0.60, 0.35),
    "sky blue": (0.45, 0.72, 0.95),
}
HAIR_COLOURS: Mapping[str, Colour] = {
    "blonde": (0.86, 0.70, 0.42),
    "blond": (0.86, 0.70, 0.42),
    "platinum": (0.92, 0.87, 0.76),
    "brunette": (0.25, 0.14, 0.08),
    "ginger": (0.75, 0.34, 0.11),
    "redhead": (0.68, 0.25, 0.09),
    "silver": (0.74, 0.75, 0.78),
    "golden": (0.85, 0.63, 0.26),
    "gold": (0.85, 0.63, 0.26),
}
"""Words that are colours where they are said of hair alone; the first six also say that hair is meant."""
HAIR_ONLY = ("blonde", "blond", "platinum", "brunette", "ginger", "redhead")
SHADES: Mapping[str, tuple[float, float]] = {
    "dark": (0.55, 1.0),
    "deep": (0.65, 1.1),
    "light": (1.25, 0.85),
    "pale": (1.3, 0.55),
    "bright": (1.12, 1.25),
    "vibrant": (1.05, 1.35),
    "dull": (0.9, 0.5),
}
"""Word before a colour -> factors on its brightness and saturation."""
AMOUNTS: Mapping[str, float] = {
    "slightly": 0.5,
    "a bit": 0.5,
    "a little": 0.5,
    "subtle": 0.5,
    "subtly": 0.5,
    "lightly": 0.5,
    "somewhat": 0.7,
    "half": 0.6,
    "very": 1.25,
    "strongly": 1.25,
    "heavily": 1.25,
    "extremely": 1.5,
}
"""Word -> factor on the strength."""
JOINING = ("and", "with", "plus", "then", "but", "while")
SAY_NOTHING = frozenset(
    """
    a an the his her its their your my him she he it them they this that person man woman guy girl boy lady someone
    turn turned make made making give given gives change changed into to in of on as like look looks looking be is
    are have has having put add adding apply paint painted colour color coloured colored dye dyed tint tinted style
    styled please now becomes become becoming appear appears seem covered over from for at by bust figure character
    model version effect portrait photo photograph picture image film tone tones colours colors made doll pure real
    realistic shiny polished metal metallic material tribal carved human hero evening night's after fight classic
    white-haired up out so really just kind sort camera cast wears wear animal pattern patterned make's full fully
    natural new
    """.split()  # noqa: SIM905
)
