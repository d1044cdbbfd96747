"""When a view asks for a picture, and how large: small while something moves, whole once it stands still."""

from __future__ import annotations

from typing import Any

from ..logic.view_maths import picture_scale

STILL_AFTER_S = 0.2
MOVING_BUDGET_MS = 60.0
SMALLEST_PX = 16


class Plan:
    """Of one view. A content is anything hashable that says what would be seen: equal contents, equal pictures."""

    def __init__(self) -> None:
        self._content: Any = None
        self._changed_s = 0.0
        self._asked_scale = 0.0

    def scale(self, content: Any, now_s: float, size_px: tuple[int, int], ms_per_megapixel: float) -> float | None:
        """Part of each side of the view to ask for now, or None where nothing need be asked."""
        if content != self._content:
            self._content, self._changed_s = content, now_s
            self._asked_scale = picture_scale(ms_per_megapixel, size_px, MOVING_BUDGET_MS)
            return self._asked_scale
        if self._asked_scale < 1.0 and now_s - self._changed_s >= STILL_AFTER_S:
            self._asked_scale = 1.0
            return 1.0
        return None

    def refinement_is_due(self, now_s: float) -> bool:
        """Whether the view stands still with a small picture; drawing it again asks for the whole one."""
        return 0.0 < self._asked_scale < 1.0 and now_s - self._changed_s >= STILL_AFTER_S

    def again(self) -> None:
        """Ask anew at the next draw, whatever was asked before."""
        self._content = None


def scaled(size_px: tuple[int, int], scale: float) -> tuple[int, int]:
    """Width and height of the picture to ask for."""
    width, height = (max(SMALLEST_PX, round(side * scale)) for side in size_px)
    return width, height
