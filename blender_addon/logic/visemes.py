"""The fifteen standard visemes as combinations of named expressions (ARKit's names) and a turn of the jaw.

The set and its names are those that lip-sync tools and game engines use (viseme_sil, viseme_PP, ...; the classes of
MPEG-4 facial animation). Strengths are ours: the mouth as it stands in the middle of the sound, spoken calmly.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

JAW_OPEN_RAD = 0.22
"""Turn of the jaw joint at openness 1, about +x of the model."""
_BOTH = ("Left", "Right")

# viseme -> (openness of the jaw 0..1, expressions; a name without its side stands for both)
VISEMES: dict[str, tuple[float, dict[str, float]]] = {
    "viseme_sil": (0.0, {}),
    "viseme_PP": (0.0, {"mouthPress": 0.45, "mouthRollLower": 0.30, "mouthRollUpper": 0.25}),
    "viseme_FF": (0.10, {"mouthRollLower": 0.55, "mouthUpperUp": 0.35, "mouthLowerDown": 0.05}),
    "viseme_TH": (0.22, {"tongueOut": 0.45, "mouthLowerDown": 0.20, "mouthUpperUp": 0.15}),
    "viseme_DD": (0.18, {"mouthLowerDown": 0.30, "mouthUpperUp": 0.15, "mouthStretch": 0.10}),
    "viseme_kk": (0.28, {"mouthLowerDown": 0.25, "mouthUpperUp": 0.12, "jawOpen": 0.05}),
    "viseme_CH": (0.12, {"mouthFunnel": 0.55, "mouthPucker": 0.20, "mouthShrugUpper": 0.15}),
    "viseme_SS": (0.06, {"mouthStretch": 0.35, "mouthLowerDown": 0.28, "mouthSmile": 0.12}),
    "viseme_nn": (0.15, {"mouthLowerDown": 0.22, "mouthUpperUp": 0.10}),
    "viseme_RR": (0.18, {"mouthFunnel": 0.35, "mouthPucker": 0.15, "mouthLowerDown": 0.10}),
    "viseme_aa": (0.95, {"jawOpen": 0.14, "mouthLowerDown": 0.35, "mouthUpperUp": 0.20}),
    "viseme_E": (0.50, {"mouthStretch": 0.35, "mouthLowerDown": 0.30, "mouthUpperUp": 0.20, "jawOpen": 0.06}),
    "viseme_I": (0.22, {"mouthSmile": 0.40, "mouthStretch": 0.35, "mouthLowerDown": 0.25}),
    "viseme_O": (0.60, {"mouthFunnel": 0.55, "mouthPucker": 0.15, "jawOpen": 0.08}),
    "viseme_U": (0.22, {"mouthPucker": 0.65, "mouthFunnel": 0.25}),
}
EXAMPLES = {
    "viseme_sil": "silence",
    "viseme_PP": "put, bat, mat",
    "viseme_FF": "fat, vat",
    "viseme_TH": "think, that",
    "viseme_DD": "tip, doll",
    "viseme_kk": "call, gas",
    "viseme_CH": "chair, join, she",
    "viseme_SS": "sir, zeal",
    "viseme_nn": "lot, not",
    "viseme_RR": "red",
    "viseme_aa": "car",
    "viseme_E": "bed",
    "viseme_I": "tip, see",
    "viseme_O": "toe, law",
    "viseme_U": "book, soon",
}
"""Words whose stressed sound the viseme stands for."""


def speaks(expression_names: tuple[str, ...]) -> bool:
    """Whether a rig's expressions carry the names that visemes are made of."""
    return {"mouthFunnel", "mouthPucker", "jawOpen"} <= set(expression_names)


@functools.lru_cache(maxsize=16)
def combinations(expression_names: tuple[str, ...]) -> NDArray[np.float32]:
    """[15, E]: what each viseme, in the order of VISEMES, adds to the expressions at full strength."""
    table = np.zeros((len(VISEMES), len(expression_names)), np.float32)
    for row, (_, parts) in zip(table, VISEMES.values(), strict=True):
        for name, strength in parts.items():
            for full in (name, *(name + side for side in _BOTH)):
                if full in expression_names:
                    row[expression_names.index(full)] += strength
    table.setflags(write=False)
    return table


def openness() -> dict[str, float]:
    """Viseme -> turn of the jaw at full strength, rad; those that leave it shut are left out."""
    return {name: JAW_OPEN_RAD * jaw for name, (jaw, _) in VISEMES.items() if jaw}
