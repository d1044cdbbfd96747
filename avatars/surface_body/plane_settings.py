"""What decides tri-planes, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import BadConfig

MOST_GROUPS = 8


@dataclass(frozen=True)
class PlaneSettings:
    """Three planes of features through the canonical box, of sides[level] nodes with `channels` each.

    windows: of self-attention over a single level, whose results stand beside the features themselves; empty for
    none. Planes begin as a random network of plane_width units. half_m: half the cube they span, at least that of the
    canonical box.
    """

    sides: tuple[int, ...] = (64, 128, 256, 512)
    channels: int = 8
    windows: tuple[int, ...] = ()
    heads: int = 2
    half_m: float = 1.5

    @property
    def groups(self) -> int:
        """Sets of channels beside each other: levels, or one for each window and the raw features."""
        return len(self.windows) + 1 if self.windows else len(self.sides)


def check_planes(settings: PlaneSettings) -> None:
    """Refuse planes that cannot be. Raises BadConfig."""
    sides, windows = settings.sides, settings.windows
    if not sides or min(sides) < 2 or max(sides) > 4096:
        raise BadConfig(
            "surface.planes.sides is out of range", found=str(list(sides)), expected="one to eight sides of 2 to 4096"
        )
    if not 1 <= settings.groups <= MOST_GROUPS:
        raise BadConfig("surface.planes has too many groups", found=str(settings.groups), expected="1 to 8")
    if not 4 <= settings.channels <= 256 or settings.half_m <= 0:
        raise BadConfig(
            "surface.planes.channels or half_m is out of range",
            found=f"{settings.channels} and {settings.half_m}",
            expected="4 to 256 channels and a box above 0",
        )
    if windows and len(sides) != 1:
        raise BadConfig(
            "surface.planes.windows works on a single level", found=f"sides {list(sides)}", expected="one side"
        )
    if any(window < 2 or sides[0] % window for window in windows):
        raise BadConfig(
            "surface.planes.windows do not divide the planes",
            found=f"windows {list(windows)}, side {sides[0]}",
            expected="divisors of the side",
        )
    if windows and (settings.heads < 1 or settings.channels % settings.heads):
        raise BadConfig(
            "surface.planes.heads do not divide the channels",
            found=f"{settings.heads} and {settings.channels}",
            expected="a divisor of the channels",
        )
