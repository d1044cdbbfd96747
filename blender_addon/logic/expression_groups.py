"""Expressions in an order to work with: by region of the face, left beside right, found by part of a name."""

from __future__ import annotations

import re
from dataclasses import dataclass

GROUPS = {
    "Brows": ("brow",),
    "Eyes": ("eye", "eyelid"),
    "Cheeks and Nose": ("cheek", "nose"),
    "Jaw and Tongue": ("jaw", "tongue"),
    "Mouth": ("mouth",),
}
OTHERS = "Others"
"""Where expressions without such names go: FLAME's numbered ones, a user's own."""
_SIDES = re.compile(r"^(?P<stem>.*?)_?(?P<side>left|right)$", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One line of sliders: an expression, or its left and right halves. names: one or two, left first."""

    label: str
    names: tuple[str, ...]


def group_of(name: str) -> str:
    """The region an expression belongs to: one of GROUPS, or OTHERS."""
    low = name.lower()
    return next((group for group, starts in GROUPS.items() if low.startswith(starts)), OTHERS)


def rows_by_group(names: tuple[str, ...], wanted: str = "") -> dict[str, tuple[Row, ...]]:
    """Group -> its rows, without empty groups. wanted: only names that hold all its words, in any case."""
    words = wanted.lower().split()
    kept = [name for name in names if all(word in f"{name} {label_of(name)}".lower() for word in words)]
    found: dict[str, list[Row]] = {group: [] for group in (*GROUPS, OTHERS)}
    done: set[str] = set()
    for name in kept:
        if name in done:
            continue
        halves = _halves(name, kept)
        done.update(halves)
        stem = _SIDES.match(name)
        label = label_of(stem["stem"] if stem and len(halves) == 2 else name)
        found[group_of(name)].append(Row(label, halves))
    return {group: tuple(rows) for group, rows in found.items() if rows}


def label_of(name: str) -> str:
    """`mouthSmileLeft` as `Mouth Smile Left`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).split()
    return " ".join(word[:1].upper() + word[1:] for word in words)


def _halves(name: str, names: list[str]) -> tuple[str, ...]:
    """The name, or left and right of it where both are there."""
    match = _SIDES.match(name)
    if match is None:
        return (name,)
    lead = name[: match.start("side")]
    cased = ("Left", "Right") if match["side"][0].isupper() else ("left", "right")
    both = tuple(lead + side for side in cased)
    return both if all(half in names for half in both) else (name,)
