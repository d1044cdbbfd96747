"""The people of the embedded template, in MakeHuman's terms: phenotypes in 0..1 and local changes in -1..1."""

from __future__ import annotations

AVERAGE = {
    "gender": 0.5,
    "age": 0.667,
    "muscle": 0.5,
    "weight": 0.5,
    "height": 0.5,
    "proportions": 0.6,
    "african": 0.33,
    "asian": 0.33,
    "caucasian": 0.34,
}
PRESETS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "man": (
        {
            **AVERAGE,
            "gender": 0.0,
            "age": 0.70,
            "muscle": 0.55,
            "weight": 0.48,
            "height": 0.55,
            "proportions": 0.8,
            "african": 0.1,
            "asian": 0.2,
            "caucasian": 0.7,
        },
        {
            "chin-jaw-drop-incr": 0.05,
            "chin-width-incr": 0.10,
            "head-fat-incr": -0.05,
            "head-scale-vert-incr": -0.12,
            "nose-hump-incr": 0.15,
            "nose-width1-incr": -0.45,
            "nose-width2-incr": -0.20,
            "nose-scale-vert-incr": -0.20,
            "nose-point-up": 0.15,
            "mouth-scale-horiz-incr": -0.15,
            "mouth-lowerlip-volume-incr": 0.15,
            "mouth-angles-up": 0.12,
            "l-eye-height2-incr": 0.50,
            "r-eye-height2-incr": 0.50,
            "l-eye-scale-incr": 0.15,
            "r-eye-scale-incr": 0.15,
        },
    ),
    "woman": (
        {
            **AVERAGE,
            "gender": 1.0,
            "age": 0.68,
            "muscle": 0.45,
            "weight": 0.45,
            "proportions": 0.9,
            "cupsize": 0.45,
            "firmness": 0.7,
            "african": 0.2,
            "asian": 0.3,
            "caucasian": 0.5,
        },
        {
            "mouth-upperlip-volume-incr": 0.15,
            "nose-width1-incr": -0.25,
            "mouth-angles-up": 0.10,
            "l-eye-height2-incr": 0.30,
            "r-eye-height2-incr": 0.30,
            "l-eye-scale-incr": 0.12,
            "r-eye-scale-incr": 0.12,
        },
    ),
}
