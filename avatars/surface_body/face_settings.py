"""How Gaussians on the faces are trained (method page 12.6)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import BadConfig


@dataclass(frozen=True)
class FaceSettings:
    """count: Gaussians at most: with room for more than one on each face the largest carry 4, 16 or 64. Pictures blur
    each by half a pixel at least: a few of them per pixel make the person fat.

    sharp: what pictures blur them by adds nothing to what they cover, so that outlines are no fatter than the mesh's.
    opacity: of each at the start. Weights: picture (of L1 and D-SSIM together, dssim of it), mask (L1 of what is
    covered), size (of what is wider than size_limit_m, in m), tint (squares of what depends on the view). Adam's rates
    fall to `final` of them over the stage. At the end those fainter than `faint` are left out.
    """

    count: int = 120_000
    sharp: bool = True
    opacity: float = 0.95
    picture: float = 1.0
    dssim: float = 0.2
    mask: float = 0.1
    size: float = 5.0
    size_limit_m: float = 0.03
    tint: float = 0.01
    offset_rate: float = 0.01
    turn_rate: float = 0.005
    scale_rate: float = 0.005
    opacity_rate: float = 0.02
    colour_rate: float = 0.004
    tint_rate: float = 0.001
    final: float = 0.1
    faint: float = 0.01

    def rates(self) -> dict[str, float]:
        """Parameter -> its rate at the start of the stage."""
        return {
            "offsets": self.offset_rate,
            "turns": self.turn_rate,
            "scales": self.scale_rate,
            "opacities": self.opacity_rate,
            "colours": self.colour_rate,
            "tints": self.tint_rate,
        }


def check_faces(settings: FaceSettings) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    for name, value, low, high in (
        ("count", settings.count, 16, 1 << 24),
        ("opacity", settings.opacity, 0.01, 0.9999),
        ("dssim", settings.dssim, 0, 1),
        ("size_limit_m", settings.size_limit_m, 1e-4, 10),
        ("final", settings.final, 1e-6, 1),
        ("faint", settings.faint, 0, 0.5),
    ):
        if not low <= value <= high:
            raise BadConfig(
                f"surface.gaussians.{name} is out of range", found=str(value), expected=f"{low:g} to {high:g}"
            )
    for name, value in settings.rates().items():
        if value < 0:
            raise BadConfig(f"surface.gaussians: the rate of {name} is below 0", found=str(value))
