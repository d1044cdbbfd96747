"""All that decides the mesh stage (method page 12.5). Positions are shares of the stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from avatars.surface_body.solid_texture import SolidSettings
from shared.errors import BadConfig


@dataclass(frozen=True)
class MeshLosses:
    """Weights. lpips counts where its network is at hand, gradient (of pixel steps) where it is not. normals: faces
    beside each other face alike; laplacian: vertices move as their neighbours do, in mean edges, falling to
    laplacian_late; hinge: of leaving the extracted surface by more than hinge_m, in those; residual: of colour that
    depends on where it is seen from; weights: of skinning that leaves the extracted; poses: of corrections."""

    l1: float = 0.8
    dssim: float = 0.2
    lpips: float = 0.15
    gradient: float = 0.15
    mask: float = 1.0
    normals: float = 0.05
    laplacian: float = 1.0
    laplacian_late: float = 0.1
    hinge: float = 0.5
    hinge_m: float = 0.01
    residual: float = 0.5
    weights: float = 0.001
    poses: float = 0.01


@dataclass(frozen=True)
class MeshRates:
    """Adam: vertices in mean edges a step; the rest by kind. They end at `final` of what they begin with."""

    vertices: float = 0.04
    skinning: float = 0.01
    grid: float = 1e-2
    network: float = 2e-3
    final: float = 0.1


@dataclass(frozen=True)
class MeshStageSettings:
    """The mesh stage. smoothings: passes over what vertices are moved by, so that neighbours move together;
    weight_smoothings: over skinning weights; first_smoothings: over the mesh it begins with, which is still rough.
    follow: pictures also pull surfaces to where their colours are, not only outlines. residual_width: of the network
    of what depends on the view; 0 leaves it out."""

    solid: SolidSettings = field(default_factory=SolidSettings)
    losses: MeshLosses = field(default_factory=MeshLosses)
    rates: MeshRates = field(default_factory=MeshRates)
    smoothings: int = 4
    weight_smoothings: int = 4
    first_smoothings: int = 2
    follow: bool = True
    residual_width: int = 32


def check_mesh_stage(config: MeshStageSettings) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    grid = config.solid.grid
    for name, value, low, high in (
        ("solid.grid.levels", grid.levels, 1, 32),
        ("solid.grid.features", grid.features, 1, 8),
        ("solid.grid.table_log2", grid.table_log2, 4, 24),
        ("solid.grid.base", grid.base, 2, 1024),
        ("solid.grid.growth", grid.growth, 1.0, 4.0),
        ("solid.width", config.solid.width, 1, 4096),
        ("solid.features", config.solid.features, 1, 1024),
        ("losses.hinge_m", config.losses.hinge_m, 1e-4, 1.0),
        ("rates.final", config.rates.final, 1e-6, 1),
        ("smoothings", config.smoothings, 0, 100),
        ("weight_smoothings", config.weight_smoothings, 0, 100),
        ("first_smoothings", config.first_smoothings, 0, 100),
        ("residual_width", config.residual_width, 0, 4096),
    ):
        if not low <= value <= high + 1e-9:
            raise BadConfig(f"surface.mesh.{name} is out of range", found=str(value), expected=f"{low:g} to {high:g}")
