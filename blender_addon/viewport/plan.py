"""When a view asks for a picture, and how large: small while something moves, larger and whole once it stands still."""

from __future__ import annotations

from typing import Any

from ..logic.view_maths import picture_scale

STILL_AFTER_S = 0.2
MOVING_BUDGET_MS = 60.0
SHARPER_BUDGET_MS, SHARPER_GROWTH = 400.0, 4.0
"""Standing still, a picture may take the first of these, then each time as much longer, until it is whole: on a slow
line a whole picture takes seconds, and whoever begins to move then should not wait for it."""
SMALLEST_PX = 16


class Plan:
    """Of one view. A content is anything hashable that says what would be seen: equal contents, equal pictures."""

    def __init__(self) -> None:
        self._content: Any = None
        self._asked_scale = 0.0
        self._due_s, self._budget_ms = 0.0, SHARPER_BUDGET_MS

    def scale(self, content: Any, now_s: float, size_px: tuple[int, int], ms_per_megapixel: float) -> float | None:
        """Part of each side of the view to ask for now, or None where nothing need be asked."""
        if content != self._content:
            self._content, self._due_s, self._budget_ms = content, now_s + STILL_AFTER_S, SHARPER_BUDGET_MS
            self._asked_scale = picture_scale(ms_per_megapixel, size_px, MOVING_BUDGET_MS)
            return self._asked_scale
        if not self.refinement_is_due(now_s):
            return None
        before = self._asked_scale
        while self._asked_scale == before:
            self._asked_scale = max(before, picture_scale(ms_per_megapixel, size_px, self._budget_ms))
            self._due_s = now_s + self._budget_ms / 1000
            self._budget_ms *= SHARPER_GROWTH
        return self._asked_scale

    def refinement_is_due(self, now_s: float) -> bool:
        """Whether the view stands still with a small picture; drawing it again asks for the whole one."""
        return 0.0 < self._asked_scale < 1.0 and now_s >= self._due_s

    def again(self) -> None:
        """Ask anew at the next draw, whatever was asked before."""
        self._content = None


def scaled(size_px: tuple[int, int], scale: float) -> tuple[int, int]:
    """Width and height of the picture to ask for."""
    width, height = (max(SMALLEST_PX, round(side * scale)) for side in size_px)
    return width, height
